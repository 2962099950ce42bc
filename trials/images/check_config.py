"""The options of `trials.data check`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from spaces.errors import InputError
from spaces.names import DEFAULT, check_names
from trials.common import cli
from trials.common.cli import flag, option, reuse
from trials.common.machine import require_few
from trials.images import background, fit
from trials.images.listing import Listing, find_images
from trials.images.options import (
    DECODER,
    DataOptions,
    check_selection,
    default_workers,
    require_data_folder,
    which_files,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of trials.data check."""

    positional: ClassVar[str] = "data_root"

    data_root: str = option(help="Image folder to look at")
    out: str = option(
        None,
        "Picture sheet to write: a row per class, half as scored, half as trained; '' means none",
        unset="runs/check-FOLDER.png",
    )
    score_fraction: float = option(0.1, "Part of the training images that is held out to score candidates")
    test_fraction: float = reuse(DataOptions, "test_fraction")
    val_labels: str = reuse(DataOptions, "val_labels")
    group_by: str | None = reuse(DataOptions, "group_by")
    classes: int = reuse(DataOptions, "classes")
    per_class: int = reuse(DataOptions, "per_class")
    exif_orientation: bool = reuse(DataOptions, "exif_orientation", default=False)
    blank: str | None = reuse(DataOptions, "blank")
    background: str = reuse(DataOptions, "background", default=background.DEFAULT, unset="")
    fit: str = reuse(DataOptions, "fit", default=fit.CROP, unset="")
    mirror: str = reuse(DataOptions, "mirror", default="on", unset="")
    resolution: int | None = option(
        None,
        "Height and width in pixels at which the picture shows images, as a network sees them",
        unset="that of the command that comes next",
        brief="Height and width in pixels at which the picture shows images",
    )
    workers: int = reuse(DataOptions, "workers")

    def __post_init__(self) -> None:
        object.__setattr__(self, "background", background.normal_form(self.background))
        check_selection(self)
        if self.out is None:
            object.__setattr__(self, "out", f"runs/check-{Path(os.path.abspath(self.data_root)).name or 'root'}.png")
        if self.workers is None:
            object.__setattr__(self, "workers", default_workers())
        for name in ("score_fraction", "test_fraction"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{flag(name)} {getattr(self, name)} is out of range; give a number between 0 and 1")
        check_names(DEFAULT, resolution=self.resolution)
        cli.not_negative(self, "workers", "classes", "per_class")
        require_few("--workers", self.workers, DECODER)


class Proposal(NamedTuple):
    """What trials.run is advised to be given for a folder where nobody said what the networks may cost.

    Attributes:
        options: its options, as they are typed: a limit on MACs, and on a CPU a preset that is made for one.
        resolution: height and width that its networks then see, pixels.
        why: what a machine with a GPU would be given; "" where that is the same.
    """

    options: dict[str, Any]
    resolution: int
    why: str


def list_files(config: Config) -> Listing:
    """The image files of the folder. Raises InputError: it is missing, or no image folder."""
    root = require_data_folder(config.data_root, "folder")
    return find_images(root, **which_files(config))
