"""What a budget of multiply-adds leaves of each space: the table of `python -m trials.space --for 100M`."""

from __future__ import annotations

from typing import Any, NamedTuple

import spaces
from spaces.errors import InputError, unknown
from spaces.names import check_names
from spaces.spec import space_options_text
from strategies import budget as budgets
from strategies.limits import amount
from trials.common import cli
from trials.images.options import IN_MEMORY, require_images_named
from trials.road.form import look_at
from trials.road.look import every_form, first_choice, smaller_sides
from trials.training.sizing import ASSUMED_CLASSES, ASSUMED_RESOLUTION


class Size(NamedTuple):
    """What the costs of a budget are of.

    Attributes:
        resolution: pixels.
        said: where both are from, in words; "" where they were typed.
        data: options of trials.supernet that name the images.
    """

    resolution: int
    classes: int
    said: str
    data: list[str]


def size_of(config: Any) -> Size:
    """Resolution and classes that were typed, or those of the images that are named, or the usual ones.

    Raises:
        InputError: there are no such images.
    """
    if config.data:
        require_images_named(config.data)
        seen = look_at(config.data, {})
        words = (
            ["--data", config.data] if config.data in IN_MEMORY else ["--data", "folder", "--data-root", config.data]
        )
        said = f", as {seen.text} take it" if config.resolution is None else ""
        return Size(config.resolution or seen.side, config.classes or seen.classes, said, words)
    assumed = [cli.flag(name) for name in ("resolution", "classes") if getattr(config, name) is None]
    said = f" (assumed; {' and '.join(assumed)}, or --data IMAGES, say others)" if assumed else ""
    words = ["--data", "folder", "--data-root", "IMAGES"]
    return Size(config.resolution or ASSUMED_RESOLUTION, config.classes or ASSUMED_CLASSES, said, words)


def show_reach(config: Any, usual: Any) -> tuple[Size, list[dict[str, Any]]]:
    """Print what a budget leaves of each space, and the command that trains the supernet of one.

    Args:
        config: options of trials.space, with --for.
        usual: the same as they are by default.
    Returns:
        What the costs are of; what reaches the budget, for --json.
    Raises:
        InputError: no space reaches the budget, or an option that has no effect here.
    """
    for name in ("preset", "space_options", "max_macs", "min_macs", "out", "counting"):
        if getattr(config, name) != getattr(usual, name):
            raise InputError(f"--for looks at all presets and widths; leave {cli.flag(name)} out")
    if config.space is not None and config.space not in spaces.SPACES:
        raise InputError(unknown("space", config.space, spaces.SPACES))
    check_names(config.space or spaces.DEFAULT, resolution=config.resolution, classes=config.classes)
    budget = amount(config.for_, "--for")
    resolution, classes, said, data = size = size_of(config)
    found = every_form(budget, resolution, classes, config.space)
    reached = [item for item in found if item.reached]
    if not reached:
        _, smaller = first_choice(budget, smaller_sides(resolution), classes, config.space)
        raise InputError(
            f"no space reaches {budget:,} MACs at {resolution}x{resolution} pixels{said}; "
            f"{budgets.least_text(budgets.least_of(found, classes))}: give "
            f"{f'--resolution {smaller.resolution}, or ' if smaller else ''}a larger --for"
        )
    best = budgets.choose(reached)
    rows = [
        (
            "*" * (item is best),
            item.space,
            item.preset,
            space_options_text(item.options),
            f"{item.bounds.min_macs / 1e6:,.1f} - {item.bounds.max_macs / 1e6:,.1f}",
            f"{100 * item.share:.1f}",
            f"{item.anchor[0]} {item.anchor[1] / 1e6:,.1f}" if item.anchor else "",
        )
        for item in reached
    ]
    header = ("", "space", "preset", "options", "million MACs", "% within", "nearest published")
    print(f"{budget:,} MACs at {resolution}x{resolution} pixels, {classes} classes{said}\n")
    print(cli.table(rows, header, as_is=True), "\n")
    least, most = (round(100 * part) for part in budgets.ROOM)
    cli.say(
        f"% within: of all architectures those within the budget. Of each preset the width is shown that leaves {least} to {most} %, or comes nearest "
        "to that; width_mult goes finer."
    )
    answered = [
        {
            **{"space": item.space, "preset": item.preset, "options": dict(item.options)},
            **{"min_macs": item.bounds.min_macs, "max_macs": item.bounds.max_macs, "share": item.share},
            **{"nearest": item.anchor[0] if item.anchor else None, "best": item is best},
        }
        for item in reached
    ]
    if best is None:
        print("The budget leaves nearly all of each space, or nearly none: try another --resolution or budget.")
        return size, answered
    print("* is the first that leaves a limit and a choice, and the one that trials.run takes. How it begins:")
    arguments = ["--space", best.space, "--preset", best.preset, "--resolution", resolution]
    if best.options:
        arguments += ["--space-options", space_options_text(best.options)]
    limits = ["--strategy", "window", "--max-macs", config.for_]
    print(f"  {cli.command('supernet', *arguments, *limits, *data, '--out', 'RUN')}")
    return size, answered
