"""The certificate: is the winner better than random architectures of its cost, does the score rank them, and what is noise?

Pure functions of answers and scores; docs/certificate.md explains each figure. Accuracies are in percent, differences in points.
S seeds, K random architectures, N test images.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trials.certifying.controls import Network
from trials.choosing.band import Band
from trials.common.commands import neutral
from trials.evidence.cheaper import cheaper_sentence, difference_of_two, verdict_of
from trials.evidence.comparison import Comparison, compare_with_random, verdict
from trials.evidence.intervals import Interval, accuracy_interval, score_sd
from trials.evidence.ranking import Tau, given_up, kendall, seed_ceiling, tau_difference
from trials.evidence.sample_sizes import disagreement, images_needed, seeds_needed, seeds_sd

FILE = "certificate.json"
POINTS = (0.5, 1.0)  # differences whose price in seeds and images is said


@dataclass(frozen=True)
class Tested:
    """A network with what its trainings came to.

    Attributes:
        right: whether each test image is right, for each seed, bool (S, N).
        score: what the search maximised on the supernet, see `score_value`, percent; None where there is none.
        balanced: its balanced accuracy; None where it is not asked for.
    """

    network: Network
    right: np.ndarray
    score: float | None
    balanced: Interval | None = None

    @property
    def correct(self) -> list[int]:
        """Right answers of each seed."""
        return [int(number) for number in self.right.sum(1)]

    @property
    def images(self) -> int:
        """Number of test images."""
        return int(self.right.shape[1])

    @property
    def top1(self) -> list[float]:
        """Accuracy of each seed, percent."""
        return [100 * number / self.images for number in self.correct]

    @property
    def mean(self) -> float:
        """Accuracy over all seeds, percent."""
        return 100 * float(self.right.mean())

    @property
    def interval(self) -> Interval:
        """Accuracy over all seeds with its interval, percent."""
        return accuracy_interval(self.correct, self.images)

    def plain(self) -> dict[str, Any]:
        """What certificate.json says about the network."""
        interval = self.interval
        latency = {} if self.network.latency_ms is None else {"latency_ms": self.network.latency_ms}
        return {
            "id": self.network.id,
            "arch": self.network.arch,
            "macs": self.network.macs,
            "params": self.network.params,
            **latency,
            "run": self.network.folder,
            "test_top1": self.top1,
            "correct": self.correct,
            "mean": self.mean,
            "interval": [interval.low, interval.high],
            "score": self.score,
        }


def make_certificate(
    winner: Tested,
    cheapest: Tested | None,
    randoms: Sequence[Tested],
    *,
    band: Band,
    scoring_images: int | None,
    advise: Callable[[str, Comparison, Interval, str | None], tuple[str, str]],
    about: Mapping[str, Any],
    first: str = "",
) -> dict[str, Any]:
    """Compare the winner with the random architectures.

    Args:
        cheapest: None where its training stopped.
        scoring_images: that a score was measured on; None where that is not known.
        advise: gives the next command and why, of the verdict's code, the comparison, the winner's accuracy, and the folder of a
            cheaper network that is at least as good.
        about: what else certificate.json says: recipe, provenance.
        first: what must be said before the verdict; "" where nothing must.
    Returns:
        What certificate.json holds.
    """
    answers = np.stack([tested.right for tested in randoms])
    comparison = compare_with_random(winner.right, answers)
    code, sentence = verdict(comparison)
    everything = [winner, *([cheapest] if cheapest else []), *randoms]
    once = list({tested.network.id: tested for tested in everything}.values())
    cheaper = None if first or cheapest is None else compare_cheaper(winner, cheapest, once)
    command, why = advise(code, comparison, winner.interval, cheaper["run"] if cheaper else None)
    said = {"code": code, "first": first, "sentence": sentence, "cheaper": cheaper["sentence"] if cheaper else ""}
    return {
        "verdict": {**said, "next": neutral(command), "why": why},
        "cheaper": cheaper,
        "winner": winner.plain(),
        "cheapest": cheapest and cheapest.plain(),
        "random": [tested.plain() for tested in randoms],
        "band": dataclasses.asdict(band),
        "comparison": {
            "difference": comparison.difference.value,
            "interval": bounded(comparison.difference),
            "beaten": comparison.beaten,
            "of": comparison.of,
            "blind": comparison.blind,
            "uncertainty": {name: sd if math.isfinite(sd) else None for name, sd in comparison.uncertainty.items()},
        },
        "ranking": rank(randoms),
        "noise": measure_noise(winner, randoms, once, scoring_images),
        "seeds": len(winner.right),
        "test_images": winner.images,
        "scoring_images": scoring_images,
        **about,
    }


def compare_cheaper(winner: Tested, cheaper: Tested, networks: Sequence[Tested]) -> dict[str, Any] | None:
    """What certificate.json says of a cheaper network that is at least as good; None where the numbers do not carry that.

    Args:
        cheaper: the cheapest architecture, which may be the winner.
        networks: all of the certificate, each once.
    """
    cost = "macs" if winner.network.latency_ms is None or cheaper.network.latency_ms is None else "latency_ms"
    own, winners = (getattr(tested.network, cost) for tested in (cheaper, winner))
    if own >= winners:
        return None
    difference = difference_of_two(cheaper.right, winner.right, [tested.right for tested in networks])
    code = verdict_of(difference)
    if difference is None or not code:
        return None
    saved = f"{100 * (1 - own / winners):.0f} % of the {'MACs' if cost == 'macs' else 'milliseconds by the table'}"
    name = f"the cheapest architecture, {cheaper.network.id},"
    return {
        "id": cheaper.network.id,
        "run": cheaper.network.folder,
        "code": code,
        "difference": difference.value,
        "interval": bounded(difference),
        "sentence": cheaper_sentence(code, name, saved, (cheaper.interval, winner.interval), difference),
    }


def bounded(difference: Interval) -> list[float]:
    """The bounds of a difference of two accuracies, which is never beyond 100 points."""
    return [max(difference.low, -100.0), min(difference.high, 100.0)]


def rank(randoms: Sequence[Tested]) -> dict[str, Any]:
    """How well scores and costs rank the random architectures; the winner is left out, because a score chose it."""
    accuracies = [tested.mean for tested in randoms]
    figures: dict[str, Any] = {"n": len(randoms), "score": None, "score_minus_macs": None, "given_up": None}
    for name in ("macs", "params"):
        costs = [float(getattr(tested.network, name)) for tested in randoms]
        figures[name] = plain_tau(kendall(costs, accuracies))
    figures["seeds"] = plain_tau(seed_ceiling(np.array([tested.top1 for tested in randoms])))

    # those that have a score
    scores = [tested.score for tested in randoms if tested.score is not None]
    of_scored = [tested.mean for tested in randoms if tested.score is not None]
    macs = [float(tested.network.macs) for tested in randoms if tested.score is not None]
    figures["score"] = plain_tau(kendall(scores, of_scored))
    if len(scores) > 1:
        figures["given_up"] = given_up(scores, of_scored)
    difference = tau_difference(scores, macs, of_scored)
    if difference is not None:
        interval = [difference.low, difference.high]
        figures["score_minus_macs"] = {"difference": difference.value, "interval": interval}
    return figures


def plain_tau(tau: Tau | None) -> dict[str, Any] | None:
    """A tau for certificate.json; None where it does not exist: one side is constant, or there are too few networks."""
    if tau is None or tau.tau is None:
        return None
    return {"tau": tau.tau, "interval": [tau.low, tau.high], "needed": tau.needed}


def measure_noise(
    winner: Tested, randoms: Sequence[Tested], networks: Sequence[Tested], scoring_images: int | None
) -> dict[str, Any]:
    """By how much accuracies and scores differ by chance, and what would show a difference.

    Args:
        networks: all of them, each once.
    """
    sd, _ = seeds_sd(np.array([tested.top1 for tested in networks]))
    scores = [tested.score for tested in networks if tested.score is not None]
    differ = disagreement(winner.right, np.stack([tested.right for tested in randoms]))
    of_score = score_sd(sum(scores) / len(scores), scoring_images) if scores and scoring_images else None
    return {
        "seeds_sd": sd,
        "score_sd": of_score,
        "test_sd": score_sd(sum(tested.mean for tested in networks) / len(networks), winner.images),
        "disagreement": differ,
        "seeds_needed": None if sd is None else {str(points): seeds_needed(sd, points) for points in POINTS},
        "images_needed": {str(points): images_needed(differ, points) for points in POINTS},
    }
