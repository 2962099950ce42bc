"""A certificate in the terminal: the networks as a table, ranking and noise in a line each, the verdict, the next command."""

from __future__ import annotations

from typing import Any

from trials.common import cli
from trials.evidence.comparison import as_sentence, verdict_text
from trials.evidence.intervals import Interval
from trials.evidence.ranking import too_few


def print_certificate(certificate: dict[str, Any], floor: str, beside_floor: str) -> None:
    """Print the networks, the figures, the verdict and the next command.

    Args:
        floor: as text; "" where it is not known.
        beside_floor: the sentence that the winner is not above it; "" where it is, or where a warning says more.
    """
    rows = []
    nodes = [("winner", certificate["winner"]), ("cheapest", certificate["cheapest"])]
    nodes += [("random", node) for node in sorted(certificate["random"], key=lambda node: -node["mean"])]
    latency = "latency_ms" in certificate["winner"]
    for role, node in nodes:
        if node is None:
            continue
        shown = str(Interval(node["mean"], *node["interval"]))
        score = "-" if node["score"] is None else f"{node['score']:.2f}"
        cost = (f"{node['latency_ms']:.3g}",) if latency else ()
        rows.append((role, node["id"], f"{node['macs']:,}", f"{node['params']:,}", *cost, shown, score))
    header = (
        "network",
        "architecture",
        "MACs",
        "params",
        *(("ms by table",) if latency else ()),
        "test top-1 %",
        "score %",
    )
    print(cli.table(rows, header, as_is=True))
    if latency:
        print(
            f"milliseconds by the table: {certificate.get('latency') or 'of an older version, which did not say how they were measured'}"
        )
    seeds, images = certificate["seeds"], certificate["test_images"]
    beside = f"; {floor}" if floor else ""
    print(f"{seeds} seed{'s' * (seeds != 1)}, {images:,} test images, intervals of 95 %{beside}")
    if beside_floor:
        print(beside_floor)
    if "choice" in certificate:
        print(f"the winner: {certificate['choice']['sentence']}")
    for rival in certificate.get("rivals", []):
        print(f"beside them, not counted: {rival['network']} {rival['accuracy']}, {rival['macs']:,} MACs")
    for text in certificate.get("images", []):
        print(f"of the images: {text}")
    print(ranking_line(certificate["ranking"]))
    print(noise_line(certificate["noise"]))
    verdict = certificate["verdict"]
    print(f"\n{as_sentence(verdict_text(verdict))}")
    cli.say_next(verdict["next"], verdict["why"])


def ranking_line(ranking: dict[str, Any]) -> str:
    """Kendall's tau of score, costs and seeds in one line."""
    few = too_few(ranking["n"])  # older versions wrote a tau of any two
    if few:
        return f"ranking: {few}"
    names = {"score": "score", "macs": "MACs", "params": "params", "seeds": "one seed with another"}
    parts = [
        f"{names[key]} {Interval(figure['tau'], *figure['interval'])}" for key in names if (figure := ranking[key])
    ]
    if not parts:
        return f"ranking: no figure orders the {ranking['n']} random ones, or all are equal"
    more = []
    score, difference, given_up = ranking["score"], ranking["score_minus_macs"], ranking["given_up"]
    if score and score["interval"][0] <= 0 <= score["interval"][1]:
        missing = (score["needed"] or 0) - ranking["n"]
        more.append(
            f"about {missing:,} more random ones would tell the score's tau from 0"
            if missing > 0
            else "the score's is about 0"
        )
    if difference:
        more.append(f"tau of the score minus tau of MACs {Interval(difference['difference'], *difference['interval'])}")
    if given_up is not None:
        more.append(f"the one with the best score is {given_up:.2f} points below the best")
    return f"ranking of the {ranking['n']} random ones (Kendall's tau): {'; '.join([', '.join(parts), *more])}"


def noise_line(noise: dict[str, Any]) -> str:
    """The noise in one line."""
    seeds = "unknown (one seed)" if noise["seeds_sd"] is None else f"{noise['seeds_sd']:.2f}"
    score = "" if noise["score_sd"] is None else f", of a score {noise['score_sd']:.2f}"
    needed = f"{noise['images_needed']['1.0']:,} test images"
    if noise["seeds_needed"]:
        needed = f"{noise['seeds_needed']['1.0']:,} seeds of each, and {needed}"
    return (
        f"noise (standard deviation, points): over seeds {seeds}, of the test part {noise['test_sd']:.2f}{score}; to show a difference "
        f"of 1 point between two networks takes {needed}"
    )
