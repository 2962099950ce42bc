"""Commands in processes of their own, as a user runs them: output, errors, exit code, signals."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 500.0  # seconds; what takes longer than this hangs

# One server serves all processes of a test session: the first process that is started names its place.
PLACE = Path(os.environ.setdefault("ONEPATH_FORK_SERVER", tempfile.mkdtemp(prefix="onepath-forks-")))
OWNER = os.environ.setdefault("ONEPATH_FORK_SERVER_OWNER", str(os.getpid()))


def connect() -> socket.socket:
    """A connection to the fork server, which is started where there is none."""
    path = PLACE / "socket"
    with open(PLACE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            log = open(PLACE / "log", "ab")
            command = [sys.executable, "-m", "tests.fork_server", str(path), OWNER]
            server = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            while not path.exists():
                assert server.poll() is None, (PLACE / "log").read_text()
                time.sleep(0.05)
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.connect(str(path))
    return link


class Command:
    """A command that runs, with what the tests need of subprocess.Popen."""

    def __init__(self, module: str, *arguments: object, environment: Mapping[str, str] = os.environ) -> None:
        self.arguments = [module, *map(str, arguments)]
        self.returncode: int | None = None
        self._output, self._errors = (tempfile.TemporaryFile() for _ in range(2))
        request = {
            "module": module,
            "arguments": self.arguments[1:],
            "environment": dict(environment),
            "folder": str(ROOT),
        }
        self._link = connect()
        files = [self._output.fileno(), self._errors.fileno()]
        socket.send_fds(self._link, [json.dumps(request).encode()], files)
        self.pid = int(self._link.recv(100))

    def poll(self, seconds: float = 0.0) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None and select.select([self._link], [], [], seconds)[0]:
            self.returncode = int(self._link.recv(100))
            self._link.close()
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit code, when it has ended."""
        code = self.poll(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.arguments, timeout, *self.written())
        return code

    def written(self) -> tuple[str, str]:
        """What it has written so far: output, errors."""
        texts = []
        for file in (self._output, self._errors):
            size = os.fstat(file.fileno()).st_size
            texts.append(os.pread(file.fileno(), size, 0).decode())
        return texts[0], texts[1]

    def communicate(self, timeout: float = PATIENCE) -> tuple[str, str]:
        """Output and errors, when it has ended."""
        self.wait(timeout)
        return self.written()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def onepath(command: str, *arguments: object, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `python -m trials.COMMAND` as a user does.

    Args:
        check: whether it must succeed.
    """
    process = Command(f"trials.{command}", *arguments)
    output, errors = process.communicate()
    assert not check or process.returncode == 0, output + errors
    return subprocess.CompletedProcess(process.arguments, process.returncode or 0, output, errors)


def assert_one_clear_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """A user's mistake: non-zero exit, one line, no traceback."""
    assert done.returncode not in (0, 120), done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]
