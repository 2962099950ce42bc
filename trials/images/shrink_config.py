"""The options of `trials.data shrink`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import ClassVar

from spaces.errors import InputError
from trials.common import cli
from trials.common.cli import option, reuse
from trials.common.machine import require_few
from trials.images.options import DECODER, DataOptions, default_workers

LEAST_SIDE = 16  # pixels; nothing can be seen on less


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of trials.data shrink."""

    positional: ClassVar[str] = "data_root"

    data_root: str = option(help="Image folder to copy")
    side: int = option(help="Pixels of the short side of the copies; smaller images stay as they are")
    out: str = option(help="Folder to write; it is laid out as the image folder")
    val_labels: str = reuse(DataOptions, "val_labels")
    workers: int = reuse(DataOptions, "workers")

    def __post_init__(self) -> None:
        cli.named(self, "out")
        if self.workers is None:
            object.__setattr__(self, "workers", default_workers())
        cli.not_negative(self, "workers")
        require_few("--workers", self.workers, DECODER)
        if self.side < LEAST_SIDE:
            raise InputError(
                f"--side {self.side} is below {LEAST_SIDE} pixels; give more, such as 336 for networks of 224"
            )
        source, out = (Path(os.path.realpath(path)) for path in (self.data_root, self.out))
        if out.is_relative_to(source) or source.is_relative_to(out):
            raise InputError(
                f"--out '{self.out}' lies in the image folder, or around it; give a folder beside it, such as "
                f"'{os.path.normpath(self.data_root)}-{self.side}'"
            )
