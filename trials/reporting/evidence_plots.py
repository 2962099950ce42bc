"""The pictures of the evidence: the winner among its controls, and the training of the winner from scratch."""

from __future__ import annotations

from typing import Any

from spaces.files import read_jsonl
from trials.reporting.certificate_view import Point, points
from trials.reporting.collect import RunContents
from trials.reporting.figures import BLUE, GREY, INK, ORANGE, draw_intervals, new_figure, style, to_svg, whole_numbers

# for each role: legend, colour, marker, size
LOOKS = {
    "random": ("random", BLUE, "o", 5.5),
    "cheapest": ("cheapest", INK, "s", 5.5),
    "winner": ("winner", ORANGE, "*", 14),
}


def plot_against_cost(contents: RunContents) -> str:
    """Test accuracy against MACs, or milliseconds where the band is one of latency; with intervals and the floor."""
    assert contents.certificate is not None
    found, band = points(contents.certificate), contents.certificate.get("band") or {}
    timed = band.get("cost") == "latency_ms" and all(point.latency_ms is not None for point in found)
    label = "milliseconds by the latency table" if timed else "million MACs for one image"
    costs = [float(point.latency_ms or 0) if timed else point.macs / 1e6 for point in found]
    return _scatter(contents, found, costs, label, "certificate-cost")


def plot_against_score(contents: RunContents) -> str:
    """Test accuracy against the score on the supernet; "" where fewer than two networks have a score."""
    assert contents.certificate is not None
    found = [point for point in points(contents.certificate) if point.score is not None]
    if len(found) < 2:
        return ""
    return _scatter(
        contents, found, [float(point.score or 0) for point in found], "score on the supernet, %", "certificate-score"
    )


def _scatter(contents: RunContents, found: list[Point], xs: list[float], label: str, name: str) -> str:
    with style():
        figure, axes = new_figure(3.3)
        for role, (legend, color, marker, size) in LOOKS.items():
            chosen = [(x, point) for x, point in zip(xs, found, strict=True) if point.role == role]
            if not chosen:
                continue
            middle = [(point.accuracy, point.low, point.high) for _, point in chosen]
            order = 3 if role == "winner" else 2
            draw_intervals(axes, [x for x, _ in chosen], middle, marker, size, color=color, label=legend, zorder=order)
        floor = contents.floor["top1"] if contents.floor else None
        lowest, highest = min(point.low for point in found), max(point.high for point in found)
        room = 1.2 * (highest - lowest)  # a floor further away would press all networks together
        if floor is not None and lowest - room <= floor <= highest + room:
            axes.axhline(floor, color=GREY, linestyle="--", linewidth=1, label=f"floor, {floor:.1f}%")
        elif floor is not None:
            side = "below" if floor < lowest else "above"
            axes.plot([], [], color=GREY, linestyle="--", linewidth=1, label=f"floor, {floor:.1f}%, far {side}")
        axes.set(xlabel=label, ylabel="test accuracy, %")
        axes.margins(x=0.08)
        figure.legend(loc="outside upper left", ncols=4, handletextpad=0.3, columnspacing=1.0)
        winner = next((point for point in found if point.role == "winner"), None)
        said = f" The winner has {winner.accuracy:.2f}%." if winner else ""
        title = f"Test accuracy against {label.partition(',')[0]}"
        description = f"{len(found)} networks with their 95 % intervals, {lowest:.1f} to {highest:.1f}%.{said}"
        return to_svg(figure, name, title, description)


def plot_retraining_loss(contents: RunContents) -> str:
    """Loss over the epochs of the winner's training from scratch, a line per seed; "" without a log."""
    logs = _logs(contents)
    if not logs:
        return ""
    with style():
        figure, axes = new_figure(2.7)
        for log in logs:
            lines = [line for line in log if "loss" in line]
            axes.plot(
                [line["epoch"] for line in lines],
                [line["loss"] for line in lines],
                color=BLUE,
                alpha=0.7,
                linewidth=1.3,
            )
        axes.set(xlabel="epoch", ylabel="training loss")
        whole_numbers(axes)
        last = [[line["loss"] for line in log if "loss" in line][-1] for log in logs]
        said = f"{len(logs)} seed{'s' * (len(logs) != 1)}, which end at a loss of {', '.join(f'{loss:.2f}' for loss in last)}."
        return to_svg(figure, "retraining-loss", "Loss while the winner was trained from scratch", said)


def plot_retraining_accuracy(contents: RunContents) -> str:
    """Accuracy over the same epochs, of training images and of held-out ones where there are any; "" without a log."""
    logs = _logs(contents)
    if not logs:
        return ""
    looks = (("train_top1", "training images", BLUE, ".-"), ("val_top1", "held-out images", ORANGE, "o--"))
    with style():
        figure, axes = new_figure(2.7)
        for key, legend, color, line_style in looks:
            for number, log in enumerate(line for line in logs if any(key in entry for entry in line)):
                lines = [line for line in log if key in line]
                axes.plot(
                    [line["epoch"] for line in lines],
                    [line[key] for line in lines],
                    line_style,
                    color=color,
                    alpha=0.7,
                    linewidth=1.3,
                    markersize=4,
                    label=legend if number == 0 else None,
                )
        axes.set(xlabel="epoch", ylabel="accuracy, %")
        whole_numbers(axes)
        axes.legend(loc="lower right")
        last = [[line["train_top1"] for line in log if "train_top1" in line][-1] for log in logs]
        said = f"The seeds end at {', '.join(f'{top1:.1f}%' for top1 in last)} of the training images."
        return to_svg(figure, "retraining-accuracy", "Accuracy while the winner was trained from scratch", said)


def _logs(contents: RunContents) -> list[list[dict[str, Any]]]:
    """The lines of the winner's training logs, one list per seed; seeds without any are left out."""
    assert contents.retrained is not None
    files = sorted(contents.retrained.folder.glob("seed*/log.jsonl"), key=lambda path: int(path.parent.name[4:]))
    logs = [read_jsonl(path) for path in files]
    return [log for log in logs if any("loss" in line for line in log)]
