"""Hard limits on an architecture's cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from spaces.cost import Bounds
from spaces.errors import InputError, shown, unknown
from spaces.latency import LatencyTable

Costs = float | np.ndarray
SCALES = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
# MACs or params: what is typed below without a suffix has lost it, for no network of the papers is so small
TYPED_LEAST = 10_000


@dataclass(frozen=True)
class Limits:
    """Inclusive limits; None means no limit."""

    max_macs: int | None = None  # multiply-adds, one image
    min_macs: int | None = None
    max_params: int | None = None
    max_latency_ms: float | None = None  # milliseconds for one batch (by default one image), from a latency table

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Limits:
        """Check and convert limits as they are written in YAML: numbers, or strings such as "330M" and "3.3e8".

        Args:
            arguments: name of a limit -> value.
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
        """Refuse a limit that no architecture of the space satisfies.

        Args:
            bounds: smallest and largest costs in the space.
            latency: latency table of the space, needed for max_latency_ms.
        Raises:
            InputError: the limit and the reachable range; or max_latency_ms is given without a latency table.
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
            meant = _meant(self.max_macs, bounds.min_macs, bounds.max_macs) or "raise max_macs"
            raise InputError(f"max_macs {self.max_macs:,} is out of reach: {macs}; {meant}")
        if self.min_macs is not None and self.min_macs > bounds.max_macs:
            raise InputError(f"min_macs {self.min_macs:,} is out of reach: {macs}; lower min_macs")
        if self.max_params is not None and self.max_params < bounds.min_params:
            meant = _meant(self.max_params, bounds.min_params, bounds.max_params) or "raise max_params"
            raise InputError(
                f"max_params {self.max_params:,} is out of reach: the space reaches {bounds.min_params:,} to "
                f"{bounds.max_params:,} params; {meant}"
            )

    def satisfied_by(self, macs: Costs, params: Costs, latency_ms: Costs = 0.0) -> Any:
        """Whether costs are within the limits.

        Args:
            macs, params, latency_ms: numbers of one architecture, or arrays (architectures,).
        Returns:
            True or False, or an array (architectures,) of them.
        """
        satisfied = macs >= (self.min_macs or 0)
        if self.max_macs is not None:
            satisfied = satisfied & (macs <= self.max_macs)
        if self.max_params is not None:
            satisfied = satisfied & (params <= self.max_params)
        if self.max_latency_ms is not None:
            satisfied = satisfied & (latency_ms <= self.max_latency_ms)
        return satisfied

    def __str__(self) -> str:
        """The limits for messages, such as `max_macs 330,000,000`."""
        given = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return ", ".join(f"{name} {value:,}" for name, value in given if value is not None) or "no limit"


def amount(value: object, name: str) -> int:
    """Convert an amount from YAML or a command line: 330000000, 3.3e8, "330M", "3.5M", "120k".

    Args:
        name: name of the limit, for the error.
    Raises:
        InputError: it is not a positive number, or one that has lost its suffix: a part of a MAC, or typed and below TYPED_LEAST.
    """
    text = shown(value).strip().replace(",", "").replace("_", "")
    scale = SCALES.get(text[-1:], 1)
    try:
        number = float(text if scale == 1 else text[:-1]) * scale
        if isinstance(value, bool) or not 1 <= number < 1e18:
            raise ValueError
    except ValueError:
        raise InputError(
            f"{name} is '{shown(value)}'; give a positive number such as 330000000 or 330M (k, M or G)"
        ) from None
    if scale == 1 and (number < TYPED_LEAST if isinstance(value, str) else number != round(number)):
        raise InputError(
            f"{name} is '{shown(value)}', which is less than any network has; did you mean {name} {number:g}M? "
            "So small a number needs its suffix: k, M or G"
        )
    return round(number)


def _meant(number: int, least: int, most: int) -> str:
    """The question whether a suffix was forgotten; "" where none brings the number between the least and the most of a space."""
    units = [unit for unit in "kMG" if number < TYPED_LEAST and least <= number * SCALES[unit] <= most]
    return f"did you mean {number}{units[0]}?" if units else ""


def milliseconds(value: object, name: str) -> float:
    """Convert milliseconds from YAML or a command line: 12.5, "12.5", "12.5ms".

    Args:
        name: name of the limit, for the error.
    Raises:
        InputError: it is not a positive number.
    """
    try:
        number = float(str(value).strip().removesuffix("ms"))
        if isinstance(value, bool) or not 0 < number < 1e9:
            raise ValueError
    except ValueError:
        raise InputError(f"{name} is '{shown(value)}'; give a positive number of milliseconds, such as 12.5") from None
    return number
