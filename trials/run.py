"""The whole road with its defaults: look at the images, supernet, search, retrain, certificate, export, report.

    python -m trials.run ~/images --max-macs 100M                  everything below runs/images
    python -m trials.run ~/images --max-macs 8M --resolution 64    other options, for the steps that have them
    python -m trials.run ~/images --max-macs 100M --dry-run        the commands and about how many hours
    python -m trials.run ~/images --max-macs 100M --config run.yml options of every step, under its name

Space, preset, resolution and width are chosen for the images and the budget, as trials.space --for does, unless they are given.
Each step is a command of its own, which is printed and can be typed alone. Steps that are complete are not done again, so after
Ctrl-C or any kill the same command goes on; one that is complete with other options, or other images, is refused. It stops before
a search of a supernet that knows nothing, and ends with the verdict: is the winner better than random networks of its cost?
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from spaces.errors import InputError
from strategies.limits import Limits
from trials.common import cli, locks, option_files, run_dir, run_files, typed
from trials.common.answers import Answered, answer
from trials.common.cli import option, reuse
from trials.common.commands import IN_ROAD, as_typed, neutral
from trials.common.options import LimitOptions, OptimizerOptions, SpaceOptions
from trials.evidence.comparison import verdict_text
from trials.images.options import IN_MEMORY, DataOptions, require_images_named
from trials.road import hours, kept_timings, longer
from trials.road import steps as road
from trials.road.ends import stop_at_gate
from trials.road.minutes import check_minutes, minutes_gone, minutes_taken
from trials.road.record import earlier_road, keep_record, seconds_of_killed
from trials.training.strategy_options import DIFFERENTIABLE

if TYPE_CHECKING:
    from trials.road.plan import Planned

PATIENCE = 30.0  # seconds that a step has to end by itself after Ctrl-C
CHOSEN = "by images and --max-macs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of trials.run; `road.PASSED` says which steps take them."""

    positional: ClassVar[str] = "images"
    often: ClassVar[tuple[str, ...]] = (
        *("images", "out", "max_macs", "strategy", "space", "preset", "resolution", "width_mult", "epochs"),
        *("class_weights", "background", "fit", "mirror", "group_by", "blank", "max_trials", "seeds", "random", "jobs"),
        *("device", "in_process", "minutes", "dry_run"),
    )

    images: str = option(
        help=f"Folder of images, or a data set: {', '.join(IN_MEMORY)}",
        brief="Folder of images, or a data set such as digits",
    )
    out: str = option(None, "Run directory to write", unset="runs/ and the name of the images")
    max_macs: str = reuse(LimitOptions, "max_macs")
    strategy: str = option(
        None,
        "How the winner is found: by a search of a supernet, or learned by a differentiable strategy, which needs --max-macs",
        choices=(road.SEARCHED, *DIFFERENTIABLE),
        unset=road.SEARCHED,
        brief="window: search a supernet; gumbel, softmax, gates: learn the winner",
    )
    space: str = reuse(SpaceOptions, "space", default=None, unset=CHOSEN)
    preset: str = reuse(SpaceOptions, "preset", default=None, unset=CHOSEN)
    resolution: int | None = reuse(SpaceOptions, "resolution", unset=CHOSEN)
    space_options: str | None = reuse(SpaceOptions, "space_options", default=None, unset=CHOSEN)
    width_mult: float = option(None, "Factor on the channels of the space, such as 0.75", unset=CHOSEN)
    epochs: int = reuse(
        OptimizerOptions, "epochs", help="Passes over the training images, of supernet and networks alike"
    )
    class_weights: str = reuse(
        OptimizerOptions,
        "class_weights",
        help="Factors of the training loss by class, of supernet and networks alike; balanced lets every class count alike",
    )
    background: str = reuse(DataOptions, "background")
    fit: str = reuse(DataOptions, "fit")
    mirror: str = reuse(DataOptions, "mirror")
    group_by: str | None = reuse(DataOptions, "group_by")
    blank: str | None = reuse(DataOptions, "blank")
    supernets: int = option(None, "Supernets of consecutive seeds, whose scores are averaged", unset="1")
    max_trials: int = option(None, "Architectures that the search scores", unset="by the preset")
    seeds: int = option(None, "Trainings of each network", unset=str(road.SEEDS))
    random: int = option(None, "Random architectures that the winner is compared with", unset="8")
    jobs: int = option(None, "Trainings of networks at the same time", unset="that of each step")
    device: str = option(None, "Where is trained: auto, cpu or cuda", unset="auto")
    in_process: bool = option(False, "Search in one process, without NNI's manager and portal")
    minutes: float = option(
        None,
        "Time for the whole road: what does not fit is cut, and said; what is given stays",
        unset="as long as it takes",
    )
    dry_run: bool = option(False, "Print the commands and about how many hours they take, and run none")
    resume: bool = option(False, "Go on, which the same command does without this, too")

    def __post_init__(self) -> None:
        Limits.of({"max_macs": self.max_macs or None})
        check_minutes(self.minutes)
        check_strategy(self)
        cli.named(self, "out")
        require_images_named(self.images)
        name = Path(self.images).resolve().name
        if self.out is None and not name:
            raise InputError(f"'{self.images}' gives the run no name; give --out RUN")
        if self.out is None:
            object.__setattr__(self, "out", f"runs/{name}")
        if self.images not in IN_MEMORY and Path(self.out).resolve().is_relative_to(Path(self.images).resolve()):
            raise InputError(
                f"--out '{self.out}' lies in the folder of the images, whose folders are classes; give --out RUN elsewhere"
            )


