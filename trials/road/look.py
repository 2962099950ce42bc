"""Look for the forms of spaces that suit a budget, at one resolution or at several, with a progress bar: each takes part of a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from strategies import budget as budgets
from strategies.budget import Reach
from trials.common import cli
from trials.training.sizing import STEP

SILENT = 1.0  # seconds before a bar is shown


def smaller_sides(side: int) -> Sequence[int]:
    """The multiples of STEP below a resolution, the largest first, pixels."""
    return range((side - 1) // STEP * STEP, STEP - 1, -STEP)


def first_choice(
    budget: int,
    sides: Sequence[int],
    classes: int,
    space: str | None = None,
    *,
    preset: str | None = None,
    width: float | None = None,
    first: str | None = None,
) -> tuple[list[Reach], Reach | None]:
    """Go through resolutions, to the first at which `budgets.choose` takes a form.

    Args:
        sides: the resolutions, pixels.
        budget, classes, space, preset, width, first: as for `budgets.reach`.
    Returns:
        What was measured: of each resolution the forms up to the first in which the budget leaves room; the one that is taken.
    """
    found = []
    with _bar(sides, space, preset, first) as bar:
        for side in sides:
            here = []
            how: dict[str, Any] = {"preset": preset, "width": width, "first": first, "each": bar.update}
            for item in budgets.reach(budget, side, classes, space, **how):
                here.append(item)
                if item.fits:
                    break
            found += here
            if (taken := budgets.choose(here)) is not None:
                return found, taken
    return found, None


def every_form(budget: int, side: int, classes: int, space: str | None = None) -> list[Reach]:
    """All forms at a resolution; arguments as for `budgets.reach`."""
    with _bar([side], space, None, None) as bar:
        return list(budgets.reach(budget, side, classes, space, each=bar.update))


def _bar(sides: Sequence[int], space: str | None, preset: str | None, first: str | None) -> Any:
    """A bar for the forms of these resolutions; arguments as for `first_choice`."""
    forms = [own for side in sides for _, own, _ in budgets.forms_for(side, space, preset or first)]
    total = sum(preset in (None, own) for own in forms)
    return cli.progress(total, desc="count costs", unit="form", silent=SILENT)
