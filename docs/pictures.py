"""Draw the pictures of docs/nas.md, docs/one_shot_nas.md and docs/chance.md into docs/pictures/.

    python -m docs.pictures

The diagrams are made up; the three scatter plots show what was measured: benchmarks/results/quality/ and
docs/pictures/recalibration.json (the search of docs/tutorial.md, 104 architectures, each on 160 images).
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.quality.pairs import PAIRS
from benchmarks.quality.tables import Measured
from benchmarks.quality.units import Plan, found_by
from spaces.arch import arch_id

FOLDER = Path(__file__).parent / "pictures"
RESULTS = Path(__file__).parent.parent / "benchmarks/results/quality"
QUALITY = RESULTS / "fbnet-fashion"
INK, PALE, BLUE, ORANGE = "#263238", "#eceff1", "#1565c0", "#ef6c00"


def canvas(width: float, height: float) -> Axes:
    """Empty axes of `width` x `height` units; a unit is a tenth of an inch."""
    figure, axes = plt.subplots(figsize=(width / 10, height / 10))
    figure.subplots_adjust(0, 0, 1, 1)
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    return axes


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, color: str = PALE) -> None:
    """A box with its lower left corner at (x, y), and words in its middle."""
    axes.add_patch(plt.Rectangle((x, y), width, height, facecolor=color, edgecolor=INK, linewidth=1))
    ink = "white" if color in (BLUE, ORANGE) else INK
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", color=ink, fontsize=10)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "", color: str = INK) -> None:
    """An arrow, with words above its middle."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 1.5})
    axes.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.8, text, ha="center", fontsize=9, color=color)


def save(name: str) -> None:
    """Write the current figure; the same file at every call."""
    plt.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    plt.close()


def three_parts() -> None:
    axes = canvas(72, 22)
    box(axes, 1, 8, 18, 10, "search space\n\nwhich networks\ncan be built")
    box(axes, 27, 8, 18, 10, "search strategy\n\nwhich one\nto look at next", BLUE)
    box(axes, 53, 8, 18, 10, "performance\nestimation\n\nhow good is it?")
    arrow(axes, (19, 13), (27, 13), "choices")
    arrow(axes, (45, 15), (53, 15), "architecture")
    arrow(axes, (53, 11), (45, 11))
    axes.text(49, 8.6, "score, cost", ha="center", fontsize=9)
    axes.text(36, 3, "again, 100 to 1,000 times; then the best one is trained from scratch", ha="center", fontsize=10)
    save("three-parts")


def chain(name: str, chosen: tuple[int, ...] | None) -> None:
    """Four choice blocks with their candidates; `chosen` is the path that is drawn."""
    axes = canvas(84, 30)
    candidates = ("3x3", "5x5", "7x7", "xception")
    box(axes, 1, 12, 8, 6, "stem")
    for block in range(4):
        left = 15 + 15 * block
        axes.text(left + 4.5, 28, f"block {block + 1}", ha="center", fontsize=10, color=INK)
        for place, candidate in enumerate(candidates):
            active = chosen is None or chosen[block] == place
            box(axes, left, 21 - 6.5 * place, 9, 5, candidate, (BLUE if chosen else PALE) if active else "white")
    box(axes, 75, 12, 8, 6, "head")
    heights = [15] + ([23.5 - 6.5 * place for place in chosen] if chosen else [13.75] * 4) + [15]
    ends = [9, 24, 39, 54, 69]
    for number, end in enumerate(ends):
        color = BLUE if chosen else INK
        arrow(axes, (end, heights[number]), (end + 6, heights[number + 1]), color=color)
    save(name)


