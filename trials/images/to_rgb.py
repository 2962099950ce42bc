"""From an image that PIL has opened to RGB of 8 bits: the same for training, the scan of the files, and a network's users.

docs/classify_onnx.py and `preprocess` of an exported module do the same without Onepath.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from trials.images.background import Colour
from trials.images.heic import teach_pillow

teach_pillow()

BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # numbers of TIFF tags
WHITE_IS_ZERO = 0  # value of PHOTOMETRIC


def to_rgb(image: Image.Image, *, turn: bool = False, background: Colour | None = None) -> np.ndarray:
    """Convert an image to RGB: 16 bits are scaled to 8; grey, CMYK and palettes are converted, transparency is laid on a colour.

    Of an animation, and of a file with several pages, this is the first.

    Args:
        turn: turn it as its EXIF orientation says; PIL does so to a TIFF in any case.
        background: what shows through transparent pixels; None: the transparency is dropped, and what colours there are below it
            show.
    Returns:
        uint8, (H, W, 3).
    Raises:
        ValueError: it cannot be said which of its values is white.
        OSError, SyntaxError: the file is truncated, or damaged.
    """
    if reason := unknown_white(image):
        raise ValueError(reason)
    deep, white = image.mode.startswith("I"), 4095 if _tag(image, BITS_PER_SAMPLE) == (12,) else 65535
    key = transparent_colour(image)
    if turn:
        image = ImageOps.exif_transpose(image)
    if not deep:
        if background is None or not image.has_transparency_data:
            return np.asarray(image.convert("RGB"))
        return _laid_on(with_alpha(image, key), background)
    # grey of 9 to 16 bits, which PIL's own conversion cuts off above 255
    values = np.asarray(image, np.float64).clip(0, white)
    grey = np.stack([(values * (255 / white)).round().astype(np.uint8)] * 3, axis=2)
    if background is not None and isinstance(key, int):
        grey[values == key] = background
    return grey


def transparent_colour(image: Image.Image) -> Any:
    """The colour, number of a palette, or alpha of each of them (bytes), that a file names as transparent; None: it names none.

    A PNG counts it in its own bits, and PIL leaves it so while it brings the values to 8 bits (Pillow 13.0). To be asked before
    the image is loaded.
    """
    key = image.info.get("transparency")
    raw = image.tile[0].args if isinstance(image, PngImagePlugin.PngImageFile) and image.tile else None
    if isinstance(key, int) and raw in ("L;2", "L;4"):
        return key * (85 if raw == "L;2" else 17)
    if isinstance(key, tuple) and raw == "RGB;16B":
        return tuple(value >> 8 for value in key)
    return key


def with_alpha(image: Image.Image, key: Any) -> Image.Image:
    """An image of 8 bits with transparency, in the mode RGBA; `key` is what `transparent_colour` said."""
    if key is not None:
        image.info["transparency"] = key
    return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")


def _laid_on(image: Image.Image, background: Colour) -> np.ndarray:
    """An image in the mode RGBA on one colour, rounded to whole numbers; uint8, (H, W, 3)."""
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image, mask=image)
    return np.asarray(canvas)


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
