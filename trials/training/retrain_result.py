"""What a retraining has come to: the results of its seeds, and result.json of the run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trials.common import run_files
from trials.evidence.classes import ClassRow, class_rows, figures
from trials.evidence.intervals import accuracy_interval, accuracy_text
from trials.networks.answers import FILE, Answers

# what is added to the name of a network by what it started from
START_LABELS = {"": "", "pretrained": " (pretrained)", "supernet": " (from supernet)"}


def start_of(result: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What a network started from: "pretrained", "supernet", or "" for fresh weights.

    Args:
        result: result.json of its run; {} while there is none.
        config: the options of its run.
    """
    if "start" in result:
        return str(result["start"]["kind"])
    return "pretrained" if config.get("pretrained") else "supernet" if config.get("from_supernet") else ""


def finished_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any], str] | None:
    """What a run of trials.retrain has found, its options, and what its network started from (`start_of`); None without a result."""
    if not (folder / "result.json").exists() or not (folder / "config.json").exists():
        return None
    result = run_files.read(folder / "result.json", "result")
    config = run_files.read(folder / "config.json", "run configuration")["config"]
    return result, config, start_of(result, config)


def missing_seeds(run: Path, seeds: int) -> list[int]:
    """Those of the seeds 0 to `seeds` - 1 that have no result yet."""
    return [seed for seed in range(seeds) if not (run / f"seed{seed}" / "result.json").exists()]


def with_finished(run: Path, seeds: int) -> int:
    """How many seeds from 0 on the result of a run is of: `seeds`, or more where those that follow have a result already.

    So a command that asks for fewer seeds than were trained leaves none of them out of result.json.
    """
    while (run / f"seed{seeds}" / "result.json").exists():
        seeds += 1
    return seeds


def seed_results(run: Path, seeds: int) -> list[dict[str, Any]]:
    """Read seedK/result.json of the seeds from 0 on.

    Raises:
        InputError: a seed has none yet.
    """
    return [run_files.read(run / f"seed{seed}" / "result.json", "result of a seed") for seed in range(seeds)]


def collect_result(
    run: Path, seeds: int, network: dict[str, Any], classes: Sequence[str], rows: Sequence[ClassRow] | None = None
) -> dict[str, Any]:
    """Put the results of all seeds together.

    Args:
        network: what result.json says about the network: architecture or baseline, MACs, params.
        classes: names of the classes.
        rows: `rows_of_classes`, where they have been read already.
    Returns:
        What result.json of the run holds: accuracies in percent, the 95 % interval of their mean (of the seeds and of the
        number of test images), the standard deviation over the seeds (None for one), the balanced accuracy and the classes.
    """
    results = seed_results(run, seeds)
    top1, images = [result["test_top1"] for result in results], results[0]["test_images"]
    correct = right_answers({"test_top1": top1, "test_images": images})
    interval = accuracy_interval(correct, images)
    rows = rows_of_classes(run, seeds, classes) if rows is None else rows
    return {
        **network,
        "test_top1": top1,
        "mean": statistics.mean(top1),
        "std": statistics.stdev(top1) if len(top1) > 1 else None,
        "interval": [interval.low, interval.high],
        "test_images": images,
        "test_correct": correct,
        "seconds": [result["seconds"] for result in results],
        **(figures(rows) if rows else {}),
    }


def rows_of_classes(run: Path, seeds: int, classes: Sequence[str]) -> list[ClassRow]:
    """How well each class is known, the least accurate first; [] where the answers of older versions do not say it.

    Args:
        classes: names of the classes.
    """
    paths = [run / f"seed{seed}" / FILE for seed in range(seeds)]
    if not all(path.exists() for path in paths):
        return []
    found = [Answers.load(path) for path in paths]
    labels = found[0].labels
    if any(not np.array_equal(one.labels, labels) for one in found) or labels.max() >= len(classes):
        return []
    return class_rows(labels, np.stack([one.predicted for one in found]), classes)


def right_answers(result: Mapping[str, Any]) -> list[int]:
    """The right answers of each seed.

    Args:
        result: result.json of a run; older versions wrote the accuracies alone.
    """
    if "test_correct" in result:
        return list(result["test_correct"])
    return [round(top1 * result["test_images"] / 100) for top1 in result["test_top1"]]


def result_text(result: Mapping[str, Any]) -> str:
    """The test accuracy of a run in the form in which accuracies are shown."""
    return accuracy_text(right_answers(result), result["test_images"])
