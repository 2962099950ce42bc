"""List the image files of a folder: which class each is in, and which split the folders give it.

    ROOT/CLASS/*.jpg                        one folder per class, of any depth: the parts are cut by us
    ROOT/train/CLASS/..., ROOT/val/CLASS/...    the splits as given; also valid, validation, test, testing, training
    ROOT/val/*.JPEG                         ImageNet's flat val: its classes come from a CSV or the devkit
    ROOT/ILSVRC/Data/CLS-LOC/{train,val}    ImageNet as Kaggle packs it, with LOC_val_solution.csv beside

The images in `val` become the test part, which is read once, at the end. Where both `val` and `test` have classes, those in
`test` do, and those in `val` score candidates. Files and folders whose names begin with a dot or __ are passed over.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spaces.errors import InputError
from trials.images.packed_paths import PackedPaths
from trials.images.val_labels import LABEL_FILES, read_val_labels

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # as torchvision's ImageFolder
# split on disk -> names that its folder may have
SPLIT_FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
SPLITS_ON_DISK = tuple(SPLIT_FOLDERS)
SPLIT_FOLDER_NAMES = {name for names in SPLIT_FOLDERS.values() for name in names}
SUBSET_SEED = 0  # draws the subset of --classes and --per-class, the same in all runs
MAX_DEPTH = 8  # folders inside folders that are opened to find the classes


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, before anyone looked into them; n is their number.

    Attributes:
        root: folder that the paths start from.
        paths: paths from that folder, with / between folders, in order.
        labels: class numbers, (n,).
        splits: what the folders say, as numbers in SPLITS_ON_DISK, (n,); all are in "train" where they say nothing.
        classes: names of the classes, in order.
        layout: how the folder is laid out, for people.
    """

    root: Path
    paths: PackedPaths
    labels: np.ndarray
    splits: np.ndarray
    classes: list[str]
    layout: str


def find_images(root: Path, *, val_labels: str = "", classes: int = 0, per_class: int = 0) -> Listing:
    """List the images of a folder.

    Args:
        val_labels: where the classes of a flat val are; empty: look for them in the folder.
        classes: how many classes to draw; 0: all.
        per_class: how many images of each class, at most, to draw from each split; 0: all.
    Raises:
        InputError: the folder has no classes, its splits have different ones, or a flat val has no labels.
    """
    root = Path(os.path.abspath(root))
    top = _descend(root)
    folders = _split_folders(top)
    if (
        folders
        and "train" not in folders
        and {entry.name.lower() for entry in _visible(top) if entry.is_dir()} <= SPLIT_FOLDER_NAMES
    ):
        raise InputError(f"'{top}' has {', '.join(sorted(folders))} but no train folder; add it, or name one of them")

    source = folders.get("train", top)
    names = _class_names(source)
    kept = _draw_classes(names, classes, source, top)
    if val_labels and not ("train" in folders and "val" in folders and not _has_folders(folders["val"])):
        raise InputError(f"--val-labels '{val_labels}' is for a flat val/, which '{top}' does not have; leave it out")

    # which files are in each split, class by class
    layout = f"{len(names)} class folders, parts cut by us"
    files_of = {"train": _in_class_folders(source, kept)}
    if "train" in folders:
        layout = f"train/ with {len(names)} class folders"
        for split in ("val", "test"):
            if split not in folders:
                continue
            held_out = _held_out_files(split, folders[split], names, kept, _between(root, top), val_labels)
            if held_out is not None:
                files_of[split], labelling = held_out
                layout += f", {folders[split].name}/ {labelling}"

    # their paths in one list, a subset of them where one is asked for
    paths, labels, splits = PackedPaths(), array("q"), []
    start_of_path = len(os.path.join(root, ""))
    for split, files_of_classes in files_of.items():
        generator = np.random.default_rng(SUBSET_SEED)
        before = len(paths)
        for label, files in enumerate(files_of_classes):
            if per_class and len(files) > per_class:
                files = [files[k] for k in sorted(generator.permutation(len(files))[:per_class])]
            for path in files:
                paths.append(path[start_of_path:].replace(os.sep, "/"))
            labels.extend([label] * len(files))
        splits.append(np.full(len(paths) - before, SPLITS_ON_DISK.index(split), np.uint8))
    return Listing(root, paths, np.array(labels, np.int64), np.concatenate(splits), kept, layout)


