"""How an image folder is laid out: where the class folders are, and the folders of its splits.

A folder that holds one folder and no image is gone through, at the root and below train, val and test.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from spaces.errors import InputError
from trials.images.walk import MAX_DEPTH, Walk

# split on disk -> names that its folder may have
SPLIT_FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
SPLITS_ON_DISK = tuple(SPLIT_FOLDERS)
HELD_OUT_NAMES = {name for split in ("val", "test") for name in SPLIT_FOLDERS[split]}
SPLIT_FOLDER_NAMES = {name for names in SPLIT_FOLDERS.values() for name in names}
# a split in a folder's name, such as train2017 or seg_test
SPLIT_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(SPLIT_FOLDER_NAMES))})(?![a-z])")
# names of the parts that downloads come in, such as images_001, part-2, archive (1) and train_0
NUMBERED_PART = re.compile(
    rf"({'|'.join(sorted(SPLIT_FOLDER_NAMES))}|parts?|batch|shard|chunk|archive|images?|imgs?|split|subset|data|dataset|download|zip|tar"
    r"|vol|volume)[\W_]*\d+\W*"
)


@dataclass(frozen=True)
class Layout:
    """Where the images of a folder are.

    Attributes:
        top: the folder that holds the class folders, or those of the splits.
        source: the folder that holds the class folders of the training images.
        classes: names of all classes, in order.
        held_out: for val and test, where they are given: the folder of their class folders, or of their images.
        notes: what is doubtful, a line each.
    """

    top: Path
    source: Path
    classes: list[str]
    held_out: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def has_train(self) -> bool:
        """Whether the folder gives the splits: it has a folder train."""
        return self.source != self.top


def find_layout(walk: Walk) -> Layout:
    """Find the classes and the splits below a walk's root.

    Raises:
        InputError: there are no classes, the splits have different ones, or folders are parts of a download.
    """
    top = _descend(walk)
    folders = _split_folders(top, walk)
    if folders and "train" not in folders and {name.lower() for name in walk.folders(top)} <= SPLIT_FOLDER_NAMES:
        raise InputError(f"'{top}' has {', '.join(sorted(folders))} but no train folder; add it, or name one of them")
    if "train" not in folders:
        classes = _class_names(top, walk)
        return Layout(top, top, classes, notes=[*_held_out_class(top, classes, walk), *_doubts(top, classes, walk)])
    source = _to_folders(folders["train"], walk)
    classes = _class_names(source, walk)
    held_out: dict[str, Path] = {
        split: walk.through(folders[split], classes) for split in ("val", "test") if split in folders
    }
    for split, folder in held_out.items():
        if (names := walk.folders(folder)) and names != classes:
            differing = sorted(set(classes) ^ set(names))[0]
            raise InputError(
                f"'train' and '{folders[split].name}' of '{top}' differ in class '{differing}'; give both the same classes"
            )
    return Layout(top, source, classes, held_out, [*_left_alone(folders, walk), *_doubts(source, classes, walk)])


def _descend(walk: Walk) -> Path:
    """The folder that holds the class folders or the splits: behind folders that hold just one folder, and behind Kaggle's."""
    folder = walk.root
    for _ in range(MAX_DEPTH):
        for kaggle in ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC"):
            if os.path.isdir(folder / kaggle / "train"):  # False too where it may not be looked at
                return folder / kaggle
        folder = walk.through(folder, SPLIT_FOLDERS["train"], steps=1)
    return folder if walk.folders(folder) else walk.root


def _to_folders(folder: Path, walk: Walk) -> Path:
    """Go through folders that hold just one folder, as far as there are folders inside."""
    inner = walk.through(folder)
    while inner != folder and not walk.folders(inner):
        inner = inner.parent
    return inner


def _split_folders(folder: Path, walk: Walk) -> dict[str, Path]:
    """The folder of each split on disk that has one."""
    folders = {name.lower(): folder / name for name in sorted(walk.folders(folder))}  # of Test and test the latter
    for name in SPLIT_FOLDERS["train"]:
        # "train" without folders of classes is a class of its own: photographs of trains
        if name in folders and not walk.folders(folders[name]):
            return {}
    return {
        split: folders[name] for split, names in SPLIT_FOLDERS.items() for name in reversed(names) if name in folders
    }


def _held_out_class(folder: Path, classes: list[str], walk: Walk) -> list[str]:
    """What is said of a class with the name of a test part, where no folder train is beside it; two such names are no classes.

    Raises:
        InputError: the folder holds the other classes once more, so that it is a test part.
    """
    name = next((name for name in classes if name.lower() in HELD_OUT_NAMES), None)
    if name is None:
        return []
    if again := [one for one in walk.folders(folder / name) if one in classes]:
        raise InputError(
            f"'{folder / name}' holds a folder '{again[0]}', as '{folder}' itself does, so it is a part of the images by its name; "
            "put the other folders into a folder train/ beside it"
        )
    return [
        f"'{name}' is a class here, for no folder train/ is beside it; if it is the part to test on, put the other folders into train/"
    ]


def _left_alone(folders: dict[str, Path], walk: Walk) -> list[str]:
    """What is said of folders that could be the same part as one that is taken."""
    return [
        f"'{name}' is left alone, for '{taken.name}' is the {split} part; put both into one folder, if both belong to it"
        for split, taken in folders.items()
        for name in walk.folders(taken.parent)
        if name.lower() in SPLIT_FOLDERS[split] and name != taken.name
    ]


def _class_names(folder: Path, walk: Walk) -> list[str]:
    """Names of the class folders, in order.

    Raises:
        InputError: there are none, they are parts of a download by their names, or a name is not UTF-8.
    """
    names = walk.folders(folder)
    if not names:
        raise InputError(f"'{folder}' is no image folder (it has no subfolders); give each class a subfolder of images")
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:  # such a name can stand neither in an ONNX file nor in a text
            raise InputError(
                f"class folder {name!a} of '{folder}' has a name that is not UTF-8; rename it (convmv renames many)"
            ) from None
    splits = Counter(SPLIT_WORD.sub("*", name.lower()) for name in names)
    of_splits = [name for name in names if splits[word := SPLIT_WORD.sub("*", name.lower())] > 1 and "*" in word]
    numbered = len(names) > 1 and all(NUMBERED_PART.fullmatch(name.lower()) for name in names)
    if parts := names if numbered else of_splits:
        raise InputError(
            f"the folders '{parts[0]}' and '{parts[1]}' of '{folder}' are parts of a data set by their names, no classes; give each "
            "class one folder of its images, in train/ and val/ where there are such parts (or rename them, if they are classes)"
        )
    return names


def _doubts(folder: Path, classes: list[str], walk: Walk) -> list[str]:
    """Whether the classes may be the folders inside the class folders: all of these hold the same folders and no image."""
    inside = walk.folders(folder / classes[0])
    if len(inside) < 2 or len(classes) < 2:
        return []
    for name in classes:
        if walk.folders(folder / name) != inside or walk.images(folder / name):
            return []
    return [
        f"the {len(classes)} class folders ('{classes[0]}', ...) hold no image, and each holds the folders '{inside[0]}', "
        f"'{inside[1]}'{', ...' * (len(inside) > 2)}; if these are the classes, put all images of one into one folder"
    ]
