"""The architectures of a space that satisfy given limits: their fraction of the space, and uniform sampling from them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from spaces.arch import Arch
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.latency import NANOSECONDS_PER_MS, LatencyTable
from strategies.cost_window import CostWindow
from strategies.limits import Limits
from strategies.sampling import PathSampler, step_generator, uniform_path

DRAWS = 1_000_000  # so many samples are rejected before limits are reported as out of reach
BATCH = 10_000  # largest number of samples at once


class FeasibleSpace:
    """The architectures of a space that satisfy limits.

    Args:
        table: cost table of the space.
        limits: limits of MACs, params and latency.
        latency: latency table of the space; needed if latency is limited, or its costs are wanted.
    Raises:
        InputError: no architecture satisfies the limits.
    """

    def __init__(self, table: CostTable, limits: Limits, latency: LatencyTable | None = None) -> None:
        limits.check(table.bounds(), latency)
        self.table, self.limits, self.latency = table, limits, latency
        self.choices = table.choices
        windows = [
            CostWindow([block.macs for block in table.blocks], *self._range(limits.min_macs, limits.max_macs, 0))
        ]
        if limits.max_params is not None:
            costs = [block.params for block in table.blocks]
            windows.append(CostWindow(costs, *self._range(None, limits.max_params, 1)))
        if limits.max_latency_ms is not None and latency is not None:
            most = limits.max_latency_ms * NANOSECONDS_PER_MS - latency.costs.base[0]
            windows.append(CostWindow([block.macs for block in latency.costs.blocks], -math.inf, most))
        # Sample from the tightest limit; reject samples that break another.
        self.window = min(windows, key=lambda window: window.count)
        if not self.window.count:
            raise InputError(f"no architecture of the space meets {limits}{self._nearest()}; widen the limits")
        if not self.window.exact or len(windows) > 1:
            self.sample(random.Random(0))  # raises if there is none

    def macs_range(self) -> tuple[int, int] | None:
        """Smallest and largest MACs within the limits; None if they are not known exactly (rounding, several limits)."""
        macs = self._reachable()
        if macs is None:
            return None
        within = macs[self.limits.satisfied_by(macs, 0)]
        return int(within[0]), int(within[-1])

    def _nearest(self) -> str:
        """For an error about an empty window: the reachable MACs on both sides of it."""
        low, high, macs = self.limits.min_macs, self.limits.max_macs, self._reachable()
        if low is None or high is None or macs is None:
            return ""
        return f"; the nearest have {macs[macs < low][-1]:,} and {macs[macs > high][0]:,} MACs"

    def _reachable(self) -> np.ndarray | None:
        """All MACs that occur in the space, ascending; None if they are not known exactly."""
        if self.limits.max_params is not None or self.limits.max_latency_ms is not None or not self.window.exact:
            return None
        return self.table.base[0] + self.window.sums()

    def _range(self, low: int | None, high: int | None, kind: int) -> tuple[float, float]:
        """Limits of the sum over the blocks, without stem and head; `kind` is 0 for MACs, 1 for params."""
        base = self.table.base[kind]
        return (low or 0) - base, math.inf if high is None else high - base

    def allows(self, arch: Mapping[str, Any]) -> bool:
        """Whether an architecture satisfies the limits."""
        latency = self.latency.ms(arch) if self.latency else 0.0
        return bool(self.limits.satisfied_by(self.table.macs(arch), self.table.params(arch), latency))

    def sample(self, generator: random.Random) -> Arch:
        """Sample one architecture; all that satisfy the limits are equally likely.

        Raises:
            InputError: none of a million samples satisfies the limits (several together, or a window of a few MACs).
        """
        rng = np.random.default_rng(generator.getrandbits(64))
        tried, batch = 0, 8
        while tried < DRAWS:
            for combinations in self.sample_many(batch, rng):
                return self.table.arch(combinations)
            tried, batch = tried + batch, min(8 * batch, BATCH)
        raise InputError(f"none of {DRAWS:,} architectures drawn meets {self.limits}; loosen the limits")

    def sample_many(self, number: int, generator: np.random.Generator) -> np.ndarray:
        """Sample architectures that satisfy the limits; all are equally likely.

        Args:
            number: number of proposals, some of which may be rejected.
        Returns:
            (at most `number`, blocks) combination indices of the cost table.
        """
        combinations = self.window.draw(number, generator)
        return combinations[self.satisfied_by(combinations)]

    def satisfied_by(self, combinations: np.ndarray) -> np.ndarray:
        """Which architectures satisfy the limits.

        Args:
            combinations: (architectures, blocks) combination indices.
        Returns:
            (architectures,) bool.
        """
        return self.limits.satisfied_by(*self.costs(combinations))

    def costs(self, combinations: np.ndarray) -> list[np.ndarray]:
        """Costs of many architectures.

        Args:
            combinations: (architectures, blocks) combination indices.
        Returns:
            MACs, params and, if there is a latency table, milliseconds; each (architectures,).
        """

        def total(table: CostTable, kind: str, base: int) -> np.ndarray:
            return base + sum(getattr(block, kind)[combinations[:, i]] for i, block in enumerate(table.blocks))

        costs = [total(self.table, kind, base) for kind, base in zip(("macs", "params"), self.table.base, strict=True)]
        if self.latency:
            nanoseconds = total(self.latency.costs, "macs", self.latency.costs.base[0])
            costs.append(nanoseconds / NANOSECONDS_PER_MS)
        return costs

    def share(self, draws: int = 20_000) -> float:
        """The fraction of the space that satisfies the limits.

        It is exact for one limit whose window is exact; otherwise it is estimated from `draws` samples with a fixed seed.
        """
        in_window = self.window.count / self.table.architectures()
        return in_window * len(self.sample_many(draws, np.random.default_rng(0))) / draws


def draw_within_limits(feasible: FeasibleSpace) -> PathSampler:
    """A sampler of one path per step; all architectures that satisfy the limits are equally likely."""
    return lambda choices, seed, step, first: [feasible.sample(step_generator(seed, step))]


def draw_from_bins(table: CostTable, limits: Limits) -> PathSampler:
    """A sampler of one path per step as the SPOS authors do it, between min_macs and max_macs; see `binned_path`.

    Raises:
        InputError: one of the two limits is missing, or they are out of reach.
    """
    if limits.min_macs is None or limits.max_macs is None:
        raise InputError(
            "bins of MACs need their range: give --min-macs and --max-macs (the paper's are 290M and 360M)"
        )
    limits.check(table.bounds())
    low, high = limits.min_macs, limits.max_macs
    return lambda choices, seed, step, first: [binned_path(table, step_generator(seed, step), low=low, high=high)]


def binned_path(
    table: CostTable,
    generator: random.Random,
    *,
    low: int = 290_000_000,
    high: int = 360_000_000,
    bins: int = 7,
    tries: int = 500,
) -> Arch:
    """Sample one training path as the SPOS authors do: a bin of MACs, then an architecture in it by rejection.

    The range low..high (MACs of one image) is divided into `bins` bins of equal width. All bins are equally likely, and
    so are the architectures within a bin. If `tries` samples miss the bin, the next one is taken as it is.

    Source: megvii-model/SinglePathOneShot, src/Supernet/train.py.
    """
    width = (high - low) / bins
    start = low + width * generator.randrange(bins)
    arch = uniform_path(table.choices, generator)
    for _ in range(tries):
        if start <= table.macs(arch) <= start + width:
            break
        arch = uniform_path(table.choices, generator)
    return arch
