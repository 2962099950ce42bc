"""The whole road with its defaults: look at the images, supernet, search, retrain, export, certificate, report.

    python -m trials.run ~/images --max-macs 100M                  everything below runs/images
    python -m trials.run ~/images --max-macs 100M --dry-run        the commands, none of which is run
    python -m trials.run ~/images --max-macs 100M --config run.yml options of every step, under its name

Each step is a command of its own, which is printed and can be typed alone. Steps that are complete are not done again, so after
Ctrl-C or any kill the same command goes on; one that is complete with other options, or other images, is refused. It ends with the verdict: is the winner better than random networks of its cost?
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from spaces.errors import InputError, shown
from spaces.files import save_json
from strategies.limits import Limits
from trials.common import cli, option_files, run_dir, run_files, typed
from trials.common.answers import Answered, answer
from trials.common.cli import option, reuse
from trials.common.commands import VERBS, config_module
from trials.common.options import LimitOptions
from trials.images.options import IN_MEMORY

RECORD = "road.json"  # in the run: its images, its limit, and the options of the steps that are complete
# What trials.retrain does instead of training the winner from scratch, which is the road's
OTHER_TRAININGS = ("frontier", "top", "top-random", "baseline", "pretrained", "from-supernet", "import-official")
PATIENCE = 30.0  # seconds that a step has to end by itself after Ctrl-C


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of trials.run."""

    positional: ClassVar[str] = "images"

    images: str = option(
        help=f"Folder of images, or a data set: {', '.join(IN_MEMORY)}",
        brief="Folder of images, or a data set such as digits",
    )
    out: str = option(None, "Run directory to write", unset="runs/ and the name of the images")
    max_macs: str = reuse(LimitOptions, "max_macs")
    in_process: bool = option(False, "Search in one process, without NNI's manager and portal")
    dry_run: bool = option(False, "Print the commands and run none")

    def __post_init__(self) -> None:
        if self.images not in IN_MEMORY and not Path(self.images).is_dir():
            raise InputError(f"'{self.images}' is no folder; give one of images, or one of: {', '.join(IN_MEMORY)}")
        Limits.of({"max_macs": self.max_macs or None})
        name = Path(self.images).resolve().name
        if self.out is None and not name:
            raise InputError(f"'{self.images}' gives the run no name; give --out RUN")
        if self.out is None:
            object.__setattr__(self, "out", f"runs/{name}")
        if self.images not in IN_MEMORY and Path(self.out).resolve().is_relative_to(Path(self.images).resolve()):
            raise InputError(
                f"--out '{self.out}' lies in the folder of the images, whose folders are classes; give --out RUN elsewhere"
            )


def steps(config: Config) -> list[tuple[list[str], Path | None]]:
    """The commands of the road.

    Returns:
        Words of each command without `trials.`, and the file that is there when it need not be done again; None: it looks itself.
    """
    run, folder = Path(config.out), config.images not in IN_MEMORY
    data = ["--data", "folder", "--data-root", config.images] if folder else ["--data", config.images]
    limit = ["--strategy", "window", "--max-macs", config.max_macs] if config.max_macs else []
    search = ["search", str(run), "--resume"] + ["--in-process"] * config.in_process
    retrain = ["retrain", "--fixed-arc", str(run / "arc.json"), "--supernet", str(run), "--resume"]
    road: list[tuple[list[str], Path | None]] = [
        (["supernet", *data, *limit, "--out", str(run), "--resume"], None),  # refuses options that have changed
        (search, run / "arc.json"),
        (retrain, run / "retrain" / "result.json"),
        (["export", "--weights", str(run / "retrain")], run / "retrain" / "export" / "export.json"),
        (["certify", str(run)], None),
        (["report", str(run)], None),
    ]
    if folder:  # exits with 1 where files are left out, which the supernet does too, and says
        road.insert(0, (["data", "check", config.images, "--out", str(run / "check.png")], run / "check.png"))
    return road


def main(argv: list[str] | None = None) -> dict[str, Any]:
    config = cli.parse(Config, argv, __doc__, "trials.run")
    file, _ = option_files.split(sys.argv[1:] if argv is None else argv, "--config")
    given = option_files.read(file) if file else {}  # a step takes its own section of it
    record = earlier_road(config)
    plan = []  # all of it, so that what is refused is refused before the first step
    for words, done in steps(config):
        options = options_of(words[0], config, given)
        if given.get(words[0]) is not None:
            words = [*words, "--config", file]
            check_section(words, options, file)
        if words[0] == "retrain" and "seeds" not in options:
            words = [*words, "--seeds", "2"]
        plan.append((words, done, options, is_complete(words[0], done, options, record, config.out)))
    told = []
    for words, done, options, complete in plan:
        line = cli.command(words[0], *words[1:])
        told.append({"command": line, "did": "was complete" if complete else "would run" if config.dry_run else "ran"})
        if not (complete or config.dry_run):
            keep_record(config, record)
        print(f"# complete: {line}" if complete else f"$ {line}", flush=True)
        if not (complete or config.dry_run):
            run_step(words, done)
            record["steps"][words[0]] = options
            keep_record(config, record)
    if config.dry_run:
        return answer("run", run=config.out, steps=told)
    verdict, report = (
        run_files.read(Path(config.out) / "certificate.json", "certificate")["verdict"],
        f"{config.out}/report.html",
    )
    print(f"\nverdict: the winner is {verdict['sentence']}; all of it: {report}")
    return answer("run", run=config.out, steps=told, verdict=verdict, report=report)


