"""Open the data set that the options name."""

from __future__ import annotations

from pathlib import Path

from spaces.errors import InputError
from trials.images.dataset import ARCH_FRACTION, Data
from trials.images.folder import FolderData
from trials.images.memory import MEMORY, MemoryData
from trials.images.options import DataOptions


def load_data(
    options: DataOptions,
    resolution: int,
    *,
    score_fraction: float,
    arch_fraction: float = ARCH_FRACTION,
    run: str | Path | None = None,
) -> Data:
    """Open a data set.

    Args:
        options: which one, and how it is read.
        resolution: height and width of the images, pixels.
        score_fraction: part of the training images that is held out from supernet training to score candidates.
        arch_fraction: part of the rest that architecture parameters learn from, where a strategy has any.
        run: the run they are for; if it has a list of its images, these are used.
    Raises:
        InputError: unknown name, missing folder, nothing in it.
    """
    for flag, fraction in (("--score-fraction", score_fraction), ("--arch-fraction", arch_fraction)):
        if not 0 < fraction < 1:
            raise InputError(f"{flag} {fraction} is out of range; give a number between 0 and 1")
    if options.cutout >= resolution:
        raise InputError(
            f"--cutout {options.cutout} is not below the resolution of {resolution} pixels; give 0 to {resolution - 1}"
        )
    data: Data
    if options.data == "folder":
        data = FolderData(options, resolution, score_fraction, arch_fraction, Path(run) if run else None)
    else:
        source = MEMORY[options.data](options.data_root)
        data = MemoryData(options.data, resolution, score_fraction, arch_fraction, source)
    data.spos = bool(options.spos_preprocessing)
    data.color_jitter, data.cutout = options.color_jitter or 0.0, options.cutout
    return data
