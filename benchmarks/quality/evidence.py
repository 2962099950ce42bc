"""What may be concluded from the units of a pair: spread, rankings, winners against random architectures; intervals of 95 %."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import zscore

from trials.evidence.intervals import Interval
from trials.evidence.ranking import Tau, kendall

FEW = 8  # seeds of a search, up to which the rank test is computed exactly
Top1 = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """How far random architectures are apart, and how noisy one training is; standard deviations in points.

    Attributes:
        architectures: between architectures, without the part that the noise of training explains.
        seeds: between seeds, of what all architectures share: a seed gives all of them the same batches.
        noise: of one training, beside these two. Architectures are compared with the same seeds, so this is what blurs them.
    """

    architectures: float
    seeds: float
    noise: float


def spread(top1: Top1) -> Spread:
    """The standard deviations, by two-way analysis of variance.

    Args:
        top1: test accuracies, percent, (architectures, seeds), two of each at least.
    """
    number, seeds = top1.shape
    of_archs, of_seeds = top1.mean(axis=1), top1.mean(axis=0)
    left = top1 - of_archs[:, None] - of_seeds + top1.mean()
    noise = float((left**2).sum()) / (number - 1) / (seeds - 1)
    between = float(of_archs.var(ddof=1)) - noise / seeds
    shared = float(of_seeds.var(ddof=1)) - noise / number
    return Spread(max(0.0, between) ** 0.5, max(0.0, shared) ** 0.5, noise**0.5)


@dataclass(frozen=True)
class Ranking:
    """How well a supernet ranks random architectures of one cost, averaged over its seeds.

    Attributes:
        tau: Kendall's tau-b of score and accuracy.
        by_macs: that of MACs.
        difference: the first less the second.
        both: that of score and MACs together, the sum of the two in their standard deviations.
        gain: the last less that of MACs.
    """

    tau: Interval
    by_macs: Interval
    difference: Interval
    both: Interval
    gain: Interval


def ranking(
    scores: Top1, macs: Sequence[float], accuracy: Sequence[float], *, seed: int = 0, draws: int = 2000
) -> Ranking:
    """Rank by score and by MACs; intervals by a bootstrap over architectures and over the seeds of the supernet.

    Args:
        scores: (supernet seeds, architectures).
        macs, accuracy: (architectures,).
    """
    generator = np.random.default_rng(seed)
    costs, truth = np.asarray(macs, float), np.asarray(accuracy, float)
    seeds, number = scores.shape
    orders = [_signs(of) for of in (scores, zscore(scores, axis=1) + zscore(costs), costs[None])]
    true = _signs(truth)

    def taus(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[float, float, float]:
        own, both = (_mean_tau(order[rows], true, columns) for order in orders[:2])
        return own, _mean_tau(orders[2], true, columns), both

    tau, by_macs, both = taus(np.arange(seeds), np.arange(number))
    drawn = np.array(
        [taus(*(generator.integers(size, size=(size,)) for size in (seeds, number))) for _ in range(draws)]
    )

    return Ranking(
        _interval(tau, drawn[:, 0]),
        _interval(by_macs, drawn[:, 1]),
        _interval(tau - by_macs, drawn[:, 0] - drawn[:, 1]),
        _interval(both, drawn[:, 2]),
        _interval(both - by_macs, drawn[:, 2] - drawn[:, 1]),
    )


def _interval(value: float, drawn: Sequence[float] | Top1) -> Interval:
    """A value with the middle 95 % of its bootstrap."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def _signs(values: Top1) -> Top1:
    """Which of two is larger: (..., N) -> (..., N, N) of -1, 0 and 1."""
    return np.sign(values[..., :, None] - values[..., None, :])


def _mean_tau(orders: Top1, true: Top1, columns: NDArray[np.int64]) -> float:
    """Mean of Kendall's tau-b over several rankings of the architectures at `columns`; one without an order counts as 0.

    Args:
        orders: `_signs` of the rankings, (rankings, N, N).
        true: `_signs` of the truth, (N, N).
    """
    own, of = orders[:, columns[:, None], columns], true[columns[:, None], columns]
    pairs = np.sqrt((own**2).sum(axis=(1, 2)) * (of**2).sum())
    return float(np.mean((own * of).sum(axis=(1, 2)) / np.where(pairs, pairs, 1)))


def difference_of_taus(
    one: Top1, other: Top1, accuracy: Sequence[float], *, seed: int = 0, draws: int = 2000
) -> Interval:
    """Mean tau of the supernets of one variant less that of another, by a bootstrap over architectures and over the seeds of each.

    Args:
        one, other: scores, (supernet seeds, architectures); the seeds may differ in number.
        accuracy: (architectures,).
    """
    generator = np.random.default_rng(seed)
    true, orders, number = _signs(np.asarray(accuracy, float)), (_signs(one), _signs(other)), len(accuracy)

    def less(rows: Sequence[NDArray[np.int64]], columns: NDArray[np.int64]) -> float:
        first, second = (_mean_tau(order[row], true, columns) for order, row in zip(orders, rows, strict=True))
        return first - second

    value = less([np.arange(len(order)) for order in orders], np.arange(number))
    drawn = []
    for _ in range(draws):
        columns = generator.integers(number, size=number)
        drawn.append(less([generator.integers(len(order), size=len(order)) for order in orders], columns))
    return _interval(value, drawn)


