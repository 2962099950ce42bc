"""Which of the scored architectures becomes the winner of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from strategies.feasible import FeasibleSpace
from strategies.score_model import smoothed


def choose_winner(
    feasible: FeasibleSpace, results: Sequence[dict[str, Any]], values: Sequence[float], alike: Sequence[bool]
) -> dict[str, Any]:
    """Of the results that noise cannot tell apart from the best one, that of which a model of all scores expects most.

    The highest of many noisy scores is a lucky one. A model of all scores does not share its luck; docs/tuners.md has how
    much better its choice is. Where noise hides nothing, and where there are few scores, it is the highest score.

    Args:
        results: scored architectures, in the order of the search.
        values: their scores, larger is better.
        alike: whether noise hides the best one behind each, see `noise.like_the_best`.
    """
    rows = feasible.table.canonical_many(np.array([feasible.table.combinations(result["arch"]) for result in results]))
    expected = smoothed(feasible, rows, np.array(values))
    return results[int(np.where(alike, expected, -np.inf).argmax())]
