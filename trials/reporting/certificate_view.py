"""The certificate in words: the ranking and the noise as small tables with one sentence each, and the points of its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trials.evidence.ranking import too_few
from trials.reporting.collect import RunContents
from trials.reporting.verdict import with_interval

# what networks are there for that did not start from fresh weights
FINE_TUNED = {"pretrained": "pretrained, fine-tuned", "supernet": "fine-tuned from the supernet"}


@dataclass(frozen=True)
class Line:
    """A figure of the certificate: what it is, its value with the interval, and what that means."""

    name: str
    value: str
    meaning: str


def ranking_lines(certificate: dict[str, Any]) -> list[Line]:
    """How well the score, MACs, parameters and another seed put the networks in the order of their test accuracies."""
    ranking = certificate["ranking"]
    n = ranking["n"]
    if few := too_few(n):  # older versions wrote a tau of any two
        return [Line("Kendall's tau", "-", f"{few[:1].upper()}{few[1:]}.")]
    names = {
        "score": "Score on the supernet",
        "macs": "MACs alone",
        "params": "Parameters alone",
        "seeds": "One seed of the same network",
    }
    lines = [
        Line(name, with_interval(ranking[key], "tau"), _tau_meaning(ranking[key], key, n))
        for key, name in names.items()
        if ranking.get(key)
    ]
    difference = ranking.get("score_minus_macs")
    if difference:
        low, high = difference["interval"]
        meaning = (
            "The supernet ranks better than counting MACs does."
            if low > 0
            else "Counting MACs ranks better than the supernet does."
            if high < 0
            else f"{n} networks do not show that the supernet ranks better than counting MACs."
        )
        lines.append(Line("Tau of the score minus tau of MACs", with_interval(difference, "difference"), meaning))
    given_up = ranking.get("given_up")
    if given_up is not None:
        meaning = "Test accuracy that is lost by taking the random network that the supernet scores best, not the one that is best; a part of it is noise."
        lines.append(Line("Given up by the score", f"{given_up:.2f} points", meaning))
    return lines


def _tau_meaning(figure: dict[str, Any], key: str, n: int) -> str:
    tau, (low, high) = figure["tau"], figure["interval"]
    pairs = f"{50 * (1 + tau):.0f} of 100 pairs"
    what = {
        "score": f"The network with the higher score is the more accurate one in {pairs}.",
        "macs": f"The network with more MACs is the more accurate one in {pairs}.",
        "params": f"The network with more parameters is the more accurate one in {pairs}.",
        "seeds": f"Two seeds agree on which network is better in {pairs}: training each network once ranks them no better.",
    }[key]
    if low <= 0 <= high and key != "seeds":
        needed = figure.get("needed")
        settle = f"; about {needed:,} networks in all would settle it" if needed else ""
        what += f" With {n} networks this cannot be told from no relation{settle}."
    return what


def noise_lines(certificate: dict[str, Any]) -> list[Line]:
    """How much of a difference may be luck, and what would show a smaller one."""
    noise = certificate["noise"]
    meanings = {
        "seeds_sd": (
            "Between seeds",
            "So much does the test accuracy of one and the same network vary with the seed alone.",
        ),
        "test_sd": ("Of the test part", "So much does it vary with which images happen to be in the test part."),
        "score_sd": ("Of a score", "So much does a score on the supernet vary with which images it is measured on."),
    }
    lines = [
        Line(name, f"{noise[key]:.2f} points", meaning)
        for key, (name, meaning) in meanings.items()
        if noise.get(key) is not None
    ]
    for points in ("0.5", "1.0"):
        parts = [
            f"{wanted[points]:,} {unit}"
            for key, unit in (("seeds_needed", "seeds"), ("images_needed", "test images"))
            if (wanted := noise.get(key) or {}).get(points)
        ]
        if parts:
            name = f"To show {points.removesuffix('.0')} point{'s' * (points != '1.0')}"
            meaning = "So many seeds of two networks against the luck of training, and so many images against that of the test part."
            lines.append(Line(name, " and ".join(parts), meaning))
    return lines


@dataclass(frozen=True)
class Point:
    """A network of the certificate in a picture: its role (winner, random, cheapest), accuracy with bounds, costs, score."""

    role: str
    accuracy: float
    low: float
    high: float
    macs: float
    latency_ms: float | None
    score: float | None


def choice_rows(certificate: dict[str, Any]) -> list[tuple[str, str]]:
    """How the winner was chosen and what that cost; [] in a certificate of an older version."""
    choice = certificate.get("choice")
    if not choice:
        return []
    rows = [("How", choice["sentence"])]
    if choice.get("candidates"):
        each = f"{choice['epochs']} epochs and {choice['seeds']} seed{'s' * (choice['seeds'] != 1)} each"
        rows.append(("Short trainings", f"{choice['candidates']} candidates, {each}"))
    spent = {
        "candidate_epochs": "Epochs of candidates",
        "supernet_epochs": "Epochs of the supernet",
        "scored": "Scores",
    }
    return rows + [(name, f"{choice[key]:,}") for key, name in spent.items() if choice.get(key)]


def points(certificate: dict[str, Any]) -> list[Point]:
    """All networks of the certificate; the random ones come first, so that the winner is drawn above them."""
    nodes = [("random", node) for node in certificate["random"]]
    nodes += [("cheapest", certificate["cheapest"])] if certificate.get("cheapest") else []
    nodes += [("winner", certificate["winner"])]
    found = []
    for role, node in nodes:
        low, high = node["interval"]
        found.append(Point(role, node["mean"], low, high, node["macs"], node.get("latency_ms"), node.get("score")))
    return found


def roles(contents: RunContents) -> dict[str, str]:
    """What each trained network is there for, by its place in the run."""
    found = {network.place: _role_of_folder(network.place) for network in contents.networks}
    if contents.certified and contents.certificate:
        found |= {node["run"]: "random" for node in contents.certificate["random"]}
        cheapest = contents.certificate.get("cheapest")
        if cheapest:
            found[cheapest["run"]] = "random, cheapest" if found.get(cheapest["run"]) == "random" else "cheapest"
    found |= {
        network.place: "winner" for network in contents.networks if network.arch and network.arch == contents.winner
    }
    return found | {network.place: FINE_TUNED[network.start] for network in contents.networks if network.start}


def _role_of_folder(place: str) -> str:
    """What the networks of a folder are there for, without a certificate."""
    return {"baselines": "baseline", "controls": "control"}.get(place.split("/")[0], "retrained")
