"""One search of a run at a time, and what --resume continues: options, lock, record of the experiment, tuner's journal."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from spaces.files import load_json, save_json
from trials.common.cli import option
from trials.search_driver import nni_manager
from trials.search_driver.plan import Plan

RECORD = "experiment.json"  # in the run: which experiment --resume continues


@dataclasses.dataclass(frozen=True)
class Config:
    experiment: str = option(help="Experiment YAML")
    in_process: bool = option(False, "Search in one process, without NNI's manager and portal")
    resume: bool = option(False, "Continue this experiment, or begin it where there is nothing to continue")
    check: bool = option(False, "Check everything, also that remote workers are ready, and start nothing")
    run: str | None = option(
        None, "Run of the supernet on this machine, where trialCommand names another machine's path"
    )
    port: int | None = option(None, "Port of NNI's web portal", unset="8080, or the next free one")
    concurrency: int | None = option(None, "Trials at a time", unset="trialConcurrency of the YAML")
    max_trials: int | None = option(None, "Architectures in all", unset="maxTrialNumber of the YAML")
    stall_minutes: float = option(60, "Minutes without the end of a trial after which the search stops")

    def __post_init__(self) -> None:
        if self.port is not None and not 1 <= self.port <= 65535:
            raise InputError(f"--port {self.port} is not a port; give 1 to 65535")
        if not self.stall_minutes > 0:
            raise InputError(f"--stall-minutes {self.stall_minutes} is not above 0; give a larger number")


@contextlib.contextmanager
def only_search(run: Path) -> Iterator[None]:
    """Raises InputError: another search of the same run is going on."""
    with open(run / ".search.lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InputError(
                f"another search of '{run}' is going on (process {lock.read() or 'unknown'}); wait for it or stop it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def record(plan: Plan, config: Config, name: str, folder: Path) -> None:
    """Note in the run what --resume has to continue."""
    about = {"id": name, "folder": str(folder.resolve()), "in_process": config.in_process, **plan.identity}
    save_json(plan.run / RECORD, about)


def earlier(plan: Plan, config: Config) -> dict[str, Any] | None:
    """The experiment to continue; None: there is none.

    Raises:
        InputError: it was another one.
    """
    if not (plan.run / RECORD).exists():
        return None
    stored = load_json(plan.run / RECORD, "record of the search")
    for key, value in plan.identity.items():
        was = stored.get(key)
        if was == value:
            continue
        if isinstance(was, dict) and was.get("className") == value.get("className"):  # say what in it has changed
            was, value = ({**about, **about.get("classArgs", {})} for about in (was, value))
            was = {
                name: was.get(name)
                for name in {**was, **value}
                if name != "classArgs" and was.get(name) != value.get(name)
            }
        raise InputError(
            f"{key} of '{plan.yaml}' is not what it was when the search of '{plan.run}' began ({was}); restore it, or leave "
            "--resume out"
        )
    if stored["in_process"] != config.in_process:
        way = "with" if stored["in_process"] else "without"
        raise InputError(
            f"the search of '{plan.run}' was begun {way} --in-process; continue it so, or leave --resume out"
        )
    folder = Path(stored["folder"])
    return stored if (folder.exists() if config.in_process else nni_manager.was_started(folder)) else None


def continue_tuner(plan: Plan, folder: Path) -> int:
    """Let the tuner of this process know what its journal holds. Returns the number of scores."""
    if plan.tuner is None:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    plan.tuner.folder = folder
    plan.tuner.load_checkpoint()
    return len(plan.tuner.ranked())
