"""Is the winner better than the average random architecture of its cost? docs/certificate.md explains the method.

Differences are in points, and intervals are of 95 %. S seeds, K random architectures, N test images. Right answers are
booleans, paired by image: every network has answered the same images in the same order.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trials.evidence.intervals import NORMAL, Interval, student

Right = NDArray[np.bool_]
Factor = Literal["seeds", "architectures", "images"]


@dataclass(frozen=True)
class Comparison:
    """The winner against random architectures.

    Attributes:
        difference: winner minus the average random architecture, in points.
        beaten: random architectures whose mean accuracy is below the winner's.
        of: random architectures K.
        uncertainty: for seeds, architectures and images the standard deviation of the difference, in points, that
            infinitely many of them would take away. Noise that two of them share counts in both.
    """

    difference: Interval
    beaten: int
    of: int
    uncertainty: dict[Factor, float]

    @property
    def blind(self) -> float:
        """The share of random architectures, drawn blindly, that would beat as many: exact, by exchangeability."""
        return (self.of - self.beaten + 1) / (self.of + 1)


def compare_with_random(winner: Right, randoms: Right, *, seed: int = 0, draws: int = 10_000) -> Comparison:
    """The difference of the winner from the average random architecture, by a paired bootstrap over three factors.

    Each draw resamples the test images (one multinomial weighting for all networks), the random architectures (their
    means times sqrt(K / (K - 1))) and the winner's seeds (residuals pooled over all networks, times sqrt(S / (S - 1))).
    The spread of architectures and of seeds that the sample of images explains is taken from the last two, since the
    images' part has it: resampling every factor in full counts it twice (Owen 2007). The percentiles are stretched from
    the normal to Student's quantile with Satterthwaite's degrees of freedom, as Hesterberg's expanded percentiles
    are, but do not run out of draws at few degrees. Half an image for each of the four pairs of answers is added (Agresti
    and Min), so that networks which agree on all images have an interval, too. Where no network has a second seed, the
    spread of the random architectures, which contains that of seeds, stands for the winner's.

    Args:
        winner: right answers (S, N).
        randoms: right answers (K, S', N).
        seed: of the draws.
        draws: bootstrap draws.

    Returns:
        The comparison. One random architecture says nothing about the others: its interval is without bounds.

    Raises:
        ValueError: the shapes do not fit, or one of them is empty.

    Source: Hesterberg (2015), doi:10.1080/00031305.2015.1089789; Owen (2007), doi:10.1214/07-AOAS122; Agresti and Min
    (2005), doi:10.1002/sim.1781; Satterthwaite (1946), doi:10.2307/3002019.
    """
    if winner.ndim != 2 or randoms.ndim != 3 or winner.shape[1] != randoms.shape[2] or not winner.size * randoms.size:
        raise ValueError(f"right answers of shapes {winner.shape} and {randoms.shape}; give (S, N) and (K, S', N)")
    generator = np.random.default_rng(seed)
    means = randoms.mean((1, 2))
    value = float(winner.mean() - means.mean())
    beaten = int((means < winner.mean() - 1e-12).sum())
    images = _image_draws(winner, randoms, generator, draws)
    if len(randoms) == 1:
        unknown: dict[Factor, float] = {
            "architectures": math.inf,
            "seeds": math.inf,
            "images": 100 * float(images.std()),
        }
        return Comparison(Interval(100 * value, -math.inf, math.inf), beaten, 1, unknown)

    architectures = _spread([randoms.mean(1)])
    single = len(winner) == randoms.shape[1] == 1
    seeds = architectures if single else _spread([network for network in (winner, *randoms) if len(network) > 1])
    of_winner = seeds.draw(generator, draws, len(winner))
    moved = images + of_winner - architectures.draw(generator, draws, len(means))

    # the degrees of freedom of the whole: each observed variance has its own, that of the images has plenty
    parts = [
        (seeds.variance / len(winner), seeds.freedom),
        (architectures.variance / len(means), architectures.freedom),
    ]
    if single:  # one estimate serves twice
        parts = [(seeds.variance + architectures.variance / len(means), architectures.freedom)]
    doubt = sum(part**2 / freedom for part, freedom in parts)
    freedom = max(float(moved.var()) ** 2 / doubt, min(freedom for _, freedom in parts)) if doubt else math.inf
    bounds = value + np.quantile(moved, [0.025, 0.975]) * student(freedom) / NORMAL
    low, high = (float(bound) for bound in np.clip(100 * bounds, -100, 100))
    in_seeds = seeds.variance / len(winner) + (0 if single else seeds.variance / randoms.shape[0] / randoms.shape[1])
    uncertainty: dict[Factor, float] = {
        "seeds": 100 * math.sqrt(in_seeds),
        "architectures": 100 * math.sqrt(architectures.variance / len(means)),
        "images": 100 * float(images.std()),
    }
    return Comparison(Interval(100 * value, low, high), beaten, len(means), uncertainty)


def _image_draws(winner: Right, randoms: Right, generator: np.random.Generator, draws: int) -> NDArray[np.float64]:
    """How the difference moves with the sample of test images, (draws,): exact, over its few distinct values by image."""
    scale = len(winner) * randoms.shape[0] * randoms.shape[1]
    whole = winner.sum(0) * (scale // len(winner)) - randoms.sum((0, 1)) * len(winner)
    values, counts = np.unique(whole, return_counts=True)
    values = np.concatenate([values / scale, [1, -1, 0, 0]])  # half an image each, see Agresti and Min
    shares = np.concatenate([counts, np.full(4, 0.5)]) / (winner.shape[1] + 2)
    weights = generator.multinomial(winner.shape[1] + 2, shares, size=draws)
    moved: NDArray[np.float64] = weights @ values / (winner.shape[1] + 2) - shares @ values
    return moved


@dataclass(frozen=True)
class _Spread:
    """The variance of accuracy between architectures or seeds, and how much of it the sample of test images explains."""

    variance: float
    explained: float
    freedom: int
    residuals: NDArray[np.float64]  # their mean square is the variance

    def draw(self, generator: np.random.Generator, draws: int, number: int) -> NDArray[np.float64]:
        """Means of `number` residuals each, (draws,), without the part that the images explain."""
        left = math.sqrt(max(0.0, self.variance - self.explained) / self.variance) if self.variance else 0.0
        chosen = generator.integers(self.residuals.size, size=(draws, number))
        mean: NDArray[np.float64] = self.residuals[chosen].mean(1) * left
        return mean


def _spread(groups: Sequence[NDArray[np.generic]]) -> _Spread:
    """Pooled over groups of answers (members, N): the seeds of each network, or the architectures as one group."""
    squares, by_image, freedom, residuals = 0.0, 0.0, 0, []
    for answers in groups:
        members, images = answers.shape
        around = answers.mean(1) - answers.mean()
        squares += float((around**2).sum())
        # of members by images: the noise that a sample of images brings into the means
        by_image += float(((answers - answers.mean(0) - around[:, None]) ** 2).sum()) / max(images - 1, 1) / images
        freedom += members - 1
        residuals.append(around * math.sqrt(members / (members - 1)))
    return _Spread(squares / freedom, by_image / freedom, freedom, np.concatenate(residuals))


def verdict(comparison: Comparison) -> tuple[Literal["better", "not distinguishable", "worse"], str]:
    """The code, and the sentence in plain words."""
    difference, of = comparison.difference, comparison.of
    beats = f"it beats {comparison.beaten} of {of} random architecture{'s' * (of != 1)}"
    if difference.low > 0:
        blind = f"as a blind draw does in {100 * comparison.blind:.0f} % of cases"
        return "better", f"better than random by {points(difference)}: {beats}, {blind}"
    if difference.high < 0:
        turned = Interval(-difference.value, -difference.high, -difference.low)
        return "worse", f"worse than random by {points(turned)}: {beats}"
    if math.isinf(difference.low):
        return (
            "not distinguishable",
            "not distinguishable from random: one random architecture says nothing about the others",
        )
    return "not distinguishable", f"not distinguishable from random ({points(difference)}): {beats}"


def verdict_text(verdict: Mapping[str, Any]) -> str:
    """The verdict of certificate.json without a full stop: first whether the networks were worth comparing.

    Args:
        verdict: its `sentence`, `first` where none of the networks has learned enough, and `cheaper` where a cheaper one is as good.
    """
    first, cheaper = verdict.get("first"), verdict.get("cheaper")
    text = (
        f"{first}. Of these, the winner is {verdict['sentence']}" if first else f"the winner is {verdict['sentence']}"
    )
    return f"{text}. {cheaper[0].upper()}{cheaper[1:]}" if cheaper else text


def as_sentence(text: str) -> str:
    """A text as a sentence of its own."""
    return f"{text[:1].upper()}{text[1:]}."


def points(difference: Interval) -> str:
    """Such as `0.92 points [0.3, 1.5]`."""
    value, bounds = str(difference).split(" ", 1)
    return f"{value} points {bounds}"


def change_text(name: str, lost: Interval) -> str:
    """What a changed network is worth beside the one it was made of, such as `int8 gains 0.28 points [-0.4, 0.9]`.

    Args:
        lost: points that it lost; below 0 it gained them.
    """
    if lost.value >= 0:
        return f"{name} loses {points(lost)}"
    return f"{name} gains {points(Interval(-lost.value, -lost.high, -lost.low))}"


def limiting_factor(comparison: Comparison) -> Factor:
    """Of which factor more would narrow the interval most."""
    return max(comparison.uncertainty, key=lambda factor: comparison.uncertainty[factor])


def as_good_as_the_best(networks: Sequence[Right], best: int) -> list[bool]:
    """Which networks cannot be told apart from the one with the highest accuracy, because noise may hide that they are better.

    A one-sided test at the level 5 % / (C - 1) of C networks, as the best was the highest of them (Bonferroni). The variance of
    a difference is that of the images, by pairs of answers to the same image, with half an image for each of the four pairs
    (Agresti and Min), and with several seeds that of the seeds, too. With one seed it is the difference of the two trained
    networks alone.

    Args:
        networks: right answers (S, N) of each, to the same images.
        best: the number of that with the highest accuracy.
    Returns:
        One bool for each; the best itself is marked.
    """
    from scipy.stats import norm, t

    level = 0.05 / max(1, len(networks) - 1)
    spread, freedom_of_seeds = seeds_variance(networks), len(networks) * (len(networks[best]) - 1)
    alike = []
    for number, network in enumerate(networks):
        value, variance, freedom = paired(networks[best], network, spread, freedom_of_seeds)
        z = value / math.sqrt(variance)
        tail = float(t.sf(z, freedom) if math.isfinite(freedom) else norm.sf(z))
        alike.append(number == best or tail >= level)
    return alike


def seeds_variance(networks: Sequence[Right]) -> float:
    """The variance of accuracy between seeds, pooled over networks with right answers (S, N) each; 0 with one seed."""
    several = networks[0].shape[0] > 1
    return float(np.mean([network.mean(1).var(ddof=1) for network in networks])) if several else 0.0


def paired(one: Right, other: Right, spread: float, freedom_of_seeds: int) -> tuple[float, float, float]:
    """The difference of the accuracies of two networks, from 0 to 1; see `as_good_as_the_best`.

    Args:
        one, other: right answers (S, N) to the same images.
        spread: variance of accuracy between seeds.
        freedom_of_seeds: degrees of freedom of that.
    Returns:
        The difference, its variance and the degrees of freedom of this.
    """
    seeds, images = one.shape
    ahead = np.concatenate([one.mean(0) - other.mean(0), [1, -1]])  # of (0, 0) and (1, 1) nothing comes
    of_images = float((ahead**2).sum() - (ahead.sum() ** 2) / (images + 2)) / (images + 2) / images
    variance = of_images + 2 * spread / seeds
    # few seeds leave their own variance uncertain: Satterthwaite, as in compare_with_random
    freedom = freedom_of_seeds * (variance / (2 * spread / seeds)) ** 2 if spread else math.inf
    return float(ahead.sum()) / images, variance, freedom
