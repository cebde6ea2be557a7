"""Pictures of one's own, made into images like those of the data set."""

import numpy as np
from PIL import Image, ImageOps


def read_picture(path, invert=False):
    """Read a picture of any kind and size as one grey image.

    It is turned as its camera noted. Transparent parts become background, and a picture that is not square gets a
    margin of background.

    Parameters
    ----------
    path : path
    invert : bool
        For a dark garment on a light background: the data set has light ones on black.

    Returns
    -------
    ndarray of uint8, shape (28, 28)

    Raises
    ------
    OSError, ValueError
        If the file is missing or is not a picture.
    """
    try:
        with Image.open(path) as picture:
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            picture = picture.convert("RGBA")
    except (SyntaxError, Image.DecompressionBombError) as error:  # a broken one, and one far too large
        raise ValueError(f"{path}: {error}") from error
    background = Image.new("RGBA", picture.size, "white" if invert else "black")
    grey = Image.alpha_composite(background, picture).convert("L")
    grey = ImageOps.invert(grey) if invert else grey
    return np.asarray(ImageOps.pad(grey, (28, 28), color=0))
