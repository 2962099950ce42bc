"""Open the data set that the options name."""

from __future__ import annotations

from pathlib import Path

from spaces.errors import InputError
from trials.images.augment import Augmentation
from trials.images.dataset import ARCH_FRACTION, Data, Statistics
from trials.images.folder import FolderData
from trials.images.memory import MemoryData
from trials.images.options import DataOptions


def load_data(
    options: DataOptions,
    resolution: int,
    *,
    score_fraction: float,
    arch_fraction: float = ARCH_FRACTION,
    run: str | Path | None = None,
    randaugment: tuple[int, int] = (0, 0),
    statistics: Statistics | None = None,
) -> Data:
    """Open a data set.

    Args:
        options: which one, how its images are read and prepared, and the changes of its training images.
        resolution: height and width of the images that a network sees, pixels.
        score_fraction: fraction of the training images that is held out from supernet training to score candidates.
        arch_fraction: fraction of the rest that architecture parameters learn from, where a strategy has any.
        run: the run that the images are for; if it has a list of its images already, these are used.
        randaugment: number of operations of RandAugment on each training image, and their magnitude; 0 operations: none.
        statistics: what the channels are normalised with, where it is not the mean and deviation of the data set.
    Raises:
        InputError: unknown name, missing folder, no usable images, a fraction or a cutout out of range.
    """
    for flag, fraction in (("--score-fraction", score_fraction), ("--arch-fraction", arch_fraction)):
        if not 0 < fraction < 1:
            raise InputError(f"{flag} {fraction} is out of range; give a number between 0 and 1")
    if options.cutout >= resolution:
        raise InputError(
            f"--cutout {options.cutout} is not below the resolution of {resolution} pixels; give 0 to {resolution - 1}"
        )
    augmentation = Augmentation(options.mirror == "on", options.color_jitter or 0.0, options.cutout, randaugment)
    if options.data == "folder":
        run = Path(run) if run else None
        data: Data = FolderData(options, resolution, score_fraction, arch_fraction, run, augmentation)
    else:
        data = MemoryData(options, resolution, score_fraction, arch_fraction, augmentation)
    data.statistics = statistics or data.statistics
    return data
