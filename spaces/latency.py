"""Latency of every architecture of a space on one device, from a table: the sum of the latencies of its modules.

A table is measured by `python -m trials.latency`, or imported from a device that Python does not run on. How well such
sums predict the latency of whole networks is measured too, and is part of the table (`check`).
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
from spaces.files import RESTORE, load_json, save_json
from spaces.spec import preset_arguments, space_options_text

FORMAT = "onepath latency table 1"
NANOSECONDS_PER_MS = 1_000_000
FIT_NETWORKS = 8  # whole networks used to fit the overhead between blocks; the others validate the table
MIN_CHECK_NETWORKS = 20  # fewest networks that a table is validated on


class LatencyTable:
    """Additive latencies: one number for stem, head and the overhead between blocks, plus one entry per choice block.

    Args:
        space: the space that was measured: name, preset, options, classes, resolution.
        choices: for each block, label -> candidates, in order.
        base: latency of stem, head and overhead, which every architecture has, in nanoseconds.
        blocks: for each block, the latency of each combination of its candidates in nanoseconds, an array
            (combinations,); the last label changes fastest.
        spread: interquartile ranges of the measurements in `blocks`, in nanoseconds; None: not known.
        measured: device, runtime, threads, batch and versions, for people to read.
        check: how far sums are from the latency of whole networks, see `validated_on`; None: not known.
    Attributes:
        costs: the latencies as a cost table whose MACs are nanoseconds.
    """

    def __init__(
        self,
        space: Mapping[str, Any],
        choices: Sequence[Choices],
        base: int,
        blocks: Sequence[np.ndarray | Sequence[int]],
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
        """Latency of an architecture in milliseconds, for one batch (of one image, unless `measured` says otherwise).

        Raises:
            ArchError: `arch` does not fit the space.
        """
        return self.costs.macs(arch) / NANOSECONDS_PER_MS

    def validated_on(self, archs: Sequence[Mapping[str, Any]], times: Sequence[float]) -> LatencyTable:
        """Correct the table for the overhead between blocks, and compare it with whole networks.

        A runtime may take longer for a whole network than for its modules one by one, or be faster. The first
        FIT_NETWORKS networks show by how much, and the difference is spread evenly over stem, blocks and head. The other
        networks have no part in that correction; from them the table's error is known.

        Args:
            archs: random architectures.
            times: measured latency of each, in milliseconds.
        Returns:
            A corrected table with `check`.
        """
        from scipy.stats import kendalltau

        measured_ms = np.array(times)
        table, overhead_ms = self, 0.0
        # A block's latency is at least 0. What is cut off there in the first pass, the base makes up for in the second.
        for _ in range(2):
            fitted = zip(archs[:FIT_NETWORKS], measured_ms, strict=False)
            difference_ms = float(np.median([time - table.ms(arch) for arch, time in fitted]))
            table = table._corrected(round(difference_ms * NANOSECONDS_PER_MS), spread_out=table is self)
            overhead_ms += difference_ms
        sums, measured_ms = np.array([table.ms(arch) for arch in archs[FIT_NETWORKS:]]), measured_ms[FIT_NETWORKS:]
        errors = 100 * (sums - measured_ms) / measured_ms
        tau = float(kendalltau(sums, measured_ms).statistic)
        table.measured["between_parts_ms"] = round(overhead_ms, 4)
        table.check = {
            "networks": len(measured_ms),
            "mean_absolute_error_percent": float(np.abs(errors).mean()),
            "largest_error_percent": float(np.abs(errors).max()),
            "bias_percent": float(errors.mean()),
            "kendall_tau": tau if math.isfinite(tau) else None,  # not finite where all networks take equally long
            "table_ms": sums.round(4).tolist(),
            "measured_ms": measured_ms.round(4).tolist(),
        }
        return table

    def _corrected(self, nanoseconds: int, *, spread_out: bool) -> LatencyTable:
        """A table with `nanoseconds` more: in equal shares for stem, blocks and head, or all of it in the base."""
        share = round(nanoseconds / (len(self.costs.blocks) + 2)) if spread_out else 0
        return LatencyTable(
            self.costs.space,
            [block.choices for block in self.costs.blocks],
            max(0, self.costs.base[0] + (2 * share if spread_out else nanoseconds)),
            [np.maximum(0, block.macs + share) for block in self.costs.blocks],
            spread=self.spread,
            measured=self.measured,
        )

    def bounds_ms(self) -> tuple[float, float]:
        """Latency of the fastest and of the slowest architecture of the space, in milliseconds."""
        bounds = self.costs.bounds()
        return bounds.min_macs / NANOSECONDS_PER_MS, bounds.max_macs / NANOSECONDS_PER_MS

    def error(self) -> str:
        """The mean absolute error of a sum, such as `+- 2.1%`; empty if the table was not validated."""
        return f"+- {self.check['mean_absolute_error_percent']:.1f}%" if self.check else ""

    def __str__(self) -> str:
        """The device and how it was measured, such as `cpu, onnxruntime, 1 thread, batch 1`; what is not known is said, too."""
        measured = self.measured
        words = [str(measured.get("device") or "an unknown device")]
        words += [str(measured["runtime"])] if measured.get("runtime") else []
        if threads := measured.get("threads"):
            words.append(f"{threads} thread{'s' * (threads > 1)}")
        words += [f"batch {measured['batch']}"] if measured.get("batch") else []
        # threads are None where a GPU was measured
        missing = [name for name in ("runtime", "threads", "batch") if name not in measured]
        return ", ".join(words) + (f" ({', '.join(missing)} not said)" if missing else "")

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        blocks = [{"choices": block.choices, "nanoseconds": block.macs.tolist()} for block in self.costs.blocks]
        for block, spread in zip(blocks, self.spread or (), strict=False):
            block["spread"] = [int(value) for value in spread]
        content = {"format": FORMAT, "space": self.costs.space, "base": self.costs.base[0], "blocks": blocks}
        save_json(path, content | {"measured": self.measured, "check": self.check})

    @classmethod
    def load(cls, path: str | Path, costs: CostTable | None = None) -> LatencyTable:
        """Read a table written by `save`.

        Args:
            costs: cost table of the space that the latency table must belong to; None: any.
        Raises:
            InputError: the file is missing, is no latency table, is incomplete, or belongs to another space.
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
            fastest = table.costs.bounds().min_macs
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
            raise InputError(
                f"latency table '{path}' is damaged or incomplete; {RESTORE}, or measure it anew"
            ) from None
        if not fastest:
            raise InputError(
                f"latency table '{path}' has an architecture that takes no time, so a limit would mean nothing; measure it anew"
            )
        if costs is not None and (table.costs.space != costs.space or table.costs.choices != costs.choices):
            space, options = costs.space, space_options_text(costs.space["options"])
            raise InputError(
                f"latency table '{path}' is of {table.costs.space}, not of {space}; measure it anew with: python -m "
                f"trials.latency --space {space['name']} {preset_arguments(space)} "
                f"{f'--space-options {options} ' if options else ''}--out FILE"
            )
        return table
