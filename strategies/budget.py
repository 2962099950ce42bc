"""Which spaces, presets and widths reach a budget of multiply-adds, and what part of each stays within it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import spaces
from spaces.arch import ArchError, validate
from spaces.cost import Bounds, CostTable, measure
from spaces.errors import InputError
from spaces.published import PUBLISHED, Published

NARROWER, WIDER = (0.75, 0.5, 0.35), (1.4,)  # width multipliers of MobileNetV2's published models (arXiv:1801.04381)
NO_LIMIT = 0.99  # of a space; a limit that leaves so much is none
DRAWS = 20_000  # architectures that a share is counted on
GOOD_SHARE = 0.25  # of a space; a limit that leaves about this much bites, and leaves a choice


@dataclass(frozen=True)
class Reach:
    """What a budget leaves of one form of a space.

    Attributes:
        space, preset, options: the form; its options with `width_mult` where it is not 1.
        bounds: smallest and largest costs.
        share: part of the architectures within the budget, counted on DRAWS of them.
        anchor: the published architecture whose MACs here are nearest to the budget, with these MACs; None where none fits.
    """

    space: str
    preset: str
    options: Mapping[str, Any]
    bounds: Bounds
    share: float
    anchor: tuple[str, int] | None

    @property
    def fits(self) -> bool:
        """Whether the budget is a limit that bites and leaves a choice."""
        return 1 - NO_LIMIT <= self.share < NO_LIMIT


def forms_for(resolution: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every space with its variants, in the presets that are nearest to a resolution: name, preset, options."""
    for name in spaces.SPACES:
        seen: list[str] = []
        offered = [
            (preset, options, spaces.describe(name, preset).resolution) for preset, options in spaces.presets(name)
        ]
        # of two that are as near, the larger one
        nearest = min({at for _, _, at in offered}, key=lambda at: (abs(math.log(at / resolution)), -at))
        for preset, options, at in offered:
            if at != nearest or any(spaces.same_preset(name, preset, other) and preset != other for other in seen):
                continue
            seen.append(preset)
            yield name, preset, options


def reach(budget: int, resolution: int, classes: int, space: str | None = None) -> Iterator[Reach]:
    """Measure every form of every space at a resolution, in the widths between which the budget is a limit.

    Args:
        budget: multiply-adds of one image.
        space: name of the one space to measure; None: all.
    """
    for name, preset, options in forms_for(resolution):
        if space not in (None, name):
            continue
        # Wider networks cost more, so nothing is asked for beyond a width out of reach, or below one that stays within the budget.
        found = [_reach_at(budget, resolution, classes, name, preset, options)]
        for width in WIDER if found[0].share else ():
            found.append(_reach_at(budget, resolution, classes, name, preset, options | {"width_mult": width}))
            if not found[-1].share:
                break
        for width in NARROWER if found[0].share < NO_LIMIT else ():
            narrower = options | {"width_mult": width}
            try:
                found.insert(0, _reach_at(budget, resolution, classes, name, preset, narrower))
            except InputError:  # so narrow that a convolution has no channels left
                break
            if found[0].share >= NO_LIMIT:
                break
        yield from found


def _reach_at(budget: int, resolution: int, classes: int, name: str, preset: str, options: Mapping[str, Any]) -> Reach:
    """Measure one form of a space; arguments as for `reach`."""
    table = measure(spaces.describe(name, preset, classes=classes, resolution=resolution, **options))
    anchors = [(key, table.macs(entry.arch)) for key, entry in fitting(table, options).items()]
    nearest = min(anchors, key=lambda anchor: abs(anchor[1] - budget), default=None)
    return Reach(name, preset, options, table.bounds(), share_within(table, budget), nearest)


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


def share_within(table: CostTable, budget: int) -> float:
    """Part of the architectures with at most so many MACs, counted on DRAWS of them, drawn with a fixed seed."""
    bounds = table.bounds()
    if not bounds.min_macs <= budget < bounds.max_macs:
        return float(budget >= bounds.max_macs)
    draw = np.random.default_rng(0)
    genes = np.stack([draw.integers(0, len(candidates), DRAWS) for candidates in table.choices.values()], axis=1)
    return float(np.mean(table.macs_many(genes) <= budget))
