"""All networks that were trained in a run: the winner, its controls, baselines, and others that were retrained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spaces.arch import arch_id
from trials.common import run_files
from trials.evidence.intervals import Interval, accuracy_interval, accuracy_text, percent
from trials.reporting import baselines_table
from trials.training.retrain_result import START_LABELS, right_answers, start_of


@dataclass(frozen=True)
class TrainedNetwork:
    """A run of trials.retrain within the run of a supernet.

    Attributes:
        folder: where it is.
        place: the same, as seen from the run, such as "controls/84c7f6000c3f".
        arch: its architecture; None for a baseline.
        name: id of the architecture, or name of the baseline.
        top1: test accuracy of each seed that is done, percent.
        correct: right answers of each of these seeds; [] where an older version did not write the number of test images.
        images: number of test images; None as above.
        macs, params: None while no seed is done and it is not known.
        finished: whether all its seeds are done.
        stored: its config.json, with the options under "config".
        seconds: training and test of each seed.
        latency: median milliseconds for one image, as printed; "" where trials.retrain --baseline did not measure it.
        runtime: that these were measured in.
        start: the weights that it started from: "pretrained", "supernet", or "" for fresh ones.
        balanced: its balanced accuracy, as shown; "" where an older version did not write it.
    """

    folder: Path
    place: str
    arch: dict[str, Any] | None
    name: str
    top1: list[float]
    correct: list[int]
    images: int | None
    macs: int | None
    params: int | None
    finished: bool
    stored: dict[str, Any]
    seconds: list[float]
    latency: str
    runtime: str
    start: str
    balanced: str

    @property
    def label(self) -> str:
        """Its name, with what it started from, so that it is not taken for one that was trained from scratch."""
        return f"{self.name}{START_LABELS[self.start]}"

    @property
    def config(self) -> dict[str, Any]:
        """The options that it was trained with."""
        return self.stored["config"]

    @property
    def interval(self) -> Interval | None:
        """Its test accuracy with the 95 % interval; None where there is none, or not for how many images."""
        return accuracy_interval(self.correct, self.images) if self.correct and self.images else None

    @property
    def accuracy(self) -> str:
        """Its test accuracy as it is shown everywhere."""
        if self.correct and self.images:
            text = accuracy_text(self.correct, self.images)
        elif self.top1:
            text = ", ".join(f"{value:.2f}%" for value in self.top1)
        else:
            return "not trained to the end"
        return text if self.finished else f"{text}; more seeds are not done"


def collect_networks(run: Path) -> list[TrainedNetwork]:
    """The networks in `retrain*`, `controls/*` and `baselines/*` of a run, in this order."""
    folders = [path for pattern in ("retrain*", "controls/*", "baselines/*") for path in sorted(run.glob(pattern))]
    stored = run_files.read_if_there(run / baselines_table.FILE, "comparison", {})
    measured = {
        (row.get("network"), row.get("macs")): f"{row['latency_ms']:.2f} (IQR {row['spread_ms']:.2f})"
        for row in (stored.get("rows", []) if isinstance(stored, dict) else [])
        if row.get("latency_ms") is not None
    }
    runtime = baselines_table.latency_runtime(run)
    return [_read_network(run, folder, measured, runtime) for folder in folders if (folder / "config.json").exists()]


def _read_network(run: Path, folder: Path, measured: dict[tuple[Any, Any], str], runtime: str) -> TrainedNetwork:
    """Read one run of trials.retrain, finished or not."""
    stored = run_files.read(folder / "config.json", "run configuration")
    finished = (folder / "result.json").exists()
    result = run_files.read(folder / "result.json", "result") if finished else {}
    files = sorted(folder.glob("seed*/result.json"), key=lambda path: int(path.parent.name[4:]))
    seeds = [run_files.read(path, "result of a seed") for path in files][
        : stored["config"].get("seeds", 1) if not finished else None
    ]
    top1 = result.get("test_top1") or [seed["test_top1"] for seed in seeds if "test_top1" in seed]
    images = result.get("test_images") or (seeds[0].get("test_images") if seeds else None)
    arch = result.get("arch")
    if arch is None and (folder / "arc.json").exists():
        arch = run_files.read(folder / "arc.json", "fixed arc")
    baseline = result.get("baseline") or stored["config"].get("baseline")
    name = baseline or (arch_id(arch) if isinstance(arch, dict) else folder.name)
    start = start_of(result, stored["config"])
    labels = [f"{name}{START_LABELS[start]}", f"found: {name}{START_LABELS[start]}"]  # how comparison.json calls it
    balanced = result.get("balanced")
    return TrainedNetwork(
        folder=folder,
        place=folder.relative_to(run).as_posix(),
        arch=arch if isinstance(arch, dict) and not baseline else None,
        name=name,
        top1=top1,
        correct=right_answers({"test_top1": top1, "test_images": images}) if images else [],
        images=images,
        macs=result.get("macs"),
        params=result.get("params"),
        finished=finished,
        stored=stored,
        seconds=result.get("seconds") or [seed["seconds"] for seed in seeds if "seconds" in seed],
        latency=next(
            (measured[label, result.get("macs")] for label in labels if (label, result.get("macs")) in measured), ""
        ),
        runtime=runtime,
        start=start,
        balanced=percent(Interval(balanced["accuracy"], *balanced["interval"])) if balanced else "",
    )
