"""Latency of every architecture of a space on one device, from a table: the sum of what its parts take.

A table is measured by `python -m trials.latency`, or imported from a device that Python does not run on. How well sums
tell the latency of whole networks was measured too and is part of the table (`check`). numpy only at import, because
NNI's tuners read latency tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spaces.arch import Choices
from spaces.cost import BlockCosts, CostTable
from spaces.errors import InputError
from spaces.files import load_json, save_json

FORMAT = "onepath latency table 1"
NANOSECONDS_PER_MS = 1_000_000
FIT_NETWORKS = 8  # networks that tell what lies between the parts; others check the table
MIN_CHECK_NETWORKS = 20


class LatencyTable:
    """Additive latencies: one number for stem, head and what lies between blocks, plus one entry per choice block.

    Args:
        space: what it was measured on: name, preset, options, classes, resolution.
        choices: of each block: label -> candidates, in order.
        base: nanoseconds that every architecture takes.
        blocks: nanoseconds of each combination of a block's candidates; the last label changes fastest.
        spread: interquartile ranges of the measurements of `blocks`, nanoseconds; None: not known.
        measured: device, runtime, threads, batch and versions, for people.
        check: how far sums are from whole networks, see `validated_on`; None: not known.
    Attributes:
        costs: the same as a cost table whose MACs are nanoseconds.
    """

    def __init__(
        self,
        space: Mapping[str, Any],
        choices: Sequence[Choices],
        base: int,
        blocks: Sequence[Any],
        *,
        spread: Sequence[Sequence[int]] | None = None,
        measured: Mapping[str, Any] | None = None,
        check: Mapping[str, Any] | None = None,
    ) -> None:
        entries = [np.asarray(block, dtype=np.int64) for block in blocks]
        self.costs = CostTable(
            space,
            (base, 0),
            [BlockCosts(c, entry, np.zeros_like(entry)) for c, entry in zip(choices, entries, strict=True)],
        )
        self.spread = None if spread is None else [list(block) for block in spread]
        self.measured = dict(measured or {})
        self.check: dict[str, Any] | None = dict(check) if check else None

    def ms(self, arch: Mapping[str, Any]) -> float:
        """Milliseconds of a batch (of one image, unless `measured` says otherwise). Raises: ArchError."""
        return self.costs.macs(arch) / NANOSECONDS_PER_MS

    def validated_on(self, archs: Sequence[Mapping[str, Any]], times: Sequence[float]) -> LatencyTable:
        """This table, corrected for what lies between the parts, and compared with whole networks.

        Args:
            archs, times: whole networks and their milliseconds. The first FIT_NETWORKS of them tell what a runtime needs between
                parts and not inside of a network (or the other way round), the same after each part; all others have no
                part in that and tell the error.
        """
        from scipy.stats import kendalltau

        clock = np.array(times)
        table, fitted = self, 0.0
        for _ in range(2):  # a part takes no less than nothing: what is cut off there is made up for by the base
            off = float(
                np.median([time - table.ms(arch) for arch, time in zip(archs[:FIT_NETWORKS], clock, strict=False)])
            )
            table = table._corrected(round(off * NANOSECONDS_PER_MS), spread_out=table is self)
            fitted += off
        sums, clock = np.array([table.ms(arch) for arch in archs[FIT_NETWORKS:]]), clock[FIT_NETWORKS:]
        errors = 100 * (sums - clock) / clock
        tau = float(kendalltau(sums, clock).statistic)
        table.measured["between_parts_ms"] = round(fitted, 4)
        table.check = {
            "networks": len(clock),
            "mean_absolute_error_percent": float(np.abs(errors).mean()),
            "largest_error_percent": float(np.abs(errors).max()),
            "bias_percent": float(errors.mean()),
            "kendall_tau": tau if math.isfinite(tau) else None,  # where all take the same
            "table_ms": sums.round(4).tolist(),
            "measured_ms": clock.round(4).tolist(),
        }
        return table

    def _corrected(self, off: int, *, spread_out: bool) -> LatencyTable:
        """`off` nanoseconds more, in equal shares of stem, blocks and head; or in the base alone."""
        share = round(off / (len(self.costs.blocks) + 2)) if spread_out else 0
        return LatencyTable(
            self.costs.space,
            [block.choices for block in self.costs.blocks],
            max(0, self.costs.base[0] + (2 * share if spread_out else off)),
            [np.maximum(0, block.macs + share) for block in self.costs.blocks],
            spread=self.spread,
            measured=self.measured,
        )

    def bounds_ms(self) -> tuple[float, float]:
        """Milliseconds of the fastest and of the slowest architecture of the space."""
        bounds = self.costs.bounds()
        return bounds.min_macs / NANOSECONDS_PER_MS, bounds.max_macs / NANOSECONDS_PER_MS

    def error(self) -> str:
        """The known error of a sum, such as `+- 2.1%`; empty where it was not checked."""
        return f"+- {self.check['mean_absolute_error_percent']:.1f}%" if self.check else ""

    def __str__(self) -> str:
        about = [str(self.measured[name]) for name in ("device", "runtime") if self.measured.get(name)]
        threads, batch = self.measured.get("threads"), self.measured.get("batch", 1)
        about += [f"{threads} thread{'s' * (threads > 1)}"] if threads else []
        return ", ".join(about + ([f"batch {batch}"] if batch > 1 else [])) or "an unknown device"

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        blocks = [{"choices": block.choices, "nanoseconds": block.macs.tolist()} for block in self.costs.blocks]
        for block, spread in zip(blocks, self.spread or (), strict=False):
            block["spread"] = [int(value) for value in spread]
        content = {"format": FORMAT, "space": self.costs.space, "base": self.costs.base[0], "blocks": blocks}
        save_json(path, content | {"measured": self.measured, "check": self.check})

    @classmethod
    def load(cls, path: str | Path, costs: CostTable | None = None) -> LatencyTable:
        """Read a table.

        Args:
            costs: of the space that it must be of.
        Raises:
            InputError: missing file, not a latency table, incomplete, or of another space.
        """
        content = load_json(path, "latency table")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(
                f"'{path}' is not a latency table; write one with: python -m trials.latency --space SPACE --out FILE"
            )
        try:
            blocks = content["blocks"]
            table = cls(
                content["space"],
                [block["choices"] for block in blocks],
                int(content["base"]),
                [block["nanoseconds"] for block in blocks],
                spread=[block["spread"] for block in blocks] if all("spread" in block for block in blocks) else None,
                measured=content["measured"],
                check=content["check"],
            )
            complete = table.costs.base[0] >= 0 and all(
                block.macs.shape == (math.prod(map(len, block.choices.values())),) and (block.macs >= 0).all()
                for block in table.costs.blocks
            )
            if not complete:
                raise ValueError
            table.error()
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
            raise InputError(f"latency table '{path}' is damaged; write it again") from None
        if costs is not None and (table.costs.space != costs.space or table.costs.choices != costs.choices):
            about = costs.space
            options = ",".join(f"{name}={value}" for name, value in about["options"].items())
            raise InputError(
                f"latency table '{path}' is of {table.costs.space}, not of {about}; measure it anew with: python -m "
                f"trials.latency --space {about['name']} --preset {about['preset']} --classes {about['classes']} --resolution "
                f"{about['resolution']} {f'--space-options {options} ' if options else ''}--out FILE"
            )
        return table
