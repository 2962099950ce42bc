"""In which space, preset, resolution and width a budget is a limit with room to choose in; for the images that there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import spaces
from spaces.errors import InputError, unknown
from spaces.names import PRESETS as PRESETS_OF
from spaces.names import check_names
from spaces.spec import space_options_text
from strategies import budget as budgets
from strategies.budget import Reach
from strategies.limits import amount
from trials.common import cli, typed
from trials.common.options import check_own_options
from trials.images.check_config import Proposal
from trials.images.options import IN_MEMORY, DataOptions
from trials.images.survey import survey_folder
from trials.road.look import first_choice, smaller_sides
from trials.training.sizing import FOR_CPU, LARGE_SIDE, PRESETS, STEP, preset_of_folder, resolution_of_folder

LIMIT_FIGURES = 3  # of a limit that is proposed: in small spaces many architectures cost about the same
CLASSES = {"cifar100": 100}  # of the data sets in memory that have not 10
# options of the supernet that say which images
OF_IMAGES = (
    *("val-labels", "classes", "per-class", "test-fraction"),
    *("group-by", "blank", "background", "workers"),
)


class Images(NamedTuple):
    """What the choice is made by.

    Attributes:
        text: how many images, and how large, for people.
        classes: how many.
        preset: the one that such images take.
        side: height and width that are looked at first, pixels.
        most: the largest that these images are worth.
        own: that of a supernet without a budget; None: the preset's.
    """

    text: str
    classes: int
    preset: str
    side: int
    most: int
    own: int | None


def choose_form(images: str, max_macs: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Choose the supernet for a budget: the first form in the order of `budgets.reach` in which it leaves room to choose in.

    Args:
        images: a folder, or a data set.
        max_macs: the budget, as it was typed.
        given: options of trials.supernet that were given, and `width-mult`; these stay.
    Returns:
        The other options of trials.supernet that say which network; what was chosen and why, in a line. No options where those of
        the space are given, or preset and resolution, and nothing where the space is one of the user's own.
    Raises:
        InputError: nothing reaches the budget; with the commands that would do.
    """
    if given.get("space", spaces.DEFAULT) not in spaces.SPACES:
        return {}, ""
    budget, seen = amount(max_macs, "--max-macs"), look_at(images, given)
    if "space-options" in given:
        return {}, _check_own_form(budget, max_macs, seen, given)
    found, taken = _first_choice(budget, [seen.side], seen, given)
    if taken is None and "resolution" not in given:
        # where all is within the budget, larger images can use it; where nothing is, smaller ones cost less
        large = any(item.reached for item in found)
        sides = range(seen.side + STEP, seen.most + 1, STEP) if large else smaller_sides(seen.side)
        more, taken = _first_choice(budget, sides, seen, given)
        found += more
    if not found and "preset" in given and "resolution" in given:  # a network all the same
        return {}, _check_own_form(budget, max_macs, seen, given)
    within = [item for item in found if item.reached]
    if taken is None and not within:
        raise InputError(_out_of_reach(budget, max_macs, seen, given, found))
    if taken is None:
        return {}, _limits_nothing(max_macs, max(within, key=lambda item: item.usual))
    said = (
        f"chosen for --max-macs {max_macs} and {seen.text}: {budgets.form_text(taken)}; {100 * taken.share:.0f} % of its architectures "
        f"stay within the budget{'' if taken.fits else ', which is little room, and no other leaves more'}"
    )
    options = {"space": taken.space, "preset": taken.preset, "resolution": taken.resolution}
    if taken.options:
        options["space-options"] = space_options_text(taken.options)
    return {name: value for name, value in options.items() if name not in given}, said


