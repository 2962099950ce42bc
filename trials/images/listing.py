"""Which files of a folder are the images of which class and part.

    ROOT/CLASS/*.jpg                        one folder per class, of any depth: the parts are cut by us
    ROOT/train/CLASS/..., ROOT/val/CLASS/...    the parts as given; also valid, validation, test, testing, training
    ROOT/val/*.JPEG                         ImageNet's flat val: its classes come from a CSV or the devkit
    ROOT/ILSVRC/Data/CLS-LOC/{train,val}    ImageNet as Kaggle packs it, with LOC_val_solution.csv beside

`val` gives the test images, which are read once, at the end. Where there are both `val` and `test` with classes, `test` does,
and `val` has the images that score candidates. Names that begin with a dot or __ are left alone.
"""

from __future__ import annotations

import os
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spaces.errors import InputError
from trials.images.val_labels import LABEL_FILES, _devkit, _is_devkit, _table

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # as torchvision's ImageFolder
NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
GIVEN = tuple(NAMES)
ALL_NAMES = {name for names in NAMES.values() for name in names}
SUBSET_SEED = 0  # of --classes and --per-class, the same for all runs


class Names(Sequence[str]):
    """Many strings in one piece of memory: the paths of ImageNet take 60 MB, as a list of str 200 MB.

    Args:
        names: the strings; names of files that are not UTF-8 are kept as they are.
        before: a folder that is put before each one when it is read.
    """

    def __init__(self, names: Iterable[str] = (), before: str = "") -> None:
        self.before = before
        self._bytes, self._ends = bytearray(), array("q", (0,))
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        self._bytes += os.fsencode(name)
        self._ends.append(len(self._bytes))

    def under(self, folder: str | Path) -> Names:
        """The same paths, in a folder; the memory is shared."""
        other = Names(before=os.path.join(folder, ""))
        other._bytes, other._ends = self._bytes, self._ends
        return other

    def crc(self) -> int:
        """A checksum of all names, 32 bits."""
        return zlib.crc32(self._bytes)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: Any) -> Any:
        number = range(len(self))[number]
        if isinstance(number, range):
            return [self[k] for k in number]
        return self.before + os.fsdecode(bytes(self._bytes[self._ends[number] : self._ends[number + 1]]))


@dataclass(frozen=True)
class Listing:
    """Images before anyone looked into them.

    Attributes:
        root: folder that paths start from.
        paths: from it, with / between folders, in order.
        labels: class numbers.
        given: number in GIVEN of what the folders say; all of "train" where they say nothing.
        classes: names, in order.
        layout: what was found, for people.
    """

    root: Path
    paths: Names
    labels: np.ndarray
    given: np.ndarray
    classes: list[str]
    layout: str


def find_images(root: Path, *, val_labels: str = "", classes: int = 0, per_class: int = 0) -> Listing:
    """List a folder.

    Args:
        val_labels: where a flat val's classes are; looked for where empty.
        classes, per_class: sizes of the subset that is drawn; 0: all.
    Raises:
        InputError: no classes in it, parts whose classes differ, a flat part without labels.
    """
    root = Path(os.path.abspath(root))
    top = _descend(root)
    parts = _parts(top)
    if (
        parts
        and "train" not in parts
        and {entry.name.lower() for entry in _visible(top) if entry.is_dir()} <= ALL_NAMES
    ):
        raise InputError(f"'{top}' has {', '.join(sorted(parts))} but no train folder; add it, or name one of them")
    source = parts.get("train", top)
    names = _class_names(source)
    if classes > len(names):
        raise InputError(f"--classes {classes} exceeds the {len(names)} classes in '{top}'; give at most {len(names)}")
    kept = names
    if classes:
        chosen = np.random.default_rng(SUBSET_SEED).permutation(len(names))[:classes]
        kept = [names[number] for number in sorted(chosen.tolist())]
    if len(kept) < 2:
        raise InputError(f"'{source}' has one class folder ('{names[0]}'); give at least 2 classes")
    if val_labels and not ("train" in parts and "val" in parts and not _has_folders(parts["val"])):
        raise InputError(f"--val-labels '{val_labels}' is for a flat val/, which '{top}' does not have; leave it out")
    layout = f"{len(names)} class folders, parts cut by us"
    sources = {"train": _in_class_folders(source, kept)}
    if "train" in parts:
        layout = f"train/ with {len(names)} class folders"
        for part in ("val", "test"):
            if part in parts and (held := _held(part, parts[part], names, kept, root, top, val_labels)):
                sources[part] = held[0]
                layout += f", {parts[part].name}/ {held[1]}"
    paths, labels, given = Names(), array("q"), []
    before_path = os.path.join(root, "")
    for part, files_of_classes in sources.items():
        draw = np.random.default_rng(SUBSET_SEED)
        before = len(paths)
        for label, files in enumerate(files_of_classes):
            if per_class and len(files) > per_class:
                files = [files[k] for k in sorted(draw.permutation(len(files))[:per_class])]
            for path in files:
                paths.append(path[len(before_path) :].replace(os.sep, "/"))
            labels.extend([label] * len(files))
        given.append(np.full(len(paths) - before, GIVEN.index(part), np.uint8))
    return Listing(root, paths, np.array(labels, np.int64), np.concatenate(given), kept, layout)


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name."""
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith((".", "__"))), key=lambda entry: entry.name)


def _has_folders(folder: Path) -> bool:
    return any(entry.is_dir() for entry in _visible(folder))


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _descend(root: Path) -> Path:
    """To where the class folders or parts are: through folders that hold just one folder, and Kaggle's."""
    folder = root
    for _ in range(8):
        for place in ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC"):
            if (folder / place / "train").is_dir():
                return folder / place
        entries = _visible(folder)
        folders = [entry for entry in entries if entry.is_dir()]
        if len(folders) != 1 or folders[0].name.lower() in NAMES["train"] or any(_is_image(e.name) for e in entries):
            break
        folder = Path(folders[0].path)
    return folder if _has_folders(folder) else root


