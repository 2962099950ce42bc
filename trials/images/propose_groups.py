"""An expression for --group-by that keeps near copies in one part, where a simple one does; it was tried before it is said."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from spaces.errors import InputError
from trials.images.background import Colour
from trials.images.groups import Groups, group_images
from trials.images.image_list import PARTS, ImageList
from trials.images.listing import Listing
from trials.images.near_copies import Bounds, NearCopies, Thumbnails, compare, find_near_copies

# What is tried, in this order: the folder right around a picture, that right below the class; the name without the digits at its
# end, up to its last separator, up to the last but one, up to its first; and pictures whose numbers are alike but for two digits.
EXPRESSIONS = (
    r"(.+)/",
    r"([^/]+)/",
    r"(.*\D)\d+$",
    r"(.+)[-_.\s]",
    r"(.+)[-_.\s].*[-_.\s]",
    r"([^-_.\s/]+)",
    r"(.+)\d\d$",
)
LEAST, MOST = 0.5, 1.5  # of the test images that there are without groups: how many there may be with them
Recut = Callable[[Groups | None], ImageList]  # the same images with the parts that groups make


class Proposal(NamedTuple):
    """An expression, and what it leads to.

    Attributes:
        expression: for --group-by.
        copies: what is nearly equal then, among the same images.
    """

    expression: str
    copies: NearCopies

    @property
    def option(self) -> str:
        """The option as it is typed; there is no space in the expression, where a line might be broken."""
        return f"--group-by {shlex.quote(self.expression)}"


def look_for_copies(
    images: ImageList,
    listing: Listing,
    recut: Recut,
    background: Colour | None,
    workers: int,
    bounds: Bounds | None = None,
) -> tuple[NearCopies, Proposal | None]:
    """Compare test images with training images; where many are nearly equal, look for an expression that keeps them together.

    Args:
        listing: the files of the folder, from which `images` were taken.
        recut: cuts the parts anew by groups of these files; raises InputError where these are too large.
        background, workers, bounds: as for `find_near_copies`.
    Returns:
        What was found; None in place of an expression where none is needed, or the folder has its own test part.
    """
    found, looked = find_near_copies(images, listing.root, background, workers, bounds)
    return found, None if listing.splits.any() else propose_groups(images, looked, found, listing, recut)


def propose_groups(
    images: ImageList, looked: Thumbnails, found: NearCopies, listing: Listing, recut: Recut
) -> Proposal | None:
    """The first expression with which hardly a test image is nearly equal to a training image, and every class is tested.

    Args:
        images: with the parts as they are.
        looked: what was compared of them.
        found: in these parts.
        listing: the files of the folder.
        recut: cuts the parts anew by groups of these files; raises InputError where these are too large.
    Returns:
        None where there is nothing to mend, where the copies are in several classes, or where none of EXPRESSIONS does.
    """
    if not found.notable or found.across:
        return None
    test = PARTS.index("test")
    usual = int((images.parts == test).sum())
    for expression in EXPRESSIONS:
        try:
            other = recut(group_images(listing.paths, listing.inside, expression))
        except InputError:
            continue
        tested = other.parts == test
        if not LEAST * usual <= tested.sum() <= MOST * usual:
            continue
        if not np.bincount(other.labels[tested], minlength=len(other.classes)).all():
            continue
        copies = compare(other, looked)
        if copies.test and not copies.notable:
            return Proposal(expression, copies)
    return None
