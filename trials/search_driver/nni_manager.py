"""Start NNI's manager for a search, guarded, and stop it so that nothing is left behind.

NNI 3.0 starts three kinds of processes: a manager (node, with the web portal and a REST interface), a tuner (Python, the
"dispatcher") and the trials. Left alone, it has sharp edges, and this module and watchdog.py are made around them:

- Its launcher kills a manager that has not answered after four tries of one second, which happens on a busy machine.
- A manager outlives the process that started it, and a killed manager leaves its tuner behind for seconds.
- A tuner that raises or dies is not noticed: the experiment stays RUNNING, and only dispatcher.log has the traceback.
- The manager itself has faults, among them wrong architectures for trials; trials/nni_guard.js mends them from inside.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from spaces.errors import InputError, Stopped
from trials.search_driver.nni_environment import check_folders, prepare_environment, silence_nni
from trials.search_driver.plan import Plan
from trials.search_driver.tuner_log import TunerLog

if TYPE_CHECKING:
    from nni.experiment import Experiment

START_SECONDS = 180.0  # a manager that lives may take so long to answer, on a busy machine
STOP_SECONDS = 15.0  # a manager may take so long to stop its trials


@dataclass(frozen=True)
class Manager:
    """A running experiment.

    Attributes:
        id: NNI's name of the experiment.
        folder: the experiment's folder, with log/, checkpoint/ and environments/.
        port: of the REST interface and the web portal.
        process: the manager itself.
        log: the tuner's log.
    """

    id: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    log: TunerLog

    def get(self, api: str) -> Any:
        """Ask NNI's REST interface.

        Args:
            api: for example "/check-status".
        Returns:
            The decoded JSON.
        Raises:
            requests.RequestException: no answer, or one that says no.
        """
        from nni.experiment import rest

        return rest.get(self.port, api)


@contextlib.contextmanager
def running_manager(
    plan: Plan, port: int, resume: str | None = None, on_start: Callable[[str, Path], None] | None = None
) -> Iterator[Manager]:
    """Run an NNI manager while the body runs, and stop it afterwards, whatever happens.

    Args:
        resume: id of an experiment to continue.
        on_start: is told the id and the folder before anything else happens, so that even a search that is killed in
            its first second can be resumed.
    Raises:
        InputError: a folder that NNI writes to cannot be made.
        Stopped: the manager did not start.
    """
    silence_nni()
    from nni.experiment import Experiment, RunMode

    check_folders(plan)
    experiment = Experiment(plan.nni, id=resume)
    if resume:
        experiment._action = "resume"
    folder = Path(plan.nni.experiment_working_directory) / experiment.id
    prepare_environment(plan)
    log = folder / "log" / "dispatcher.log"
    log_start = log.stat().st_size if log.exists() else 0
    if on_start:
        on_start(experiment.id, folder)
    try:
        try:
            with patient_launcher():
                experiment.start(port, run_mode=RunMode.Detach)
        except Exception as error:
            raise Stopped(f"NNI did not start: {start_error(folder, error)}; see {folder / 'log'}") from None
        silence_nni()
        yield Manager(experiment.id, folder, port, experiment._proc, TunerLog(log, log_start))
    finally:
        if experiment._proc is not None:
            stop_manager(experiment)


@contextlib.contextmanager
def patient_launcher() -> Iterator[None]:
    """While the body starts a manager, wait for its answer as long as it lives, at most START_SECONDS.

    NNI's own launcher asks four times, one second apart, and then kills the manager. On a busy machine node alone takes
    longer to start: with a load of 12 on two cores, two of three starts failed. A manager that has ended is given up at
    once.
    """
    from nni.experiment import launcher, rest

    start, check, timeout = launcher._start_rest_server, launcher._check_rest_server, rest.timeout
    started: list[subprocess.Popen[bytes]] = []

    def start_manager(*arguments: Any) -> subprocess.Popen[bytes]:
        """NNI's own start; it keeps the process, so that its end is noticed."""
        started.append(start(*arguments))
        return started[-1]

    def wait_for_answer(port: int, url_prefix: str | None = None) -> None:
        """In place of NNI's four tries."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                rest.get(port, "/check-status", url_prefix)
                return
            except Exception:  # the port is closed, or the manager answers that it is not ready
                if started[-1].poll() is not None:
                    raise
                if time.monotonic() > deadline:
                    raise TimeoutError(f"its manager lives and did not answer in {START_SECONDS:.0f} s") from None
            time.sleep(0.2)

    launcher._start_rest_server, launcher._check_rest_server = start_manager, wait_for_answer
    rest.timeout = START_SECONDS  # also for the request that sets the experiment up, on remote workers too
    try:
        yield
    finally:
        launcher._start_rest_server, launcher._check_rest_server, rest.timeout = start, check, timeout


def start_error(folder: Path, error: Exception) -> str:
    """Why NNI's manager did not start: its own last error, or else what its client saw."""
    log = folder / "log" / "nnictl_stderr.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    own = [line for line in lines if re.match(r"(\w+: )*\w*Error\b", line)]
    return own[-1] if own else " ".join(str(error).split())


