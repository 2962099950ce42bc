"""Does the supernet learn? The accuracy of a fixed set of its paths, measured now and then during training.

As in scoring: each path becomes a fixed network with recalibrated BatchNorm, so the supernet itself is not touched.
The images are a part of the training part (for BatchNorm) and of the scoring part; no test image is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from spaces.arch import Arch
from trials.bn import recalibrate_bn
from trials.data import Data
from trials.scoring import correct

CALIBRATION_IMAGES, SCORING_IMAGES = 320, 1000  # at most; enough to see a trend


class FixedPaths:
    """Scores the same paths on the same images each time.

    Args:
        paths: architectures of `chain`.
        batch_size: images at a time.
    """

    def __init__(self, chain: Any, paths: Sequence[Arch], data: Data, batch_size: int, device: torch.device) -> None:
        self.chain, self.paths, self.device = chain, list(paths), device
        size = min(batch_size, 128, data.size("train"))
        calibration = list(data.eval_batches("train", size, count=CALIBRATION_IMAGES))
        self.data = data
        self.calibration = [x.cpu() for x, _ in calibration if len(x) == size]
        self.scoring = [(x.cpu(), y.cpu()) for x, y in data.eval_batches("score", size, count=SCORING_IMAGES)]

    @torch.no_grad()
    def top1(self, weights: dict[str, torch.Tensor]) -> list[float]:
        """Top-1 of each path, percent.

        Args:
            weights: state dict of the supernet.
        """
        results = []
        for arch in self.paths:
            network = self.chain.network(arch, weights).to(memory_format=torch.channels_last).to(self.device)
            recalibrate_bn(network, (self._images(x) for x in self.calibration))
            hits = sum(int(correct(network(self._images(x)), y.to(self.device))[0]) for x, y in self.scoring)
            results.append(100 * hits / sum(len(y) for _, y in self.scoring))
        return results

    def _images(self, images: torch.Tensor) -> torch.Tensor:
        """What a network sees, on the device; kept as uint8 in the machine's memory until then."""
        return self.data.normalise(images.to(self.device))
