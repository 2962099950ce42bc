"""The evaluator that all trials of a search on one machine share. Trials start it (evaluator_client.py); nobody has to.

    python -m trials.scoring.evaluator_server NAME RUN SETTINGS DEVICE MEANS

It loads the supernet and the images once, and scores all waiting requests as one prefix tree. It exits when the NNI
managers whose trials have sent requests are gone, or after two minutes without a request. Each batch of requests becomes
a line in RUN/evaluator/NAME.log.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import psutil
import torch

from spaces.arch import arch_id
from spaces.errors import InputError
from trials.scoring import evaluator_client
from trials.scoring.evaluate_config import Settings
from trials.scoring.scorer import Scorer

IDLE_SECONDS = 120.0  # without a request, after which the process exits


class Request:
    """One trial that waits for a score.

    Attributes:
        answered: set once an answer was sent.
        gone: the trial closed its connection, for example because it was killed.
    """

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.arch: dict[str, Any] = {}
        self.answered = threading.Event()
        self.gone = False

    def answer(self, **values: Any) -> None:
        """Send the answer, unless one was sent before."""
        if not self.answered.is_set():
            with contextlib.suppress(OSError):
                self.link.sendall(json.dumps(values).encode() + b"\n")
            self.answered.set()

    def fail(self, error: Exception) -> None:
        """Answer with an error; `kind` tells the client which exception to raise."""
        mistake = isinstance(error, InputError)
        text = str(error) if mistake else f"{type(error).__name__}: {error}"
        self.answer(error=text, kind="InputError" if mistake else type(error).__name__)


class Server:
    """Threads receive requests and decide when to exit; `work` scores the requests in the main thread.

    Args:
        listener: socket that already listens.
        socket_path: its file, which is removed at the end.
    """

    def __init__(self, listener: socket.socket, socket_path: Path) -> None:
        self.listener, self.socket_path = listener, socket_path
        self.inode = socket_path.stat().st_ino
        self.waiting: queue.Queue[Request] = queue.Queue()
        self.owners: set[tuple[float, ...] | None] = set()  # managers of the trials, see evaluator_client.owner
        self.last_active = time.monotonic()
        self.connections = 0
        self.lock = threading.Lock()  # guards owners, last_active and connections
        for task in (self.accept, self.exit_when_unused):
            threading.Thread(target=task, daemon=True).start()

    def accept(self) -> NoReturn:
        """Give every new connection a thread of its own."""
        while True:
            try:
                link, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(link,), daemon=True).start()
            except (OSError, RuntimeError):  # too many open files or threads, or a trial that is already gone
                time.sleep(0.1)

    def serve(self, link: socket.socket) -> None:
        """Handle one connection: read the request, then send signs of life until it is answered."""
        _, user = evaluator_client.peer(link)
        request = Request(link)
        with link:
            if user != os.getuid():
                return
            with self.lock:
                self.connections += 1
            try:
                message = evaluator_client.read_line(link)
                request.arch = message["arch"]
                with self.lock:
                    self.owners.add(tuple(message["owner"]) if message.get("owner") else None)
                self.waiting.put(request)
                while not request.answered.wait(evaluator_client.BEAT_SECONDS):
                    link.sendall(b"\n")
            except (OSError, ValueError, KeyError, TypeError, evaluator_client.EvaluatorLost):
                request.gone = True
            finally:
                with self.lock:
                    self.connections -= 1
                    self.last_active = time.monotonic()

    def exit_when_unused(self) -> NoReturn:
        """End the process when no manager needs it any more; nobody waits for what is being computed then."""
        while True:
            time.sleep(0.5)
            with self.lock:
                orphaned = bool(self.owners) and None not in self.owners and not any(map(alive, self.owners))
                idle = not self.connections and time.monotonic() - self.last_active > IDLE_SECONDS
            if orphaned or idle:
                self.exit()

    def exit(self) -> NoReturn:
        """End the process at once. Clients that still wait start a new evaluator."""
        with contextlib.suppress(OSError):
            # The file may be the socket of another evaluator, if the folder was removed and made anew meanwhile.
            if self.socket_path.stat().st_ino == self.inode:
                self.socket_path.unlink()
        os._exit(0)

    def work(self, scorer: Scorer) -> NoReturn:
        """For ever: wait for requests, then score all that have arrived as one group."""
        while True:
            requests = [self.waiting.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    requests.append(self.waiting.get_nowait())
            requests = [request for request in requests if not request.gone]
            began, scored = time.perf_counter(), []
            try:
                scored = self.score(scorer, requests)
            except Exception:  # caused by one of the requests, which must not cost the others their scores
                for request in requests:
                    try:
                        scored += self.score(scorer, [request])
                    except Exception as error:
                        request.fail(error)
            log(scored=scored, requests=len(requests), seconds=round(time.perf_counter() - began, 3))

    def score(self, scorer: Scorer, requests: list[Request]) -> list[str]:
        """Score requests as one group and answer them.

        Returns:
            The `arch_id` of each request that got a score.
        """
        scored = []
        for arch, result in scorer.results([request.arch for request in requests]):
            broken = isinstance(result, RuntimeError) and not isinstance(result, torch.OutOfMemoryError)
            if broken and scorer.device.type == "cuda":  # a process cannot use its GPU again after such an error
                log(error=f"{type(result).__name__}: {result}")
                self.exit()
            for request in requests:
                if request.arch == arch:
                    if isinstance(result, Exception):
                        request.fail(result)
                    else:
                        request.answer(result=result)
                        scored.append(arch_id(arch))
        return scored

    def refuse(self, error: Exception) -> None:
        """For one second, answer every request with the reason why there will be no scores."""
        end = time.monotonic() + 1
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                self.waiting.get(timeout=0.1).fail(error)


def alive(owner: tuple[float, ...] | None) -> bool:
    """Whether a process still runs.

    Args:
        owner: process id and start time. The start time tells it from a later process with the same id. None, a trial
            without a manager, counts as alive.
    """
    if owner is None:
        return True
    try:
        process = psutil.Process(int(owner[0]))
        return abs(process.create_time() - owner[1]) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def log(**values: Any) -> None:
    """Print a line of JSON; the standard output of this process is its log file."""
    print(json.dumps({"time": round(time.time(), 3), "pid": os.getpid(), **values}), flush=True)


def main(argv: list[str]) -> None:
    """Become the evaluator NAME, unless another process already is."""
    name, run, settings, device, means = argv

    # The lock is held until this process ends. A client that tests it also holds it for a moment, hence ten attempts.
    lock = open(Path(run) / evaluator_client.FOLDER / f"{name}.log", "ab")
    for attempt in range(10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.05)
            if attempt == 9:
                return  # another process was faster

    # Bind the socket; its file is for this user alone.
    with evaluator_client.socket_folder(Path(run)) as short:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{short}/{name}.sock")  # left by an evaluator that was killed
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        listener.bind(f"{short}/{name}.sock")
        os.umask(before)

    # Fork, because the trial that started this process may be killed together with its children. Listen only afterwards:
    # the kernel tells clients the process that called `listen`.
    if os.fork():
        os._exit(0)
    listener.listen(1024)
    server = Server(listener, Path(run) / evaluator_client.FOLDER / f"{name}.sock")
    log(started=name)

    # Load the supernet while requests already arrive.
    try:
        scorer = Scorer(run, Settings(**json.loads(settings)), device, **json.loads(means))
    except Exception as error:
        log(error=f"{type(error).__name__}: {error}")
        server.refuse(error)
        server.exit()
    log(loaded=scorer.store.supernet_hash)
    server.work(scorer)


if __name__ == "__main__":
    main(sys.argv[1:])
