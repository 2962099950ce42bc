"""The images of a score in batches, and how many images of the scoring pass suit the memory of a GPU.

The batches that recalibrate BatchNorm have the size that was asked for, because statistics are averages over batches. What a
network says of an image does not depend, but for rounding, on the images beside it, so the scoring pass may take more at a time.

Shapes: N batch, R resolution in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from trials.networks.batchnorm import equal_batches
from trials.scoring.evaluate_config import BATCH
from trials.scoring.fixed_images import FixedImages
from trials.scoring.precision import Precision

LARGEST = 2048  # beyond it a GPU has enough to do at any resolution
SHARE = 0.25  # of the memory, for what one batch leaves in it while it walks a tree
BYTES_PER_PIXEL = (
    1000  # four times what SPOS takes at 224 px in 32 bits (3.2 GiB for 256 images); other spaces are wider
)


def fitting_batch(resolution: int, memory: float) -> int:
    """The largest power of two, from 128 to 2,048, that surely fits.

    Args:
        resolution: height and width of an image, pixels.
        memory: of the GPU, bytes.
    """
    images = int(SHARE * memory / (BYTES_PER_PIXEL * resolution**2))
    return max(BATCH, min(LARGEST, 1 << max(0, images.bit_length() - 1)))


def fit_scoring_batch(asked: int, batch_size: int, resolution: int, device: torch.device) -> int:
    """Images at a time of the scoring pass.

    Args:
        asked: for by --scoring-batch; 0: as many as suit the device.
        batch_size: of the calibration. One below 128 is for want of memory, and holds for the scoring pass too.
        resolution: height and width of an image, pixels.
    """
    if asked or device.type != "cuda" or batch_size < BATCH:
        return asked or batch_size
    return max(batch_size, fitting_batch(resolution, torch.cuda.get_device_properties(device).total_memory))


class Batches:
    """The images of all scores of a run, normalised, on a device.

    Args:
        batch_size: images at a time of the calibration.
        scoring_batch: images at a time of the scoring pass.
        normalise: (N, 3, R, R) uint8 to float32.
    """

    def __init__(
        self,
        images: FixedImages,
        batch_size: int,
        scoring_batch: int,
        normalise: Callable[[torch.Tensor], torch.Tensor],
        precision: Precision,
        device: torch.device,
    ) -> None:
        self.images, self.batch_size, self.scoring_batch = images, batch_size, scoring_batch
        self.normalise, self.precision, self.device = normalise, precision, device

    @property
    def calibration_batch(self) -> int:
        """Images of a batch that recalibrates BatchNorm; all batches are of one size."""
        return equal_batches(len(self.images.calibration), self.batch_size)

    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Images of a batch, and batches of one score: of the calibration, and of the scoring pass, whose last may be smaller."""
        calibration, scoring = len(self.images.calibration), len(self.images.scoring)
        return (self.calibration_batch, calibration // self.calibration_batch), (
            self.scoring_batch,
            -(-scoring // self.scoring_batch),
        )

    def calibration(self) -> Iterator[torch.Tensor]:
        """Calibration images (N, 3, R, R), in batches of one size: each has the same weight in a BN average."""
        size = self.calibration_batch
        for first in range(0, len(self.images.calibration) - size + 1, size):
            yield self.normalise(self.images.calibration[first : first + size].to(self.device))

    def finetune(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of `calibration` in the layout of the network, with their labels (N,)."""
        assert self.images.calibration_labels is not None
        labels = self.images.calibration_labels.to(self.device).split(self.calibration_batch)
        for x, own in zip(self.calibration(), labels, strict=False):  # a last, smaller batch is left out
            yield x.contiguous(memory_format=self.precision.layout), own

    def scoring(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Scoring images (N, 3, R, R) with their labels (N,); the last batch may be smaller."""
        return self._scoring(self.scoring_batch)

    def first(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The first scoring images, of a batch of the calibration's size, with their labels: accuracy before recalibration."""
        return next(self._scoring(self.batch_size))

    def _scoring(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in zip(self.images.scoring.split(size), self.images.labels.split(size), strict=True):
            yield self.normalise(images.to(self.device)), labels.to(self.device)
