"""List the image files of a folder: which class each is in, and which split the folders give it.

    ROOT/CLASS/*.jpg                        one folder per class, of any depth: the parts are cut by us
    ROOT/train/CLASS/..., ROOT/val/CLASS/...    the splits as given; also valid, validation, test, testing, training
    ROOT/val/*.JPEG                         ImageNet's flat val: its classes come from a table or the devkit
    ROOT/val/images/*.JPEG                  Tiny ImageNet's, with val/val_annotations.txt
    ROOT/ILSVRC/Data/CLS-LOC/{train,val}    ImageNet as Kaggle packs it, with LOC_val_solution.csv beside

The images in `val` become the test part, which is read once, at the end. Where both `val` and `test` have classes, those in
`test` do, and those in `val` score candidates. Files and folders whose names begin with a dot or __ are passed over. What is
below the root and is not used is listed with the reason.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spaces.errors import InputError
from trials.images.groups import Groups, group_images
from trials.images.layout import SPLITS_ON_DISK, Layout, find_layout
from trials.images.level import doubt_of_level, look_inside
from trials.images.packed_paths import PackedPaths
from trials.images.val_labels import LABEL_FILES, read_val_labels
from trials.images.walk import EXTENSIONS, Reason, Walk

SUBSET_SEED = 0  # draws the subset of --classes and --per-class, the same in all runs


@dataclass(frozen=True)
class Listing:
    """The image files of a folder, before anyone looked into them; n is their number.

    Attributes:
        root: folder that the paths start from.
        paths: paths from that folder, with / between folders, in order.
        labels: class numbers, (n,).
        inside: where in each path the part inside the class folder begins, in characters, (n,).
        splits: what the folders say, as numbers in SPLITS_ON_DISK, (n,); all are in "train" where they say nothing.
        classes: names of the classes, in order.
        layout: how the folder is laid out, for people.
        notes: what is doubtful about it, a line each.
        groups: which images belong together, by --group-by; None without it.
        left_out: images that cannot be used, and folders that cannot be read, with the reason.
        others: what is no image by its name, or is left alone, with the reason.
    """

    root: Path
    paths: PackedPaths
    labels: np.ndarray
    inside: np.ndarray
    splits: np.ndarray
    classes: list[str]
    layout: str
    notes: list[str]
    left_out: list[Reason]
    others: list[Reason]
    groups: Groups | None = None


def find_images(
    root: Path, *, val_labels: str = "", classes: int = 0, per_class: int = 0, group_by: str | None = None
) -> Listing:
    """List the images of a folder.

    Args:
        val_labels: where the classes of a flat val are; empty: look for them in the folder.
        classes: how many classes to draw; 0: all.
        per_class: how many images of each class, at most, to draw from each split; 0: all.
        group_by: the expression that says which images belong together; None: each is by itself.
    Raises:
        InputError: the folder has no classes or cannot be read, its splits have different ones, a flat val has no labels, or
            `group_by` is no use.
    """
    walk = Walk(Path(os.path.abspath(root)))
    found = find_layout(walk)
    kept = _draw_classes(found, classes)
    if val_labels and ("val" not in found.held_out or walk.folders(found.held_out["val"])):
        raise InputError(
            f"--val-labels '{val_labels}' is for a flat val/, which '{found.top}' does not have; leave it out"
        )

    # which files are in each split, class by class; which names in each folder are used
    inside_of = {"train": found.source}  # the folder of the class folders, or of a flat val
    files_of = {"train": _in_class_folders(found.source, kept, walk, found.notes)}
    used = {found.source: set(found.classes)}
    layout = f"{len(found.classes)} class folders, parts cut by us"
    if found.has_train:
        layout = f"train/ with {len(found.classes)} class folders"
    for split, folder in found.held_out.items():
        name = folder.relative_to(found.top).parts[0]
        inside_of[split] = folder
        if walk.folders(folder):
            files_of[split] = _in_class_folders(folder, kept, walk)
            used[folder] = set(found.classes)
            layout += f", {name}/ with class folders"
        elif split == "val":
            files_of[split], labelling = _flat_val(folder, found, kept, val_labels, used, walk)
            layout += f", {name}/ flat, {labelling}"
        else:  # a test split without labels, such as ImageNet's
            walk.others.append((f"{folder.relative_to(walk.root).as_posix()}/", "has no class folders, so no labels"))
            used.setdefault(folder.parent, set()).add(folder.name)

    # their paths in one list, a subset of them where one is asked for
    paths, labels, inside, splits = PackedPaths(), array("q"), array("q"), []
    start_of_path = len(os.path.join(walk.root, ""))
    for split, files_of_classes in files_of.items():
        generator = np.random.default_rng(SUBSET_SEED)
        before = len(paths)
        flat = not walk.folders(inside_of[split])
        for label, files in enumerate(files_of_classes):
            if per_class and len(files) > per_class:
                files = [files[k] for k in sorted(generator.permutation(len(files))[:per_class])]
            for path in files:
                paths.append(path[start_of_path:].replace(os.sep, "/"))
            labels.extend([label] * len(files))
            start = len(os.path.join(inside_of[split], "" if flat else kept[label], "")) - start_of_path
            inside.extend([start] * len(files))
        splits.append(np.full(len(paths) - before, SPLITS_ON_DISK.index(split), np.uint8))
    walk.account(used)
    starts = np.array(inside, np.int64)
    return Listing(
        walk.root,
        paths,
        np.array(labels, np.int64),
        starts,
        np.concatenate(splits),
        kept,
        layout,
        found.notes,
        sorted(walk.left_out),
        sorted(walk.others),
        group_images(paths, starts, group_by) if group_by else None,
    )


def _draw_classes(found: Layout, classes: int) -> list[str]:
    """Draw so many of the classes, all where `classes` is 0; in order."""
    names = found.classes
    if classes > len(names):
        raise InputError(
            f"--classes {classes} exceeds the {len(names)} classes in '{found.top}'; give at most {len(names)}"
        )
    kept = names
    if classes:
        sampled = np.random.default_rng(SUBSET_SEED).permutation(len(names))[:classes]
        kept = [names[number] for number in sorted(sampled.tolist())]
    if len(kept) < 2:
        raise InputError(f"'{found.source}' has one class folder ('{names[0]}'); give at least 2 classes")
    return kept


def _in_class_folders(
    folder: Path, classes: list[str], walk: Walk, notes: list[str] | None = None
) -> Iterator[list[str]]:
    """For each class, the paths of its images, in order.

    Args:
        notes: what is doubtful; whether the folder is one too high is added, where this is to be looked at.
    """
    inside = {}
    for name in classes:
        walk.entries(folder / name)  # says why, where the whole class cannot be read
        before = len(walk.left_out)
        files = walk.images_below(folder / name)
        inside[name] = look_inside(str(folder / name), files)
        if not files:
            if notes is not None:
                others = Walk(walk.root)  # whose account is not kept
                rest = {n: look_inside(str(folder / n), others.images_below(folder / n)) for n in classes}
                doubt_of_level(folder, rest)
            why = f"; '{walk.left_out[before][0]}' {walk.left_out[before][1]}" if walk.left_out[before:] else ""
            raise InputError(
                f"'{folder}' is no image folder (no image in '{name}'{why}); give each class a subfolder of images "
                f"({', '.join(EXTENSIONS)})"
            )
        yield files
    if notes is not None and not notes and (doubt := doubt_of_level(folder, inside)):
        notes.append(doubt)


def _flat_val(
    folder: Path, found: Layout, kept: list[str], val_labels: str, used: dict[Path, set[str]], walk: Walk
) -> tuple[Iterator[list[str]], str]:
    """The images of a val without class folders.

    Args:
        folder: the folder that holds them.
        kept: the classes that are used.
        val_labels: where their classes are; "": in one of LABEL_FILES beside them, or in a folder around, up to the root.
        used: folder -> names in it that are used; is added to.
    Returns:
        For each kept class the paths of its images; how they are labelled, for people.
    """
    upwards = [folder, *folder.parents]
    around = upwards[: upwards.index(walk.root) + 1]
    guesses = [parent / name for parent in around for name in LABEL_FILES if os.path.exists(parent / name)]
    source = Path(val_labels) if val_labels else next(iter(guesses), None)
    if source is None:
        raise InputError(
            f"'{folder}' holds images without class folders; give --val-labels: a CSV of file,class (such as "
            "LOC_val_solution.csv) or ImageNet's devkit folder"
        )
    if not source.exists():
        raise InputError(f"--val-labels '{source}' does not exist; check the path")
    files = walk.images(folder)
    numbers, meaning = read_val_labels(source, files, found.classes)
    members: dict[str, list[str]] = {name: [] for name in found.classes}
    for path, label in zip(files, numbers, strict=True):
        members[found.classes[label]].append(path)
    if without := [name for name, paths in members.items() if not paths]:
        found.notes.append(
            f"{len(without)} of {len(found.classes)} classes have no image in '{folder}', by '{source}' ({meaning}): '{without[0]}'"
            + ", ..." * (len(without) > 1)
        )
    used[folder] = {os.path.basename(path) for path in files}
    if source.absolute().is_relative_to(walk.root):
        used.setdefault(source.absolute().parent, set()).add(source.name)
    return iter([members[name] for name in kept]), f"classes from {source.name} ({meaning})"
