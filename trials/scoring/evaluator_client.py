"""Ask for a score of an evaluator that stays warm: a trial then needs neither PyTorch nor the supernet in its own process.

The first trial starts trials/scoring/evaluator_server.py on its machine, the next ones find it by a Unix socket in the run folder, one
for each supernet, data, settings and GPU. Requests and answers are lines of JSON. If it dies, a fresh one is started, once;
then, or where sockets cannot be had, the trial computes the score itself. Standard library and psutil only: a trial
starts in the time that NNI takes.
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

from spaces.errors import InputError
from spaces.files import CLONE

FOLDER = "evaluator"  # in the run
ATTEMPTS = 2
STARTS = 5  # of one attempt
START_SECONDS = 60.0  # a fresh one listens at once, and loads the supernet afterwards
BEAT_SECONDS = 5.0  # it says so often that it is alive
SILENT_SECONDS = 60.0  # then it counts as dead


class Lost(Exception):
    """The evaluator died, or cannot be reached."""


def key(run: Path, supernet: str, settings: Mapping[str, Any], device: str) -> str:
    """Name of the evaluator that gives these scores on this machine and GPU.

    Args:
        supernet: hash of supernet.pt.
    """
    parts = [
        platform.node(),
        os.environ.get("CUDA_VISIBLE_DEVICES"),
        str(CLONE),
        max(
            path.stat().st_mtime_ns for part in ("spaces", "trials") for path in (CLONE / part).rglob("*.py")
        ),  # its code
        supernet,
        (run / "config.json").read_text(),
        dict(settings),
        device,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def ask(
    run: Path, supernet: str, settings: Mapping[str, Any], device: str, arch: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The score of an architecture from the warm evaluator; None: there is none to be had, evaluate it here.

    Raises:
        InputError: the evaluator cannot work with this run.
        RuntimeError: this architecture cannot be scored, for example out of memory.
    """
    name = key(run, supernet, settings, device)
    request = {"arch": dict(arch), "owner": owner()}
    for attempt in range(ATTEMPTS):
        try:
            with connected(run, name, [str(run.resolve()), json.dumps(dict(settings)), device]) as link:
                link.sendall(json.dumps(request).encode() + b"\n")
                try:
                    answer = read_line(link)
                except TimeoutError:
                    end_peer(link, run / FOLDER / f"{name}.lock")
                    raise Lost(f"silent for {SILENT_SECONDS:g} s, ended") from None
        except (OSError, Lost, ValueError) as error:
            last = attempt + 1 == ATTEMPTS
            then = "this trial evaluates by itself" if last else "asking a fresh one"
            print(f"warm evaluator: {error or type(error).__name__}; {then}", file=sys.stderr)
            continue
        if "result" in answer:
            return answer["result"]
        raise InputError(answer["error"]) if answer.get("kind") == "InputError" else RuntimeError(answer["error"])
    return None


def read_line(link: socket.socket) -> dict[str, Any]:
    """The next line that is not empty; empty ones are a sign of life. Raises: Lost."""
    link.settimeout(SILENT_SECONDS)
    with link.makefile("rb") as file:
        for line in file:
            if line.strip():
                return json.loads(line)
    raise Lost("it is gone")


def peer(link: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as the kernel knows them."""
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[:2]


def end_peer(link: socket.socket, lock: Path) -> None:
    """Kill an evaluator that hangs, and wait until it is gone."""
    process, user = peer(link)
    if user == os.getuid() and process > 1:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)
    end = time.monotonic() + 5
    while held(lock) and time.monotonic() < end:
        time.sleep(0.05)


def owner() -> list[float] | None:
    """Process and start time of the NNI manager (or, on a worker, keeper) that this trial belongs to."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for parent in psutil.Process().parents():
            if any("nni_node" in word for word in parent.cmdline()):
                return [parent.pid, parent.create_time()]
    return None


@contextlib.contextmanager
def folder(run: Path) -> Iterator[str]:
    """A path to the run's folder of sockets that is short, as an address has to be (108 bytes)."""
    place = run / FOLDER
    place.mkdir(mode=0o700, exist_ok=True)
    place.chmod(0o700)
    handle = os.open(place, os.O_RDONLY)
    try:
        short = f"/proc/self/fd/{handle}"
        yield short if os.path.exists(short) else str(place)
    finally:
        os.close(handle)


@contextlib.contextmanager
def connected(run: Path, name: str, arguments: list[str]) -> Iterator[socket.socket]:
    """A connection to the evaluator, which is started if it is not there.

    Raises:
        Lost: it does not start.
    """
    end = time.monotonic() + START_SECONDS
    started: subprocess.Popen[bytes] | None = None
    starts = 0
    with folder(run) as short, socket.socket(socket.AF_UNIX) as link:
        while True:
            try:
                link.connect(f"{short}/{name}.sock")
                break
            except (FileNotFoundError, ConnectionRefusedError):
                pass
            ready = started is None or started.poll() == 0  # one that finds another starting ends with 0
            if ready and not held(run / FOLDER / f"{name}.lock"):
                starts += 1
                started = start(run, name, arguments)
            if (started and started.poll()) or starts > STARTS or time.monotonic() > end:
                raise Lost(f"it does not start; see {run / FOLDER / name}.log")
            time.sleep(0.05)
        yield link


def start(run: Path, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start an evaluator; the process that is returned ends as soon as it listens."""
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
    """Whether a process holds this lock."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
