"""Networks that stand beside a certificate and are not counted in it: baselines, and the winner fine-tuned from its supernet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spaces.arch import arch_id
from trials.training.retrain_result import START_LABELS, finished_run, result_text
from trials.training.start_options import SUFFIX


def rivals_of(run: Path) -> list[dict[str, Any]]:
    """What a run has trained beside its winner and its controls, as certificate.json says it.

    Returns:
        For each finished network `network` (its name, with what it started from), `start` ("pretrained", "supernet", or "" for
        fresh weights), `run`, `macs`, `params`, `mean` and `interval` in percent, and `accuracy` as it is shown.
    """
    found = []
    for folder in (*sorted(run.glob(f"retrain*{SUFFIX['supernet']}")), *sorted((run / "baselines").glob("*"))):
        finished = finished_run(folder)
        if finished is None:
            continue
        result, _, start = finished
        name = result.get("baseline") or arch_id(result["arch"])
        figures = {key: result.get(key) for key in ("macs", "params", "mean", "interval")}
        about = {"network": name + START_LABELS[start], "start": start, "run": folder.relative_to(run).as_posix()}
        found.append({**about, **figures, "accuracy": result_text(result)})
    return found
