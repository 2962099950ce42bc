"""How the pictures of a report look, and how a figure becomes an <svg> element with a title and a description."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Picture = tuple[Markup, str, bool]  # an <svg> element, its caption, whether it is wide
# Okabe and Ito's colours, which colour-blind people can tell apart; shapes differ too
BLUE, ORANGE, GREY, PALE, INK = "#0072b2", "#d55e00", "#8b95a5", "#e4e9f0", "#334155"
STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and the page's font is used
    "svg.hashsalt": "onepath",  # equal runs give equal files
    "font.size": 10.5,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.labelpad": 6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 10,
}
WIDTH, WIDE = 4.8, 11.0  # inches; a wide figure scrolls in its own box on a small screen


def new_figure(height: float = 3.1, width: float = WIDTH) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; sizes in inches. Drawn within `style()`."""
    figure = empty_figure(height, width)
    return figure, figure.subplots()


def empty_figure(height: float, width: float = WIDTH) -> Figure:
    """A figure without axes; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def whole_numbers(axes: Axes, axis: Literal["x", "y"] = "x") -> None:
    """Number an axis of epochs, or one that counts, with whole numbers."""
    axes.locator_params(axis, nbins=8, integer=True)


def draw_intervals(
    axes: Axes,
    xs: Sequence[float],
    points: Sequence[tuple[float, float, float]],
    marker: str,
    size: float,
    **looks: Any,
) -> None:
    """Draw points with their intervals.

    Args:
        points: value, low and high end of each.
        marker, size: of the points.
        looks: further keywords of matplotlib's errorbar, such as `color` and `label`.
    """
    values = [value for value, _, _ in points]
    bars = [[max(0.0, value - low) for value, low, _ in points], [max(0.0, high - value) for value, _, high in points]]
    axes.errorbar(xs, values, yerr=bars, fmt=marker, markersize=size, elinewidth=0.9, capsize=2, **looks)


def style() -> Any:
    """A context in which figures are made and drawn as `STYLE` says."""
    from matplotlib import rc_context

    return rc_context(STYLE)


def for_page(svg: str, caption: str, *, wide: bool = False) -> list[Picture]:
    """A picture for the page, as a list; [] where there is none to draw."""
    return [(Markup(svg), caption, wide)] if svg else []


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an <svg> element for a page.

    It has no XML header, no date and no address of anything outside, so that equal runs give equal files.

    Args:
        name: makes the ids of its elements unique among the pictures of a page.
        title: what a screen reader says first.
        description: what is to be seen in it, in a sentence.
    """
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: [^;\"]*?([\d.]+px) [^;\"]*", r"font-size: \1", svg)  # the family is the page's
    head, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    labels = (
        f"<title id='{name}-title'>{html.escape(title)}</title><desc id='{name}-desc'>{html.escape(description)}</desc>"
    )
    return f'<svg {box[0]} role="img" aria-labelledby="{name}-title {name}-desc">{labels}{rest}'
