"""The list of images that a run uses: which of them are in which part; written once, at its start, as RUN/images.csv.gz."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from spaces.errors import InputError, shown
from spaces.files import atomic, unreadable
from trials.images.groups import Groups, group_notes, require_parts
from trials.images.inspect_file import TRANSPARENT, orientation_of
from trials.images.layout import SPLITS_ON_DISK
from trials.images.listing import Listing
from trials.images.options import TEST_FRACTION
from trials.images.packed_paths import PackedPaths
from trials.images.scan import Scan
from trials.images.split import split
from trials.images.walk import Reason

PARTS = ("train", "score", "test")  # of these the others are made: all, weights, arch; see Data
LIST = "images.csv.gz"  # file in the run: the images that are used
COLUMNS, GROUP = (
    ("path", "class", "part", "height", "width", "bytes", "kind"),
    "group",
)  # the last with --group-by alone
LEFT_OUT = "left_out.csv"  # file in the run: those that are not, and why


@dataclass(frozen=True)
class ImageList:
    """The images of a run, in the order of the folder's listing; n is their number.

    Attributes:
        paths: paths, from the data folder.
        labels: class numbers, (n,).
        parts: which part each image is in, as a number in PARTS, (n,).
        sizes: height and width in pixels, as stored, (n, 2).
        nbytes: sizes of the files in bytes; where one differs later, it is another file, (n,).
        kinds: the kinds of files that there are, such as "JPEG RGB".
        kind_numbers: which of these kinds each file is, (n,).
        classes: names of the classes.
        left_out: images that are not used, and folders that cannot be read: path and reason.
        others: what else is below the data folder and not used, such as tables: path and reason.
        groups: which images belong together, by --group-by; None without it.
    """

    paths: PackedPaths
    labels: np.ndarray
    parts: np.ndarray
    sizes: np.ndarray
    nbytes: np.ndarray
    kinds: list[str]
    kind_numbers: np.ndarray
    classes: list[str]
    left_out: list[Reason]
    others: list[Reason]
    groups: Groups | None = None


def select_images(
    listing: Listing,
    scanned: Scan,
    score_fraction: float,
    test_fraction: float = TEST_FRACTION,
    groups: Groups | None = None,
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
    Raises:
        InputError: groups are so large that a part is empty.
    """
    reasons = dict(scanned.problems)
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
    )


def without_training_images(images: ImageList) -> str:
    """The first class that has no image to train on; "" where all have some."""
    training = images.labels[images.parts != PARTS.index("test")]
    counts = np.bincount(training, minlength=len(images.classes))
    return "" if counts.all() else images.classes[int(np.argmin(counts))]


def notes_on_groups(images: ImageList) -> list[str]:
    """What is doubtful about groups and parts, a line each; [] without --group-by."""
    if images.groups is None:
        return []
    return group_notes(images.groups, images.labels, images.parts, PARTS, images.classes)


def count_turned(images: ImageList) -> int:
    """How many images have an EXIF orientation other than as they are stored."""
    return int(np.array([orientation_of(kind) > 1 for kind in images.kinds], bool)[images.kind_numbers].sum())


def count_transparent(images: ImageList) -> int:
    """How many images have pixels that are not opaque."""
    return int(transparent_images(images).sum())


def transparent_images(images: ImageList) -> np.ndarray:
    """Which images have pixels that are not opaque, bool (n,); none in the list of an older version, which did not know it."""
    return np.array([TRANSPARENT in kind for kind in images.kinds], bool)[images.kind_numbers]


def turned_sizes(images: ImageList) -> np.ndarray:
    """Heights and widths of images after they were turned as EXIF says, pixels, (n, 2)."""
    on_its_side = np.array([orientation_of(kind) >= 5 for kind in images.kinds], bool)[images.kind_numbers]
    return np.where(on_its_side[:, None], images.sizes[:, ::-1], images.sizes)


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


def save_list(images: ImageList, run: Path) -> None:
    """Write the list, and the list of what was left out, into a run."""
    groups = images.groups

    def group_of(number: int) -> list[str]:
        """The last column of an image, where there is one."""
        return [groups.names[int(groups.numbers[number])]] if groups else []

    with atomic(run / LIST) as temporary, gzip.open(temporary, "wb", compresslevel=1) as file:
        columns = (images.labels, images.parts, images.sizes, images.nbytes, images.kind_numbers)
        rows = (
            (images.paths[i], images.classes[label], PARTS[part], *size, nbytes, images.kinds[kind], *group_of(i))
            for i, (label, part, size, nbytes, kind) in enumerate(zip(*columns, strict=True))
        )
        _write_csv(file, (*COLUMNS, *([GROUP] if groups else [])), rows)
    if images.left_out or images.others:
        with atomic(run / LEFT_OUT) as temporary, open(temporary, "wb") as plain:
            _write_csv(plain, ("path", "reason"), [*images.left_out, *images.others])


def _write_csv(file: IO[bytes] | gzip.GzipFile, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table; names of files that are not UTF-8 are kept as they are."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    text.flush()
    text.detach()


def load_list(run: Path) -> ImageList:
    """Read the list of a run; what was left out is not read.

    Raises:
        InputError: it is damaged.
    """
    paths, labels, numbers, parts = PackedPaths(), array("q"), array("q"), array("B")
    classes: dict[str, int] = {}
    kinds: dict[str, int] = {}
    members, groups, seen = array("q"), PackedPaths(), dict[str, int]()
    try:
        with gzip.open(run / LIST, "rt", encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            grouped = GROUP in next(reader)
            while rows := list(itertools.islice(reader, 10_000)):
                for path, name, part, height, width, nbytes, kind, *group in rows:
                    paths.append(path)
                    labels.append(classes.setdefault(name, len(classes)))
                    numbers.extend((int(height), int(width), int(nbytes), kinds.setdefault(kind, len(kinds))))
                    parts.append(PARTS.index(part))
                    if len(group) != grouped:
                        raise ValueError("a row has too many columns")
                    for found in group:
                        if not found or found not in seen:  # without a name it is by itself
                            seen[found] = len(groups)
                            groups.append(found)
                        members.append(seen[found])
        table = np.array(numbers, np.int64).reshape(-1, 4)
        if not (table[:, :2] > 0).all() or not (table[:, :2] < 2**31).all():
            raise ValueError("a height or width is out of range")
    except (OSError, EOFError, ValueError, OverflowError, StopIteration, csv.Error, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:
            raise unreadable("list of images", run / LIST, error) from None
        raise InputError(
            f"list of images '{run / LIST}' is damaged ({shown(str(error))}); restore it, or start a new run"
        ) from None
    # classes were numbered in the order of the list; they are to be in that of the alphabet
    names = sorted(classes)
    renumbered = np.array([names.index(name) for name in classes], np.int64)
    return ImageList(
        paths=paths,
        labels=renumbered[np.array(labels)],
        parts=np.array(parts),
        sizes=table[:, :2].astype(np.int32),
        nbytes=table[:, 2].copy(),
        kinds=list(kinds),
        kind_numbers=table[:, 3].astype(np.uint8),
        classes=names,
        left_out=[],
        others=[],
        groups=Groups(np.array(members, np.int64), groups) if grouped else None,
    )
