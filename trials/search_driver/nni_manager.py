"""Start, watch and stop NNI's manager for a search: guarded, and never left behind.

NNI 3.0 itself does not notice a tuner that raises or dies, and keeps its manager after its owner is gone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import signal
import sqlite3
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from spaces.errors import Stopped
from strategies.tuner import GUARD
from trials.search_driver.plan import Plan
from trials.search_driver.ports import listen_host

STOP_SECONDS = 15.0  # a manager may take so long to stop its trials


@dataclass(frozen=True)
class Manager:
    """A running experiment."""

    id: str
    folder: Path  # of the experiment: log/, checkpoint/, environments/
    port: int
    process: Any  # psutil.Popen-like: NNI's
    log: TunerLog

    def get(self, api: str) -> Any:
        """NNI's REST interface."""
        from nni.experiment import rest

        return rest.get(self.port, api)


@contextlib.contextmanager
def manager(
    plan: Plan, port: int, resume: str | None = None, started: Callable[[str, Path], None] | None = None
) -> Iterator[Manager]:
    """Run an NNI manager while the body runs, and stop it afterwards, whatever happens.

    Args:
        resume: id of an experiment to continue.
        started: is told the id and the folder before anything else happens.
    Raises:
        Stopped: it did not start.
    """
    quiet()
    from nni.experiment import Experiment, RunMode

    experiment = Experiment(plan.nni, id=resume)
    if resume:
        experiment._action = "resume"
    folder = Path(plan.nni.experiment_working_directory) / experiment.id
    prepare_environment(plan)
    log = folder / "log" / "dispatcher.log"
    log_start = log.stat().st_size if log.exists() else 0
    if started:
        started(experiment.id, folder)
    try:
        try:
            experiment.start(port, run_mode=RunMode.Detach)
        except Exception as error:
            raise Stopped(f"NNI did not start: {start_error(folder, error)}; see {folder / 'log'}") from None
        quiet()
        yield Manager(experiment.id, folder, port, experiment._proc, TunerLog(log, log_start))
    finally:
        if experiment._proc is not None:
            stop(experiment)


def start_error(folder: Path, error: Exception) -> str:
    """Why NNI's manager did not start: its own last error, or else what its client saw."""
    log = folder / "log" / "nnictl_stderr.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    own = [line for line in lines if re.match(r"(\w+: )*\w*Error\b", line)]
    return own[-1] if own else " ".join(str(error).split())


def quiet() -> None:
    """NNI's own messages, in another style and twice."""
    warnings.filterwarnings("ignore", category=UserWarning)  # pkg_resources, imported by NNI
    logging.getLogger("nni").setLevel(logging.CRITICAL)


def prepare_environment(plan: Plan) -> None:
    """What NNI's manager reads from its environment: the guard, who owns it, where it listens."""
    given = os.environ.get("NODE_OPTIONS", "")
    if str(GUARD) not in given:
        os.environ["NODE_OPTIONS"] = f'{given} --require "{GUARD}"'.strip()
    os.environ["ONEPATH_OWNER"] = str(os.getpid())
    os.environ["ONEPATH_CONFIG"] = json.dumps(plan.nni.json())  # on resume, NNI knows only what it was
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `python` of the trials
    address = plan.content.get("nniManagerIp")
    if plan.remote and address:  # the workers call back
        os.environ.setdefault("NNI_LISTEN_HOST", address)
    os.environ["NNI_LISTEN_HOST"] = listen_host()
    if plan.service["platform"] in ("local", "remote") and not listen_host().startswith("127."):
        os.environ.setdefault("NNI_TOKEN", secrets.token_urlsafe(16))  # trials on other services know of none


def stop(experiment: Any) -> None:
    """Ask the manager to end; kill its processes when it does not, and never leave one behind."""
    from nni.experiment import rest

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        left = processes(experiment.id)
        with contextlib.suppress(Exception):  # it may be dead
            rest.delete(experiment.port, "/experiment")
        end(left, seconds=STOP_SECONDS)
        end(processes(experiment.id))
        experiment._proc.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def processes(experiment: str) -> list[psutil.Process]:
    """Manager, tuner and trials of an experiment that are alive."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            command = process.info["cmdline"] or []
            environment = process.environ() if process.pid != os.getpid() else {}
            log = Path(environment.get("NNI_LOG_DIRECTORY", "/")).parent.name if "--exp_params" in command else ""
            manages = "--experiment-id" in command and command[command.index("--experiment-id") + 1] == experiment
            if manages or experiment in (log, environment.get("NNI_EXP_ID")):
                found.append(process)
    return found


def end(victims: list[psutil.Process], seconds: float = 5) -> None:
    """Wait for processes, then kill those that are left."""
    _, alive = psutil.wait_procs(victims, timeout=seconds)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=seconds)


def was_started(folder: Path) -> bool:
    """Whether NNI knows an experiment well enough to resume it: a kill in its first seconds leaves nothing."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{folder / 'db' / 'nni.sqlite'}?mode=ro", uri=True)) as database:
            return bool(database.execute("select count(*) from ExperimentProfile").fetchone()[0])
    except sqlite3.Error:
        return False


def end_leftovers(experiment: str) -> None:
    """End what a killed search left behind, the manager first: it settles its trials."""
    left = processes(experiment)
    for process in left:
        with contextlib.suppress(psutil.Error):
            if "--experiment-id" in process.cmdline():
                process.terminate()
    end(left, seconds=STOP_SECONDS)


class TunerLog:
    """dispatcher.log, read on: the only place where NNI says that a tuner has raised."""

    def __init__(self, path: Path, start: int) -> None:
        self.path, self.start = path, start  # bytes

    def error(self) -> str:
        """The last line of a traceback since the start; empty: there is none."""
        if not self.path.exists():
            return ""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            text = file.read()
        complete = text[: text.rfind(b"\n") + 1]
        lines = complete.decode(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if not line.startswith("Traceback") or (number and "Retry in" in lines[number - 1]):
                continue
            for last in lines[number + 1 :]:
                if last and not last[0].isspace():
                    return last.removeprefix("spaces.errors.InputError: ")
            return ""  # the rest of it is still to come
        self.start += len(complete)
        return ""