def _check_own_form(budget: int, max_macs: str, seen: Images, given: Mapping[str, Any]) -> str:
    """Check the budget against the one form that was given; a note where it limits nothing.

    Raises:
        InputError: it is out of reach.
    """
    item = _given_form(budget, seen, given)
    if budget < item.bounds.min_macs:
        least, most = (
            budgets.amount_text(macs, LIMIT_FIGURES) for macs in (item.bounds.min_macs, item.bounds.max_macs)
        )
        usual = budgets.amount_text(item.usual, LIMIT_FIGURES)
        raise InputError(
            f"--max-macs {max_macs} is out of reach: {budgets.form_text(item)} reaches {least} to {most} MACs; a quarter of its "
            f"architectures stay within --max-macs {usual}"
        )
    return "" if item.share < budgets.NO_LIMIT else _limits_nothing(max_macs, item)


def _limits_nothing(max_macs: str, item: Reach) -> str:
    """The note that all of a form stays within the budget."""
    return (
        f"note: --max-macs {max_macs} limits nothing, for all of {budgets.form_text(item)} stays within it; a limit would be about "
        f"--max-macs {budgets.amount_text(item.usual)}"
    )


def _given_form(budget: int, seen: Images, given: Mapping[str, Any]) -> Reach:
    """The form that the options say, in the resolution that a supernet of these images has."""
    options = cli.space_options(str(given.get("space-options", "")))
    if "width-mult" in given:
        options["width_mult"] = given["width-mult"]
    space, preset = given.get("space", spaces.DEFAULT), given.get("preset", seen.preset)
    return budgets.reach_at(budget, seen.own, seen.classes, space, preset, options)


def no_limit_text(images: str, given: Mapping[str, Any]) -> str:
    """What the networks of a supernet without a budget cost, and a limit to try, in a line.

    Args:
        images, given: as for `choose_form`, with the space's options.
    Raises:
        InputError: the folder is no image folder, or there is no such supernet.
    """
    seen = look_at(images, given)
    item = _given_form(0, seen, given)
    least, most = map(budgets.amount_text, (item.bounds.min_macs, item.bounds.max_macs))
    usual = budgets.amount_text(item.usual, LIMIT_FIGURES)
    on_cpu = ""
    if _needs_gpu(seen, given):
        words = " ".join(f"--{name} {value}" for name, value in _for_cpu(seen, given).items())
        on_cpu = f"; on this CPU better: {words}"
    return (
        f"note: no --max-macs, so the winner may cost what any network of {budgets.form_text(item)} costs, {least} to {most} MACs, a "
        f"quarter of them at most {usual}; a limit to try: --max-macs {usual}{on_cpu}"
    )


def propose(images: str, given: Mapping[str, Any]) -> Proposal:
    """What to give trials.run for images; the limit is that which a quarter of the architectures stay below.

    Args:
        images, given: as for `choose_form`.
    Raises:
        InputError: the folder is no image folder.
    """
    seen = look_at(images, given)
    usual = budgets.reach_at(0, seen.own, seen.classes, spaces.DEFAULT, seen.preset, {})
    limit = budgets.amount_text(usual.usual, LIMIT_FIGURES)
    if not _needs_gpu(seen, given):
        return Proposal({"max-macs": limit}, usual.resolution, "")
    options = _for_cpu(seen, given)
    return Proposal(options, options["resolution"], f"for this CPU; with a GPU: --max-macs {limit}")


