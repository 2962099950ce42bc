"""Request a score from the evaluator of this machine, so that a trial needs neither PyTorch nor the supernet.

The first trial on a machine starts an evaluator (evaluator_server.py); the next ones find it through a Unix socket in the
run's folder. There is one evaluator for each combination of supernet, data, settings and GPU. Requests and answers are
lines of JSON. If the evaluator dies, a fresh one is started, once; if that is lost too, or where sockets cannot be had,
the trial computes the score itself. Neither PyTorch nor the rest of what a score needs is imported here, because a trial
should start in the time that NNI itself takes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from spaces.errors import InputError
from spaces.files import CLONE
from trials.scoring.score_store import ScoreStore

FOLDER = "evaluator"  # in the run: sockets and logs of its evaluators; each holds a lock on its log while it lives
ATTEMPTS = 2  # evaluators that a request may use before the trial computes the score itself
STARTS = 5  # times that one attempt starts an evaluator
START_SECONDS = 60.0  # limit of the start; a fresh evaluator listens at once and loads the supernet afterwards
BEAT_SECONDS = 5.0  # a working evaluator sends a sign of life this often
SILENT_SECONDS = 60.0  # an evaluator that sends nothing for this long counts as dead


class EvaluatorLost(Exception):
    """The evaluator died or cannot be reached."""


def request_score(store: ScoreStore, device: str, arch: Mapping[str, Any], **means: Any) -> dict[str, Any] | None:
    """Let the evaluator score an architecture.

    Args:
        store: of the run, its supernet and the settings of the score.
        device: auto, cpu or cuda.
        means: further arguments of the evaluator's Scorer.
    Returns:
        The record of the score, see `ScoreStore.record`. None: no evaluator can be had; compute the score here.
    Raises:
        InputError: the evaluator cannot work with this run.
        RuntimeError: this architecture cannot be scored, for example for lack of memory.
    """
    run, name = store.run, evaluator_name(store, device, means)
    arguments = [str(run.resolve()), json.dumps(vars(store.settings)), device, json.dumps(means)]
    request = {"arch": dict(arch), "owner": owner()}
    for attempt in range(ATTEMPTS):
        try:
            with connected(run, name, arguments) as link:
                link.sendall(json.dumps(request).encode() + b"\n")
                try:
                    answer = read_line(link)
                except TimeoutError:
                    end_peer(link, run / FOLDER / f"{name}.log")
                    raise EvaluatorLost(f"silent for {SILENT_SECONDS:g} s, ended") from None
        except (OSError, EvaluatorLost, ValueError) as error:
            last = attempt + 1 == ATTEMPTS
            then = "this trial evaluates by itself" if last else "asking a fresh one"
            print(f"warm evaluator: {error or type(error).__name__}; {then}", file=sys.stderr)
            continue
        if "result" in answer:
            return answer["result"]
        raise InputError(answer["error"]) if answer.get("kind") == "InputError" else RuntimeError(answer["error"])
    return None


def evaluator_name(store: ScoreStore, device: str, means: Mapping[str, Any]) -> str:
    """Name of the evaluator that computes these scores: a hash of everything that they depend on.

    The machine, its visible GPUs and the time of the newest source file are part of it, so an evaluator that runs old code
    is never asked again.
    """
    sources = [path for folder in ("spaces", "trials") for path in (CLONE / folder).rglob("*.py")]
    identity = [
        platform.node(),
        os.environ.get("CUDA_VISIBLE_DEVICES"),
        str(CLONE),
        max(path.stat().st_mtime_ns for path in sources),
        store.supernet_hash,
        (store.run / "config.json").read_text(),
        vars(store.settings),
        device,
        dict(means),
    ]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def read_line(link: socket.socket) -> dict[str, Any]:
    """Wait for the next message; empty lines are signs of life.

    Raises:
        EvaluatorLost: the other end closed the connection.
        TimeoutError: nothing came for SILENT_SECONDS.
    """
    link.settimeout(SILENT_SECONDS)
    with link.makefile("rb") as file:
        for line in file:
            if line.strip():
                return json.loads(line)
    raise EvaluatorLost("it is gone")


def peer(link: socket.socket) -> tuple[int, int]:
    """Process id and user id of the other end of a connection, according to the kernel."""
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[:2]


def end_peer(link: socket.socket, log: Path) -> None:
    """Kill an evaluator that hangs, and wait until it has released the lock on its log."""
    process, user = peer(link)
    if user == os.getuid() and process > 1:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
    end = time.monotonic() + 5
    while held(log) and time.monotonic() < end:
        time.sleep(0.05)


def owner() -> list[float] | None:
    """The NNI manager that this trial belongs to; on a worker, NNI's process that runs trials there.

    Returns:
        Process id and start time in seconds since 1970; None where no such process is a parent of the trial.
    """
    with contextlib.suppress(psutil.Error):
        for parent in psutil.Process().parents():
            if any("nni_node" in word for word in parent.cmdline()):
                return [parent.pid, parent.create_time()]
    return None


@contextlib.contextmanager
def socket_folder(run: Path) -> Iterator[str]:
    """Make the run's folder of sockets, private to this user, and yield a short path to it.

    The address of a Unix socket has at most 108 bytes, and the path of a run may be longer.
    """
    folder = run / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    handle = os.open(folder, os.O_RDONLY)
    try:
        short = f"/proc/self/fd/{handle}"
        yield short if os.path.exists(short) else str(folder)
    finally:
        os.close(handle)


@contextlib.contextmanager
def connected(run: Path, name: str, arguments: list[str]) -> Iterator[socket.socket]:
    """Connect to the evaluator of this name; start it if it does not run.

    Args:
        arguments: what evaluator_server.py is started with, after the name.
    Raises:
        EvaluatorLost: it does not start.
    """
    end = time.monotonic() + START_SECONDS
    started: subprocess.Popen[bytes] | None = None
    starts = 0
    with socket_folder(run) as short, socket.socket(socket.AF_UNIX) as link:
        while True:
            try:
                link.connect(f"{short}/{name}.sock")
                break
            except (FileNotFoundError, ConnectionRefusedError):
                pass
            ready = started is None or started.poll() == 0  # one that finds another starting exits with 0
            if ready and not held(run / FOLDER / f"{name}.log"):
                starts += 1
                started = start(run, name, arguments)
            if (started and started.poll()) or starts > STARTS or time.monotonic() > end:
                raise EvaluatorLost(f"it does not start; see {run / FOLDER / name}.log")
            time.sleep(0.05)
        yield link


def start(run: Path, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start an evaluator. The process that is returned exits as soon as the evaluator listens."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("NNI_", "ONEPATH_"))}
    with open(run / FOLDER / f"{name}.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "trials.scoring.evaluator_server", name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=CLONE,
            env=environment,
            start_new_session=True,
        )


def held(path: Path) -> bool:
    """Whether a process holds the lock on this file."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def remove_dead_sockets(run: Path) -> None:
    """Remove the sockets of evaluators that were killed; those that live hold the lock on their log."""
    for path in (run / FOLDER).glob("*.sock"):
        with contextlib.suppress(OSError), open(path.with_suffix(".log"), "rb") as log:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