def check_strategy(config: Config) -> None:
    """Refuse what a strategy that learns the winner does not have. Raises InputError."""
    if not road.learns(config):
        return
    if not config.max_macs:
        raise InputError(
            f"--strategy {config.strategy} learns one architecture under a limit; give --max-macs, such as 100M"
        )
    for name in ("supernets", "max_trials", "in_process"):
        if getattr(config, name):
            raise InputError(
                f"{cli.flag(name)} has no effect with --strategy {config.strategy}, which learns the winner without a search; "
                "leave it out"
            )


def main(argv: list[str] | None = None) -> dict[str, Any]:
    config = cli.parse(Config, argv, __doc__, "trials.run")
    words = sys.argv[1:] if argv is None else argv
    file, _ = option_files.split(words, "--config")
    typed.remember(
        "trials.run", option_files.split(words, "--save-config")[1]
    )  # with its --config, for what is advised
    record = earlier_road(config)
    if config.device == "cuda":
        from trials.common.distributed import use_cuda  # with torch

        use_cuda(config.device)

    from trials.road.plan import plan_steps  # it imports Pillow

    plan = plan_steps(config, file, record)  # all of it, so that what is refused is refused before the first step
    to_do = not all(planned.complete for planned in plan[:-1])
    if to_do and config.minutes is None and (config.dry_run or not run_dir.begun(config.out)):
        say_hours(config, plan, file)
    record["taken"] = seconds_of_killed(config.out, record)  # seconds by step, of all attempts
    record.pop("began", None)
    record |= {"typed": typed.changed(str(typed.line("trials.run")), {}), "out": config.out}  # for trials.status
    with contextlib.nullcontext() if config.dry_run else locks.exclusive(Path(config.out), "road"):
        told = do_steps(config, file, plan, record)
    if config.dry_run:
        return answer("run", run=config.out, steps=told)
    report, verdict = f"{config.out}/report.html", None
    if longer.left_out("certify", config.out, record):
        said, following, why = longer.without_certificate(config.out, road.network_folder(config), record)
    else:
        verdict = run_files.read(Path(config.out) / "certificate.json", "certificate")["verdict"]
        said, following, why = verdict_text(verdict), verdict["next"], verdict["why"]
    print(f"\nverdict: {said}; all of it: {report}")
    if f"trials.export --weights {road.network_folder(config)}" not in neutral(following):  # else that is done
        print(f"next: {as_typed(following)}    # {why}")
    if config.minutes is not None:
        print(minutes_taken(record["minutes"], record["taken"]))
    return answer("run", run=config.out, steps=told, verdict=verdict, report=report, next=as_typed(following))


