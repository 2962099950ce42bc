"""Which images of a folder a run uses, and in which part each is: what is left out, and how the parts are cut."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from trials.images.blank import SINGLE, shown_colour
from trials.images.groups import Groups, require_parts
from trials.images.image_list import PARTS, ImageList
from trials.images.layout import SPLITS_ON_DISK
from trials.images.listing import Listing
from trials.images.options import LEAVE_OUT, TEST_FRACTION
from trials.images.packed_paths import PackedPaths
from trials.images.scan import Scan
from trials.images.split import split


def select_images(
    listing: Listing,
    scanned: Scan,
    score_fraction: float,
    test_fraction: float = TEST_FRACTION,
    groups: Groups | None = None,
    blank_on: str | None = None,
) -> ImageList:
    """Leave out what cannot be used, and all but one of the files with the same content; then cut the parts, stratified by class.

    Of files with the same content the one in the test images stays, else the one in val. Where two of them, in the same part,
    have different classes, all of them go, because nobody knows which class is right.

    Args:
        listing: the files of a folder.
        scanned: what the scan found in these files, in the same order.
        score_fraction: fraction of the training images that is held out to score candidates, unless the folder has a part for it.
        test_fraction: fraction of each class that is tested on, unless the folder has a part for it.
        groups: which of these files belong together, where it is not as in the listing.
        blank_on: leave out what is one single colour on this background, a value of --background in normal form; None: nothing.
    Raises:
        InputError: groups are so large that a part is empty.
    """
    reasons = dict(scanned.problems)
    for number, flat in scanned.flats.items() if blank_on else ():
        if colour := shown_colour(flat, str(blank_on)):
            reasons.setdefault(number, f"{SINGLE} '{colour}'")
    _leave_out_duplicates(listing, scanned, reasons)
    kept = _without(reasons, len(listing.paths))
    paths = PackedPaths(listing.paths[int(i)] for i in kept) if reasons else listing.paths
    groups = groups or listing.groups
    groups = groups.of(kept) if groups else None
    labels = listing.labels[kept]
    parts = _cut_parts(labels, listing.splits[kept], score_fraction, test_fraction, groups.numbers if groups else None)
    if groups:
        require_parts(groups, parts, PARTS)
    return ImageList(
        paths=paths,
        labels=labels,
        parts=parts,
        sizes=scanned.sizes[kept],
        nbytes=scanned.nbytes[kept],
        kinds=scanned.kinds,
        kind_numbers=scanned.kind_numbers[kept],
        classes=listing.classes,
        left_out=sorted([*listing.left_out, *((listing.paths[i], reason) for i, reason in reasons.items())]),
        others=listing.others,
        groups=groups,
        flats={place: scanned.flats[number] for place, number in enumerate(kept.tolist()) if number in scanned.flats},
    )


def selector(
    options: Any, listing: Listing, scanned: Scan, score_fraction: float
) -> Callable[[Groups | None], ImageList]:
    """What takes the images of a run, given how they belong together; None: as the listing has it.

    Args:
        options: those of images, or those of `trials.data check`.
        listing, scanned, score_fraction: as for `select_images`.
    """
    blank_on = str(options.background) if options.blank == LEAVE_OUT else None
    return partial(select_images, listing, scanned, score_fraction, options.test_fraction, blank_on=blank_on)


def _leave_out_duplicates(listing: Listing, scanned: Scan, reasons: dict[int, str]) -> None:
    """Add to `reasons`, by file number, why a file is not used because of another one with the same content."""
    good = _without(reasons, len(listing.paths))
    # files of test first, then val, then train, because the first of equal files stays
    priority = np.array([2, 1, 0], np.uint8)  # for SPLITS_ON_DISK
    good = good[np.argsort(priority[listing.splits[good]], kind="stable")]
    # equal files side by side, in that order
    good = good[np.argsort(scanned.digests[good], kind="stable")]
    digests = scanned.digests[good]
    originals: dict[int, int] = {}  # file number -> number of the first file with the same content
    for position in np.flatnonzero(digests[1:] == digests[:-1]).tolist():
        before, i = int(good[position]), int(good[position + 1])
        original = originals[i] = originals.get(before, before)
        reasons[i] = f"is the same file as '{listing.paths[original]}'"
        if listing.labels[i] != listing.labels[original] and listing.splits[i] == listing.splits[original]:
            reasons[original] = f"is also in class '{listing.classes[listing.labels[i]]}'"


def _cut_parts(
    labels: np.ndarray, splits: np.ndarray, score_fraction: float, test_fraction: float, groups: np.ndarray | None
) -> np.ndarray:
    """The part of each image, as a number in PARTS, (n,).

    Args:
        labels: class numbers, (n,).
        splits: what the folders say, as numbers in SPLITS_ON_DISK, (n,).
        groups: the group of each image, (n,); None: each is by itself.
    """
    train, val, test = (SPLITS_ON_DISK.index(name) for name in ("train", "val", "test"))
    parts = np.full(len(labels), PARTS.index("train"), np.uint8)
    parts[splits == test] = PARTS.index("test")
    parts[splits == val] = PARTS.index("score" if (splits == test).any() else "test")
    if (splits == train).all():
        parts[split(labels, test_fraction, groups)[1]] = PARTS.index("test")
    if not (parts == PARTS.index("score")).any():
        rest = np.flatnonzero(parts == PARTS.index("train"))
        of_rest = None if groups is None else groups[rest]
        parts[rest[split(labels[rest], score_fraction, of_rest)[1]]] = PARTS.index("score")
    return parts


def _without(left_out: dict[int, str], n: int) -> np.ndarray:
    """The numbers from 0 to n - 1 that are not in `left_out`."""
    kept = np.ones(n, bool)
    kept[list(left_out)] = False
    return np.flatnonzero(kept)
