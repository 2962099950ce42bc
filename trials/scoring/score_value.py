"""The one number that a search maximises, of the two that a score holds: top-1 and cross-entropy.

Cross-entropy has no ties, and sees how sure a network is of each image; docs/evaluation.md says which of the two ranks
better. Both are stored, so that another choice scores nothing anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trials.common import run_files

SCORE_BY = ("top1", "loss")
TOP5_CLASSES = 6  # with fewer, the right answer is always among five


def score_value(record: Mapping[str, Any], score_by: str) -> float:
    """What a search maximises, 0 to 100.

    Args:
        record: a score that `has_value`, see `ScoreStore.record`.
        score_by: one of SCORE_BY.
    Returns:
        Top-1 in percent; or, for the loss, the geometric mean of the probabilities that the right classes get, in percent. It
        falls as the loss rises, and 0, the score of an architecture beyond a limit, is below all others.
    """
    return 100 * math.exp(-record["loss"]) if score_by == "loss" else record["top1"]


def metric_name(score_by: str) -> str:
    """What NNI's portal calls the default metric."""
    return "top-1 %" if score_by == "top1" else "100 * exp(-cross-entropy)"


def metric_text(score_by: str) -> str:
    """What NNI's portal shows under the names that it does not explain itself, in one line."""
    return (
        f"`default` is {metric_name(score_by)} on the held-out images, as the experiment's name says there, and is maximised; its "
        "intermediate result is top-1 before BN recalibration"
    )


def has_value(record: Mapping[str, Any], score_by: str) -> bool:
    """Whether a record says it. Scores of older versions have no loss."""
    return score_by == "top1" or record.get("loss") is not None


def searched_by(run: Path) -> str:
    """What the last search of a run has maximised: one of SCORE_BY; top1 where there was none, or an older version's."""
    path = run / "search.json"
    return run_files.read_if_there(path, "search summary", {}).get("score_by", "top1")
