"""Which part of a road fits into --minutes: what is cut first, what is never cut below, and what a cut costs in evidence.

Nothing is timed here: `hours` says what was timed, and docs/entry.md why the order is this one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from spaces.errors import InputError
from trials.certifying.certify_config import MANY_RANDOM, RANDOM
from trials.common import cli, typed
from trials.evidence.gates import STEPS_SHARE
from trials.road import hours
from trials.road.hours import Hours, Rates, Work
from trials.training.sizing import SHORT_SHARE

LONGEST = 100_000  # minutes, ten weeks
MARGIN = 0.15  # of the minutes, which stay free: the estimate may be off by as much
# of a recipe's epochs: so many steps that no gate calls them few, with what a warm start rounds
LEAST_PART = STEPS_SHARE + 0.01
FEWEST_SCORED = 30  # architectures: 20 random ones, by which the tuner makes its model, and two generations of it
FEWEST_RANDOM = (
    3  # architectures: two say hardly how far chance scatters; a tau of the score takes five, and has none here
)

# Steps whose pace says what another one takes: they do like work. What was planned for it is right up to SAME_PACE of it. A certificate
# is planned anew by the time of the winner's own training.
ALIKE = {"search": ("supernet",), "retrain": ("supernet", "search")}
SAME_PACE = 0.1

# of Work -> the step and its option that decide it
OPTIONS = {
    "supernet_epochs": ("supernet", "epochs"),
    "architectures": ("search", "max-trials"),
    "network_epochs": ("retrain", "epochs"),
    "random": ("certify", "random"),
}
NAMES = {
    "supernet_epochs": "epochs of the supernet",
    "architectures": "architectures scored",
    "network_epochs": "epochs of each network",
    "random": "random networks",
}


# What is cut first, and as far as what part of the usual or what number, before the next one is. Seeds are not cut: with one, nothing
# is known of the noise of training. Epochs of the networks go last: what is trained too little is compared for nothing.
CUTS: tuple[tuple[str, float | int], ...] = (
    ("random", RANDOM),  # where there is time for more of them than usual
    ("architectures", 0.5),
    ("supernet_epochs", SHORT_SHARE),
    ("random", RANDOM // 2),
    ("network_epochs", SHORT_SHARE),
    ("architectures", FEWEST_SCORED),
    ("supernet_epochs", LEAST_PART),
    ("random", FEWEST_RANDOM),
    ("network_epochs", LEAST_PART),
)


def check_minutes(minutes: float | None) -> None:
    """Refuse minutes that no road can take. Raises InputError."""
    if minutes is None:
        return
    if not minutes > 0:
        raise InputError(f"--minutes {minutes:g} is not above 0; give the time that you have, such as --minutes 40")
    if minutes > LONGEST:
        raise InputError(
            f"--minutes {minutes:g} is above {LONGEST:,}, ten weeks; give fewer, or leave --minutes out for a road of any length"
        )


def fixed_names(options: Mapping[str, Mapping[str, Any]], done: Collection[str]) -> frozenset[str]:
    """Which names of Work stay as they are.

    Args:
        options: step -> options that were typed or stand in its section of the file.
        done: steps that are complete.
    """
    return frozenset(
        name for name, (step, option) in OPTIONS.items() if step in done or option in options.get(step, {})
    )


def fit_work(minutes: float, rates: Rates, whole: Work, fixed: frozenset[str], steps: Sequence[str]) -> Work:
    """The most that fits: `whole`, with the cuts in their order, the last of them no further than it must.

    Args:
        whole: what is done where nothing is cut.
        fixed: names that stay as they are.
        steps: of the road that are still to be done.
    Raises:
        InputError: the least does not fit; with the least minutes that would do.
    """
    end = 60 * minutes * (1 - MARGIN) - rates.taken
    work = whole if "random" in fixed else replace(whole, random=max(whole.random, MANY_RANDOM))
    for name, to in CUTS:
        if _seconds(rates, work, steps) <= end:
            return work
        if name not in fixed:
            work = replace(work, **{name: _most(name, least_of(getattr(whole, name), to), rates, work, steps, end)})
    if _seconds(rates, work, steps) <= end:
        return work
    least = math.ceil((_seconds(rates, work, steps) + rates.taken) / 60 / (1 - MARGIN))
    again = typed.changed(str(typed.line("trials.run")), {"--minutes": least})
    raise InputError(
        f"--minutes {minutes:g} is too short for a result that says something; the least for these images and options is about "
        f"{least:,} ({_least_text(work)}): {again}"
    )


def least_of(usual: int, to: float | int) -> int:
    """How little is left of something: a part of the usual, as a float, or a number."""
    return min(usual, math.ceil(to * usual) if isinstance(to, float) else to)


def _most(name: str, least: int, rates: Rates, work: Work, steps: Sequence[str], end: float) -> int:
    """The most of something that fits, between what it is and the least; the least where nothing fits."""
    low, high = min(least, getattr(work, name)), getattr(work, name)
    while low < high:
        middle = (low + high + 1) // 2
        if _seconds(rates, replace(work, **{name: middle}), steps) <= end:
            low = middle
        else:
            high = middle - 1
    return low


def _seconds(rates: Rates, work: Work, steps: Sequence[str]) -> float:
    return 3600 * sum(entry.hours for entry in hours.hours_of(rates, work, steps))


def _least_text(work: Work) -> str:
    return ", ".join(f"{much:,} {what}" for name, what in NAMES.items() if (much := getattr(work, name)))


def as_options(work: Work, fixed: frozenset[str]) -> dict[str, dict[str, int]]:
    """Step -> the options that do so much, without those that are given anyway."""
    return {step: {option: getattr(work, name)} for name, (step, option) in OPTIONS.items() if name not in fixed}


def table(work: Work, whole: Work, taken: Sequence[Hours], minutes: float, timing: float) -> str:
    """What fits, what that means for the evidence, and the minutes of each step.

    Args:
        timing: seconds that finding this out took.
    """
    rows = []
    for name, what in NAMES.items():
        now, was = getattr(work, name), getattr(whole, name)
        if now != was:
            rows.append((what, f"{now:,}", f"{was:,}", _meaning(name, now, was)))
    of_steps = ", ".join(f"{step} {60 * hours:.1f}" for step, hours, _ in taken)
    planned = 60 * sum(entry.hours for entry in taken) + timing / 60
    line = f"planned: {planned:.0f} of {minutes:g} minutes, {100 * MARGIN:.0f} % of which stay free: {of_steps}"
    if not rows:
        return f"all of the road fits, nothing is cut\n{line}"
    return cli.table(rows, ("what", "planned", "usual", "which means"), as_is=True) + f"\n{line}"


def _meaning(name: str, now: int, was: int) -> str:
    """What more or less of something means for the evidence."""
    if name == "random":
        return f"beating all {now} happens by luck in 1 of {now + 1} cases, with {was} in 1 of {was + 1}"
    if name == "architectures":
        return "less of the space is seen"
    much = f"{'less than' if now < SHORT_SHARE * was else 'at least'} half of the recipe"
    if name == "supernet_epochs":
        return f"{much}; scores rank less"
    return f"{much}; {'may stay at the floor' if now < SHORT_SHARE * was else 'all are trained alike'}"


def minutes_taken(planned: Mapping[str, Any], taken: Mapping[str, float]) -> str:
    """How long a road took beside what was planned, in one line.

    Args:
        planned: of road.json.
        taken: seconds of each step, of all attempts.
    """
    of_steps = planned["seconds"]
    parts = ", ".join(
        f"{step} {seconds / 60:.1f} of {of_steps[step] / 60:.1f}" for step, seconds in taken.items() if step in of_steps
    )
    return f"took {_gone(planned, taken):.1f} of {planned['given']:g} minutes; by step, of those planned: {parts}"


def minutes_gone(planned: Mapping[str, Any], taken: Mapping[str, float], step: str) -> str:
    """How much of the minutes is gone before a step, and what was planned for it, in one line; and what it takes at the pace of before.

    Args:
        planned: of road.json.
        taken: seconds of each step, of all attempts.
        step: that begins now, or goes on.
    """
    text = f"{_gone(planned, taken):.1f} of {planned['given']:g} minutes are gone"
    if step not in planned["seconds"]:
        return text
    already = f", of which {taken[step] / 60:.1f} are gone" if step in taken else ""
    minutes, (pace, by) = planned["seconds"][step] / 60, _pace(planned, taken, step)
    likely = f", about {pace * minutes:.1f} by what {by} took" if abs(pace - 1) > SAME_PACE else ""
    return f"{text}; {minutes:.1f} are planned for {step}{already}{likely}"


def _pace(planned: Mapping[str, Any], taken: Mapping[str, float], step: str) -> tuple[float, str]:
    """Seconds that were taken for each that was planned, and of which steps: those that are like a step, of what came before it."""
    of_steps = planned["seconds"]
    known = [name for name in ALIKE.get(step, ()) if name in taken and of_steps.get(name)]
    if not known or planned.get("longer"):  # the longer training was planned by that of before
        return 1.0, ""
    return sum(taken[name] for name in known) / sum(of_steps[name] for name in known), " and ".join(known)


def minutes_left(planned: Mapping[str, Any], taken: Mapping[str, float]) -> float:
    """The minutes that are left, negative where more than all are gone; arguments as for `minutes_taken`."""
    return float(planned["given"]) - _gone(planned, taken)


def _gone(planned: Mapping[str, Any], taken: Mapping[str, float]) -> float:
    """The minutes that are gone: of all steps, and of the timing before them."""
    return float(sum(taken.values()) + planned["timing"]) / 60
