"""The widget to choose a picture, used through its own interface as a browser uses it."""

import datetime
import io
import sys

import numpy as np
import pytest
from PIL import Image

from data_preparation import CLASS_NAMES
from model_utils.picture_chooser import classified_picture, picture_chooser

pytestmark = pytest.mark.q3d


def predict_proba_into(seen):
    """A model that takes everything for a bag, and keeps what it saw."""

    def predict_proba(images):
        seen.append(images)
        return np.eye(10)[[CLASS_NAMES.index("Bag")]]

    return predict_proba


def png(grey):
    file = io.BytesIO()
    Image.new("L", (56, 56), grey).save(file, "PNG")
    return file.getvalue()


def choose(upload, content, name):
    now = datetime.datetime.now(tz=datetime.UTC)
    upload.value = ({"name": name, "type": "", "size": len(content), "content": content, "last_modified": now},)


def test_a_chosen_picture_is_converted_and_classified():
    seen = []
    controls, drawing, message = picture_chooser(predict_proba_into(seen), CLASS_NAMES).children
    upload, invert = controls.children
    choose(upload, png(200), "bag.png")
    assert seen[0].shape == (1, 28, 28)
    assert (seen[0] == 200).all()
    invert.value = True
    assert (seen[1] == 55).all()
    assert Image.open(io.BytesIO(drawing.value)).format == "PNG"
    assert message.value == ""


def test_what_is_no_picture_is_said_and_the_last_drawing_goes():
    seen = []
    controls, drawing, message = picture_chooser(predict_proba_into(seen), CLASS_NAMES).children
    choose(controls.children[0], png(200), "bag.png")
    choose(controls.children[0], b"no picture", "<notes>.txt")
    assert message.value.startswith("&lt;notes&gt;.txt cannot be read: ")
    assert drawing.value == b""
    assert len(seen) == 1


def test_a_saved_notebook_says_how_to_get_the_widget():
    shown = picture_chooser(predict_proba_into([]), CLASS_NAMES)._repr_mimebundle_()
    assert shown["text/plain"] == "Run this cell in Jupyter to choose a picture."
    assert "application/vnd.jupyter.widget-view+json" in shown


def test_without_widgets_a_path_does(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match="use classified_picture"):
        picture_chooser(predict_proba_into([]), CLASS_NAMES)
    (tmp_path / "bag.png").write_bytes(png(200))
    figure = classified_picture(tmp_path / "bag.png", predict_proba_into([]), CLASS_NAMES)
    assert next(label.get_text() for label in figure.axes[1].get_yticklabels()) == "Bag"