def _draw_classes(names: list[str], classes: int, source: Path, top: Path) -> list[str]:
    """Draw so many of the classes, all where `classes` is 0; in order.

    Args:
        source, top: the folder of the classes, and the folder of the data set, for messages.
    """
    if classes > len(names):
        raise InputError(f"--classes {classes} exceeds the {len(names)} classes in '{top}'; give at most {len(names)}")
    kept = names
    if classes:
        sampled = np.random.default_rng(SUBSET_SEED).permutation(len(names))[:classes]
        kept = [names[number] for number in sorted(sampled.tolist())]
    if len(kept) < 2:
        raise InputError(f"'{source}' has one class folder ('{names[0]}'); give at least 2 classes")
    return kept


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, but for hidden files and folders and those whose names begin with __."""
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith((".", "__"))), key=lambda entry: entry.name)


def _has_folders(folder: Path) -> bool:
    return any(entry.is_dir() for entry in _visible(folder))


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _descend(root: Path) -> Path:
    """The folder that holds the class folders or the splits: behind folders that hold just one folder, and behind Kaggle's."""
    folder = root
    for _ in range(MAX_DEPTH):
        for kaggle in ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC"):
            if (folder / kaggle / "train").is_dir():
                return folder / kaggle
        entries = _visible(folder)
        folders = [entry for entry in entries if entry.is_dir()]
        if (
            len(folders) != 1
            or folders[0].name.lower() in SPLIT_FOLDERS["train"]
            or any(_is_image(entry.name) for entry in entries)
        ):
            break
        folder = Path(folders[0].path)
    return folder if _has_folders(folder) else root


def _between(root: Path, top: Path) -> list[Path]:
    """The folders from `top` up to `root`, both included."""
    upwards = [top, *top.parents]
    return upwards[: upwards.index(root) + 1]


def _split_folders(folder: Path) -> dict[str, Path]:
    """The folder of each split on disk that has one."""
    folders = {entry.name.lower(): Path(entry.path) for entry in _visible(folder) if entry.is_dir()}
    for name in SPLIT_FOLDERS["train"]:
        # "train" without folders of classes is a class of its own: photographs of trains
        if name in folders and not _has_folders(folders[name]):
            return {}
    return {
        split: folders[name] for split, names in SPLIT_FOLDERS.items() for name in reversed(names) if name in folders
    }


def _class_names(folder: Path) -> list[str]:
    """Names of the class folders, in order."""
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
    """Paths of all images in a folder and in the folders inside."""
    paths = []
    for below, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        paths += [os.path.join(below, name) for name in sorted(names) if _is_image(name) and not name.startswith(".")]
    return paths


def _held_out_files(
    split: str, folder: Path, classes: list[str], kept: list[str], label_folders: list[Path], val_labels: str
) -> tuple[Iterator[list[str]], str] | None:
    """The images of val or test.

    Args:
        folder: folder of the split.
        classes: names of all classes of train/.
        kept: the classes that are used.
        label_folders: where to look for the classes of a flat val, unless `val_labels` says it.
    Returns:
        For each kept class the paths of its images, and how they are labelled, for people; None: a test split without labels,
        such as ImageNet's.
    """
    if _has_folders(folder):
        names = _class_names(folder)
        if names != classes:
            differing = sorted(set(classes) ^ set(names))[0]
            raise InputError(
                f"'train' and '{folder.name}' of '{folder.parent}' differ in class '{differing}'; give both the same classes"
            )
        return _in_class_folders(folder, kept), "with class folders"
    if split == "test":
        return None
    files = [entry.path for entry in _visible(folder) if _is_image(entry.name)]
    guesses = [parent / name for parent in label_folders for name in LABEL_FILES if (parent / name).exists()]
    source = Path(val_labels) if val_labels else next(iter(guesses), None)
    if source is None:
        raise InputError(
            f"'{folder}' holds images without class folders; give --val-labels: a CSV of file,class (such as "
            "LOC_val_solution.csv) or ImageNet's devkit folder"
        )
    if not source.exists():
        raise InputError(f"--val-labels '{source}' does not exist; check the path")
    members: dict[str, list[str]] = {name: [] for name in classes}
    for path, label in zip(files, read_val_labels(source, files, classes), strict=True):
        members[classes[label]].append(path)
    return iter([members[name] for name in kept]), f"flat, classes from {source.name}"
