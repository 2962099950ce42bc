"""Uniform draws from the architectures whose cost lies in a window, by dynamic programming over the cost table.

Rejection (draw from the whole space until one fits) is uniform too, but slow where few architectures fit: 1 of 97,000
of SPOS has at most 280M MACs. Here the number of completions of every partial sum is counted from the last block
to the first; a draw then takes each choice with the share of completions that it leaves. numpy only: tuners import it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

BINS = 1 << 18  # sums that are told apart, at most


class CostWindow:
    """The architectures with low <= cost <= high.

    Sums are counted in units of the costs' greatest common divisor, where they then have at most BINS values; draws are
    exact at once. Elsewhere costs are rounded to a coarser unit, the window is widened by what rounding can do, and
    `draw` rejects the few outside of the true window, so that its draws are uniform all the same.

    Args:
        costs: for each block, a cost for each of its options.
        low, high: inclusive, of the sum over the blocks.
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

        # ways[b][s]: in how many ways blocks b, b+1, ... bring the partial sum s into the window. Only additions of
        # non-negative numbers, so float64 is right to 1e-15 although there may be 1e32 architectures.
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
        """Draw architectures, all in the window equally likely.

        Args:
            number: proposals; where `exact` is false, some of them fall outside of the window and are left out.
        Returns:
            (at most `number`, blocks) int64, the option of each block.
        """
        if not self.count:
            return np.zeros((0, len(self.steps)), dtype=np.int64)
        options = np.empty((number, len(self.steps)), dtype=np.int64)
        sums = np.zeros(number, dtype=np.int64)
        total = np.zeros(number, dtype=np.int64)
        for block, steps in enumerate(self.steps):
            shares = np.cumsum(self.ways[block + 1][sums[:, None] + steps], axis=1)
            mark = generator.random(number) * shares[:, -1]
            mark = np.minimum(mark, np.nextafter(shares[:, -1], 0))  # rounding up to the end would take an empty share
            options[:, block] = (shares <= mark[:, None]).sum(axis=1)
            sums += steps[options[:, block]]
            total += self.costs[block][options[:, block]]
        return options[(total >= self.low) & (total <= self.high)]

    def sums(self) -> np.ndarray:
        """Every cost in the space, in the window or not, ascending; rounded to units where `exact` is false."""
        reached = np.ones(1, dtype=bool)
        for steps in self.steps:
            wider = np.zeros(len(reached) + int(steps.max()), dtype=bool)
            for step in np.unique(steps):
                wider[step : step + len(reached)] |= reached
            reached = wider
        return self.base + self.unit * np.flatnonzero(reached)
