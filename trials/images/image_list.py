"""The list of images that a run uses: which of them are in which part; written once, at its start, as RUN/images.csv.gz."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from spaces.errors import InputError, shown
from spaces.files import atomic, unreadable
from trials.images.groups import Groups, group_notes
from trials.images.inspect_file import TRANSPARENT, orientation_of
from trials.images.packed_paths import PackedPaths
from trials.images.walk import Reason

PARTS = ("train", "score", "test")  # of these the others are made: all, weights, arch; see Data
LIST = "images.csv.gz"  # file in the run: the images that are used
COLUMNS = ("path", "class", "part", "height", "width", "bytes", "kind")
GROUP = "group"  # one more, with --group-by alone
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
        flats: see Looks, by the number of the image; {} in the list of a run.
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
    flats: Mapping[int, str] = field(default_factory=dict)


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
