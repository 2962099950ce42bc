"""Hard limits on an architecture's cost, and uniform draws from what is left of a space."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from spaces.arch import Arch
from spaces.cost import Bounds, CostTable
from spaces.errors import InputError, unknown

DRAWS = 1_000_000  # at most this many random architectures are tried before a limit is called out of reach
BATCH = 10_000  # of them are looked up in the cost table at once


@dataclass(frozen=True)
class Limits:
    """Inclusive limits; None is no limit."""

    max_macs: int | None = None  # multiply-adds, one image
    min_macs: int | None = None
    max_params: int | None = None

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
        return cls(**{name: amount(value, name) for name, value in arguments.items() if value is not None})

    def check(self, bounds: Bounds) -> None:
        """Refuse limits that no architecture of the space can meet.

        Raises:
            InputError: naming the limit and the reachable range.
        """
        macs = f"the space reaches {bounds.min_macs:,} to {bounds.max_macs:,} MACs"
        if self.max_macs is not None and self.max_macs < bounds.min_macs:
            raise InputError(f"max_macs {self.max_macs:,} is out of reach: {macs}; raise max_macs")
        if self.min_macs is not None and self.min_macs > bounds.max_macs:
            raise InputError(f"min_macs {self.min_macs:,} is out of reach: {macs}; lower min_macs")
        if self.min_macs is not None and self.max_macs is not None and self.min_macs > self.max_macs:
            raise InputError(f"min_macs {self.min_macs:,} is above max_macs {self.max_macs:,}; {macs}")
        if self.max_params is not None and self.max_params < bounds.min_params:
            raise InputError(
                f"max_params {self.max_params:,} is out of reach: the space reaches {bounds.min_params:,} to "
                f"{bounds.max_params:,} params; raise max_params"
            )

    def met_by(self, macs: Any, params: Any) -> Any:
        """True where the costs lie within the limits; numbers or arrays."""
        met = macs >= (self.min_macs or 0)
        if self.max_macs is not None:
            met = met & (macs <= self.max_macs)
        if self.max_params is not None:
            met = met & (params <= self.max_params)
        return met

    def __str__(self) -> str:
        parts = [f"{field.name} {getattr(self, field.name):,}" for field in fields(self) if getattr(self, field.name)]
        return ", ".join(parts) or "no limit"


def amount(value: Any, name: str) -> int:
    """A positive number from a YAML value: 330000000, 3.3e8, "330M", "3.5M", "120k".

    Raises:
        InputError: anything else.
    """
    text = str(value).strip().replace(",", "").replace("_", "")
    scale = {"k": 10**3, "M": 10**6, "G": 10**9}.get(text[-1:], 1)
    try:
        number = float(text if scale == 1 else text[:-1]) * scale
        if isinstance(value, bool) or not 0 < number < 1e18:
            raise ValueError
    except ValueError:
        raise InputError(f"{name} is '{value}'; give a positive number such as 330000000 or 330M") from None
    return round(number)


class Feasible:
    """The part of a space that meets the limits."""

    def __init__(self, table: CostTable, limits: Limits) -> None:
        """Raises InputError: no architecture can meet the limits."""
        limits.check(table.bounds())
        self.table = table
        self.limits = limits
        self.choices = table.choices
        self._sizes = [len(candidates) for candidates in self.choices.values()]

    def allows(self, arch: Mapping[str, Any]) -> bool:
        """True if `arch` meets the limits."""
        return bool(self.limits.met_by(self.table.macs(arch), self.table.params(arch)))

    def sample(self, generator: random.Random) -> Arch:
        """One architecture, all that meet the limits equally likely (drawn and rejected in batches).

        Raises:
            InputError: none among a million draws meets the limits.
        """
        for _ in range(DRAWS // BATCH):
            draw = np.random.default_rng(generator.getrandbits(64))
            genes = draw.integers(0, self._sizes, size=(BATCH, len(self._sizes)))
            met = self.limits.met_by(self.table.macs_many(genes), self.table.params_many(genes))
            found = np.flatnonzero(met)
            if len(found):
                gene = genes[found[0]]
                return {
                    label: candidates[index]
                    for (label, candidates), index in zip(self.choices.items(), gene, strict=True)
                }
        raise InputError(f"none of {DRAWS:,} random architectures meets {self.limits}; loosen the limits")

    def share(self, draws: int = 100_000) -> float:
        """The part of the space that meets the limits, estimated from random architectures with a fixed seed."""
        genes = np.random.default_rng(0).integers(0, self._sizes, size=(draws, len(self._sizes)))
        return float(np.mean(self.limits.met_by(self.table.macs_many(genes), self.table.params_many(genes))))
