"""What an image shows: is a part of it transparent, and is it one single colour, from edge to edge."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from trials.images.background import in_hex
from trials.images.blank import ANY, INK, SAME
from trials.images.to_rgb import to_rgb, with_alpha

COARSE = 16  # every so many pixels are compared first


class Looks(NamedTuple):
    """What an image shows.

    Attributes:
        transparent: whether a pixel is not opaque.
        flat: "" for an image of several colours, "#rrggbb" for one without transparency and of one colour; "any" where it is of one
            colour on whatever it is laid, and "ink #rrggbb" where what is not transparent has one colour.
    """

    transparent: bool
    flat: str


def looks_of(image: Image.Image, key: Any) -> Looks:
    """Look at an image that PIL has opened; it is loaded.

    Args:
        key: what `transparent_colour` said before anything of the image was loaded.
    Raises:
        Exception: what a damaged file leads PIL to.
    """
    image.load()
    if image.mode.startswith("I"):
        clear = np.asarray(image) == key if isinstance(key, int) else None
        pixels = to_rgb(image)
        if clear is None or not clear.any():
            return Looks(False, _flat(pixels.reshape(-1, 3)))
        return Looks(True, _ink(np.dstack((pixels, np.where(clear, 0, 255).astype(np.uint8)))))
    if image.has_transparency_data:
        image = with_alpha(image, key)
        if np.asarray(image.getchannel("A")).min() < 255:
            return Looks(True, _ink(np.asarray(image)))
    colours = [pair for pair in image.convert("RGB").getextrema() if isinstance(pair, tuple)]
    if any(high - low > SAME for low, high in colours):
        return Looks(False, "")
    return Looks(False, in_hex([low for low, _ in colours]))


def flat_of(pixels: np.ndarray) -> str:
    """`Looks.flat` of opaque pixels, also of an image that was made smaller, uint8 (H, W, 1) or (H, W, 3)."""
    return _flat(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).reshape(-1, 3)) if pixels.size else ""


def _flat(pixels: np.ndarray) -> str:
    """`Looks.flat` of opaque pixels, uint8 (n, 3)."""
    low, high = pixels.min(0), pixels.max(0)
    return "" if (high - low > SAME).any() else in_hex(low.tolist())


def _ink(pixels: np.ndarray) -> str:
    """`Looks.flat` of pixels of which some are transparent, uint8 (H, W, 4)."""
    for few in (pixels[::COARSE, ::COARSE], pixels):  # most are told by a few
        rows = few.reshape(-1, 4)
        alpha = rows[:, 3].astype(np.int32)
        colour = rows[int(alpha.argmax()), :3].astype(np.int32)
        if (np.abs(rows[:, :3] - colour).max(1) * alpha).max() > SAME * 255:
            return ""
    return ANY if alpha.max() - alpha.min() <= SAME else INK + in_hex(colour.tolist())
