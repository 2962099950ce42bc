"""The options that say which images a command reads, and how; shared by trials.supernet, retrain and data. Light to import."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from spaces.errors import InputError, require_library, shown, unknown
from trials.common import cli
from trials.common.cli import option
from trials.common.machine import require_few, usable_cores
from trials.common.options import RECIPE
from trials.images import background, fit, groups

IN_MEMORY = ("digits", "fashion-mnist", "cifar10", "cifar100")
DATA = (*IN_MEMORY, "folder")
LOADERS = ("dali", "torchvision")
ON_OFF = ("on", "off")
LEAVE_OUT = "leave-out"
BLANK = ("keep", LEAVE_OUT)
# what only image folders have
OF_FOLDERS = (
    "loader",
    "classes",
    "per_class",
    "val_labels",
    "bad_files",
    "exif_orientation",
    "background",
    "fit",
    "group_by",
    "blank",
)
# what a run keeps of how its images are chosen and prepared: it goes on with it, and what is trained beside it takes it
KEPT_BY_RUNS = ("background", "fit", "mirror", "group_by", "blank")
TEST_FRACTION = 0.2
DECODER = "a process or thread"  # what decodes images


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which images a command reads, and how; `trials.images.load` opens them."""

    group: ClassVar[str] = "images"

    data: str = option("digits", f"Data set: {', '.join(DATA)}; ImageNet is a folder")
    data_root: str = option("", "Folder of the data set")
    spos_preprocessing: bool = option(
        None, "Prepare images as the official SPOS weights expect them: BGR, 0-255, resized as OpenCV does"
    )
    exif_orientation: bool = option(
        None, "Turn photographs of a folder upright, as the EXIF orientation in their files says", unset="no"
    )
    background: str = option(
        None,
        "What transparent pictures of a folder are laid on: white, black, grey, '#RRGGBB', or drop (their transparency is ignored)",
        unset=background.DEFAULT,
        spelling=background.normal_form,
    )
    fit: str = option(
        None,
        "How a picture of a folder that is not square becomes square: its centre is cut out, all of it is resized to a square, or "
        "is laid on a square with borders in the colour of --background",
        choices=fit.FITS,
        unset=fit.CROP,
        brief="How a picture that is not square becomes square",
    )
    loader: str = option(
        None, "Library that decodes the images of a folder", choices=LOADERS, unset="dali where it imports"
    )
    workers: int = option(
        None,
        "Threads (dali) or processes (torchvision) that decode images",
        unset="one for each core, at most 16",
    )
    classes: int = option(0, "Use this many classes of a folder, drawn with a fixed seed; 0 means all")
    per_class: int = option(0, "Use at most this many images of a class, in each given part; 0 means all")
    val_labels: str = option(
        "", "Classes of a flat val/: a CSV of file,class, or ImageNet's devkit folder", unset="looked for"
    )
    test_fraction: float = option(
        TEST_FRACTION, "Part of each class that is tested on, where the data have no test part of their own"
    )
    group_by: str | None = option(
        None,
        "Regular expression that says by the names which pictures belong together, as frames of a scene do: all of a group are in "
        r"one part, the test, the held-out or the training images; '(.+)_\d+' is for scene_12.jpg, '(.+)/' for scene/12.jpg",
        unset="each picture by itself",
        brief=r"Which pictures belong in one part, by names, as '(.+)_\d+'",
    )
    blank: str | None = option(
        None,
        "What to do with pictures of a folder that are one single colour from edge to edge, on --background",
        choices=BLANK,
        unset=BLANK[0],
        brief="What to do with pictures of a folder that are one single colour",
    )
    bad_files: str = option("leave-out", "What to do with files that cannot be decoded", choices=("leave-out", "fail"))
    color_jitter: float = option(
        None, "Largest part by which brightness, contrast and saturation of training images change", unset=RECIPE
    )
    mirror: str = option(
        None,
        "Mirror training images left to right, half of the time; off for letters, signs, and classes that differ in left and right",
        choices=ON_OFF,
        unset="on, for digits off",
    )
    cutout: int = option(0, "Side in pixels of the square that is cut out of training images; 0 means none")

    def __post_init__(self) -> None:
        if self.data not in DATA:
            raise InputError(unknown("data set", self.data, DATA))
        if self.data != "folder":
            for name in OF_FOLDERS:
                if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                    flag = "--" + name.replace("_", "-")
                    raise InputError(f"{flag} is of --data folder, and --data is {self.data}; leave {flag} out")
        elif self.loader is None:
            object.__setattr__(self, "loader", default_loader())
        elif self.loader not in LOADERS:
            raise InputError(unknown("loader", self.loader, LOADERS))
        elif self.loader == "dali":
            require_library("nvidia.dali", "--loader dali", "give --loader torchvision", package="nvidia-dali-cuda120")
        if self.data == "digits" and self.data_root:
            raise InputError(
                f"--data digits has no folder, and --data-root is '{shown(self.data_root)}'; leave it out, or give --data folder"
            )
        if self.data == "folder":
            object.__setattr__(self, "background", background.normal_form(self.background or background.DEFAULT))
            if self.fit not in (None, *fit.FITS):
                raise InputError(unknown("value of --fit", self.fit, fit.FITS))
            object.__setattr__(self, "fit", self.fit or fit.CROP)
            check_selection(self)
        if self.mirror is None:
            object.__setattr__(self, "mirror", "off" if self.data == "digits" else "on")  # a mirrored 2 is no 2
        elif self.mirror not in ON_OFF:
            raise InputError(unknown("value of --mirror", self.mirror, ON_OFF))
        if not 0 < self.test_fraction < 1:
            raise InputError(f"--test-fraction {self.test_fraction} is out of range; give a number between 0 and 1")
        if self.test_fraction != TEST_FRACTION and self.data in IN_MEMORY and self.data != "digits":
            raise InputError(f"--data {self.data} has a test part of its own; leave --test-fraction out")
        if self.workers is None:
            object.__setattr__(self, "workers", default_workers())
        cli.not_negative(self, "workers", "classes", "per_class", "cutout")
        require_few("--workers", self.workers, DECODER)
        if self.classes == 1:
            raise InputError("--classes 1: one class teaches nothing; give 2 or more, or 0 for all")

    def decide_preprocessing(self, *, official: bool) -> None:
        """Decide on the SPOS preprocessing where it was not given; weights of the official code need it.

        Raises:
            InputError: it was refused for such weights.
        """
        if official and self.spos_preprocessing is False:
            raise InputError(
                "--no-spos-preprocessing contradicts --import-official, whose weights need it; leave it out"
            )
        object.__setattr__(self, "spos_preprocessing", bool(self.spos_preprocessing or official))

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> DataOptions:
        """From the configuration that a run stores; a loader that does not import here is replaced by the other."""
        given = {field.name: stored[field.name] for field in dataclasses.fields(DataOptions) if field.name in stored}
        if given.get("loader") == "dali" and default_loader() != "dali":
            given["loader"] = "torchvision"
        return DataOptions(**{**given, "workers": None})


