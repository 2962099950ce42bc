"""Hard limits on an architecture's cost, and uniform draws from what is left of a space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from spaces.cost import Bounds
from spaces.errors import InputError, unknown
from spaces.latency import LatencyTable


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

    def satisfied_by(self, macs: Any, params: Any, latency_ms: Any = 0.0) -> Any:
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
