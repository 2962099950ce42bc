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
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 1500.0  # seconds; what takes longer than this hangs

# One server serves all processes of a test session: the first process that is started names its place.
if "ONEPATH_FORK_SERVER" not in os.environ:
    os.environ["ONEPATH_FORK_SERVER"] = tempfile.mkdtemp(prefix="onepath-forks-")
    os.environ["ONEPATH_FORK_SERVER_OWNER"] = str(os.getpid())
PLACE = Path(os.environ["ONEPATH_FORK_SERVER"])


def start_server() -> None:
    """Start the fork server where there is none yet."""
    path = PLACE / "socket"
    with open(PLACE / "lock", "w") as lock, open(PLACE / "log", "ab") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        command = [sys.executable, "-m", "tests.fork_server", str(path), os.environ["ONEPATH_FORK_SERVER_OWNER"]]
        server = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        while not path.exists():
            assert server.poll() is None, (PLACE / "log").read_text()
            time.sleep(0.05)


class Command:
    """A command that runs, with what the tests need of subprocess.Popen.

    Args:
        module: what `python -m` is given; "-c" with code as the first argument.
        files: open files that become its input, output and errors; without them `communicate` tells what it wrote.
        forget: packages that it imports anew, because they look at the environment while they are imported.
    """

    def __init__(
        self,
        module: str,
        *arguments: object,
        environment: Mapping[str, str] = os.environ,
        files: Sequence[int] = (),
        forget: Sequence[str] = (),
    ) -> None:
        self.arguments = [module, *map(str, arguments)]
        self.returncode: int | None = None
        self._output, self._errors = (tempfile.TemporaryFile() for _ in range(2))
        request = {
            "module": module,
            "arguments": self.arguments[1:],
            "environment": dict(environment),
            "folder": str(ROOT),
            "forget": list(forget),
        }
        start_server()
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.connect(str(PLACE / "socket"))
        with open(os.devnull) as nothing:
            own = [nothing.fileno(), self._output.fileno(), self._errors.fileno()]
            socket.send_fds(self._link, [json.dumps(request).encode()], files or own)
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
