"""How long the steps of a road take: what was timed, how much is done, and the product of both.

The timing is asked of a process of its own: `measure_hours` loads torch, and trials.run does not.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

FORWARD = 1 / 3  # of a training step's time that a pass without the way back takes
# Seconds that a command takes besides its start; what is checked and drawn hardly depends on the images. Of NNI: its 50 trials took 118 s
# more than a search in one process (docs/search.md). Of export and report: of the processor, measured once for a network of 3M MACs; other work
# makes them longer by Rates.slowed
EXPORT, REPORT, NNI, NNI_TRIAL = 16.0, 3.0, 20.0, 1.5


class Hours(NamedTuple):
    """What a step takes.

    Attributes:
        step: name of its command.
        hours: about.
        what: of which it is.
    """

    step: str
    hours: float
    what: str


@dataclass(frozen=True)
class Work:
    """How much is done on a road.

    Attributes:
        supernet_epochs, network_epochs: passes over the training images.
        architectures: that the search scores.
        seeds: trainings of each network.
        random: architectures that the winner is compared with.
        supernets: trainings of the supernet, all of which score.
    """

    supernet_epochs: int
    architectures: int
    network_epochs: int
    seeds: int
    random: int
    supernets: int = 1


@dataclass(frozen=True)
class Rates:
    """What was timed, in seconds.

    Attributes:
        start: from the beginning of a command until it has read the images.
        supernet_epoch: of training; what is measured in between is apart.
        paths: scores of fixed paths while the supernet is trained.
        path: of each of them, on few images.
        score: of one architecture.
        trial: that NNI adds to a score; 0 in one process.
        retrain_epoch, network_epoch: of one network of trials.retrain and of trials.certify, in as many processes as these take.
        test: of one trained network.
        retrain_jobs, jobs: trainings at the same time there.
        slowed: how many times as long as the processor works at it something takes here, beside other work; at least 1.
        taken: what the timing took.
    """

    start: float
    supernet_epoch: float
    paths: int
    path: float
    score: float
    trial: float
    retrain_epoch: float
    network_epoch: float
    test: float
    retrain_jobs: int
    jobs: int
    slowed: float = 1.0
    taken: float = 0.0


def ask(steps: Sequence[Sequence[str]]) -> tuple[Rates, Work] | str:
    """Time a few steps in a process of its own; arguments as for `measure_hours.measure`.

    Returns:
        What was timed, and how much is done where nothing else is given; or why it is not known, in a sentence.
    """
    began = time.monotonic()
    command = [sys.executable, "-m", "trials.road.measure_hours", json.dumps([*map(list, steps)])]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        found: Any = json.loads(done.stdout)
    except ValueError:
        return f"a few steps could not be timed (exit code {done.returncode})"
    if isinstance(found, str):
        return found
    rates, work = found
    return Rates(**rates | {"taken": time.monotonic() - began}), Work(**work)


def answer(rates: Rates, work: Work) -> str:
    """What `ask` reads."""
    return json.dumps([asdict(rates), asdict(work)])


def hours_of(rates: Rates, work: Work, steps: Sequence[str]) -> list[Hours]:
    """About how long each of some steps takes."""
    return [_hours(step, rates, work) for step in steps]


def _hours(step: str, rates: Rates, work: Work) -> Hours:
    """About how long a step takes, and of which it is."""
    each = rates.start + work.network_epochs * rates.network_epoch + rates.test
    seconds, what = rates.start, ""
    if step == "supernet":
        seconds += work.supernets * (work.supernet_epochs * rates.supernet_epoch + rates.paths * rates.path)
        what = f"{work.supernets} times " * (work.supernets > 1) + f"{work.supernet_epochs:,} epochs"
    elif step == "search":
        seconds += work.architectures * (work.supernets * rates.score + rates.trial) + (NNI if rates.trial else 0)
        what = f"{work.architectures:,} architectures"
    elif step == "retrain":
        own = rates.start + work.network_epochs * rates.retrain_epoch + rates.test
        seconds += math.ceil(work.seeds / rates.retrain_jobs) * own
        what = _trainings(work.seeds, work, own, rates.retrain_jobs)
    elif step == "certify":
        number = (work.random + 1) * work.seeds  # with the cheapest architecture, which takes less
        seconds += math.ceil(number / rates.jobs) * each
        what = _trainings(number, work, each, rates.jobs)
    elif step == "export":
        seconds += EXPORT * rates.slowed
    elif step == "report":
        seconds += REPORT * rates.slowed
    return Hours(step, seconds / 3600, what)


def _trainings(number: int, work: Work, seconds: float, jobs: int) -> str:
    """Trainings of networks in words."""
    at_once = min(jobs, number)
    some = f", {at_once} at a time" * (at_once > 1)
    return f"{number} training{'s' * (number != 1)} of {work.network_epochs:,} epochs, about {seconds / 3600:.2f} hours each{some}"


def text(found: Sequence[Hours]) -> str:
    """All of it in one line."""
    parts = ", ".join(f"{step} {hours:.2f}" for step, hours, _ in found)
    return f"about {sum(entry.hours for entry in found):.2f} hours in all, by a few timed steps: {parts}"
