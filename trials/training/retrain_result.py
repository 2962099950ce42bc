"""What a retraining has come to: the results of its seeds, and result.json of the run."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from spaces.files import load_json


def seed_results(run: Path, seeds: int) -> list[dict[str, Any]]:
    """Read seedK/result.json of the seeds from 0 on.

    Raises:
        InputError: a seed has none yet.
    """
    return [load_json(run / f"seed{seed}" / "result.json", "result") for seed in range(seeds)]


def collect_result(run: Path, seeds: int, network: dict[str, Any]) -> dict[str, Any]:
    """Put the results of all seeds together.

    Args:
        network: what result.json says about the network: architecture or baseline, MACs, params.
    Returns:
        What result.json of the run holds; accuracies in percent.
    """
    results = seed_results(run, seeds)
    top1 = [result["test_top1"] for result in results]
    return {
        **network,
        "test_top1": top1,
        "mean": statistics.mean(top1),
        "std": statistics.stdev(top1) if len(top1) > 1 else None,
        "test_images": results[0]["test_images"],
        "seconds": [result["seconds"] for result in results],
    }
