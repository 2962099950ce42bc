"""Which images of a folder are one single colour once they are laid on the background, class by class. Light to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from trials.images.background import NAMED, colour_of, in_hex

SINGLE = "is one single colour"  # how the reason begins for which --blank leave-out leaves an image out
SAME = 4  # of 255: values that are no further apart are one colour
ANY, INK = "any", "ink "  # see Looks.flat
# blank images of a class from which on it is worth a word
NOTABLE_SHARE, NOTABLE_COUNT = 0.05, 2


class Blank(NamedTuple):
    """Images of a class that are one single colour once they are laid on the background.

    Attributes:
        name: of the class.
        images, total: of these images, and of all of the class.
        colour: of the first of them, such as "black" and "#ff8000".
        example: path of the first, from the data folder.
        ink: how many of them show nothing because they were drawn in the colour of the background.
    """

    name: str
    images: int
    total: int
    colour: str
    example: str
    ink: int

    def __str__(self) -> str:
        return f"class '{self.name}': {self.images:,} of {self.total:,}, all {self.colour} '{self.example}'"


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
        return _said(in_hex(laid_on))
    return "" if _distance(flat.removeprefix(INK), in_hex(laid_on)) > SAME else _said(in_hex(laid_on))


def blank_classes(
    flats: Mapping[int, str], paths: Sequence[str], labels: np.ndarray, classes: Sequence[str], background: str
) -> list[Blank]:
    """The classes with blank images, the one with the largest share of them first.

    Args:
        flats: see Looks, by the number of the image; images that are not in it are not flat.
        paths, labels: of all images that are used, (n,).
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
    return sorted(found, key=lambda blank: (-blank.images / blank.total, blank.name))


def notable(blanks: Sequence[Blank]) -> list[Blank]:
    """Those that are so many that something is probably wrong."""
    return [blank for blank in blanks if blank.images >= max(NOTABLE_COUNT, NOTABLE_SHARE * blank.total)]


def _distance(one: str, two: str) -> int:
    """The largest difference between the values of two colours in the form #rrggbb."""
    return max(abs(a - b) for a, b in zip(bytes.fromhex(one[1:]), bytes.fromhex(two[1:]), strict=True))


def _said(colour: str) -> str:
    """A colour as people say it: by its name where it can hardly be told from one that has a name."""
    return next((name for name, values in NAMED.items() if _distance(colour, in_hex(values)) <= SAME), colour)
