"""Which spaces, presets and widths reach a budget of multiply-adds, and what part of each stays within it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import spaces
from spaces.arch import ArchError, validate
from spaces.cost import Bounds, CostTable, measure
from spaces.errors import InputError
from spaces.published import PUBLISHED, Published

# Widths that are offered: between the least and the largest of MobileNetV2's published models (arXiv:1801.04381)
WIDTHS = tuple(number / 20 for number in range(7, 29))  # 0.35 to 1.4
ROOM = (0.10, 0.75)  # parts of a space between which a limit bites, and leaves room to choose in
GOOD_SHARE = 0.25  # of a space: the part that a limit should leave
NO_LIMIT = 0.99  # of a space; a limit that leaves so much is none
LEAST_MAP = 3  # pixels, height and width before the pooling; the presets end as 3x3 to 8x8
DRAWS = 20_000  # architectures that a share is counted on
FAR = 0.6  # part of the least width, below which that one is out of reach as well
LOOKED_AT = 6  # forms that the least budget is looked for in
TRIES = 6  # widths of a form that are measured, at most
POWER = 0.55  # width over MACs: pointwise convolutions are quadratic in it, depthwise ones linear


@dataclass(frozen=True)
class Reach:
    """What a budget leaves of one form of a space at one resolution.

    Attributes:
        space, preset, options: the form; its options with `width_mult` where it is not 1.
        resolution: pixels.
        bounds: smallest and largest costs.
        share: part of the architectures within the budget, counted on DRAWS of them.
        usual: the MACs that GOOD_SHARE of the architectures stay below.
        anchor: the published architecture whose MACs here are nearest to the budget, with these MACs; None where none fits.
    """

    space: str
    preset: str
    options: Mapping[str, Any]
    resolution: int
    bounds: Bounds
    share: float
    usual: int
    anchor: tuple[str, int] | None

    @property
    def fits(self) -> bool:
        """Whether the budget is a limit that bites and leaves room to choose in."""
        return ROOM[0] <= self.share <= ROOM[1]

    @property
    def reached(self) -> bool:
        """Whether enough architectures stay within the budget to search among."""
        return self.share >= 1 - NO_LIMIT

    @property
    def limited(self) -> bool:
        """Whether the budget excludes some and leaves some, at least."""
        return self.reached and self.share < NO_LIMIT


def forms_for(
    resolution: int, space: str | None = None, first: str | None = None
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every space with its variants, in every preset whose layers work at a resolution: name, preset, options.

    The presets that are made for the nearest resolution come first, of two that are as near the larger one, and of these the
    space that is the default. A preset that is another one at this resolution is left out.

    Args:
        space: the one space; None: all.
        first: a preset that comes before all others.
    """
    seen: list[tuple[Any, ...]] = []
    found = []
    for name in sorted(spaces.SPACES, key=lambda name: name != spaces.DEFAULT):
        for preset, options in spaces.presets(name) if space in (None, name) else ():
            table, own = spaces.macro_table(name, preset, resolution), spaces.macro_table(name, preset)
            if table.last_map < min(LEAST_MAP, own.last_map):
                continue
            away = preset != first, abs(math.log(own.resolution / resolution)), -own.resolution
            # what is alike but for this is the same preset here
            here = dataclasses.replace(table, classes=2, stride=table.stem_stride, keep_below=0)
            found.append((away, name, preset, options, here))
    for _, name, preset, options, table in sorted(found, key=lambda form: form[0]):
        if (name, options, table) not in seen:
            seen.append((name, options, table))
            yield name, preset, options


def reach(
    budget: int,
    resolution: int,
    classes: int,
    space: str | None = None,
    *,
    preset: str | None = None,
    width: float | None = None,
    first: str | None = None,
    each: Callable[[], object] = lambda: None,
) -> Iterator[Reach]:
    """Measure every form of every space at a resolution, each in the width in which the budget is a limit with room.

    Args:
        budget: multiply-adds of one image.
        space: name of the one space to measure; None: all.
        preset, width: the one preset and the one width; None: all.
        first: as for `forms_for`.
        each: is called after each form that was looked at.
    """
    for name, own, options in forms_for(resolution, space, preset or first):
        if preset in (None, own):
            found = _in_best_width(budget, resolution, classes, name, own, options, width)
            each()
            if found:
                yield found


def choose(found: Iterable[Reach]) -> Reach | None:
    """The form that is taken: the first in which the budget leaves room, else the one nearest to it that it limits; None: no one.

    Args:
        found: in the order of `reach`; no more of it is measured than is needed.
    """
    others = []
    for item in found:
        if item.fits:
            return item
        others.append(item)
    limited = [item for item in others if item.limited]
    return min(limited, key=lambda item: abs(item.share - GOOD_SHARE), default=None)


