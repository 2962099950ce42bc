"""Is a cheaper network at least as good as the winner? Asked of one network that was chosen by its cost, before it was trained.

Differences are in points, and intervals are of 95 %. S seeds, N test images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from trials.evidence.comparison import Right, paired, points, seeds_variance
from trials.evidence.intervals import Interval, student

MARGIN = 1.0  # points: "as good" asks that the cheaper network is, with this confidence, no more than so much worse


def difference_of_two(one: Right, other: Right, networks: Sequence[Right]) -> Interval | None:
    """The difference of two networks that answered the same images, in points: `one` minus `other`.

    The variance is that of the images, by pairs of answers, with half an image for each of the four pairs (Agresti and Min), and
    that of the seeds, pooled over `networks`; Student's quantile with Satterthwaite's degrees of freedom.

    Args:
        one, other: right answers (S, N).
        networks: right answers of all networks that were trained in this way, these two among them.
    Returns:
        None with one seed, which does not tell how much another one would differ.
    """
    seeds, spread = len(one), seeds_variance(networks)
    if seeds < 2:
        return None
    _, variance, freedom = paired(one, other, spread, len(networks) * (seeds - 1))
    half = 100 * math.sqrt(variance) * student(freedom)
    value = 100 * float(one.mean() - other.mean())
    return Interval(value, max(value - half, -100.0), min(value + half, 100.0))


def verdict_of(difference: Interval | None) -> str:
    """What the numbers carry of a cheaper network: "better", "as good", or "" for neither.

    As good is what was at least as accurate, and is no more than MARGIN worse beyond noise.

    Args:
        difference: the cheaper network minus the winner, in points; None where it is not known.
    """
    if difference is None or difference.value < 0:
        return ""
    return "better" if difference.low > 0 else "as good" if difference.low > -MARGIN else ""


def cheaper_sentence(code: str, name: str, saved: str, accuracies: tuple[Interval, Interval], by: Interval) -> str:
    """The sentence without its full stop.

    Args:
        code: of `verdict_of`, not "".
        name: of the cheaper network.
        saved: what it saves, such as `14 % of the MACs`.
        accuracies: its own and the winner's, percent.
        by: the difference in points.
    """
    own, winner = accuracies
    return f"a cheaper network is {code}: {name} saves {saved} and has {own} %, the winner {winner} %, which is {points(by)} more"
