"""Was a folder given that is one level too high: one of its "classes" is a data set, and the others are what lies beside it?"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from spaces.errors import InputError
from trials.images.layout import SPLIT_FOLDER_NAMES, SPLIT_FOLDERS

MANY = 5  # images that make a folder a class, or fewer than which make a class of the given folder none
MOSTLY = 10  # times as many images as right in it a data set has in its folders


class Inside(NamedTuple):
    """What a class folder holds.

    Attributes:
        images: how many in all.
        folders: images in each folder right inside it, by its name.
    """

    images: int
    folders: Mapping[str, int]

    @property
    def data_set(self) -> bool:
        """Whether it may be a data set itself: several folders of images, and hardly an image beside them."""
        classes = [count for count in self.folders.values() if count >= MANY]
        below = sum(self.folders.values())
        return (len(classes) > 1 or self.splits) and below > MOSTLY * (self.images - below)

    @property
    def splits(self) -> bool:
        """Whether it holds folders of splits and no others, a train folder among them."""
        names = {name.lower() for name in self.folders}
        return bool(names & set(SPLIT_FOLDERS["train"])) and len(names) > 1 and names <= SPLIT_FOLDER_NAMES


def look_inside(folder: str, files: Sequence[str]) -> Inside:
    """Count the images of a class folder by the folders inside it.

    Args:
        files: paths of the images below the folder, which they begin with.
    """
    start = len(os.path.join(folder, ""))
    return Inside(len(files), Counter(file[start:].split(os.sep, 1)[0] for file in files if os.sep in file[start:]))


def doubt_of_level(folder: Path, classes: Mapping[str, Inside]) -> str:
    """What is doubtful where one class folder, with most of all images, may be the data set; "" where none is.

    Args:
        folder: that holds the class folders.
        classes: what is in each, by its name.
    Raises:
        InputError: others of them hold too few images for a class, or that one has the folders of splits and others have not.
    """
    name = max(classes, key=lambda name: classes[name].images, default="")
    if not name or not classes[name].data_set or 2 * classes[name].images <= sum(of.images for of in classes.values()):
        return ""
    inner, inside = os.path.join(folder, name), classes[name]
    others = [other for other in classes if other != name]
    small = [f"'{other}' {classes[other].images}" for other in others if classes[other].images < MANY]
    what = "train and other splits" if inside.splits else f"{len(inside.folders)} folders of images"
    if small or (inside.splits and not all(classes[other].splits for other in others)):
        beside = (
            f", and beside it are folders of few images ({', '.join(small[:3])}{', ...' * (len(small) > 3)})"
            * bool(small)
        )
        raise InputError(
            f"'{folder}' is one folder too high: '{inner}' holds {what}{beside}; did you mean '{inner}'? (if '{name}' is a class, put "
            "all its images right into its folder)"
        )
    if all(classes[other].data_set for other in others):  # superclasses, of which one is larger
        return ""
    return f"'{inner}' holds {what}, and not all folders beside it do; if it is the data set, give '{inner}'"
