"""Hard limits on an architecture's cost, and uniform draws from what is left of a space."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from spaces.arch import Arch
from spaces.cost import Bounds, CostTable
from spaces.errors import InputError, unknown
from spaces.latency import MS, LatencyTable
from strategies.sampling import Draw, step_generator, uniform_path
from strategies.window import Window

DRAWS = 1_000_000  # at most this many architectures are drawn before two limits together are called out of reach
BATCH = 10_000  # of them at once


@dataclass(frozen=True)
class Limits:
    """Inclusive limits; None is no limit."""

    max_macs: int | None = None  # multiply-adds, one image
    min_macs: int | None = None
    max_params: int | None = None
    max_latency_ms: float | None = None  # of a latency table: milliseconds for one batch, by default of one image

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Limits:
        """Check and convert limits as they stand in YAML: numbers, or strings such as "330M" and "3.3e8".

        Raises:
            InputError: unknown name, or not a positive number.
        """
        names = [field.name for field in fields(cls)]
        for name in arguments:
            if name not in names:
                raise InputError(unknown("limit", name, names))
        numbers: dict[str, Any] = {}
        for name, value in arguments.items():
            if value is not None:
                numbers[name] = milliseconds(value, name) if name == "max_latency_ms" else amount(value, name)
        return cls(**numbers)

    def check(self, bounds: Bounds, latency: LatencyTable | None = None) -> None:
        """Refuse limits that no architecture of the space can meet.

        Raises:
            InputError: naming the limit and the reachable range; or a limit of the latency, and no table of it.
        """
        if self.max_latency_ms is not None:
            if latency is None:
                raise InputError(
                    f"max_latency_ms {self.max_latency_ms:g} needs a latency_table; measure one with: python -m trials.latency "
                    "--space SPACE --out FILE"
                )
            fastest, slowest = latency.bounds_ms()
            if self.max_latency_ms < fastest:
                raise InputError(
                    f"max_latency_ms {self.max_latency_ms:g} is out of reach: the space reaches {fastest:.3g} to {slowest:.3g} ms "
                    f"on {latency}; raise max_latency_ms"
                )
        if self.min_macs is not None and self.max_macs is not None and self.min_macs > self.max_macs:
            raise InputError(f"min_macs {self.min_macs:,} is above max_macs {self.max_macs:,}; give a larger max_macs")
        macs = f"the space reaches {bounds.min_macs:,} to {bounds.max_macs:,} MACs"
        if self.max_macs is not None and self.max_macs < bounds.min_macs:
            raise InputError(f"max_macs {self.max_macs:,} is out of reach: {macs}; raise max_macs")
        if self.min_macs is not None and self.min_macs > bounds.max_macs:
            raise InputError(f"min_macs {self.min_macs:,} is out of reach: {macs}; lower min_macs")
        if self.max_params is not None and self.max_params < bounds.min_params:
            raise InputError(
                f"max_params {self.max_params:,} is out of reach: the space reaches {bounds.min_params:,} to "
                f"{bounds.max_params:,} params; raise max_params"
            )

    def met_by(self, macs: Any, params: Any, latency_ms: Any = 0.0) -> Any:
        """True where the costs lie within the limits; numbers or arrays."""
        met = macs >= (self.min_macs or 0)
        if self.max_macs is not None:
            met = met & (macs <= self.max_macs)
        if self.max_params is not None:
            met = met & (params <= self.max_params)
        if self.max_latency_ms is not None:
            met = met & (latency_ms <= self.max_latency_ms)
        return met

    def __str__(self) -> str:
        parts = [
            f"{field.name} {getattr(self, field.name):,}"
            for field in fields(self)
            if getattr(self, field.name) is not None
        ]
        return ", ".join(parts) or "no limit"


def amount(value: Any, name: str) -> int:
    """A positive number from a YAML value: 330000000, 3.3e8, "330M", "3.5M", "120k".

    Raises:
        InputError: anything else.
    """
    text = str(value).strip().replace(",", "").replace("_", "")
    scale = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}.get(text[-1:], 1)
    try:
        number = float(text if scale == 1 else text[:-1]) * scale
        if isinstance(value, bool) or not 1 <= number < 1e18:
            raise ValueError
    except ValueError:
        raise InputError(f"{name} is '{value}'; give a positive number such as 330000000 or 330M (k, M or G)") from None
    return round(number)


def milliseconds(value: Any, name: str) -> float:
    """A positive number of milliseconds from a YAML value. Raises InputError: anything else."""
    try:
        number = float(str(value).strip().removesuffix("ms"))
        if isinstance(value, bool) or not 0 < number < 1e9:
            raise ValueError
    except ValueError:
        raise InputError(f"{name} is '{value}'; give a positive number of milliseconds, such as 12.5") from None
    return number


class Feasible:
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
        windows = [Window([block.macs for block in table.blocks], *self._range(limits.min_macs, limits.max_macs, 0))]
        if limits.max_params is not None:
            costs = [block.params for block in table.blocks]
            windows.append(Window(costs, *self._range(None, limits.max_params, 1)))
        if limits.max_latency_ms is not None and latency is not None:
            most = limits.max_latency_ms * MS - latency.costs.base[0]
            windows.append(Window([block.macs for block in latency.costs.blocks], -math.inf, most))
        # the tightest limit is drawn, the others reject
        self.window = min(windows, key=lambda window: window.count)
        if not self.window.count:
            raise InputError(f"no architecture of the space meets {limits}{self._nearest()}; widen the limits")
        if not self.window.exact or len(windows) > 1:
            self.sample(random.Random(0))  # a proof that there is one

    def reach(self) -> tuple[int, int] | None:
        """Smallest and largest MACs within the limits; None where they cannot be told exactly (rounding, several limits)."""
        macs = self._reachable()
        if macs is None:
            return None
        within = macs[self.limits.met_by(macs, 0)]
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
        return bool(self.limits.met_by(self.table.macs(arch), self.table.params(arch), latency))

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
        return options[self.met_by(options)]

    def met_by(self, options: np.ndarray) -> np.ndarray:
        """Which of (architectures, blocks) options meet the limits."""
        return self.limits.met_by(*self.costs(options))

    def costs(self, options: np.ndarray) -> list[np.ndarray]:
        """MACs, params and milliseconds (where they are known) of (architectures, blocks) options."""

        def total(table: CostTable, name: str, base: int) -> np.ndarray:
            return base + sum(getattr(block, name)[options[:, i]] for i, block in enumerate(table.blocks))

        costs = [total(self.table, name, base) for name, base in zip(("macs", "params"), self.table.base, strict=True)]
        return costs + ([total(self.latency.costs, "macs", self.latency.costs.base[0]) / MS] if self.latency else [])

    def share(self, draws: int = 20_000) -> float:
        """The part of the space that meets the limits.

        Exact where the window is and there is one limit; else estimated from `draws` with a fixed seed.
        """
        part = self.window.count / self.table.architectures()
        return part * len(self.sample_many(draws, np.random.default_rng(0))) / draws


def window(feasible: Feasible) -> Draw:
    """One path per step from those that meet the limits, all equally likely."""
    return lambda choices, seed, step, first: [feasible.sample(step_generator(seed, step))]


def binned(table: CostTable, limits: Limits) -> Draw:
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
