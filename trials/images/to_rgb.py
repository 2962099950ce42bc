"""From an image that PIL has opened to RGB of 8 bits: the same for training, the scan of the files, and a network's users.

docs/classify_onnx.py and `preprocess` of an exported module do the same without Onepath.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from trials.images.heic import teach_pillow

teach_pillow()

BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # numbers of TIFF tags
WHITE_IS_ZERO = 0  # value of PHOTOMETRIC


def to_rgb(image: Image.Image, *, turn: bool = False) -> np.ndarray:
    """Convert an image to RGB: 16 bits are scaled to 8; grey, CMYK and palettes are converted, transparency is dropped.

    Of an animation, and of a file with several pages, this is the first.

    Args:
        turn: turn it as its EXIF orientation says; PIL does so to a TIFF in any case.
    Returns:
        uint8, (H, W, 3).
    Raises:
        ValueError: it cannot be said which of its values is white.
        OSError, SyntaxError: the file is truncated, or damaged.
    """
    if reason := unknown_white(image):
        raise ValueError(reason)
    deep, white = image.mode.startswith("I"), 4095 if _tag(image, BITS_PER_SAMPLE) == (12,) else 65535
    if turn:
        image = ImageOps.exif_transpose(image)
    if not deep:
        return np.asarray(image.convert("RGB"))
    # grey of 9 to 16 bits, which PIL's own conversion cuts off above 255
    grey = (np.asarray(image, np.float64).clip(0, white) * (255 / white)).round().astype(np.uint8)
    return np.stack([grey] * 3, axis=2)


def unknown_white(image: Image.Image) -> str:
    """Why the values of an image cannot be brought to 0..255, else "": nothing in such files says which value is white."""
    if image.mode == "F":
        return "has floating-point values, of which none is known to be white; convert it to 8 or 16 bits"
    # PIL gives this mode to a PGM of 16 bits too, whose white it scales to 65535
    if image.mode == "I" and image.format != "PPM":
        return "has numbers of 32 bits or with a sign, of which none is known to be white; convert it to 8 or 16 bits"
    if image.mode.startswith("I;16") and _tag(image, PHOTOMETRIC) == WHITE_IS_ZERO:
        return "has 16 bits with 0 for white, which is not read; convert it to 8 bits"
    return ""


def _tag(image: Image.Image, number: int) -> object:
    """A tag of a TIFF; None where the image has no such tag, or is no TIFF."""
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(number)
