"""The part of a space that satisfies given limits: its share, and uniform draws from it. numpy only: tuners import it."""

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

DRAWS = 1_000_000  # at most this many architectures are drawn before two limits together are called out of reach
BATCH = 10_000  # of them at once


class FeasibleSpace:
    """The part of a space that meets the limits.

    Args:
        table: MACs and params.
        latency: milliseconds, where they are limited or wanted.
    Raises:
        InputError: no architecture can meet the limits.
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
        # the tightest limit is drawn, the others reject
        self.window = min(windows, key=lambda window: window.count)
        if not self.window.count:
            raise InputError(f"no architecture of the space meets {limits}{self._nearest()}; widen the limits")
        if not self.window.exact or len(windows) > 1:
            self.sample(random.Random(0))  # a proof that there is one

    def macs_range(self) -> tuple[int, int] | None:
        """Smallest and largest MACs within the limits; None where they cannot be told exactly (rounding, several limits)."""
        macs = self._reachable()
        if macs is None:
            return None
        within = macs[self.limits.satisfied_by(macs, 0)]
        return int(within[0]), int(within[-1])

    def _nearest(self) -> str:
        """The reachable MACs on both sides of an empty window."""
        low, high, macs = self.limits.min_macs, self.limits.max_macs, self._reachable()
        if low is None or high is None or macs is None:
            return ""
        return f"; the nearest have {macs[macs < low][-1]:,} and {macs[macs > high][0]:,} MACs"

    def _reachable(self) -> np.ndarray | None:
        """All MACs in the space, ascending; None where the window does not tell them exactly."""
        if self.limits.max_params is not None or self.limits.max_latency_ms is not None or not self.window.exact:
            return None
        return self.table.base[0] + self.window.sums()

    def _range(self, low: int | None, high: int | None, which: int) -> tuple[float, float]:
        base = self.table.base[which]
        return (low or 0) - base, math.inf if high is None else high - base

    def allows(self, arch: Mapping[str, Any]) -> bool:
        """True if `arch` meets the limits."""
        latency = self.latency.ms(arch) if self.latency else 0.0
        return bool(self.limits.satisfied_by(self.table.macs(arch), self.table.params(arch), latency))

    def sample(self, generator: random.Random) -> Arch:
        """One architecture, all that meet the limits equally likely.

        Raises:
            InputError: several limits together, or a window of a few MACs, are met by none of a million draws.
        """
        draw = np.random.default_rng(generator.getrandbits(64))
        tried, batch = 0, 8
        while tried < DRAWS:
            for options in self.sample_many(batch, draw):
                return self.table.arch(options)
            tried, batch = tried + batch, min(8 * batch, BATCH)
        raise InputError(f"none of {DRAWS:,} architectures drawn meets {self.limits}; loosen the limits")

    def sample_many(self, number: int, generator: np.random.Generator) -> np.ndarray:
        """Up to `number` architectures that meet the limits, as (architectures, blocks) options of the cost table."""
        options = self.window.draw(number, generator)
        return options[self.satisfied_by(options)]

    def satisfied_by(self, options: np.ndarray) -> np.ndarray:
        """Which of (architectures, blocks) options meet the limits."""
        return self.limits.satisfied_by(*self.costs(options))

    def costs(self, options: np.ndarray) -> list[np.ndarray]:
        """MACs, params and milliseconds (where they are known) of (architectures, blocks) options."""

        def total(table: CostTable, name: str, base: int) -> np.ndarray:
            return base + sum(getattr(block, name)[options[:, i]] for i, block in enumerate(table.blocks))

        costs = [total(self.table, name, base) for name, base in zip(("macs", "params"), self.table.base, strict=True)]
        return costs + (
            [total(self.latency.costs, "macs", self.latency.costs.base[0]) / NANOSECONDS_PER_MS] if self.latency else []
        )

    def share(self, draws: int = 20_000) -> float:
        """The part of the space that meets the limits.

        Exact where the window is and there is one limit; else estimated from `draws` with a fixed seed.
        """
        part = self.window.count / self.table.architectures()
        return part * len(self.sample_many(draws, np.random.default_rng(0))) / draws


def draw_within_limits(feasible: FeasibleSpace) -> PathSampler:
    """One path per step from those that meet the limits, all equally likely."""
    return lambda choices, seed, step, first: [feasible.sample(step_generator(seed, step))]


def draw_from_bins(table: CostTable, limits: Limits) -> PathSampler:
    """One path per step as the SPOS authors draw it, between min_macs and max_macs; see `binned_path`.

    Raises:
        InputError: the limits are missing or out of reach.
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
    """One training path as the SPOS authors draw it: a bin of MACs, then rejection.

    The `bins` equal parts of low..high (MACs of one image) are equally likely, and within a bin its architectures.
    Without success after `tries` draws, the next one is taken as it is.

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
