"""How large the noise is, and how many seeds or test images would show a difference between two networks."""

import math

import numpy as np
from numpy.typing import NDArray

from trials.evidence.intervals import NORMAL, student

POWER = 0.841621  # the normal quantile of a power of 80 %


def seeds_sd(accuracies: NDArray[np.float64]) -> tuple[float | None, int]:
    """Standard deviation over seeds, pooled over networks, and its degrees of freedom; None with one seed.

    Args:
        accuracies: (K, S), in percent.
    """
    networks, seeds = accuracies.shape
    if seeds < 2:
        return None, 0
    return float(np.sqrt(accuracies.var(1, ddof=1).mean())), networks * (seeds - 1)


def seeds_needed(sd: float, points: float) -> int:
    """Seeds for each of two networks with which a t-test would show a difference of that many points.

    Two-sided 5 %, power 80 %, by the noncentral t distribution, on the same test images. At least 2.
    """
    from scipy.stats import nct

    seeds = max(2, math.floor(2 * ((NORMAL + POWER) * sd / points) ** 2))
    while sd:
        freedom, away = 2 * (seeds - 1), points / (sd * math.sqrt(2 / seeds))
        limit = student(freedom)
        if nct.sf(limit, freedom, away) + nct.cdf(-limit, freedom, away) >= 0.8:
            break
        seeds += 1
    return seeds


def images_needed(disagreement: float, points: float) -> int:
    """Test images with which McNemar's test would show a difference of that many points between two trained networks.

    Two-sided 5 %, power 80 %.

    Args:
        disagreement: percent of the images that one of the two answers right and the other wrong; a difference of
            d points needs at least d.

    Source: Connor (1987), doi:10.2307/2531961.
    """
    apart, differ = points / 100, max(disagreement, points) / 100
    return math.ceil((NORMAL * math.sqrt(differ) + POWER * math.sqrt(differ - apart**2)) ** 2 / apart**2)


def disagreement(winner: NDArray[np.bool_], randoms: NDArray[np.bool_]) -> float:
    """Percent of the images that the winner answers right and a random architecture wrong, or the other way round.

    The mean over architectures and seeds; answers (S, N) and (K, S', N).
    """
    return 100 * float(np.mean([winner != network[:, None] for network in randoms]))