def mixture() -> None:
    axes = canvas(72, 28)
    box(axes, 1, 11, 9, 6, "input")
    for place, (candidate, share) in enumerate((("3x3", 0.15), ("5x5", 0.6), ("7x7", 0.2), ("skip", 0.05))):
        height = 22 - 6.5 * place
        box(axes, 28, height, 12, 5, candidate)
        start = height + 2.5
        for (a, b), (c, d) in (((10, 14), (28, start)), ((40, start), (58, 14))):
            axes.plot([a, c], [b, d], color=ORANGE, linewidth=0.5 + 9 * share, alpha=0.8, zorder=0)
        axes.text(41, start + 1.4, f"p = {share:.2f}", fontsize=9, color=INK)
    box(axes, 58, 11, 13, 6, "weighted sum,\nor one drawn")
    save("mixture")


def recalibration() -> None:
    points = json.loads((FOLDER / "recalibration.json").read_text())
    _, axes = plt.subplots(figsize=(5.6, 4), layout="constrained")
    axes.plot([60, 90], [60, 90], color="#90a4ae", linewidth=1)
    axes.text(61.5, 63, "no change", fontsize=9, rotation=36, color="#607d8b")
    axes.scatter([p[0] for p in points], [p[1] for p in points], s=18, color=BLUE, alpha=0.6)
    axes.set(
        xlabel="top-1 % before BN recalibration (first batch)", ylabel="top-1 % after it", xlim=(60, 90), ylim=(60, 90)
    )
    save("recalibration")


def ranking() -> None:
    scores = json.loads((QUALITY / "supernets/uniform-seed0.json").read_text())["scores"]
    networks = {path.name[:12]: json.loads(path.read_text()) for path in sorted(QUALITY.glob("networks/*.json"))}
    both = [(scores[name]["top1"], network["test_top1"]) for name, network in networks.items() if name in scores]
    _, axes = plt.subplots(figsize=(5.6, 4), layout="constrained")
    axes.scatter([score for score, _ in both], [top1 for _, top1 in both], s=28, color=ORANGE)
    axes.set(xlabel="score on the supernet, top-1 %", ylabel="trained from scratch, test top-1 %")
    axes.set_title(f"{len(both)} architectures of one cost, FBNet's space", fontsize=10)
    save("ranking")


CHANCE = (("spos", "gumbel"), ("fbnet", "gumbel-cold"), ("proxylessnas", "gumbel-cold"), ("single-path-nas", "gumbel"))
SEARCHED = {"spos": "window", "fbnet": "window-open", "proxylessnas": "window-open", "single-path-nas": "window"}


def chance() -> None:
    """Test accuracies of random architectures, of winners of searches, and of what gumbel learned, in each space."""
    figure, panels = plt.subplots(1, len(CHANCE), figsize=(9, 3.4))
    figure.subplots_adjust(0.07, 0.1, 0.99, 0.9, wspace=0.32)
    for axes, (space, learner) in zip(panels, CHANCE, strict=True):
        measured = Measured(PAIRS[f"{space}-fashion"], Plan(seeds=9), RESULTS)
        groups = [measured.random_means()]
        for kind, name in (("supernets", SEARCHED[space]), ("learned", learner)):
            found = [arch for result in measured.searches[kind, name] for arch in found_by(result).values()]
            groups.append([top1 for arch in found if (top1 := measured.mean(arch_id(arch))) is not None])
        for place, (values, color) in enumerate(zip(groups, (INK, BLUE, ORANGE), strict=True)):
            spread = [place + 0.3 * ((7 * number % 11) / 10 - 0.5) for number in range(len(values))]
            axes.scatter(spread, values, color=color, s=14)
        mean = sum(groups[0]) / len(groups[0])
        axes.axhline(mean, color=INK, linewidth=0.8, linestyle=":")
        axes.set_xticks(range(3), ["random", "search", "gumbel"])
        axes.set_xlim(-0.5, 2.5)
        axes.set_title(space, fontsize=10)
    panels[0].set_ylabel("test top-1, %")
    save("chance")


if __name__ == "__main__":
    plt.rcParams |= {"svg.hashsalt": "onepath", "font.family": "DejaVu Sans", "text.color": INK}
    FOLDER.mkdir(exist_ok=True)
    three_parts()
    chain("space", None)
    chain("path", (0, 3, 1, 2))
    mixture()
    recalibration()
    ranking()
    chance()
