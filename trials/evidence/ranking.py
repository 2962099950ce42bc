"""Does a score rank architectures as their accuracies after retraining do, and could it? Kendall's tau, with 95 % intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from trials.evidence.intervals import NORMAL, Interval

LEAST = 5  # networks: with four or fewer the interval of any tau is all of -1 to 1, so that it says nothing
DISTINCT = 0.05  # a tau below this is called 0: no number of networks that is ever trained would tell


@dataclass(frozen=True)
class Tau:
    """Kendall's tau-b with its interval; None where one side is constant, or where there are fewer than LEAST networks.

    `needed` is the number of networks with which the interval of this tau would not contain 0; None where tau is about 0.
    """

    tau: float | None
    low: float
    high: float
    n: int
    needed: int | None

    def __str__(self) -> str:
        """Such as `0.21 [-0.05, 0.44]`; `none` where there is no tau."""
        return "none" if self.tau is None else f"{self.tau:.2f} [{self.low:.2f}, {self.high:.2f}]"


def kendall(x: Sequence[float], y: Sequence[float]) -> Tau:
    """Kendall's tau-b of two rankings of n networks.

    The interval is that of atanh(tau), whose variance is 0.437 / (n - 4) whatever the distribution; with fewer than LEAST networks
    there is none, and no tau is claimed. At a tau of 1 or -1 half a pair is taken for turned round, so that no interval has width 0.

    Source: Fieller, Hartley and Pearson (1957), doi:10.1093/biomet/44.3-4.470.
    """
    from scipy.stats import kendalltau

    n = len(x)
    if len(y) != n:
        raise ValueError(f"{n} and {len(y)} values to rank; give one of each for every network")
    if n < LEAST or len(set(x)) < 2 or len(set(y)) < 2:
        return Tau(None, -1.0, 1.0, n, None)
    return _with_interval(float(kendalltau(x, y).statistic), n)


def _with_interval(tau: float, n: int) -> Tau:
    most = 1 - 2 / max(n * (n - 1), 4)
    angle = math.atanh(max(-most, min(tau, most)))
    needed = math.ceil(4 + 0.437 * (NORMAL / angle) ** 2) if abs(tau) >= DISTINCT else None
    half = NORMAL * math.sqrt(0.437 / (n - 4))
    return Tau(tau, min(math.tanh(angle - half), tau), max(math.tanh(angle + half), tau), n, needed)


def too_few(n: int) -> str:
    """What stands in place of every tau where there are too few networks; "" where there are enough."""
    return f"too few networks ({n}) to rank; {LEAST} are the fewest" if n < LEAST else ""


def tau_difference(
    scores: Sequence[float], other: Sequence[float], accuracies: Sequence[float], *, seed: int = 0, draws: int = 2000
) -> Interval | None:
    """How much better `scores` rank the accuracies of n networks than `other` do: the difference of the two tau-b.

    Paired bootstrap over networks. None where a tau does not exist.
    """
    from scipy.stats import bootstrap

    first, second = kendall(scores, accuracies), kendall(other, accuracies)
    if first.tau is None or second.tau is None:
        return None
    value, n = first.tau - second.tau, len(accuracies)

    def difference(*columns: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        mine, others, truth = (np.sign(column[..., :, None] - column[..., None, :]) for column in columns)
        return _tau_b(mine, truth) - _tau_b(others, truth)

    found = bootstrap(
        [np.asarray(column, float) for column in (scores, other, accuracies)],
        difference,
        n_resamples=draws,
        batch=max(1, 500_000 // n**2),
        vectorized=True,
        paired=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    least = 2 / (n * (n - 1))  # half a pair, as above
    return Interval(value, max(-2.0, min(found.low, value - least)), min(2.0, max(found.high, value + least)))


def _tau_b(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the signs of all pairs, (..., n, n); 0 where a resample is constant."""
    scale = np.sqrt((first * first).sum((-2, -1)) * (second * second).sum((-2, -1)))
    tau: NDArray[np.float64] = np.divide(
        (first * second).sum((-2, -1)), scale, out=np.zeros_like(scale), where=scale > 0
    )
    return tau


def seed_ceiling(accuracies: NDArray[np.float64]) -> Tau | None:
    """Tau of one seed with another, the mean over pairs of seeds: what the noise of retraining leaves of a ranking.

    A score with this tau ranks networks as well as retraining each once would. None with one seed, or fewer than LEAST networks.

    Args:
        accuracies: (K, S).
    """
    networks, seeds = accuracies.shape
    if networks < LEAST or seeds < 2:
        return None
    pairs = [kendall(one, two).tau for one, two in combinations(accuracies.T.tolist(), 2)]
    known = [tau for tau in pairs if tau is not None]
    return _with_interval(float(np.mean(known)), networks) if known else Tau(None, -1.0, 1.0, networks, None)


def most_with_truth(agreement: float, number: int = 1) -> float:
    """The largest tau that a mean of several scores can have with the truth, where their errors are independent.

    With normal errors r = sin(pi tau / 2) is the correlation of two scores, so K r / (1 + (K - 1) r) is that of two means of K of them, and the
    root of it that of one such mean with what all share.

    Args:
        agreement: Kendall's tau of two scores with each other. None can be above 0 where it is not.
        number: of scores in the mean.
    Source: Spearman (1904), doi:10.2307/1412159, for the root; Spearman (1910), doi:10.1111/j.2044-8295.1910.tb00206.x, and Brown (1910),
        doi:10.1111/j.2044-8295.1910.tb00207.x, for the mean.
    """
    r = math.sin(math.pi / 2 * max(0.0, agreement))
    return 2 / math.pi * math.asin(math.sqrt(number * r / (1 + (number - 1) * r)))


def given_up(scores: Sequence[float], accuracies: Sequence[float]) -> float:
    """Points between the best accuracy and that of the network with the best score (their mean, where scores tie)."""
    best = max(scores)
    taken = [accuracy for score, accuracy in zip(scores, accuracies, strict=True) if score == best]
    return max(accuracies) - sum(taken) / len(taken)
