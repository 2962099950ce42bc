"""What the memory of a GPU allows: steps and forward passes a second, and how many bytes the trees of a search write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import spaces
from benchmarks.evaluation.count import OURS, all_costs, tally
from spaces.arch import Arch
from trials.scoring.precision import PRECISIONS

# Images of 224 px per second, 16 bits, if an H100 only moved the bytes: of a forward pass, and of a training step, which moves
# the 9.34M convolution outputs of an image (18.7 MB) about seven and a half times. Arithmetic, not a measurement.
H100_BYTES_PER_SECOND = 3.35e12
H100_CALIBRATION, H100_SCORING, H100_TRAINING = 72_000, 179_000, 24_000


@dataclass(frozen=True)
class Written:
    """Bytes that are written for one image in calibration and in scoring, each of shape (2,)."""

    alone: np.ndarray  # by the candidates one by one, with our forward pass
    tree: np.ndarray  # by the tree of the candidates
    search: np.ndarray  # by all trees of a search

    @property
    def share(self) -> np.ndarray:
        """What the tree writes of what the candidates write one by one."""
        return self.tree / self.alone


def bytes_written(archs: Sequence[Arch], bred: Sequence[Sequence[Arch]]) -> Written:
    """Count what candidates, their tree, and the trees of all generations write.

    Counted at 224 px; the shares are the same at any resolution but for rounding.

    Args:
        archs: the candidates.
        bred: the generations of a search.
    """
    chain = spaces.describe("spos", "imagenet")
    costs = all_costs(chain)
    alone, tree = tally(chain, costs, archs, len(archs))
    trees = [tally(chain, costs, generation, len(generation))[1] for generation in bred]
    return Written(alone[OURS], tree[OURS], np.sum(trees, axis=0)[OURS])


def memory_bound(device: torch.device, precision: str, resolution: int) -> np.ndarray:
    """Memory-bound limits of the calibration and the scoring pass: forward passes a second, (2,)."""
    passes = np.array([H100_CALIBRATION, H100_SCORING]) * _scale(device, resolution)
    return passes / (PRECISIONS[precision].dtype.itemsize / 2)


def training_bound(device: torch.device, resolution: int) -> float:
    """Memory-bound limit of training in 16 bits, images a second."""
    return H100_TRAINING * _scale(device, resolution)


def bandwidth(device: torch.device) -> float:
    """Bytes a second of a GPU's memory, where the driver tells it; else those of an H100."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        clock, bus = (getattr(properties, name, 0) for name in ("memory_clock_rate", "memory_bus_width"))
        if clock and bus:
            return 2 * clock * 1000 * bus / 8  # kHz, two transfers a cycle, bits
    return H100_BYTES_PER_SECOND


def _scale(device: torch.device, resolution: int) -> float:
    """How many times as many images this GPU moves at a resolution as an H100 at 224 px."""
    return (224 / resolution) ** 2 * bandwidth(device) / H100_BYTES_PER_SECOND