def _for_cpu(seen: Images, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of trials.run for networks that a CPU can train."""
    own = budgets.reach_at(0, given.get("resolution"), seen.classes, spaces.DEFAULT, FOR_CPU, {})
    limit = budgets.amount_text(own.usual, LIMIT_FIGURES)
    return {"preset": FOR_CPU, "resolution": own.resolution, "max-macs": limit}


def _needs_gpu(seen: Images, given: Mapping[str, Any]) -> bool:
    """Whether the networks that suit the images are made for a GPU, and there is none, and nothing else is given."""
    if seen.preset == FOR_CPU or {"space", "preset", "width-mult"} & {*given}:
        return False
    import torch

    return given.get("device") == "cpu" or not torch.cuda.is_available()


def resolution_for(images: str, given: Mapping[str, Any]) -> int | None:
    """The resolution of a supernet without a budget, pixels; None for a space of one's own, which decides it.

    Args:
        images, given: as for `choose_form`.
    """
    space = given.get("space", spaces.DEFAULT)
    if "resolution" in given or space not in spaces.SPACES:
        return given.get("resolution")
    seen = None if "preset" in given else look_at(images, given)
    preset = seen.preset if seen else given["preset"]
    return (seen and seen.own) or spaces.macro_table(space, preset).resolution


def check_given(given: Mapping[str, Any]) -> None:
    """Check what was given of a space before the images are looked at.

    Raises:
        InputError: an unknown space, preset or option of the space, or a value that no space takes.
    """
    space, preset = given.get("space"), given.get("preset")
    if space is not None and ":" in space:
        return
    known = {name: None for own, presets in PRESETS_OF.items() if space in (None, own) for name in presets}
    if preset is not None and known and preset not in known:
        raise InputError(unknown("preset", preset, known))
    name, width = space or spaces.DEFAULT, given.get("width-mult")
    check_names(name, resolution=given.get("resolution"))
    if width is not None:
        check_own_options(name, {"width_mult": width}, f"--width-mult {width:g}")
    text = str(given.get("space-options", ""))
    check_own_options(name, cli.space_options(text), f"--space-options '{text}'")


def look_at(images: str, given: Mapping[str, Any]) -> Images:
    """Count the images, or take what is known of a data set.

    Raises:
        InputError: the folder is no image folder.
    """
    if images in IN_MEMORY:
        preset, side = PRESETS[images], given.get("resolution")
        own = spaces.macro_table(spaces.DEFAULT, preset).resolution
        return Images(images, CLASSES.get(images, 10), preset, side or own, side or own, side)
    options = {name.replace("-", "_"): given[name] for name in OF_IMAGES if name in given}
    survey = survey_folder(DataOptions(data="folder", data_root=images, **options))
    short, classes = survey.short_side, survey.classes
    preset = preset_of_folder(survey.images, short)
    text = f"{survey.text} of {short:.0f} pixels to train and score with"
    if "resolution" in given:
        return Images(text, classes, preset, *3 * [given["resolution"]])
    worth = max(STEP, int(short) // STEP * STEP)  # enlarged images cost as much as larger ones, and hold no more
    own = spaces.macro_table(spaces.DEFAULT, preset).resolution
    fitting = resolution_of_folder(preset, short) if "preset" not in given else None
    return Images(text, classes, preset, min(own, worth), min(worth, max(own, LARGE_SIDE)), fitting)


def _first_choice(
    budget: int, sides: Sequence[int], seen: Images, given: Mapping[str, Any]
) -> tuple[list[Reach], Reach | None]:
    """`first_choice` among the forms that these images may take and that what was given allows."""
    how: dict[str, Any] = {"preset": given.get("preset"), "width": given.get("width-mult"), "first": seen.preset}
    return first_choice(budget, sides, seen.classes, given.get("space"), **how)


def _out_of_reach(budget: int, max_macs: str, seen: Images, given: Mapping[str, Any], found: list[Reach]) -> str:
    """The message where nothing reaches the budget: which budget would do, and which resolution."""
    if not found:
        at = f"{seen.side}x{seen.side} pixels"
        if "preset" in given or "width-mult" in given:
            raise InputError(
                f"no network of these options works at {at}; leave --preset or --width-mult out, or give another --resolution"
            )
        raise InputError(
            f"no preset of {given.get('space', 'any space')} suits {at}, at which little is left of an image in the last block; name one "
            f"all the same, such as --preset {seen.preset}, or give another --resolution"
        )
    least = budgets.least_of(found, seen.classes, given.get("width-mult"))
    began = str(typed.line("trials.run"))
    ways = [typed.changed(began, {"--max-macs": budgets.amount_text(least.usual)})]
    sides = smaller_sides(seen.side) if "resolution" in given else ()  # else they were looked at
    _, smaller = _first_choice(budget, sides, seen, given)
    if smaller:
        ways.append(typed.changed(began, {"--resolution": smaller.resolution}))
    at = f"{least.resolution}x{least.resolution} pixels"
    return f"--max-macs {max_macs} is out of reach at {at}; {budgets.least_text(least)}: {', or '.join(ways)}"
