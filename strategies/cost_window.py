"""Uniform sampling from the architectures whose cost is in a window, by dynamic programming over the cost table.

Rejection sampling (from the whole space until an architecture fits) is uniform too, but slow where few architectures
fit: of SPOS, 1 in 97,000 has at most 280M MACs. Here the completions of every partial sum are counted, from the last
block to the first. Sampling then goes from the first block to the last, and takes each combination with a probability
proportional to the completions that it leaves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

BINS = 1 << 18  # largest number of distinct sums that are counted separately


class CostWindow:
    """The architectures with low <= cost <= high.

    Sums are counted in units of the costs' greatest common divisor if there are then at most BINS of them, and sampling
    needs no rejection. Otherwise costs are rounded to a coarser unit, the window is widened by the largest rounding
    error, and `draw` rejects the few architectures outside of the true window, so that its samples are still uniform.

    Args:
        costs: for each block, the costs of its combinations, (combinations,) integers.
        low, high: inclusive bounds of the sum over the blocks.
    Attributes:
        exact: whether no rejection is needed.
        count: number of architectures in the (widened) window, as a float; 0.0 proves that there is none.
    """

    def __init__(self, costs: Sequence[np.ndarray], low: float, high: float) -> None:
        self.costs = [np.asarray(cost, dtype=np.int64) for cost in costs]
        self.low, self.high = low, high
        least = [int(cost.min()) for cost in self.costs]
        above = [cost - start for cost, start in zip(self.costs, least, strict=True)]
        span = sum(int(cost.max()) for cost in above)
        divisor = max(1, math.gcd(*(int(value) for cost in above for value in cost)))
        self.unit = max(divisor, -(-span // BINS))
        self.steps = [np.rint(cost / self.unit).astype(np.int64) for cost in above]
        errors = [cost - self.unit * step for cost, step in zip(above, self.steps, strict=True)]
        self.base = base = sum(least)
        first = math.ceil(max(-1.0, (low - base - sum(int(error.max()) for error in errors)) / self.unit))
        last = math.floor(min(2.0 * BINS, (high - base - sum(int(error.min()) for error in errors)) / self.unit))
        self.exact = not any(error.any() for error in errors)

        # ways[b][s] is the number of ways in which blocks b, b+1, ... complete the partial sum s to one in the window.
        # Only non-negative numbers are added, so float64 has a relative error of about 1e-15, even for counts of 1e32.
        reach = np.cumsum([0, *(int(step.max()) for step in self.steps)])
        sums = np.arange(reach[-1] + 1)
        self.ways = [((sums >= first) & (sums <= last)).astype(np.float64)]
        for block in reversed(range(len(self.steps))):
            after, size = self.ways[0], reach[block] + 1
            before = np.zeros(size)
            for step in self.steps[block]:
                before += after[step : step + size]
            self.ways.insert(0, before)
        self.count = float(self.ways[0][0])

    def draw(self, number: int, generator: np.random.Generator) -> np.ndarray:
        """Sample architectures from the window; all are equally likely.

        Args:
            number: number of proposals; if `exact` is false, those outside of the window are rejected.
        Returns:
            (at most `number`, blocks) int64, the combination index of each block.
        """
        if not self.count:
            return np.zeros((0, len(self.steps)), dtype=np.int64)
        combinations = np.empty((number, len(self.steps)), dtype=np.int64)
        sums = np.zeros(number, dtype=np.int64)
        total = np.zeros(number, dtype=np.int64)
        for block, steps in enumerate(self.steps):
            shares = np.cumsum(self.ways[block + 1][sums[:, None] + steps], axis=1)
            mark = generator.random(number) * shares[:, -1]
            mark = np.minimum(
                mark, np.nextafter(shares[:, -1], 0)
            )  # a mark rounded up to the end would be past all shares
            combinations[:, block] = (shares <= mark[:, None]).sum(axis=1)
            sums += steps[combinations[:, block]]
            total += self.costs[block][combinations[:, block]]
        return combinations[(total >= self.low) & (total <= self.high)]

    def sums(self) -> np.ndarray:
        """All costs that occur in the space, in the window or not, ascending; rounded to units if `exact` is false."""
        reached = np.ones(1, dtype=bool)
        for steps in self.steps:
            wider = np.zeros(len(reached) + int(steps.max()), dtype=bool)
            for step in np.unique(steps):
                wider[step : step + len(reached)] |= reached
            reached = wider
        return self.base + self.unit * np.flatnonzero(reached)
