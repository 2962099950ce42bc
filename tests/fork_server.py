"""Runs commands in processes of their own that start at once: it has imported the libraries, and forks for each.

    python -m tests.fork_server SOCKET OWNER

`tests.commands` starts it and talks to it. A request is one packet of JSON, {"module", "arguments", "environment",
"folder", "forget"}, with open files for the child's input, output and errors. The answer is the child's process id, and
when the child has ended a second packet with its exit code (negative: the signal that killed it). The child is a
process like any other: it can be killed, and it has its own signals, environment, threads and random numbers. The
server ends when the process OWNER has ended.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import traceback
from typing import Any, NoReturn

COMMANDS = [
    f"trials.{name}"
    for name in ["supernet", "search", "evaluate", "retrain", "certify", "export", "report", "space", "data", "latency"]
]
LIBRARIES = ["nni.nas.evaluator.pytorch", "torchvision", "sklearn.datasets", "torch.utils.tensorboard", "timm"]


def serve(path: str, owner: int) -> dict[str, Any]:
    """Answer requests until the owner ends. Returns only in a child: what it is asked to run."""
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno())
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{path}.new")
    listener.listen(64)
    os.rename(f"{path}.new", path)  # who finds it can connect
    children: dict[int, socket.socket] = {}
    while os.path.exists(f"/proc/{owner}"):
        ready, _, _ = select.select([listener, wake], [], [], 1.0)
        if listener in ready:
            link, _ = listener.accept()
            packet, files, _, _ = socket.recv_fds(link, 1 << 20, 3)
            if not packet:  # who knocked has ended
                link.close()
                continue
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                for end in (wake, woken, listener, link, *children.values()):
                    end.close()
                request = json.loads(packet)
                prepare(request, files)
                return request
            children[pid] = link
            for file in files:
                os.close(file)
            with contextlib.suppress(OSError):  # a test may kill who asked before the answer is there
                link.send(str(pid).encode())
        with contextlib.suppress(BlockingIOError):
            wake.recv(1000)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                with contextlib.suppress(OSError), children.pop(pid) as link:
                    link.send(str(os.waitstatus_to_exitcode(status)).encode())
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    sys.exit()


def prepare(request: dict[str, Any], files: list[int]) -> None:
    """Make the forked process what `python -m MODULE` starts with."""
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    for name in [*sys.modules]:
        if name.partition(".")[0] in request["forget"]:
            del sys.modules[name]
    tempfile.tempdir = None  # it is looked up anew in this environment


def run(module: str, arguments: list[str]) -> None:
    """What `python -m MODULE ARGUMENTS` does, or `python -c CODE`."""
    if module == "-c":
        sys.argv = ["-c", *arguments[1:]]
        exec(arguments[0], {"__name__": "__main__"})
        return
    package, _, name = module.rpartition(".")
    if sys.modules.pop(module, None):
        delattr(sys.modules[package], name)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def leave(code: object) -> NoReturn:
    """End as the interpreter does, but for taking all modules apart: that takes two seconds of a forked process."""
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    for library in (*COMMANDS, *LIBRARIES):
        importlib.import_module(library)
    gc.freeze()  # a collection in a child would copy the memory that it shares
    assert len(os.listdir("/proc/self/task")) == 1, "a library has started a thread, which a fork would lose"
    request = serve(sys.argv[1], int(sys.argv[2]))
    try:
        run(request["module"], request["arguments"])
    except SystemExit as error:
        leave(error.code)
    except BaseException:
        traceback.print_exc()
        leave(1)
    leave(0)
