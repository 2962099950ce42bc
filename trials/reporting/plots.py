"""The pictures of supernet, search and architecture: each `plot_*` takes what a run holds and returns an <svg> element."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from trials.reporting.collect import RunContents
from trials.reporting.figures import (
    BLUE,
    GREY,
    ORANGE,
    PALE,
    WIDE,
    empty_figure,
    new_figure,
    style,
    to_svg,
    whole_numbers,
)
from trials.search_driver import ranking

SCORE_LABELS = {  # by what the search maximised, see `score_value`
    "top1": "top-1 on the supernet, %",
    "loss": "mean probability of the right class on the supernet, %",
}


def plot_training(contents: RunContents) -> str:
    """Loss over the epochs, and the accuracy of the fixed paths."""
    lines = [line for line in contents.log if "loss" in line]
    followed = [line for line in contents.log if "fixed_paths" in line]
    with style():
        figure = empty_figure(4.3 if followed else 2.6)
        panels = figure.subplots(2 if followed else 1, sharex=True, squeeze=False)[:, 0]
        panels[0].plot([line["epoch"] for line in lines], [line["loss"] for line in lines], color=BLUE, linewidth=1.3)
        panels[0].set_ylabel("training loss")
        if followed:
            epochs = [line["epoch"] for line in followed]
            for path in zip(*(line["fixed_paths"] for line in followed), strict=True):
                panels[1].plot(epochs, path, color=BLUE, alpha=0.3, linewidth=0.8)
            panels[1].plot(
                epochs,
                [line["fixed_paths_top1"] for line in followed],
                "o-",
                color=BLUE,
                markersize=4,
                label="their mean",
            )
            panels[1].set_ylabel("fixed paths, top-1 %")
            panels[1].set_ylim(bottom=0)
            panels[1].legend(loc="lower right")
        panels[-1].set_xlabel("epoch")
        whole_numbers(panels[-1])
        said = f"The loss ends at {lines[-1]['loss']:.2f}." if lines else ""
        if followed:
            said += f" The fixed paths end at a mean accuracy of {followed[-1]['fixed_paths_top1']:.1f}%."
        return to_svg(figure, "training", "Training of the supernet", said)


def plot_probabilities(contents: RunContents) -> str:
    """Probabilities of all candidates at five moments of the training, as heat maps; one for each kind of choice."""
    choices, history = contents.table.choices, contents.probabilities
    moments = [history[round(share * (len(history) - 1))] for share in (0, 0.25, 0.5, 0.75, 1)]
    moments = list({moment["step"]: moment for moment in moments}.values())
    kinds, rows = _kinds_of_choices(choices)
    heights = [0.6 + 0.22 * len(candidates) for _ in moments for candidates in rows.values()]
    highest = max(p for moment in moments for row in moment["probabilities"].values() for p in row)
    with style():
        figure = empty_figure(sum(heights), WIDE)
        panels = iter(figure.subplots(len(heights), height_ratios=heights, squeeze=False)[:, 0])
        for moment in moments:
            for kind, labels in kinds.items():
                axes = next(panels)
                grid = [[float("nan")] * len(labels) for _ in rows[kind]]
                for x, label in enumerate(labels):
                    for candidate, probability in zip(choices[label], moment["probabilities"][label], strict=True):
                        grid[rows[kind].index(candidate)][x] = probability
                image = axes.pcolormesh(grid, cmap="Blues", vmin=0, vmax=highest)
                axes.invert_yaxis()
                places = [place + 0.5 for place in range(len(rows[kind]))]
                axes.set_yticks(places, [str(candidate) for candidate in rows[kind]], fontsize=8.5)
                axes.set_xticks([])
                axes.set_title(f"{kind}, step {moment['step']:,}", fontsize=10)
        figure.colorbar(image, ax=figure.axes, shrink=0.4, label="probability")
        title = "What was learned: the probability of every candidate over time"
        said = f"{len(moments)} moments from step {moments[0]['step']:,} to step {moments[-1]['step']:,}; the highest probability is {highest:.2f}."
        return to_svg(figure, "probabilities", title, said)


def _kinds_of_choices(choices: Mapping[str, Sequence[Any]]) -> tuple[dict[str, list[str]], dict[str, list[Any]]]:
    """Group the labels of choices by what stands before their number.

    Returns:
        For each kind, such as "block", its labels ("block00", "block01", ...), and all candidates that any of them has.
    """
    kinds: dict[str, list[str]] = {}
    for label in choices:
        kinds.setdefault(label.rstrip("0123456789"), []).append(label)
    return kinds, {
        kind: list(dict.fromkeys(c for label in labels for c in choices[label])) for kind, labels in kinds.items()
    }


def plot_scores(contents: RunContents) -> str:
    """Histogram of the scores with and without BN recalibration."""
    after = [result["top1"] for result in contents.results]
    before = [result["top1_before_recalibration"] for result in contents.results]
    low, high = min(after + before), max(after + before)
    span = (low, high if high > low else low + 1)
    means = statistics.mean(before), statistics.mean(after)
    with style():
        figure, axes = new_figure()
        axes.hist(before, bins=24, range=span, color=GREY, label=f"without, mean {means[0]:.1f}%")
        axes.hist(after, bins=24, range=span, color=BLUE, alpha=0.8, label=f"with, mean {means[1]:.1f}%")
        axes.set(xlabel="top-1 on the supernet, %", ylabel="architectures")
        whole_numbers(axes, "y")
        figure.legend(loc="outside upper left", title="BN recalibration", alignment="left", ncols=2)
        said = f"{len(after)} architectures: mean {means[1]:.1f}% with BN recalibration, {means[0]:.1f}% without."
        return to_svg(figure, "scores", "Scores of the searched architectures", said)


def highest_so_far(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of the line of the highest score at or below each cost: costs and scores both rise.

    Args:
        points: (cost, score) of each architecture.
    """
    corners: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not corners or score > corners[-1][1]:
            corners.append((cost, score))
    return corners


