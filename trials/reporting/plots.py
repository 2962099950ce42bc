"""The pictures of the report: each `plot_*` takes what a run holds and returns an <svg> element as text."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trials.reporting.collect import RunContents
from trials.search_driver import results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2563eb", "#ea580c", "#94a3b8"


def _figure(height: float = 3.2) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> str:
    """The figure as an <svg> element, without the XML header and without a date, so that equal runs give equal files."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def plot_training(contents: RunContents) -> str:
    """Loss over the epochs, and the accuracy of the fixed paths."""
    figure, axes = _figure()
    lines = [line for line in contents.log if "loss" in line]
    axes.plot([line["epoch"] for line in lines], [line["loss"] for line in lines], color=GREY)
    axes.set(xlabel="epoch", ylabel="training loss (grey)")
    followed = [line for line in contents.log if "fixed_paths" in line]
    if followed:
        right = axes.twinx()
        epochs = [line["epoch"] for line in followed]
        for path in zip(*(line["fixed_paths"] for line in followed), strict=True):
            right.plot(epochs, path, color=BLUE, alpha=0.3, linewidth=0.8)
        right.plot(epochs, [line["fixed_paths_top1"] for line in followed], "o-", color=BLUE, markersize=4)
        right.set_ylabel("top-1 of fixed paths, %")
        right.set_ylim(bottom=0)
        right.spines["top"].set_visible(False)
    return _svg(figure)


def plot_probabilities(contents: RunContents) -> str:
    """Probabilities of all candidates at five moments of the training, as heat maps; one for each kind of choice."""
    from matplotlib.figure import Figure

    choices, history = contents.table.choices, contents.probabilities
    moments = [history[round(share * (len(history) - 1))] for share in (0, 0.25, 0.5, 0.75, 1)]
    moments = list({moment["step"]: moment for moment in moments}.values())
    kinds, rows = _kinds_of_choices(choices)
    heights = [0.6 + 0.16 * len(candidates) for _ in moments for candidates in rows.values()]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    highest = max(p for moment in moments for row in moment["probabilities"].values() for p in row)
    panels = iter(figure.subplots(len(heights), height_ratios=heights, squeeze=False)[:, 0])
    for moment in moments:
        for kind, labels in kinds.items():
            axes = next(panels)
            grid = [[float("nan")] * len(labels) for _ in rows[kind]]
            for x, label in enumerate(labels):
                for candidate, probability in zip(choices[label], moment["probabilities"][label], strict=True):
                    grid[rows[kind].index(candidate)][x] = probability
            image = axes.imshow(grid, aspect="auto", cmap="Blues", vmin=0, vmax=highest)
            axes.set_yticks(range(len(rows[kind])), [str(candidate) for candidate in rows[kind]], fontsize=6)
            axes.set_xticks([])
            axes.set_title(f"{kind}, step {moment['step']:,}", fontsize=8, loc="left")
    figure.colorbar(image, ax=figure.axes, shrink=0.4, label="probability")
    return _svg(figure)


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
    figure, axes = _figure()
    after = [result["top1"] for result in contents.results]
    before = [result["top1_before_recalibration"] for result in contents.results]
    low, high = min(after + before), max(after + before)
    span = (low, high if high > low else low + 1)
    axes.hist(before, bins=30, range=span, color=GREY, label=f"without, mean {statistics.mean(before):.1f}%")
    axes.hist(after, bins=30, range=span, color=BLUE, alpha=0.8, label=f"with, mean {statistics.mean(after):.1f}%")
    axes.set(xlabel="top-1 on the supernet, %", ylabel="architectures")
    axes.legend(title="BN recalibration", frameon=False)
    return _svg(figure)


def plot_front(contents: RunContents) -> str:
    """Score over MACs, or milliseconds where the search had a latency table; non-dominated architectures are joined."""
    figure, axes = _figure()
    timed = "latency_ms" in contents.best
    name, unit, title = ("max_latency_ms", 1, "milliseconds") if timed else ("max_macs", 1e6, "million MACs")
    costs = [results.cost_of(result) / unit for result in contents.results]
    axes.scatter(costs, [result["top1"] for result in contents.results], s=16, color=GREY, label="evaluated")
    line = [(results.cost_of(result) / unit, result["top1"]) for result in results.pareto_front(contents.results)]
    axes.plot(*zip(*line, strict=True), "o-", color=BLUE, markersize=4, label="frontier")
    axes.plot(
        results.cost_of(contents.best) / unit, contents.best["top1"], "*", color=ORANGE, markersize=14, label="best"
    )
    limit = contents.summary["limits"].get(name)
    if limit:
        axes.axvline(limit / unit, color=ORANGE, linestyle=":", label=name)
    axes.set(xlabel=title, ylabel="top-1 on the supernet, %")
    axes.legend(frameon=False)
    return _svg(figure)


def plot_progress(contents: RunContents) -> str:
    """Scores in the order of evaluation, with vertical lines between generations."""
    figure, axes = _figure()
    scores = [result["top1"] for result in contents.results]
    numbers = range(1, len(scores) + 1)
    axes.scatter(numbers, scores, s=16, color=GREY, label="evaluated")
    axes.plot(numbers, [max(scores[:n]) for n in numbers], color=BLUE, label="best so far")
    generations = [result["generation"] for result in contents.results]
    for number in range(1, len(generations)):
        if generations[number] != generations[number - 1]:
            axes.axvline(number + 0.5, color=GREY, linewidth=0.5)
    means = {
        g: statistics.mean(s for s, k in zip(scores, generations, strict=True) if k == g) for g in set(generations)
    }
    if len(means) > 1:
        for generation, mean in means.items():
            positions = [n for n, g in zip(numbers, generations, strict=True) if g == generation]
            line = axes.hlines(mean, positions[0] - 0.5, positions[-1] + 0.5, color=ORANGE)
            if generation == generations[0]:
                line.set_label("mean of a generation")
    axes.set(xlabel="architecture, in order of evaluation", ylabel="top-1 on the supernet, %")
    axes.legend(frameon=False)
    return _svg(figure)


def plot_winner(contents: RunContents) -> str:
    """The winner as a path through the choice blocks: a row of squares per candidate, a panel per kind of choice."""
    from matplotlib.figure import Figure

    choices, arch = contents.table.choices, contents.winner
    kinds, rows = _kinds_of_choices(choices)
    heights = [0.9 + 0.35 * len(candidates) for candidates in rows.values()]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    panels = figure.subplots(len(kinds), height_ratios=heights, squeeze=False)[:, 0]
    for (kind, labels), axes in zip(kinds.items(), panels, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        for x, label in enumerate(labels):
            for candidate in choices[label]:
                color = BLUE if candidate == arch[label] else "#e2e8f0"
                axes.plot(x, rows[kind].index(candidate), "s", markersize=13, color=color)
        path = [rows[kind].index(arch[label]) for label in labels]
        axes.plot(range(len(path)), path, color=ORANGE, linewidth=1.5)
        axes.set_xticks(range(len(labels)), [label.removeprefix(kind) for label in labels])
        axes.set_yticks(range(len(rows[kind])), [str(candidate) for candidate in rows[kind]])
        axes.invert_yaxis()
        axes.set_ylabel(kind)
    panels[-1].set_xlabel("choice block, from the image to the classifier")
    return _svg(figure)