def stop_manager(experiment: Experiment) -> None:
    """Ask the manager to end; kill its processes when it does not, and never leave one behind.

    Signals are ignored meanwhile: a second Ctrl-C would otherwise leave processes running.
    """
    from nni.experiment import rest

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        running = processes_of(experiment.id)
        with contextlib.suppress(Exception):  # it may be dead
            rest.delete(experiment.port, "/experiment")
        end_processes(running, seconds=STOP_SECONDS)
        end_processes(processes_of(experiment.id))
        experiment._proc.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def processes_of(experiment: str) -> list[psutil.Process]:
    """The manager, the tuner and the trials of an experiment that are alive.

    The manager names the experiment in its command line; the tuner, in the folder of its logs; a trial, in NNI_EXP_ID.
    """
    alive = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            command = process.info["cmdline"] or []
            environment = process.environ() if process.pid != os.getpid() else {}
            is_manager = "--experiment-id" in command and command[command.index("--experiment-id") + 1] == experiment
            tuner_of = Path(environment.get("NNI_LOG_DIRECTORY", "/")).parent.name if "--exp_params" in command else ""
            if is_manager or experiment in (tuner_of, environment.get("NNI_EXP_ID")):
                alive.append(process)
    return alive


def end_processes(processes: list[psutil.Process], seconds: float = 5) -> None:
    """Wait for processes to end, then kill those that are left."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=seconds)


def can_be_resumed(folder: Path) -> bool:
    """Whether NNI knows an experiment well enough to resume it; one killed in its first seconds has left nothing.

    Args:
        folder: of the experiment.
    Raises:
        InputError: its database exists and cannot be read; nothing is begun anew in its place.
    """
    database = folder / "db" / "nni.sqlite"
    if not database.exists():
        return False
    # A manager that was killed while it wrote leaves a journal to be rolled back, which opening to read alone refuses.
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=60)) as connection:
            if not connection.execute("select 1 from sqlite_master where name = 'ExperimentProfile'").fetchone():
                return False
            return bool(connection.execute("select count(*) from ExperimentProfile").fetchone()[0])
    except sqlite3.Error as error:
        raise InputError(
            f"NNI's database '{database}' cannot be read ({error}); make it readable and writable, and resume again, or "
            "leave --resume out to begin a new search"
        ) from None


def end_leftovers(experiment: str) -> None:
    """End what a killed search has left running. The manager comes first, because it stops its trials in order."""
    running = processes_of(experiment)
    for process in running:
        with contextlib.suppress(psutil.Error):
            if "--experiment-id" in process.cmdline():
                process.terminate()
    end_processes(running, seconds=STOP_SECONDS)
