"""The look at the winner of a road with --minutes: by it the rest of the minutes is planned anew.

One that is not above the floor is trained longer, in the time of the certificate; one that is gets the random architectures that fit.

Networks below the floor are of no use, and a certificate of them says "not distinguishable". The longer training comes with a
certificate only where that fits as well: random architectures are always trained as long as the winner. docs/entry.md has the reasons.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from trials.common import cli, run_files, typed
from trials.evidence.gates import BELOW, LONGER, SHORT, read_warnings, warnings_from
from trials.road.minutes import FEWEST_RANDOM, MARGIN, minutes_left

WORTH = 1.5  # times the epochs of before; less would change little


@dataclass(frozen=True)
class Trained:
    """The training of the winner that was looked at.

    Attributes:
        epochs: that it had.
        usual: that the road takes where nothing is cut.
        seconds: of one training.
        start: seconds that a command takes before it trains, and a training before its first step.
        seeds: trainings of each network.
        jobs, certify_jobs: trainings at a time, of the winner and of the certificate.
        random: architectures that the certificate was planned with.
        most: that it has where there is time for them.
        given: whether these were asked for by the user, so that there are as many or the road goes on as planned.
    """

    epochs: int
    usual: int
    seconds: float
    start: float
    seeds: int
    jobs: int
    certify_jobs: int
    random: int
    most: int
    given: bool = False

    def winner(self, epochs: int) -> float:
        """Seconds that the winner takes with other epochs."""
        return self.start + math.ceil(self.seeds / self.jobs) * self._each(epochs)

    def certificate(self, epochs: int, random: int) -> float:
        """Seconds of a certificate of so many random architectures, and the cheapest, with other epochs."""
        return self.start + math.ceil((random + 1) * self.seeds / self.certify_jobs) * self._each(epochs)

    def _each(self, epochs: int) -> float:
        return self.start + self.seconds * epochs / self.epochs


def longer_work(trained: Trained, seconds: float) -> tuple[int, int] | None:
    """How many epochs the winner is trained with instead, and how many random architectures a certificate has beside it.

    Args:
        seconds: that are left for both.
    Returns:
        Both; 0 random ones where there is no time for FEWEST_RANDOM trained alike; None where the time is too short for a training
        that is worth it, or for the random ones that were asked for, so that the road goes on as planned.
    """
    wanted = trained.usual if WORTH * trained.epochs <= trained.usual else LONGER * trained.epochs
    fewest = trained.random if trained.given else min(trained.random, FEWEST_RANDOM)
    for random in range(trained.random, fewest - 1, -1):
        if trained.winner(wanted) + trained.certificate(wanted, random) <= seconds:
            return wanted, random
    if trained.given:
        return None
    rounds = math.ceil(trained.seeds / trained.jobs)
    each = (seconds - trained.start) / rounds - trained.start
    epochs = min(math.floor(each / trained.seconds * trained.epochs), LONGER * trained.usual)
    return (epochs, 0) if epochs >= WORTH * trained.epochs else None


def random_that_fit(trained: Trained, seconds: float) -> int:
    """How many random architectures a certificate of networks like the winner has: those that fit, at least FEWEST_RANDOM.

    Args:
        seconds: that are left for it.
    """
    if trained.given:
        return trained.random
    fewest = min(trained.random, FEWEST_RANDOM)
    fit = (many for many in range(trained.most, fewest, -1) if trained.certificate(trained.epochs, many) <= seconds)
    return next(fit, fewest)


def look_at_winner(out: str, network: Path, record: dict[str, Any]) -> str:
    """Look at the trained winner, once in a road, and plan the rest of the minutes by it.

    Args:
        network: the folder of its training.
        record: of the road, with the seconds that its steps took; `minutes` is changed. A winner that is to be trained anew is
            taken out of its `steps`.
    Returns:
        What was decided, in a line; "" where the road goes on as planned.
    """
    plan, run = record["minutes"], Path(out)
    if "longer" in plan or "work" not in plan or "certify" not in plan["seconds"]:  # an older version planned it
        return ""
    if (run / "certificate.json").exists() or (run / "controls").exists():
        return ""
    trained, options, found = _trained(network, plan), plan["options"], _warning(network)
    rest = sum(plan["seconds"].get(step, 0) for step in ("export", "report"))
    left = 60 * minutes_left(plan, record["taken"]) * (1 - MARGIN) - rest
    work = longer_work(trained, left) if found and "epochs" in options.get("retrain", {}) else None
    plan["longer"] = {}
    if work is None:
        return _plan_random(plan, trained, random_that_fit(trained, left))
    epochs, random = work
    plan["longer"] = {"epochs": epochs, "random": random, "instead_of": trained.epochs, "found": found}
    options["retrain"]["epochs"] = epochs
    plan["seconds"]["retrain"] += round(trained.winner(epochs))
    if random:
        _plan_random(plan, trained, random)
        plan["seconds"]["certify"] = round(trained.certificate(epochs, random))
        then = f"a certificate of {random} random networks, trained as long, fits beside it"
    else:
        del plan["seconds"]["certify"]
        then = "there is no time left for a certificate, which of networks below the floor would say nothing"
    record["steps"].pop("retrain", None)
    return (
        f"{found}; so the winner is trained anew, with {epochs:,} epochs instead of {trained.epochs:,}, in about "
        f"{trained.winner(epochs) / 60:.0f} minutes; {then}"
    )


def _plan_random(plan: dict[str, Any], trained: Trained, random: int) -> str:
    """Plan the certificate with so many random architectures; says so where they are others than before."""
    plan["seconds"]["certify"] = round(trained.certificate(trained.epochs, random))
    if random == trained.random:
        return ""
    plan["options"]["certify"] = plan["options"].get("certify", {}) | {"random": random}
    each = trained.winner(trained.epochs) / math.ceil(trained.seeds / trained.jobs) / 60
    return (
        f"a training took {each:.1f} minutes, so the certificate has {random} random networks, not {trained.random}: beating all "
        f"{random} happens by luck in 1 of {random + 1} cases"
    )


def stands_short(network: Path, record: Mapping[str, Any]) -> bool:
    """Whether the shorter training of the winner still stands in the place of the longer one that was planned."""
    longer = record.get("minutes", {}).get("longer")
    stored = run_files.read_if_there(network / "config.json", "run configuration") if longer else None
    return stored is not None and bool(stored["config"].get("epochs") == longer["instead_of"])


def put_short_aside(out: str, network: Path, record: Mapping[str, Any]) -> None:
    """Move the shorter training of the winner aside where it still stands in the place of the longer one.

    Raises:
        InputError: it cannot be moved.
    """
    if not stands_short(network, record):
        return
    aside = Path(typed.free_name(Path(out) / f"undertrained-{network.name}"))
    try:
        aside.mkdir()
        network.rename(aside / network.name)
    except OSError as error:
        raise InputError(f"cannot move '{network}' to '{aside}' ({error.strerror}); move it away") from None


def left_out(step: str, out: str, record: Mapping[str, Any]) -> bool:
    """Whether a step gave its time to the longer training: the certificate, as long as nobody made one by its own command."""
    longer = record.get("minutes", {}).get("longer")
    return step == "certify" and bool(longer) and not longer["random"] and not (Path(out) / "certificate.json").exists()


def without_certificate(out: str, network: Path, record: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a road says at its end in place of a verdict, the command that comes next, and why.

    Args:
        network: the folder of the winner's training.
    """
    longer, result = record["minutes"]["longer"], run_files.read(network / "result.json", "result")
    low, high = result["interval"]
    said = (
        f"none, for the minutes went into the winner: {result['mean']:.2f}% [{low:.1f}, {high:.1f}] with {longer['epochs']:,} epochs "
        f"(with {longer['instead_of']:,}: {longer['found']})"
    )
    for warning in read_warnings(Path(out)):  # of the whole run, whose place may be another one now
        if warning["run"] == network.name and warning["from"] == "retrain" and warning["gate"] in (BELOW, SHORT):
            return said, warning["command"], warning["text"]
    trained = _trained(network, record["minutes"])
    about = f"about {trained.certificate(trained.epochs, trained.random) / 60:.0f} minutes"
    command = cli.command("certify", out, "--random", trained.random)
    return said, command, f"is it better than random networks that are trained as long? {about}"


def _warning(network: Path) -> str:
    """What the gates said of the winner's place at the floor; "" where it is clearly above, or was trained long enough."""
    return next((found["text"] for found in warnings_from(network, "retrain") if found["gate"] in (BELOW, SHORT)), "")


def _trained(network: Path, plan: Mapping[str, Any]) -> Trained:
    """What is known of the winner's training, by its own seconds."""
    config = run_files.read(network / "config.json", "run configuration")["config"]
    seconds = run_files.read(network / "result.json", "result")["seconds"]
    return Trained(
        epochs=config["epochs"],
        usual=plan["usual"]["network_epochs"],
        seconds=statistics.median(seconds),
        start=plan["start"],
        seeds=len(seconds),
        jobs=config["jobs"],
        certify_jobs=plan["jobs"],
        random=plan["work"]["random"],
        most=max(plan["work"]["random"], plan["usual"]["random"]),
        given="random" not in plan["options"].get("certify", {}),
    )
