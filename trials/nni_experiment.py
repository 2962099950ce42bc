"""Start, watch and stop NNI's manager for a search: guarded, and never left behind.

NNI 3.0 itself does not notice a tuner that raises or dies, and keeps its manager after its owner is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from spaces.errors import InputError, Stopped
from spaces.files import read_jsonl
from strategies.tuner import GUARD, JOURNAL, waiting
from trials.search_plan import Plan

POLL_SECONDS = 1.0
DEAD_SECONDS = 5.0  # a tuner gone for this long is dead
SILENT_SECONDS = 20.0  # a manager that does not answer for this long is dead
STOP_SECONDS = 15.0  # a manager may take so long to stop its trials
FULL_BYTES = 1 << 18  # a disk with less left is full
FIRST_FAILURES, FAILURES = 3, 9  # trials in a row that fail, at the start and later, before the search stops
ENDED = ("SUCCEEDED", "FAILED", "USER_CANCELED", "SYS_CANCELED", "EARLY_STOPPED")


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


def listen_host() -> str:
    """Where the guard opens the port. Raises InputError: a name that is no address."""
    host = os.environ.get("NNI_LISTEN_HOST", "127.0.0.1")
    try:
        return socket.gethostbyname(host)
    except OSError:
        raise InputError(
            f"NNI_LISTEN_HOST or nniManagerIp '{host}' is no address of a machine; give an IP address"
        ) from None


def portals(port: int) -> str:
    """Where to open the portal, for the terminal."""
    here = f"http://127.0.0.1:{port}"
    if listen_host().startswith("127."):
        return here
    token = os.environ.get("NNI_TOKEN")
    elsewhere = f"/?token={token}" if token else ", open to everybody there"
    return f"{here}, from elsewhere http://{listen_host()}:{port}{elsewhere}"


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


def choose_port(wanted: int | None, *, pair: bool = False) -> int:
    """The port asked for, or the first free one from 8080 on.

    Args:
        pair: the next port has to be free too: NNI asks for that where trials run on other machines.
    Raises:
        InputError: the port asked for is in use.
    """

    def free(port: int) -> bool:
        return not listening(port) and not (pair and listening(port + 1)) and reserve(port)

    if wanted is not None:
        if not free(wanted):
            raise InputError(f"--port {wanted} is in use; give another, or leave --port out for a free one")
        return wanted
    for port in range(8080, 8180):
        if free(port):
            return port
    raise InputError("ports 8080 to 8179 are all in use; give a free one with --port")


def listening(port: int) -> bool:
    """Whether something on this machine takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def reserve(port: int) -> bool:
    """Keep a port from other searches on this machine until this process ends: NNI takes seconds to open it."""
    path = Path(tempfile.gettempdir()) / f"onepath-port-{port}-{os.getuid()}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the handle stays open on purpose
    except BlockingIOError:
        os.close(handle)
        return False
    return True


