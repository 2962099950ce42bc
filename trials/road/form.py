"""In which space, preset, resolution and width a budget is a limit with room to choose in; for the images that there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import spaces
from spaces.errors import InputError, unknown
from spaces.spec import space_options_text
from strategies import budget as budgets
from strategies.budget import Reach
from strategies.limits import amount
from trials.common import typed
from trials.images.options import IN_MEMORY, DataOptions
from trials.images.survey import survey_folder
from trials.training.sizing import LARGE_SIDE, PRESETS, STEP, preset_of_folder

CLASSES = {"cifar100": 100}  # of the data sets in memory that have not 10
OF_IMAGES = ("val-labels", "classes", "per-class", "test-fraction")  # options of the supernet that say which images


class Images(NamedTuple):
    """What the choice is made by.

    Attributes:
        text: how many images, and how large, for people.
        classes: how many.
        preset: the one that such images take.
        side: height and width that are looked at first, pixels.
        most: the largest that these images are worth.
    """

    text: str
    classes: int
    preset: str
    side: int
    most: int


def choose_form(images: str, max_macs: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Choose the supernet for a budget: the first form in the order of `budgets.reach` in which it leaves room to choose in.

    Args:
        images: a folder, or a data set.
        max_macs: the budget, as it was typed.
        given: options of trials.supernet that were given, and `width-mult`; these stay.
    Returns:
        The other options of trials.supernet that say which network; what was chosen and why, in a line. Nothing where the
        space is one of the user's own, or its options are given.
    Raises:
        InputError: nothing reaches the budget; with the commands that would do.
    """
    if "space-options" in given or given.get("space", spaces.DEFAULT) not in spaces.SPACES:
        return {}, ""
    budget, seen = amount(max_macs, "--max-macs"), look_at(images, given)
    found, taken = _measure(budget, seen.side, seen, given)
    if taken is None and "resolution" not in given:
        # where all is within the budget, larger images can use it; where nothing is, smaller ones cost less
        large = any(item.reached for item in found)
        sides = range(seen.side + STEP, seen.most + 1, STEP) if large else range(seen.side - STEP, STEP - 1, -STEP)
        for side in sides:
            more, taken = _measure(budget, side, seen, given)
            found += more
            if taken is not None:
                break
    within = [item for item in found if item.reached]
    if taken is None and not within:
        raise InputError(_out_of_reach(budget, max_macs, seen, given, found))
    if taken is None:
        largest = max(within, key=lambda item: item.usual)
        return {}, (
            f"note: --max-macs {max_macs} limits nothing, for all of {budgets.form_text(largest)} stays within it; a limit would be about "
            f"--max-macs {budgets.amount_text(largest.usual)}"
        )
    said = (
        f"chosen for --max-macs {max_macs} and {seen.text}: {budgets.form_text(taken)}; {100 * taken.share:.0f} % of its architectures "
        f"stay within the budget{'' if taken.fits else ', which is little room, and no other leaves more'}"
    )
    options = {"space": taken.space, "preset": taken.preset, "resolution": taken.resolution}
    if taken.options:
        options["space-options"] = space_options_text(taken.options)
    return {name: value for name, value in options.items() if name not in given}, said


def check_names(given: Mapping[str, Any]) -> None:
    """Check what was given of a space before the images are looked at.

    Raises:
        InputError: an unknown space or preset, or a number that no space takes.
    """
    space, preset = given.get("space"), given.get("preset")
    if space is not None and ":" in space:
        return
    known = {name: None for own in spaces.SPACES if space in (None, own) for name, _ in spaces.presets(own)}
    if preset is not None and known and preset not in known:
        raise InputError(unknown("preset", preset, known))
    spaces.describe(space or spaces.DEFAULT, resolution=given.get("resolution"), width_mult=given.get("width-mult"))


def look_at(images: str, given: Mapping[str, Any]) -> Images:
    """Count the images, or take what is known of a data set.

    Raises:
        InputError: the folder is no image folder.
    """
    if images in IN_MEMORY:
        preset, side = PRESETS[images], given.get("resolution")
        own = spaces.macro_table(spaces.DEFAULT, preset).resolution
        return Images(images, CLASSES.get(images, 10), preset, side or own, side or own)
    options = {name.replace("-", "_"): given[name] for name in OF_IMAGES if name in given}
    number, short, classes = survey_folder(DataOptions(data="folder", data_root=images, **options))
    preset = preset_of_folder(number, short)
    text = f"about {number:,} training images of {short:.0f} pixels"
    if "resolution" in given:
        return Images(text, classes, preset, given["resolution"], given["resolution"])
    worth = max(STEP, int(short) // STEP * STEP)  # enlarged images cost as much as larger ones, and hold no more
    own = spaces.macro_table(spaces.DEFAULT, preset).resolution
    return Images(text, classes, preset, min(own, worth), min(worth, max(own, LARGE_SIDE)))


def _measure(budget: int, side: int, seen: Images, given: Mapping[str, Any]) -> tuple[list[Reach], Reach | None]:
    """The forms at a resolution, up to the first in which the budget leaves room; the one that is taken."""
    found = []
    for item in budgets.reach(
        budget,
        side,
        seen.classes,
        given.get("space"),
        preset=given.get("preset"),
        width=given.get("width-mult"),
        first=seen.preset,
    ):
        found.append(item)
        if item.fits:
            break
    return found, budgets.choose(found)


def _out_of_reach(budget: int, max_macs: str, seen: Images, given: Mapping[str, Any], found: list[Reach]) -> str:
    """The message where nothing reaches the budget: which budget would do, and which resolution."""
    if not found:
        raise InputError(
            f"no network of these options works at {seen.side}x{seen.side} pixels; leave --preset or --width-mult out, or give another "
            "--resolution"
        )
    least = budgets.least_of(found, seen.classes, given.get("width-mult"))
    began = str(typed.line("trials.run"))
    ways = [typed.changed(began, {"--max-macs": budgets.amount_text(least.usual)})]
    for side in range(seen.side // STEP * STEP, STEP - 1, -STEP):
        if "resolution" in given and side < seen.side and _measure(budget, side, seen, given)[1]:
            ways.append(typed.changed(began, {"--resolution": side}))
            break
    at = f"{least.resolution}x{least.resolution} pixels"
    return f"--max-macs {max_macs} is out of reach at {at}; {budgets.least_text(least)}: {', or '.join(ways)}"
