"""Pictures of one's own, made into images like those of the data set."""

import io
import struct
import zlib

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


def test_floats_are_read_by_their_meaning_or_refused(tmp_path):
    ramp = np.linspace(0, 1, 784, dtype=np.float32).reshape(28, 28)
    for name in ("floats.tiff", "floats.pfm"):
        Image.fromarray(ramp).save(tmp_path / name)
        np.testing.assert_array_equal(read_picture(tmp_path / name), np.round(ramp * 255))
    for name, array in {"scaled": ramp * 255, "below": ramp - 0.5, "nan": np.where(ramp < 0.5, ramp, np.nan)}.items():
        Image.fromarray(np.float32(array)).save(tmp_path / f"{name}.tiff")
        with pytest.raises(ValueError, match=rf"{name}\.tiff: .*expected floats from 0 to 1, got"):
            read_picture(tmp_path / f"{name}.tiff")


def test_16_bits_are_read_and_other_depths_refused(tmp_path):
    ramp = np.linspace(0, 65_535, 784).reshape(28, 28)
    for name in ("deep.tiff", "deep.png", "deep.pgm"):
        Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / name)
        np.testing.assert_array_equal(read_picture(tmp_path / name), ramp.astype(np.uint16) // 256)
    white_is_zero = {262: 0}
    for name, dtype, tags in (("wide", np.int32, {}), ("negative", np.uint16, white_is_zero)):
        Image.fromarray(ramp.astype(dtype)).save(tmp_path / f"{name}.tiff", tiffinfo=tags)
        with pytest.raises(ValueError, match=rf"{name}\.tiff: .*whose white is unknown"):
            read_picture(tmp_path / f"{name}.tiff")


def test_of_an_animation_the_first_picture_is_read(tmp_path):
    frames = [Image.new("L", (28, 28), grey) for grey in (200, 10)]
    for name in ("moving.gif", "moving.png", "moving.tiff"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert (read_picture(tmp_path / name) == 200).all()


def test_pictures_with_a_palette_and_one_bit_are_read(tmp_path):
    palette = Image.new("P", (28, 28), 1)
    palette.putpalette([0, 0, 0, 255, 255, 255, 90, 90, 90])
    palette.paste(2, (0, 0, 28, 14))
    palette.save(tmp_path / "palette.png", transparency=b"\x00\xff\x00")  # the upper half is not seen
    expected = np.repeat(np.uint8([0, 255]), 14)[:, np.newaxis] * np.ones(28, np.uint8)
    np.testing.assert_array_equal(read_picture(tmp_path / "palette.png"), expected)
    Image.fromarray(expected > 0).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "bits.png"), expected)


def test_a_line_is_refused_since_nothing_of_it_would_be_left(tmp_path):
    Image.new("L", (1, 28), 255).save(tmp_path / "thin.png")
    assert read_picture(tmp_path / "thin.png").max() == 255
    Image.new("L", (290, 10), 255).save(tmp_path / "line.png")
    with pytest.raises(ValueError, match=r"line\.png: .*290 x 10 pixels are more than 28 times as long as wide"):
        read_picture(tmp_path / "line.png")


@pytest.mark.parametrize("side", [7072, 13_000, 100_000])
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, side):
    """The file promises more pixels than it has: to decode any would be another error."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = (header, b"IDAT", b"IEND")
    content = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))
    with pytest.raises(ValueError, match=rf"bomb\.png: .*({side} x {side} pixels are more|exceeds limit)"):
        read_picture(tmp_path / "bomb.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp", "a.tiff", "a.webp"])
def test_what_is_cut_off_is_refused(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    assert read_picture(tmp_path / name).std() > 10
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=name):
        read_picture(tmp_path / name)


def test_an_open_file_is_read_as_its_path_is(tmp_path):
    Image.new("L", (28, 28), 200).save(tmp_path / "a.png")
    assert (read_picture(io.BytesIO((tmp_path / "a.png").read_bytes())) == 200).all()
    with pytest.raises(ValueError, match="picture: expected a picture"):
        read_picture(io.BytesIO(b"no picture"))


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "program.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for name in ("text.png", "program.eps"):
        with pytest.raises(ValueError, match=rf"{name}: expected a picture, one of BMP, GIF"):
            read_picture(tmp_path / name)
    with pytest.raises(OSError, match=r"missing\.png"):
        read_picture(tmp_path / "missing.png")