def plot_front(contents: RunContents) -> str:
    """Score over MACs, or milliseconds where the search had a latency table: the highest score up to each cost as a line, and the
    architectures of RUN/frontier, which a model of all scores chose and single scores need not rank so, as points."""
    timed = all("latency_ms" in result for result in contents.results)
    name, unit, label = ("max_latency_ms", 1.0, "milliseconds") if timed else ("max_macs", 1e6, "million MACs")
    costs = [ranking.cost_of(result) / unit for result in contents.results]
    front = [result for result in contents.results if result["id"] in contents.summary.get("frontier", [])]
    front.sort(key=ranking.cost_of)
    with style():
        figure, axes = new_figure(3.3)
        axes.scatter(costs, [contents.value(result) for result in contents.results], s=14, color=GREY, label="scored")
        points = [(ranking.cost_of(result) / unit, contents.value(result)) for result in contents.results]
        corners = highest_so_far(points)
        axes.plot(
            *zip(*corners, (max(costs), corners[-1][1]), strict=True),
            color=GREY,
            linewidth=1.0,
            drawstyle="steps-post",
            label="highest up to each cost",
        )
        if front:
            chosen = [(ranking.cost_of(result) / unit, contents.value(result)) for result in front]
            axes.plot(*zip(*chosen, strict=True), "o", color=BLUE, markersize=4, label="frontier/")
        if contents.score:
            place = ranking.cost_of(contents.score) / unit
            score = contents.value(contents.score)
            axes.plot(place, score, "*", color=ORANGE, markersize=14, linestyle="none", label="winner")
        limit = contents.summary["limits"].get(name)
        if limit:
            axes.axvline(limit / unit, color=ORANGE, linestyle=":", label="limit")
        axes.set(xlabel=label, ylabel=SCORE_LABELS[contents.score_by])
        figure.legend(loc="outside upper left", ncols=4, handletextpad=0.3, columnspacing=1.0)
        said = f"{len(costs)} architectures between {min(costs):.3g} and {max(costs):.3g} {label}; {len(front)} are in frontier/."
        return to_svg(figure, "front", f"Score against {label}", said)


def plot_progress(contents: RunContents) -> str:
    """Scores in the order of evaluation, with vertical lines between generations."""
    scores = [contents.value(result) for result in contents.results]
    numbers = range(1, len(scores) + 1)
    generations = [result["generation"] for result in contents.results]
    means = {
        g: statistics.mean(s for s, k in zip(scores, generations, strict=True) if k == g) for g in set(generations)
    }
    with style():
        figure, axes = new_figure(3.3)
        axes.scatter(numbers, scores, s=14, color=GREY, label="scored")
        axes.plot(numbers, [max(scores[:n]) for n in numbers], color=BLUE, linewidth=1.3, label="best so far")
        for number in range(1, len(generations)):
            if generations[number] != generations[number - 1]:
                axes.axvline(number + 0.5, color=GREY, linewidth=0.4)
        if len(means) > 1:
            for generation, mean in means.items():
                positions = [n for n, g in zip(numbers, generations, strict=True) if g == generation]
                line = axes.hlines(mean, positions[0] - 0.5, positions[-1] + 0.5, color=ORANGE)
                if generation == generations[0]:
                    line.set_label("mean of a generation")
        axes.set(xlabel="architecture, in order of scoring", ylabel=SCORE_LABELS[contents.score_by])
        figure.legend(loc="outside upper left", ncols=3, handletextpad=0.4, columnspacing=1.0)
        said = f"{len(scores)} architectures; the best score rises from {scores[0]:.1f} to {max(scores):.1f}%."
        return to_svg(figure, "progress", "Progress of the search", said)


def plot_winner(contents: RunContents) -> str:
    """The winner as a path through the choice blocks: a row of squares per candidate, a panel per kind of choice."""
    choices, arch = contents.table.choices, contents.winner
    kinds, rows = _kinds_of_choices(choices)
    heights = [0.9 + 0.36 * len(candidates) for candidates in rows.values()]
    with style():
        figure = empty_figure(sum(heights), WIDE)
        panels = figure.subplots(len(kinds), height_ratios=heights, squeeze=False)[:, 0]
        for (kind, labels), axes in zip(kinds.items(), panels, strict=True):
            size = min(15.0, 580 / len(labels))
            for color, wanted in ((PALE, False), (BLUE, True)):
                squares = [
                    (x, rows[kind].index(candidate))
                    for x, label in enumerate(labels)
                    for candidate in choices[label]
                    if (candidate == arch[label]) == wanted
                ]
                if squares:
                    axes.plot(*zip(*squares, strict=True), "s", markersize=size, color=color, linestyle="none")
            path = [rows[kind].index(arch[label]) for label in labels]
            axes.plot(range(len(path)), path, color=ORANGE, linewidth=1.5)
            every = -(-len(labels) // 24)
            axes.set_xticks(range(0, len(labels), every), [label.removeprefix(kind) for label in labels[::every]])
            axes.set_yticks(range(len(rows[kind])), [str(candidate) for candidate in rows[kind]])
            axes.margins(y=0.12)
            axes.invert_yaxis()
            axes.set_ylabel(kind)
        panels[-1].set_xlabel("choice block, from the image to the classifier")
        said = ", ".join(f"{label} {candidate}" for label, candidate in arch.items())
        return to_svg(figure, "architecture", "The architecture as a path through the choice blocks", f"{said}.")
