"""What the gates are told about the scores of a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trials.common import run_files, typed
from trials.evidence import gates
from trials.evidence.gates import GateWarning
from trials.scoring import noise


def check_scores(run: Path, results: list[dict[str, Any]]) -> GateWarning | None:
    """Whether the scores of a search say more than their own noise.

    Args:
        run: of the supernet.
        results: the records of the scored architectures. Where the number of their scoring images is not known, nothing is said.
    """
    scores = [result["top1"] for result in results]
    known = [images for result in results if (images := noise.scoring_images(result, run))]
    if not known:
        return None
    if len(set(scores)) == 1:
        epochs = run_files.read(run / "config.json", "run configuration")["config"]["epochs"]
        longer = typed.again(run, {"--epochs": gates.LONGER * epochs})
        return gates.noisy_scores(scores, min(known), longer)
    return gates.noisy_scores(scores, min(known), noise.top_command(run, len(scores)))