def check_section(words: list[str], options: Mapping[str, Any], file: str) -> None:
    """Refuse a section of the file of options that its step would refuse, or that the road decides.

    Args:
        words: of the step, with --config.
    Raises:
        InputError: an option that is not known, cannot have this value, or is decided here.
    """
    module = importlib.import_module(config_module(words[0]))
    start = 2 if words[0] in VERBS else 1
    cli.read(module.Config, words[start:], None, f"trials.{words[0]}")
    decided = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--resume", "--config"}
    positional = getattr(module.Config, "positional", None)
    for name in options:
        if (cli.flag(name) in decided and name != "in-process") or name.replace("-", "_") == positional:
            raise InputError(f"'{file}', {words[0]}: {name} is decided by trials.run itself; leave it out there")
        if words[0] == "retrain" and name.replace("_", "-") in OTHER_TRAININGS:
            raise InputError(
                f"'{file}', retrain: {name} has no place in trials.run, which trains the winner; leave it out there, and give it "
                "to trials.retrain --supernet RUN afterwards"
            )


def keep_record(config: Config, record: Mapping[str, Any]) -> None:
    """Write road.json. Raises InputError: it cannot be written."""
    try:
        save_json(Path(config.out) / RECORD, record)
    except OSError as error:
        raise InputError(f"cannot write to '{config.out}' ({error.strerror}); choose another --out") from None


def earlier_road(config: Config) -> dict[str, Any]:
    """What road.json says of the road that is to go on; a new record where there is none, or nothing was trained on it.

    Raises:
        InputError: it is a road of other images, or of another limit.
    """
    run = Path(config.out)
    images = config.images if config.images in IN_MEMORY else str(Path(config.images).resolve())
    new: dict[str, Any] = {"images": images, "max_macs": config.max_macs, "steps": {}}
    stored = run_files.read_if_there(run / RECORD, "record of a road")
    if stored is None:  # of an older version, or of commands that were typed one by one
        began = run_files.read_if_there(run / "config.json", "run configuration", {"config": {}})["config"]
        folder = began.get("data") == "folder" and began.get("data_root")
        first = str(Path(folder).resolve()) if folder else began.get("data", images)
        stored = {**new, "images": first, "max_macs": began.get("max_macs", "")}
    if not run_dir.begun(run):
        return stored if stored["images"] == images and stored["max_macs"] == config.max_macs else new
    moved = stored["images"] not in IN_MEMORY and not Path(stored["images"]).is_dir()
    if stored["images"] != images and not moved:
        raise InputError(
            f"'{run}' is a run of the images '{stored['images']}', not of '{images}'; give another --out, such as {typed.free_name(run)}"
        )
    if stored["max_macs"] != config.max_macs:
        was, now = (
            f"--max-macs {value}" if value else "no --max-macs" for value in (stored["max_macs"], config.max_macs)
        )
        raise InputError(
            f"'{run}' was begun with {was}, not with {now}; give that, or another --out, such as {typed.free_name(run)}"
        )
    return {**stored, "images": images}


def options_of(step: str, config: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given for a step: its section of the file of options, and --in-process for the search."""
    section = given.get(step)
    options = (
        {str(name).replace("_", "-"): value for name, value in section.items()} if isinstance(section, dict) else {}
    )
    return options | ({"in-process": True} if step == "search" and config.in_process else {})


def is_complete(step: str, done: Path | None, options: Mapping[str, Any], record: Mapping[str, Any], out: str) -> bool:
    """Whether a step need not be done again.

    Args:
        done: the file that it writes last; None where the step looks itself.
        options: what is given for it now.
        record: of the road.
    Raises:
        InputError: it was done with other options.
    """
    if done is None or not done.exists() or not (step in record["steps"] or run_dir.begun(out)):
        return False
    was = record["steps"].get(step)
    if was is None:  # done by a command of its own, or by an older version
        if options:
            print(f"# {step} was not done by this command: whether with the options of today is not known")
        return True
    for name in {**was, **options}:
        if was.get(name) != options.get(name):
            old, new = (f"{name} {shown(of[name])}" if name in of else f"no {name}" for of in (was, options))
            raise InputError(
                f"{step} of '{out}' is complete, with {old} and not with {new}; give that under {step} in --config, or another --out, "
                f"such as {typed.free_name(out)}"
            )
    return True


def run_step(words: list[str], done: Path | None) -> None:
    """Run a command in a process of its own, which Ctrl-C reaches too; end with its exit code where it fails.

    Args:
        done: the file that it writes; a check of images that wrote its picture did its work.
    """
    process = subprocess.Popen([sys.executable, "-m", f"trials.{words[0]}", *words[1:]])
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
        error = f"step {words[0]} ended with exit code {code}; its last line on stderr says why"
        raise Answered(code, {"command": "run", "error": error, "exit_code": code})


if __name__ == "__main__":
    cli.run(main)
