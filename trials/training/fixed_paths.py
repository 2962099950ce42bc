"""Does the supernet learn? The accuracy of a fixed set of its paths, measured now and then during training.

As in scoring, the paths become a prefix tree with recalibrated BatchNorm, so the supernet itself is not touched. BatchNorm is
recalibrated on some of the training images, and accuracy is measured on some of the scoring images; no test image is read.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

import torch

from spaces.arch import Arch
from spaces.chain import Chain
from trials.evidence.classes import balanced_of
from trials.images.dataset import Data
from trials.networks.batchnorm import equal_batches
from trials.scoring.precision import PRECISIONS
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.shared_blocks import SharedBlocks

CALIBRATION_IMAGES, SCORING_IMAGES = 320, 1000  # the most that are used: enough to see a trend


def calibration_batches(data: Data, most: int) -> list[torch.Tensor]:
    """Training images that recalibrate BatchNorm, in batches of one size.

    Args:
        most: the largest batch.
    Returns:
        uint8 images (N, 3, R, R), on the CPU.
    """
    size = equal_batches(min(CALIBRATION_IMAGES, data.size("train")), most)
    batches = [images.cpu() for images, _ in data.eval_batches("train", size, count=CALIBRATION_IMAGES)]
    size = max(map(len, batches))  # less than was asked for where files became unreadable
    return [batch for batch in batches if len(batch) == size]


class FixedPaths:
    """Scores the same paths on the same images each time.

    Args:
        paths: architectures of `chain`.
        data: the images of the run.
        batch_size: the most images in a pass.
        device: where the networks run.
    """

    def __init__(self, chain: Chain, paths: Sequence[Arch], data: Data, batch_size: int, device: torch.device) -> None:
        self.chain, self.paths, self.device = chain, list(paths), device
        self.data = data
        self.calibration = calibration_batches(data, min(batch_size, 128))
        size = len(self.calibration[0])
        self.scoring = [(x.cpu(), y.cpu()) for x, y in data.eval_batches("score", size, count=SCORING_IMAGES)]

    @property
    def calibration_images(self) -> int:
        """The number of training images that recalibrate BatchNorm."""
        return sum(map(len, self.calibration))

    @property
    def images(self) -> int:
        """The number of scoring images that are used."""
        return sum(len(y) for _, y in self.scoring)

    @torch.no_grad()
    def measure(self, weights: dict[str, torch.Tensor]) -> tuple[list[float], dict[str, Any]]:
        """Measure all paths.

        Args:
            weights: state dict of the supernet.
        Returns:
            Top-1 of each path, percent of `images`; what a gate is told: their mean balanced accuracy and the best one, each
            as [value, low, high] in percent, the `images` and the `classes` that are among them.
        """
        tree = PrefixTree(SharedBlocks(self.chain, weights, PRECISIONS["32"], self.device), self.paths)
        tree.calibrate(self._images(x) for x in self.calibration)
        answers = tree.answers((self._images(x), y.to(self.device)) for x, y in self.scoring)
        right, labels = answers.right[:, :, 0].numpy(), torch.cat([y.cpu() for _, y in self.scoring]).numpy()
        of_paths = [balanced_of(path[None], labels) for path in right]
        best = max(of_paths, key=lambda one: one.value)
        # the paths answer the same images, so that the interval of their mean is that of one path with this accuracy
        middle = [statistics.fmean(values) for values in zip(*map(dataclasses.astuple, of_paths), strict=True)]
        known = {"mean": middle, "best": list(dataclasses.astuple(best))}
        top1 = [100 * int(path.sum()) / self.images for path in right]
        return top1, {**known, "images": self.images, "classes": len(set(labels.tolist()))}

    def _images(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images on the device. Until a pass they stay uint8 in the machine's memory, a quarter of the size."""
        return self.data.normalise(images.to(self.device))
