"""The most probable architecture within a hard limit, found exactly by dynamic programming over the cost table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from spaces.arch import Arch
from spaces.cost import CostTable
from spaces.errors import InputError


def most_probable(
    table: CostTable, probabilities: Mapping[str, Sequence[float]], max_macs: int | None = None
) -> tuple[Arch, float]:
    """The architecture with the largest probability among those with at most `max_macs`.

    Args:
        probabilities: label -> one number per candidate, in order; choices are independent.
        max_macs: multiply-adds for one image (or whatever the table counts); None: no limit.
    Returns:
        The architecture, and the natural logarithm of its probability (-inf where some choice has probability 0).
    Raises:
        InputError: no architecture meets the limit.
    """
    scores = []
    with np.errstate(divide="ignore"):
        for block in table.blocks:
            total = np.zeros(1)
            for label in block.choices:  # the last label changes fastest
                total = (total[:, None] + np.log(np.asarray(probabilities[label], dtype=np.float64))).ravel()
            # A candidate with probability 0 is worse than all others, but the limit may leave no other.
            scores.append(np.maximum(total, -1e6))
    limit = math.inf if max_macs is None else max_macs - table.base[0]
    combinations = best_within([block.macs for block in table.blocks], scores, limit)
    if combinations is None:
        least = table.bounds().min_macs
        raise InputError(f"max_macs {max_macs:,} is out of reach: the space starts at {least:,} MACs; raise max_macs")
    logarithm = float(sum(score[index] for score, index in zip(scores, combinations, strict=True)))
    return table.arch(combinations), logarithm if logarithm > -1e6 else -math.inf


def best_within(costs: Sequence[np.ndarray], scores: Sequence[np.ndarray], limit: float) -> list[int] | None:
    """One option per block, with the largest sum of scores among those whose sum of costs is at most `limit`.

    Block by block, a partial choice is kept only if no cheaper partial choice has at least its score: others cannot
    belong to the best choice. A partial choice is also dropped if even the best completion would leave it below a choice
    that is already known, the best one at a price of `multiplier` per unit of cost. The result is exact, for
    whole-number costs of any size.

    Args:
        costs: for each block, the costs of its options, (options,) integers.
        scores: for each block, the scores of its options, (options,).
        limit: largest sum of costs.
    Returns:
        The index of an option per block; None if the limit is out of reach.
    """
    limit -= sum(int(cost.min()) for cost in costs)
    if limit < 0:
        return None
    costs = [cost - cost.min() for cost in costs]  # keeps price * cost small, so that scores are not lost in rounding
    known, multiplier = _priced(costs, scores, limit)
    # An upper bound of what blocks b, b+1, ... can add: their best score at that price, and the price paid back.
    gains = [float((score - multiplier * cost).max()) for cost, score in zip(costs, scores, strict=True)]
    left_gain = np.cumsum([0.0, *reversed(gains)])[::-1]
    margin = 1e-9 * (1 + abs(known) + sum(abs(gain) for gain in gains))
    spent, gained = np.zeros(1, dtype=np.int64), np.zeros(1)
    steps: list[tuple[np.ndarray, np.ndarray]] = []  # (parent, option) of every kept partial choice
    for block, (cost, score) in enumerate(zip(costs, scores, strict=True)):
        total = (spent[:, None] + cost).ravel()
        value = (gained[:, None] + score).ravel()
        spare = 0.0 if limit == math.inf else multiplier * (limit - total)
        fits = np.flatnonzero((total <= limit) & (value + left_gain[block + 1] + spare >= known - margin))
        order = fits[np.lexsort((-value[fits], total[fits]))]
        best_before = np.concatenate(([-math.inf], np.maximum.accumulate(value[order])[:-1]))
        kept = order[value[order] > best_before]
        spent, gained = total[kept], value[kept]
        steps.append((kept // len(cost), kept % len(cost)))
    # Walk back from the best complete choice.
    index = int(np.argmax(gained))
    options = []
    for parent, option in reversed(steps):
        options.append(int(option[index]))
        index = int(parent[index])
    return options[::-1]


def _priced(costs: Sequence[np.ndarray], scores: Sequence[np.ndarray], limit: float) -> tuple[float, float]:
    """A good choice within the limit, by Lagrangian relaxation: each block takes its best score minus price times cost.

    Returns:
        The sum of its scores, and the price per unit of cost, which is found by bisection.
    """

    def choose(price: float) -> tuple[int, float]:
        picks = [int(np.argmax(score - price * cost)) for cost, score in zip(costs, scores, strict=True)]
        cost = sum(int(cost[pick]) for cost, pick in zip(costs, picks, strict=True))
        return cost, sum(float(score[pick]) for score, pick in zip(scores, picks, strict=True))

    spent, value = choose(0.0)
    if spent <= limit:
        return value, 0.0
    low, high = 0.0, 1e-12
    while choose(high)[0] > limit and high < 1e12:
        high *= 4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if choose(middle)[0] > limit else (low, middle)
    spent, value = choose(high)
    return (value if spent <= limit else -math.inf), high
