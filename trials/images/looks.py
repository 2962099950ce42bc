"""What an image shows: is a part of it transparent, and is it one single colour, from edge to edge; by class, how many are so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from trials.images.background import NAMED, colour_of
from trials.images.to_rgb import to_rgb, with_alpha

SAME = 4  # of 255: values that are no further apart are one colour
ANY, INK = "any", "ink "  # see Looks.flat
COARSE = 16  # every so many pixels are compared first
# blank images of a class from which on it is worth a word
NOTABLE_SHARE, NOTABLE_COUNT = 0.05, 2


class Looks(NamedTuple):
    """What an image shows.

    Attributes:
        transparent: whether a pixel is not opaque.
        flat: "" for an image of several colours, "#rrggbb" for one without transparency and of one colour; "any" where it is of one
            colour on whatever it is laid, and "ink #rrggbb" where what is not transparent has one colour.
    """

    transparent: bool
    flat: str


class Blank(NamedTuple):
    """Images of a class that are one single colour once they are laid on the background.

    Attributes:
        name: of the class.
        count, total: of these images, and of all of the class.
        colour: of the first of them, such as "black" and "#ff8000".
        example: path of the first, from the data folder.
        ink: how many of them show nothing because they were drawn in the colour of the background.
    """

    name: str
    count: int
    total: int
    colour: str
    example: str
    ink: int

    def __str__(self) -> str:
        return f"class '{self.name}': {self.count:,} of {self.total:,}, all {self.colour} '{self.example}'"


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
        lowest = image.getextrema()[3][0]  # type: ignore[index]
        if lowest < 255:
            return Looks(True, _ink(np.asarray(image)))
    colours = [pair for pair in image.convert("RGB").getextrema() if isinstance(pair, tuple)]
    if any(high - low > SAME for low, high in colours):
        return Looks(False, "")
    return Looks(False, _hex([low for low, _ in colours]))


def grey_is_flat(grey: np.ndarray) -> str:
    """`Looks.flat` of a JPEG by its grey values, also if they were made smaller, (H, W, 1)."""
    return _flat(np.repeat(grey.reshape(-1, 1), 3, axis=1)) if grey.size else ""


def _flat(pixels: np.ndarray) -> str:
    """`Looks.flat` of opaque pixels, uint8 (n, 3)."""
    low, high = pixels.min(0), pixels.max(0)
    return "" if (high - low > SAME).any() else _hex(low.tolist())


def _ink(pixels: np.ndarray) -> str:
    """`Looks.flat` of pixels of which some are transparent, uint8 (H, W, 4)."""
    for few in (pixels[::COARSE, ::COARSE], pixels):  # most are told by a few
        rows = few.reshape(-1, 4)
        alpha = rows[:, 3].astype(np.int32)
        colour = rows[int(alpha.argmax()), :3].astype(np.int32)
        if (np.abs(rows[:, :3] - colour).max(1) * alpha).max() > SAME * 255:
            return ""
    return ANY if alpha.max() - alpha.min() <= SAME else INK + _hex(colour.tolist())


def shown_colour(flat: str, background: str) -> str:
    """The single colour that an image is when it is laid on a background, as people say it; "" where there are several.

    Args:
        flat: see Looks.
        background: a value of --background in normal form. Where it is drop, nothing is said of transparent images.
    """
    laid_on = colour_of(background)
    if flat.startswith("#"):
        return _said(flat)
    if not flat or laid_on is None:
        return ""
    if flat == ANY:
        return _said(_hex(laid_on))
    return "" if _distance(flat.removeprefix(INK), _hex(laid_on)) > SAME else _said(_hex(laid_on))


def blank_classes(
    flats: Mapping[int, str], paths: Sequence[str], labels: np.ndarray, classes: Sequence[str], background: str
) -> list[Blank]:
    """The classes with blank images, the one with the largest share of them first.

    Args:
        flats: see Looks, by the number of the image; images that are not in it are not flat.
        paths, labels: of all images, (n,).
        background: a value of --background in normal form.
    """
    by_class: dict[int, list[int]] = {}
    for number in sorted(flats):
        if shown_colour(flats[number], background):
            by_class.setdefault(int(labels[number]), []).append(number)
    totals = np.bincount(labels, minlength=len(classes))
    found = [
        Blank(
            classes[label],
            len(numbers),
            int(totals[label]),
            shown_colour(flats[numbers[0]], background),
            paths[numbers[0]],
            sum(flats[number].startswith(INK) for number in numbers),
        )
        for label, numbers in by_class.items()
    ]
    return sorted(found, key=lambda blank: (-blank.count / blank.total, blank.name))


def notable(blanks: Sequence[Blank]) -> list[Blank]:
    """Those that are so many that something is probably wrong."""
    return [blank for blank in blanks if blank.count >= max(NOTABLE_COUNT, NOTABLE_SHARE * blank.total)]


def _hex(colour: Sequence[int]) -> str:
    return "#" + bytes(colour).hex()


def _distance(one: str, two: str) -> int:
    """The largest difference between the values of two colours in the form #rrggbb."""
    return max(abs(a - b) for a, b in zip(bytes.fromhex(one[1:]), bytes.fromhex(two[1:]), strict=True))


def _said(colour: str) -> str:
    """A colour as people say it: by its name where it can hardly be told from one that has a name."""
    return next((name for name, values in NAMED.items() if _distance(colour, _hex(values)) <= SAME), colour)