@dataclass(frozen=True)
class Against:
    """What a search finds, against random architectures of the same cost.

    Attributes:
        mean: of the accuracies of what it has found, percent.
        difference: from the mean of the random ones, in points, by Welch's t.
        percentile: mean percentile of what it has found, among the random ones.
        p: of the one-sided Mann-Whitney test that what it finds is better than random.
    """

    mean: float
    difference: Interval
    percentile: float
    p: float


def against_random(found: Sequence[float], randoms: Sequence[float]) -> Against:
    """Compare mean accuracies of the architectures that the seeds of a search have found with those of random ones.

    Args:
        found: one for each seed of the search. One seed has no interval.
        randoms: one for each random architecture.
    """
    from scipy.stats import mannwhitneyu, percentileofscore, ttest_ind

    value = float(np.mean(found) - np.mean(randoms))
    low, high = -np.inf, np.inf
    if len(found) > 1:
        low, high = ttest_ind(found, randoms, equal_var=False).confidence_interval(0.95)
    percentile = float(np.mean([percentileofscore(randoms, one, kind="mean") for one in found]))
    exact = "exact" if len(found) <= FEW else "auto"  # ties, which it takes for none, are of single test images
    p = float(mannwhitneyu(found, randoms, alternative="greater", method=exact).pvalue)
    return Against(float(np.mean(found)), Interval(value, float(low), float(high)), percentile, p)


@dataclass(frozen=True)
class Foretold:
    """What short trainings of random architectures say about long ones.

    Attributes:
        tau: Kendall's tau-b of the two accuracies.
        gain: points by which the long training of the one that was best after a short training is above the mean of the
            others, on average over draws of which architectures and images choose.
        ahead: the share of these draws in which it is above.
    """

    tau: Tau
    gain: float
    ahead: float


def foretold(
    short: NDArray[np.bool_], long: NDArray[np.bool_], *, choose: int = 8, images: int = 2000, draws: int = 2000
) -> Foretold:
    """Choose architectures by short trainings, and judge them by long ones on other images.

    Args:
        short, long: right answers to the same test images, (architectures, images), one training of each.
        choose: among so many architectures at a time.
        images: how many of the test images choose; the others judge.
    """
    generator, gains = np.random.default_rng(0), []
    number, size = long.shape
    for _ in range(draws):
        order, among = generator.permutation(size), generator.permutation(number)[:choose]
        best = among[short[np.ix_(among, order[:images])].mean(axis=1).argmax()]
        judged = 100 * long[:, order[images:]].mean(axis=1)
        gains.append(judged[best] - np.delete(judged, best).mean())
    tau = kendall(short.mean(axis=1).tolist(), long.mean(axis=1).tolist())
    return Foretold(tau, float(np.mean(gains)), float(np.mean(np.array(gains) > 0)))


def accuracies(results: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Name of a network -> its test accuracies, percent, in the order of the seeds."""
    found: dict[str, list[float]] = {}
    for result in sorted(results, key=lambda result: result["seed"]):
        found.setdefault(result["name"], []).append(result["test_top1"])
    return found


@dataclass(frozen=True)
class Picked:
    """What a strategy picks out of random architectures of one cost, after a full training.

    Attributes:
        gain: points above the mean of all, on average over draws, with its interval over architectures and images.
        ahead: the share of draws in which the pick is above the mean of all.
    """

    gain: Interval
    ahead: float


def picked(
    scores: Top1 | NDArray[np.bool_],
    right: NDArray[np.bool_],
    *,
    choose: int = 8,
    images: int = 2000,
    draws: int = 2000,
    each: int = 20,
) -> Picked:
    """Pick the best by a score, and judge the pick by its full training on images that chose nothing.

    The interval is that of a bootstrap over the architectures; in each of its draws the means are over `each` choices.

    Args:
        scores: larger is better, (architectures,); or right answers of other trainings, of which `images` choose,
            (architectures, images).
        right: right answers after the full training, (architectures, images).
        choose: among so many architectures at a time.
        images: how many of the test images choose; the others judge, whatever the score.
    """
    generator = np.random.default_rng(0)
    number, size = right.shape

    def gains(sample: NDArray[np.int64], times: int) -> list[float]:
        found = []
        for _ in range(times):
            order, among = generator.permutation(size), generator.permutation(sample)[:choose]
            by = scores[among] if scores.ndim == 1 else scores[np.ix_(among, order[:images])].mean(axis=1)
            judged = 100 * right[:, order[images:]].mean(axis=1)
            best = among[np.flatnonzero(by == by.max())]  # of equal ones any
            found.append(float(judged[best].mean() - judged[sample].mean()))
        return found

    own = gains(np.arange(number), draws)
    resampled = [
        float(np.mean(gains(generator.integers(number, size=(number,)), each))) for _ in range(draws // each * 5)
    ]
    return Picked(_interval(float(np.mean(own)), resampled), float(np.mean(np.array(own) > 0)))