def do_steps(config: Config, file: str, plan: list[Planned], record: dict[str, Any]) -> list[dict[str, str]]:
    """Do the steps of the road in their order; with --minutes the winner is looked at, and trained twice where that says so.

    Args:
        file: of --config; "" where none is given.
        record: of the road.
    Returns:
        What `do_step` returns, of each.
    """
    from trials.road.plan import plan_steps

    told = []
    for number, (words, _) in enumerate(road.steps(config)):
        told.append(do_step(config, number, plan[number], record))
        if words[0] == "retrain" and config.minutes is not None and not config.dry_run:
            decided = longer.look_at_winner(config.out, road.network_folder(config), record)
            if decided:
                print(decided, flush=True)
                keep_record(config, record)
                plan = plan_steps(config, file, record)
                if not plan[number].complete:
                    told.append(do_step(config, number, plan[number], record))
    return told


def do_step(config: Config, number: int, planned: Planned, record: dict[str, Any]) -> dict[str, str]:
    """Do a step of the road, unless it is complete, or its time was given to another one.

    Args:
        number: of the step.
        record: of the road; it is kept before and after the step.
    Returns:
        Its command, and what was done.
    """
    words, done = road.steps(config)[number]  # the search decides where its winner is trained
    words = [*words, *planned.more]
    step, line = words[0], cli.command(words[0], *words[1:])
    if longer.left_out(step, config.out, record):
        print(f"# left out: {line}", flush=True)
        return {"command": line, "did": "left out"}
    does = not (planned.complete or config.dry_run)
    if does and config.minutes is not None:
        print(minutes_gone(record["minutes"], record["taken"], step))
    print(f"# complete: {line}" if planned.complete else f"$ {line}", flush=True)
    if does:
        if step == "retrain":
            longer.put_short_aside(config.out, road.network_folder(config), record)
        run_kept(config, words, done, record)
        record["steps"][step] = planned.options
        keep_record(config, record)
    if not config.dry_run:
        stop_at_gate(step, config)
    return {"command": line, "did": "ran" if does else "was complete" if planned.complete else "would run"}


def run_kept(config: Config, words: list[str], done: Path | None, record: dict[str, Any]) -> None:
    """Run a command as `run_step` does, and keep how long it took, however it ends."""
    taken, began = record["taken"], time.monotonic()
    record["began"] = {"step": words[0], "at": time.time()}  # for trials.status
    keep_record(config, record)
    try:
        run_step(words, done)
    finally:
        del record["began"]
        taken[words[0]] = taken.get(words[0], 0.0) + time.monotonic() - began
        keep_record(config, record)


def say_hours(config: Config, plan: list[Planned], file: str) -> None:
    """Say about how long the road takes: in a line, and before it by step in a dry run.

    Args:
        file: of --config; "" where none is given.
    """
    steps = [[*words, *planned.more] for (words, _), planned in zip(road.steps(config), plan, strict=True)]
    why = "; --minutes fits the road into your time"
    timed = kept_timings.timed(steps, config.out, config.images, file, why)
    if isinstance(timed, str):
        print(f"how many hours it takes is not known: {timed}", flush=True)
        return
    found = hours.hours_of(*timed, [words[0] for words in steps])
    if config.dry_run:
        rows = [(step, f"{taken:.2f}", what) for step, taken, what in found]
        print(cli.table(rows, ("step", "hours, about", ""), as_is=True))
    print(hours.text(found), flush=True)


def run_step(words: list[str], done: Path | None) -> None:
    """Run a command in a process of its own, which Ctrl-C reaches too; end with its exit code where it fails.

    Args:
        done: the file that it writes; a check of images that wrote its picture did its work.
    """
    command = [sys.executable, "-m", f"trials.{words[0]}", *words[1:]]
    process = subprocess.Popen(command, env=os.environ | {IN_ROAD: "1"})
    try:
        code = process.wait()
    except BaseException as ended:  # Ctrl-C, SIGTERM: the step ends first, with all that it writes
        if isinstance(ended, KeyboardInterrupt):  # from a terminal it has reached the step as well
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        process.terminate()
        process.wait()
        raise
    if code and not (words[0] == "data" and done and done.exists()):
        code = code if code > 0 else 128 - code
        why = (
            "was stopped; run the same command again" if code in (129, 130, 143) else "its last line on stderr says why"
        )
        error = f"step {words[0]} ended with exit code {code}; {why}"
        raise Answered(code, {"command": "run", "error": error, "exit_code": code})


if __name__ == "__main__":
    cli.run(main)