def _parts(folder: Path) -> dict[str, Path]:
    """part -> its folder, if it has one."""
    folders = {entry.name.lower(): Path(entry.path) for entry in _visible(folder) if entry.is_dir()}
    for name in NAMES["train"]:  # trains, not a training part
        if name in folders and not _has_folders(folders[name]):
            return {}
    return {part: folders[name] for part, names in NAMES.items() for name in reversed(names) if name in folders}


def _class_names(folder: Path) -> list[str]:
    names = [entry.name for entry in _visible(folder) if entry.is_dir()]
    if not names:
        raise InputError(f"'{folder}' is no image folder (it has no subfolders); give each class a subfolder of images")
    return names


def _in_class_folders(folder: Path, classes: list[str]) -> Iterator[list[str]]:
    """For each class, the paths of its images, in order."""
    for name in classes:
        files = sorted(_images_below(folder / name))
        if not files:
            raise InputError(
                f"'{folder}' is no image folder (no image in '{name}'); give each class a subfolder of images "
                f"({', '.join(EXTENSIONS)})"
            )
        yield files


def _images_below(folder: Path) -> list[str]:
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        found += [os.path.join(place, name) for name in sorted(names) if _is_image(name) and not name.startswith(".")]
    return found


def _held(
    part: str, folder: Path, classes: list[str], kept: list[str], root: Path, top: Path, val_labels: str
) -> tuple[Iterator[list[str]], str] | None:
    """For each kept class its images of val or test, and how they are labelled; None: no labels, such as ImageNet's test."""
    if _has_folders(folder):
        names = _class_names(folder)
        if names != classes:
            odd = sorted(set(classes) ^ set(names))[0]
            raise InputError(
                f"'train' and '{folder.name}' of '{top}' differ in class '{odd}'; give both the same classes"
            )
        return _in_class_folders(folder, kept), "with class folders"
    if part == "test":
        return None
    files = [entry.path for entry in _visible(folder) if _is_image(entry.name)]
    places = (top, *top.parents)
    places = places[: places.index(root) + 1]
    guesses = [place / name for place in places for name in LABEL_FILES if (place / name).exists()]
    source = Path(val_labels) if val_labels else next(iter(guesses), None)
    if source is None:
        raise InputError(
            f"'{folder}' holds images without class folders; give --val-labels: a CSV of file,class (such as "
            "LOC_val_solution.csv) or ImageNet's devkit folder"
        )
    if not source.exists():
        raise InputError(f"--val-labels '{source}' does not exist; check the path")
    labels = _devkit(source, files, classes) if _is_devkit(source) else _table(source, files, classes)
    members: dict[str, list[str]] = {name: [] for name in classes}
    for path, label in zip(files, labels, strict=True):
        members[classes[label]].append(path)
    return iter([members[name] for name in kept]), f"flat, classes from {source.name}"