def watch(
    running: Manager,
    plan: Plan,
    ended: Callable[[dict[str, Any]], None],
    *,
    stall_minutes: float,
    tick: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Follow an experiment until it is done.

    Args:
        ended: is told each trial that has ended, once; of those from before a resume, the ones with a score.
        stall_minutes: stop when no trial has ended for so long.
        tick: called about once a second.
    Returns:
        NNI's trial jobs.
    Raises:
        Stopped: the tuner, the manager or the disk failed, trials fail one after another, or nothing moves.
    """
    import requests

    seen: set[str] = set()
    before: set[str] | None = None  # trials that had ended when this began
    row, any_success, quiet_polls = 0, False, 0  # failures in a row
    moved = tuner_seen = answered = time.monotonic()
    while True:
        tick()
        try:
            status, jobs = running.get("/check-status"), running.get("/trial-jobs")
            news = [job for job in jobs if job["status"] in ENDED and job["trialJobId"] not in seen]
            before = {job["trialJobId"] for job in news} if before is None else before
            for job in sorted(news, key=lambda job: job.get("endTime") or 0):
                old, good = job["trialJobId"] in before, job["status"] == "SUCCEEDED"
                if good or not old:
                    ended(job)
                seen.add(job["trialJobId"])
                any_success |= good
                if old:
                    continue
                moved = time.monotonic()
                row = 0 if good else row + 1
                if row >= (FAILURES if any_success else FIRST_FAILURES):
                    raise_if_full(plan, running)
                    which = f"{row} trials in a row" if any_success else f"the first {row} trials"
                    raise Stopped(f"{which} failed: {trial_error(running, job['trialJobId'])}")
            answered = time.monotonic()
        except requests.RequestException as error:
            raise_if_full(plan, running)
            if running.process.poll() is not None:
                raise Stopped(f"NNI's manager died ({exit_text(running.process.poll())}){see(running)}") from None
            if time.monotonic() - answered > SILENT_SECONDS:
                raise Stopped(f"NNI's manager stopped answering ({type(error).__name__}){see(running)}") from None
            time.sleep(POLL_SECONDS)
            continue
        raise_if_full(plan, running)
        if status["status"] == "ERROR":
            reason = running.log.error() or "; ".join(status.get("errors") or []) or "no reason given"
            raise Stopped(f"the experiment failed: {reason}{see(running)}")
        if failure := running.log.error():
            raise Stopped(f"the tuner failed: {failure}{see(running, 'dispatcher.log')}")
        if status["status"] in ("DONE", "STOPPED"):
            return jobs
        # the tuner has nothing more to give, and NNI would wait for ever
        quiet = status["status"] == "TUNER_NO_MORE_TRIAL" and len(seen) == len(jobs) and not handed_out(running, plan)
        quiet_polls = quiet_polls + 1 if quiet else 0
        if quiet_polls >= 5:
            return jobs
        now = time.monotonic()
        if tuner_alive(running):
            tuner_seen = now
        elif now - tuner_seen > DEAD_SECONDS:
            raise Stopped(f"the tuner died without a word{see(running, 'dispatcher.log')}")
        if now - moved > stall_minutes * 60:
            raise Stopped(f"no trial ended for {stall_minutes:g} minutes{see(running)}")
        time.sleep(POLL_SECONDS)


def see(running: Manager, file: str = "") -> str:
    return f"; see {running.folder / 'log' / file}"


def exit_text(code: int | None) -> str:
    return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"


def raise_if_full(plan: Plan, running: Manager) -> None:
    """Raises Stopped: a disk that is written to is full; everything else that goes wrong then has this cause."""
    for place in (running.folder, plan.run):
        if place.exists() and (left := shutil.disk_usage(place).free) < FULL_BYTES:
            raise Stopped(
                f"no space left on device: the disk of '{place}' has {left:,} bytes; make room, then add --resume"
            )


def tuner_alive(running: Manager) -> bool:
    """True while the process that runs the tuner lives."""
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(running.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "--exp_params" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    return True
    return False


def handed_out(running: Manager, plan: Plan) -> bool:
    """Whether the tuner waits for a trial: NNI's list lacks those that no machine has taken yet."""
    path = running.folder / "checkpoint" / JOURNAL
    return path.exists() and waiting(read_jsonl(path), plan.tuner.tries)


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


def trial_error(running: Manager, trial: str) -> str:
    """The last line that a trial printed."""
    import requests

    for name in ("stderr", "trial.log", "stdout"):
        text = ""
        with contextlib.suppress(requests.RequestException):
            api = f"http://127.0.0.1:{running.port}/api/v1/nni/trial-file/{trial}/{name}"
            answer = requests.get(api, timeout=20)
            text = answer.text if answer.ok and not answer.text.endswith("is empty.") else ""
        lines = [line for line in text.strip().splitlines() if line.strip()]
        if lines:
            return lines[-1].removeprefix("error: ")
    return f"it printed nothing; see {running.folder / 'environments'}"