def which_files(options: Any) -> dict[str, Any]:
    """The options that decide which files are listed, and how they belong together: the arguments of `find_images`."""
    return {name: getattr(options, name) for name in ("val_labels", "classes", "per_class", "group_by")}


def check_selection(options: Any) -> None:
    """For a __post_init__: check --group-by and --blank; what is as by default becomes None, which older runs have.

    Raises:
        InputError: no regular expression, or an unknown word.
    """
    if options.blank not in (None, *BLANK):
        raise InputError(unknown("value of --blank", options.blank, BLANK))
    object.__setattr__(options, "blank", None if options.blank == BLANK[0] else options.blank)
    object.__setattr__(options, "group_by", options.group_by or None)
    if options.group_by:
        groups.pattern_of(options.group_by)


def default_loader() -> str:
    """dali where it imports: it exists for Linux on x86-64 alone."""
    try:
        import nvidia.dali  # noqa: F401
    except Exception:  # absent, or of another CUDA, or a processor it was not built for
        return "torchvision"
    return "dali"


def default_workers() -> int:
    """One per core that this process may use, shared among the processes of torchrun on this machine."""
    return max(1, min(16, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def require_images_named(images: str) -> None:
    """Raises InputError: this is neither a folder nor a data set that is no folder."""
    if images not in IN_MEMORY and not Path(images).is_dir():
        raise InputError(f"'{shown(images)}' is no folder; give one of images, or one of: {', '.join(IN_MEMORY)}")


def require_images(options: DataOptions) -> None:
    """Raises InputError: the data set is in a folder that is not given, or not there. Nothing of it is opened."""
    if options.data != "digits":
        require_data_folder(options.data_root, options.data)


def require_data_folder(root: str, name: str) -> Path:
    """The folder of --data-root. Raises InputError: not given, or not there."""
    if not root:
        raise InputError(f"--data {name} needs --data-root FOLDER: the folder that holds its images")
    if not Path(root).is_dir():
        state = "is a file, not a folder" if Path(root).exists() else "does not exist"
        remedy = (
            "give the folder of the images" if name == "folder" else "check --data-root, or make it to download into it"
        )
        raise InputError(f"data folder '{root}' {state}; {remedy}")
    return Path(root)
