"""Classify a picture of your own: choose it in a notebook's widget, or give its path."""

import html
import io

from model_utils import plots
from model_utils.pictures import read_picture


def classified_picture(picture, predict_proba, class_names, invert=False):
    """Draw what a model sees of a picture, and the three most probable classes.

    Parameters
    ----------
    picture : path or binary file
        See `read_picture`, also for the errors.
    predict_proba : function
        From images, uint8 of shape (N, 28, 28), to class probabilities, shape (N, K).
    class_names : sequence of str
    invert : bool
        For a dark garment on a light background.

    Returns
    -------
    matplotlib Figure
    """
    image = read_picture(picture, invert)
    return plots.top_classes(image, predict_proba(image[None])[0], class_names)


def picture_chooser(predict_proba, class_names):
    """Return a widget to choose or drop a picture; it shows the drawing of `classified_picture` below.

    Raises
    ------
    ImportError
        If ipywidgets is not installed.
    """
    try:
        import ipywidgets
    except ImportError as error:
        raise ImportError(f"{error}: use classified_picture with the path of a picture instead") from error
    upload = ipywidgets.FileUpload(accept="image/*", description="Choose a picture")
    invert = ipywidgets.Checkbox(description="dark garment on a light background", indent=False)
    drawing, message = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def show(_):
        if not upload.value:
            return
        chosen = upload.value[-1]
        drawing.value, message.value = b"", ""
        try:
            figure = classified_picture(io.BytesIO(chosen["content"]), predict_proba, class_names, invert.value)
        except (OSError, ValueError) as error:
            message.value = html.escape(f"{chosen['name']} cannot be read: {error}")
        else:
            file = io.BytesIO()
            figure.savefig(file, format="png")
            drawing.value = file.getvalue()

    for widget in (upload, invert):
        widget.observe(show, names="value")

    class Chooser(ipywidgets.VBox):
        def __repr__(self):  # for a saved notebook that is shown without its widgets
            return "Run this cell in Jupyter to choose a picture."

    return Chooser([ipywidgets.HBox([upload, invert]), drawing, message])
