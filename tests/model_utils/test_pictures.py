"""Pictures of one's own, made into images like those of the data set."""

import numpy as np
import pytest
from PIL import ExifTags, Image

from model_utils.pictures import read_picture

pytestmark = pytest.mark.q2b


def test_pictures_of_other_kinds_and_shapes_are_read(tmp_path):
    grey = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "grey.png"), grey)
    np.testing.assert_array_equal(read_picture(tmp_path / "grey.png", invert=True), 255 - grey)

    # Cut out: white at the left, and at the right a colour that nobody sees.
    cut_out = np.full((28, 28, 4), 255, np.uint8)
    cut_out[:, 14:] = (200, 10, 10, 0)
    Image.fromarray(cut_out).save(tmp_path / "cut_out.png")
    read = read_picture(tmp_path / "cut_out.png")
    assert (read[:, :14] == 255).all()
    assert (read[:, 14:] == 0).all()
    assert (read_picture(tmp_path / "cut_out.png", invert=True) == 0).all(), "white on white"

    Image.fromarray(np.full((56, 28), 255, np.uint8)).save(tmp_path / "tall.png")
    read = read_picture(tmp_path / "tall.png")
    assert (read[:, 7:21] == 255).all(), "half as wide as high, as it was"
    assert (read[:, :7] == 0).all()
    assert (read[:, 21:] == 0).all()


def test_pictures_of_cameras_and_of_16_bits_are_read_as_people_see_them(tmp_path):
    up = np.zeros((28, 28), np.uint8)
    up[:14] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by a quarter, clockwise
    Image.fromarray(np.rot90(up)).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "turned.png"), up)

    ramp = np.linspace(0, 65_535, 784).reshape(28, 28).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png"), ramp // 256)


def test_what_is_no_picture_is_refused(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(OSError, match=r"text\.png"):
        read_picture(tmp_path / "text.png")
    Image.new("L", (200, 200)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(ValueError, match=r"large\.png: Image size"):
        read_picture(tmp_path / "large.png")