def least_of(found: Sequence[Reach], classes: int, width: float | None = None) -> Reach:
    """The cheapest of the forms that were measured, the cheapest few in their narrowest width too: what the least budget is.

    Args:
        found: at least one.
        width: the one that is wanted; None: any.
    """
    cheapest = sorted(found, key=lambda item: item.usual)
    for item in cheapest[:LOOKED_AT] if width is None else ():
        with contextlib.suppress(InputError):  # it has no such width
            options = {**item.options, "width_mult": WIDTHS[0]}
            cheapest.append(reach_at(item.usual, item.resolution, classes, item.space, item.preset, options))
    return min(cheapest, key=lambda item: item.usual)


def least_text(least: Reach) -> str:
    """The least budget that would do, in words."""
    return f"the least with room to choose in are about {amount_text(least.usual)}, of {form_text(least)}"


def form_text(item: Reach) -> str:
    """Such as `spos tiny at 64x64 pixels, width_mult 0.7`."""
    options = "".join(f", {name} {value}" for name, value in item.options.items())
    return f"{item.space} {item.preset} at {item.resolution}x{item.resolution} pixels{options}"


def amount_text(macs: int, figures: int = 2) -> str:
    """MACs as a limit is typed, to so many figures and not below them: 11,833,001 is 12M, or 11.9M."""
    unit, name = (1e9, "G") if macs >= 1e9 else (1e6, "M") if macs >= 1e5 else (1e3, "K")
    fraction = 10 ** max(0, figures - len(str(int(macs / unit))))
    return f"{math.ceil(macs / unit * fraction) / fraction:g}{name}"


def _in_best_width(
    budget: int, resolution: int, classes: int, name: str, preset: str, options: Mapping[str, Any], width: float | None
) -> Reach | None:
    """Measure a form in the width of WIDTHS in which the budget leaves room: 1 where it does, else found by the costs.

    Args:
        width: the one that is wanted; None: any.
    Returns:
        The width that is nearest to it; None where the form has none, being too narrow for its candidates.
    """
    tried: dict[float, Reach] = {}
    at = 1.0 if width is None else width
    while at not in tried and len(tried) < (TRIES if width is None else 1):
        wide = options if at == 1 else {**options, "width_mult": at}
        try:
            tried[at] = reach_at(budget, resolution, classes, name, preset, wide)
        except InputError:  # a part of so few channels has none left
            break
        if tried[at].fits:
            return tried[at]
        wanted = at * (budget / tried[at].usual) ** POWER
        if not WIDTHS[0] * FAR < wanted < WIDTHS[-1] / FAR:
            break  # no width comes near
        at = min(WIDTHS, key=lambda offered: abs(offered - wanted))
        if at in tried:  # it is nearest by the rule, and misses: the next one on the other side of the budget
            place = WIDTHS.index(at) + (1 if tried[at].usual <= budget else -1)
            at = WIDTHS[min(max(place, 0), len(WIDTHS) - 1)]
    return min(
        tried.values(),
        key=lambda item: (abs(item.share - GOOD_SHARE), abs(math.log(item.usual / budget))),
        default=None,
    )


def reach_at(
    budget: int, resolution: int | None, classes: int, name: str, preset: str, options: Mapping[str, Any]
) -> Reach:
    """Measure one form of a space, with all its options; arguments as for `reach`, and of resolution None is the preset's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers without channels, which are refused then
        chain = spaces.describe(name, preset, classes=classes, resolution=resolution, **options)
        table = measure(chain)
    anchors = [(key, table.macs(entry.arch)) for key, entry in fitting(table, options).items()]
    nearest = min(anchors, key=lambda anchor: abs(anchor[1] - budget), default=None)
    drawn, bounds = drawn_macs(table), table.bounds()
    share = (
        float(np.mean(drawn <= budget))
        if bounds.min_macs <= budget < bounds.max_macs
        else float(budget >= bounds.max_macs)
    )
    usual = int(np.quantile(drawn, GOOD_SHARE))
    return Reach(name, preset, options, chain.resolution, bounds, share, usual, nearest)


def fitting(table: CostTable, options: Mapping[str, Any]) -> dict[str, Published]:
    """The published architectures of a table's space that have its labels and its variant, by name.

    Args:
        options: the space's own options; of these `variant` must be that of the publication.
    """

    def fits(entry: Published) -> bool:
        try:
            validate(entry.arch, table.choices)
        except ArchError:
            return False
        return entry.options.get("variant") == options.get("variant")

    return {key: entry for key, entry in PUBLISHED.get(table.space["name"], {}).items() if fits(entry)}


def drawn_macs(table: CostTable) -> np.ndarray:
    """The MACs of DRAWS architectures, drawn with a fixed seed."""
    draw = np.random.default_rng(0)
    genes = np.stack([draw.integers(0, len(candidates), DRAWS) for candidates in table.choices.values()], axis=1)
    return table.macs_many(genes)
