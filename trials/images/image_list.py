"""The list of images that a run uses, written once at its start as RUN/images.csv.gz."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import zlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spaces.errors import InputError
from spaces.files import atomic
from trials.images.dataset import TEST_FRACTION, split
from trials.images.listing import GIVEN, Listing, Names
from trials.images.scan import Scan

PARTS = ("train", "score", "test")
LIST = "images.csv.gz"
LEFT_OUT = "left_out.csv"


@dataclass(frozen=True)
class Images:
    """The images of a run.

    Attributes:
        paths: from the data folder.
        labels: class numbers, (n,).
        parts: number in PARTS, (n,).
        sizes: height and width in pixels, (n, 2).
        nbytes: of the files; another number later means another file, (n,).
        kinds, kind_numbers: such as "JPEG RGB"; which of them each image is, (n,).
        classes: names.
        left_out: path and reason of files that are not used.
    """

    paths: Names
    labels: np.ndarray
    parts: np.ndarray
    sizes: np.ndarray
    nbytes: np.ndarray
    kinds: list[str]
    kind_numbers: np.ndarray
    classes: list[str]
    left_out: list[tuple[str, str]]


def choose(listing: Listing, found: Scan, score_fraction: float) -> Images:
    """Leave out what cannot be used, and all but one of files with the same content; cut the parts, class-balanced.

    Of equal files the one in the test images stays, then the one in val. Those in two classes of a part go, whichever is right.
    """
    reasons = dict(found.problems)
    train, val, test = (GIVEN.index(part) for part in ("train", "val", "test"))
    good = _without(reasons, len(listing.paths))
    good = good[np.argsort(np.array([2, 1, 0], np.uint8)[listing.given[good]], kind="stable")]  # test, val, train
    good = good[np.argsort(found.digests[good], kind="stable")]  # equal files side by side, in that order
    digests = found.digests[good]
    originals: dict[int, int] = {}
    for place in np.flatnonzero(digests[1:] == digests[:-1]).tolist():
        before, i = int(good[place]), int(good[place + 1])
        original = originals[i] = originals.get(before, before)
        reasons[i] = f"is the same file as '{listing.paths[original]}'"
        if listing.labels[i] != listing.labels[original] and listing.given[i] == listing.given[original]:
            reasons[original] = f"is also in class '{listing.classes[listing.labels[i]]}'"
    del good, digests
    kept = _without(reasons, len(listing.paths))
    labels, given = listing.labels[kept], listing.given[kept]
    parts = np.full(len(kept), PARTS.index("train"), np.uint8)
    parts[given == test] = PARTS.index("test")
    parts[given == val] = PARTS.index("score" if (given == test).any() else "test")
    if (given == train).all():
        parts[split(labels, TEST_FRACTION)[1]] = PARTS.index("test")
    if not (parts == PARTS.index("score")).any():
        rest = np.flatnonzero(parts == PARTS.index("train"))
        parts[rest[split(labels[rest], score_fraction)[1]]] = PARTS.index("score")
    return Images(
        Names(listing.paths[int(i)] for i in kept) if reasons else listing.paths,
        labels,
        parts,
        found.sizes[kept],
        found.nbytes[kept],
        found.kinds,
        found.kind_numbers[kept],
        listing.classes,
        [(listing.paths[i], reasons[i]) for i in sorted(reasons)],
    )


def _without(left_out: dict[int, str], n: int) -> np.ndarray:
    """Numbers from 0 to n - 1 but for those."""
    kept = np.ones(n, bool)
    kept[list(left_out)] = False
    return np.flatnonzero(kept)


def save(images: Images, run: Path) -> None:
    """Write the list and what was left out into a run."""
    with atomic(run / LIST) as temporary, gzip.open(temporary, "wb", compresslevel=1) as file:
        columns = (images.labels, images.parts, images.sizes, images.nbytes, images.kind_numbers)
        rows = (
            (images.paths[i], images.classes[label], PARTS[part], *size, nbytes, images.kinds[kind])
            for i, (label, part, size, nbytes, kind) in enumerate(zip(*columns, strict=True))
        )
        _write(file, ("path", "class", "part", "height", "width", "bytes", "kind"), rows)
    if images.left_out:
        with atomic(run / LEFT_OUT) as temporary, open(temporary, "wb") as file:
            _write(file, ("path", "reason"), images.left_out)


def _write(file: Any, header: tuple[str, ...], rows: Iterable[Any]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    text.flush()
    text.detach()


def load(run: Path) -> Images:
    """Read the list of a run.

    Raises:
        InputError: it is damaged.
    """
    paths, numbers, sizes, parts = Names(), array("q"), array("q"), array("B")
    classes: dict[str, int] = {}
    kinds: dict[str, int] = {}
    try:
        with gzip.open(run / LIST, "rt", encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            next(reader)
            while rows := list(itertools.islice(reader, 10_000)):
                for path, name, part, height, width, nbytes, kind in rows:
                    paths.append(path)
                    numbers.append(classes.setdefault(name, len(classes)))
                    sizes.extend((int(height), int(width), int(nbytes), kinds.setdefault(kind, len(kinds))))
                    parts.append(PARTS.index(part))
    except (OSError, EOFError, ValueError, StopIteration, csv.Error, zlib.error) as error:
        raise InputError(
            f"list of images '{run / LIST}' is damaged ({error}); restore it, or start a new run"
        ) from None
    names = sorted(classes)
    new = np.array([names.index(name) for name in classes], np.int64)  # from the order of the list to the alphabet's
    table = np.array(sizes, np.int64).reshape(-1, 4)
    return Images(
        paths,
        new[np.array(numbers)],
        np.array(parts),
        table[:, :2].astype(np.int32),
        table[:, 2].copy(),
        list(kinds),
        table[:, 3].astype(np.uint8),
        names,
        [],
    )
