"""What the memory of a GPU allows: forward passes a second, and how many bytes the trees of a search write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import spaces
from benchmarks.evaluation.count import OURS, all_costs, tally
from spaces.arch import Arch
from trials.scoring.precision import PRECISIONS

# Forward passes of one image at 224 px per second, 16 bits, if an H100 only moved the bytes. Arithmetic, not a measurement.
H100_BYTES_PER_SECOND = 3.35e12
H100_CALIBRATION, H100_SCORING = 72_000, 179_000


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


def memory_bound(device: torch.device, precision: str, resolution: int) -> tuple[np.ndarray, str]:
    """Memory-bound limits of the calibration and the scoring pass.

    Returns:
        Forward passes a second, (2,); and which GPU's limits these are.
    """
    passes = np.array([H100_CALIBRATION, H100_SCORING]) * (224 / resolution) ** 2
    gpu = "an H100"
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        clock, bus = (getattr(properties, name, 0) for name in ("memory_clock_rate", "memory_bus_width"))
        if clock and bus:
            bandwidth = 2 * clock * 1000 * bus / 8  # kHz, two transfers a cycle, bits
            passes *= bandwidth / H100_BYTES_PER_SECOND
            gpu = f"this GPU ({bandwidth / 1e12:.2f} TB/s)"
    return passes / (PRECISIONS[precision].dtype.itemsize / 2), gpu
