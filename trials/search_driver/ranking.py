"""The order of the architectures that a search has scored: the one rule behind arc.json, frontier/ and trials.retrain --top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from strategies import pareto
from strategies.feasible import FeasibleSpace
from strategies.score_model import smoothed


def rank(
    feasible: FeasibleSpace, results: Sequence[dict[str, Any]], values: Sequence[float], alike: Sequence[bool]
) -> list[dict[str, Any]]:
    """The results, the best first: those that noise cannot tell apart from the best score before all others, and among both those
    first of which a model of all scores expects most.

    The highest of many noisy scores is a lucky one. A model of all scores does not share its luck; docs/tuners.md has how
    much better its choice is. Where noise hides nothing, the highest score is first; where there are few scores, they are
    taken as they are.

    Args:
        results: scored architectures, in the order of the search; of equal ones the cheaper is ahead, then the earlier.
        values: their scores, larger is better.
        alike: whether noise hides the best one behind each, see `noise.like_the_best`.
    """
    rows = feasible.table.canonical_many(np.array([feasible.table.combinations(result["arch"]) for result in results]))
    expected = smoothed(feasible, rows, np.array(values))
    order = sorted(
        range(len(results)), key=lambda number: (not alike[number], -expected[number], cost_of(results[number]))
    )
    return [results[number] for number in order]


def front(ranked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results that are ahead of all that cost as little, the cheapest first; the last is the best of all.

    Args:
        ranked: what `rank` returned.
    """
    points = [(-place, cost_of(result), result) for place, result in enumerate(ranked)]
    return [result for _, _, result in pareto.pareto_front(points)]


def cost_of(result: dict[str, Any]) -> float:
    """Milliseconds of a result in a search with a latency table, else MACs."""
    return result.get("latency_ms", result["macs"])
