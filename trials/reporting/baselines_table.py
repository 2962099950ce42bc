"""The table that sets the winner of a search beside baselines trained with the same recipe: accuracy, costs, latency.

This module reads what was trained and measured; trials/reporting/compare_baselines.py measures the latencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spaces.arch import arch_id
from trials.common import run_files
from trials.evidence.intervals import Interval, percent
from trials.training import recipes
from trials.training.retrain_result import START_LABELS, finished_run, result_text
from trials.training.start_options import SUFFIX

RECIPE_OPTIONS = (
    *recipes.OPTIONS,
    "class_weights",
    "hold_out",
    "precision",
)  # options that have to be equal for a fair comparison
HEADER = ("network", "test top-1", "balanced", "MACs", "params", "ms", "recipe")  # of "ms" the runtime is said, too
FILE = "comparison.json"


@dataclass(frozen=True)
class Row:
    """A network that was trained, as a line of the table.

    Attributes:
        network: its name, with what it started from; "found: ID" for the winner of a search.
        run: the directory that it was trained in.
        mean: test top-1 in percent, the mean over the seeds.
        std: standard deviation over the seeds, percentage points; None for one seed.
        n: number of seeds.
        top1: mean test top-1 with its 95 % interval, seeds and number of test images, as printed.
        balanced: balanced accuracy with its 95 % interval, as printed; "-" in a result of an older version.
        differs: options of its recipe that differ from those of the first row; "": none.
        latency_ms: median milliseconds for one image; None where it was not measured.
        spread_ms: interquartile range of these milliseconds.
    """

    network: str
    run: str
    mean: float
    std: float | None
    n: int
    top1: str
    balanced: str
    macs: int
    params: int
    differs: str
    latency_ms: float | None = None
    spread_ms: float | None = None

    @property
    def is_winner(self) -> bool:
        """Whether it is the winner of a search, not a baseline."""
        return self.network.startswith("found: ")

    @property
    def latency(self) -> str:
        """Median and interquartile range in milliseconds, as printed."""
        return "-" if self.latency_ms is None else f"{self.latency_ms:.2f} (IQR {self.spread_ms:.2f})"

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of the line under HEADER."""
        costs = (f"{self.macs:,}", f"{self.params:,}", self.latency)
        return (self.network, self.top1, self.balanced, *costs, self.differs or "the same")


def collect_networks(run: Path, own: Path | None = None) -> list[Row]:
    """The networks of a run: the winner in retrain/, then baselines/; with the latencies that were measured last.

    Args:
        run: a run of trials.supernet, or of one baseline.
        own: the run of a baseline that lies elsewhere.
    """
    folders = [run / "retrain", run / f"retrain{SUFFIX['supernet']}", *sorted((run / "baselines").glob("*"))]
    if own is not None and own.resolve() not in [path.resolve() for path in folders]:
        folders.append(own)
    measured = {(row.get("network"), row.get("macs")): row for row in _stored_comparison(run).get("rows", [])}
    rows: list[Row] = []
    first: dict[str, Any] = {}
    for path in folders:
        finished = finished_run(path)
        if finished is None:
            continue
        result, config, start = finished
        first = first or config
        name = (result.get("baseline") or f"found: {arch_id(result['arch'])}") + START_LABELS[start]
        balanced = result.get("balanced")
        latency = measured.get((name, result["macs"]), {})
        rows.append(
            Row(
                network=name,
                run=str(path),
                mean=result["mean"],
                std=result["std"],
                n=len(result["test_top1"]),
                top1=result_text(result),
                balanced=percent(Interval(balanced["accuracy"], *balanced["interval"])) if balanced else "-",
                macs=result["macs"],
                params=result["params"],
                differs=recipe_differences(config, first),
                latency_ms=latency.get("latency_ms"),
                spread_ms=latency.get("spread_ms"),
            )
        )
    return rows


def latency_note(run: Path) -> str:
    """How the latencies of a run were measured last; "" where they were not."""
    conditions = _stored_comparison(run).get("latency")
    return f"Latency: {conditions}." if conditions else ""


def latency_runtime(run: Path) -> str:
    """The runtime of the latencies that were measured last; older versions knew torch alone. "" where they were not."""
    stored = _stored_comparison(run)
    return str(stored.get("runtime", "torch")) if stored.get("latency") else ""


def recipe_differences(config: dict[str, Any], first: dict[str, Any]) -> str:
    """Options of a recipe in which two configurations differ, such as `lr 0.1 (not 0.2)`.

    An option that only one of them has is left out: an older version wrote fewer.
    """
    shared = [name for name in RECIPE_OPTIONS if name in config and name in first]
    return ", ".join(f"{name} {config[name]} (not {first[name]})" for name in shared if config[name] != first[name])


def _stored_comparison(run: Path) -> dict[str, Any]:
    stored = run_files.read_if_there(run / FILE, "comparison", {})
    return stored if isinstance(stored, dict) else {}
