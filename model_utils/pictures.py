"""Turn your own pictures into images like those of the data set."""

import contextlib
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from model_utils.checks import check_flag, check_path

# Pillow's own decoders. For other formats it starts other programs, such as Ghostscript for EPS.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 50_000_000  # a small file can unpack to many gigabytes

# In a TIFF, three tags say what more than 8 bits of grey mean. Black is 0 in these two: 16 bits, and floats up to 1.
BITS, SAMPLE_FORMAT, PHOTOMETRIC = 258, 339, 262
DEEP_TIFFS = ((16, 1, 1), (32, 3, 1))


def read_picture(path, invert=False):
    """Read a picture of any kind and size as one grey image.

    It is rotated to the orientation that the camera recorded. Transparent parts become background, and a picture that
    is not square gets a margin of background. Only the first picture of an animation is used.

    Parameters
    ----------
    path : path or binary file
        One of `FORMATS`.
    invert : bool
        For a dark garment on a light background: the data set has light ones on black.

    Returns
    -------
    ndarray of uint8, shape (28, 28)

    Raises
    ------
    OSError
        If the file is missing or cannot be read.
    ValueError
        If it is not a picture, is damaged, has more than `MAX_PIXELS`, is far too narrow, or does not say which value
        is white.
    """
    check_flag("invert", invert)
    if hasattr(path, "read"):
        opened, name = contextlib.nullcontext(path), "picture"
    else:
        check_path("path", path)
        opened, name = open(path, "rb"), path
    with opened as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of problems that do not stop it from reading a picture
        try:
            picture = Image.open(file, formats=FORMATS)
            _check_size(picture.size)
            _check_depth(picture)
            return _grey_image(ImageOps.exif_transpose(picture), invert)
        except UnidentifiedImageError as error:
            raise ValueError(f"{name}: expected a picture, one of {', '.join(FORMATS)}") from error
        except Exception as error:  # a decoder may raise anything on a damaged file
            raise ValueError(f"{name}: cannot be read as a picture ({error})") from error


def _check_size(size):
    n_pixels = f"{size[0]} x {size[1]} pixels"
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"{n_pixels} are more than {MAX_PIXELS:,}")
    if max(size) > 28 * min(size):
        raise ValueError(f"{n_pixels} are more than 28 times as long as wide, so nothing would be left at 28 x 28")


def _check_depth(picture):
    """Raise if a TIFF has more than 8 bits of grey and their meaning is unclear."""
    if picture.format == "TIFF" and picture.mode[0] in "IF":
        tags = picture.tag_v2
        bits, sample_format = (tags.get(tag, (1,))[0] for tag in (BITS, SAMPLE_FORMAT))
        if (bits, sample_format, tags.get(PHOTOMETRIC)) not in DEEP_TIFFS:
            raise ValueError(
                f"{bits}-bit grey whose white is unknown; save it as 8-bit or 16-bit grey, with black as 0"
            )


def _grey_image(picture, invert):
    if picture.mode == "F":
        values = np.asarray(picture)
        if not (values.min() >= 0 and values.max() <= 1):  # NaN included
            raise ValueError(f"expected floats from 0 to 1, got {values.min()} to {values.max()}")
        picture = Image.fromarray(np.round(values * 255).astype(np.uint8))
    elif picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    picture = picture.convert("RGBA")
    background = Image.new("RGBA", picture.size, "white" if invert else "black")
    grey = Image.alpha_composite(background, picture).convert("L")
    grey = ImageOps.invert(grey) if invert else grey
    return np.asarray(ImageOps.pad(grey, (28, 28), color=0))
