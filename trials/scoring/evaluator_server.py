"""The evaluator that the trials of a search on one machine share. Trials start it (trials/warm.py); nobody has to.

    python -m trials.scoring.evaluator_server NAME RUN SETTINGS DEVICE

It loads the supernet and the images once, and scores all requests that wait as one prefix tree. It leaves when the NNI
managers whose trials have asked it are gone, or when it has had nothing to do for two minutes. Each batch of requests
becomes a line in RUN/evaluator/NAME.log.
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
from typing import Any

from spaces.errors import InputError
from trials.scoring import evaluator_client
from trials.scoring.evaluate_config import Settings
from trials.scoring.scorer import Scorer

IDLE_SECONDS = 120.0


class Request:
    """One trial that waits for a score."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.arch: dict[str, Any] = {}
        self.answered = threading.Event()
        self.gone = False  # the trial was killed

    def answer(self, **values: Any) -> None:
        if not self.answered.is_set():
            with contextlib.suppress(OSError):
                self.link.sendall(json.dumps(values).encode() + b"\n")
            self.answered.set()

    def fail(self, error: Exception) -> None:
        mistake = isinstance(error, InputError)
        text = str(error) if mistake else f"{type(error).__name__}: {error}"
        self.answer(error=text, kind="InputError" if mistake else type(error).__name__)


class Server:
    """Takes requests in threads; `work` scores them in the main thread."""

    def __init__(self, listener: socket.socket, place: Path) -> None:
        self.listener, self.place, self.inode = listener, place, place.stat().st_ino
        self.waiting: queue.Queue[Request] = queue.Queue()
        self.owners: set[tuple[float, ...] | None] = set()
        self.active = time.monotonic()
        self.busy = 0
        self.lock = threading.Lock()
        for task in (self.accept, self.leave):
            threading.Thread(target=task, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                link, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(link,), daemon=True).start()
            except (OSError, RuntimeError):  # too many open files or threads, or a trial that is already gone
                time.sleep(0.1)

    def serve(self, link: socket.socket) -> None:
        """One connection: a request, signs of life until it is answered."""
        _, user = evaluator_client.peer(link)
        request = Request(link)
        with link:
            if user != os.getuid():
                return
            with self.lock:
                self.busy += 1
            try:
                given = evaluator_client.read_line(link)
                request.arch = given["arch"]
                with self.lock:
                    self.owners.add(tuple(given["owner"]) if given.get("owner") else None)
                self.waiting.put(request)
                while not request.answered.wait(evaluator_client.BEAT_SECONDS):
                    link.sendall(b"\n")
            except (OSError, ValueError, KeyError, TypeError, evaluator_client.Lost):
                request.gone = True
            finally:
                with self.lock:
                    self.busy -= 1
                    self.active = time.monotonic()

    def leave(self) -> None:
        """End the process when nobody needs it any more; what is being computed then is for nobody."""
        while True:
            time.sleep(0.5)
            with self.lock:
                orphaned = bool(self.owners) and None not in self.owners and not any(map(alive, self.owners))
                idle = not self.busy and time.monotonic() - self.active > IDLE_SECONDS
            if orphaned or idle:
                self.exit()

    def exit(self) -> None:
        """End the process at once; who still waits asks a fresh one."""
        with contextlib.suppress(OSError):
            if self.place.stat().st_ino == self.inode:  # not that of another, if the folder was removed meanwhile
                self.place.unlink()
        os._exit(0)

    def work(self, scorer: Any) -> None:
        """Score what waits, all of it together, for ever."""
        while True:
            requests = [self.waiting.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    requests.append(self.waiting.get_nowait())
            requests = [request for request in requests if not request.gone]
            began, answered = time.perf_counter(), []
            try:
                answered = self.score(scorer, requests)
            except Exception:  # of one of them; not to the cost of the others
                for request in requests:
                    try:
                        answered += self.score(scorer, [request])
                    except Exception as error:
                        request.fail(error)
            say(scored=answered, requests=len(requests), seconds=round(time.perf_counter() - began, 3))

    def score(self, scorer: Any, requests: list[Request]) -> list[str]:
        """Score requests together and answer them. Returns the ids of those that got a score."""
        import torch

        answered = []
        for arch, result in scorer.results([request.arch for request in requests]):
            broken = isinstance(result, RuntimeError) and not isinstance(result, torch.OutOfMemoryError)
            if broken and scorer.device.type == "cuda":  # such an error stays with a process
                say(error=f"{type(result).__name__}: {result}")
                self.exit()
            for request in requests:
                if request.arch == arch:
                    if isinstance(result, Exception):
                        request.fail(result)
                    else:
                        request.answer(result=result)
                        answered.append(scorer.result_path(arch).stem)
        return answered

    def refuse(self, error: Exception) -> None:
        """Tell everybody who asks within the next second why there will be no scores."""
        end = time.monotonic() + 1
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                self.waiting.get(timeout=0.1).fail(error)


def alive(owner: tuple[float, ...] | None) -> bool:
    """Whether a process is the one it was and no zombie."""
    import psutil

    if owner is None:
        return True
    try:
        process = psutil.Process(int(owner[0]))
        return abs(process.create_time() - owner[1]) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def say(**values: Any) -> None:
    print(json.dumps({"time": round(time.time(), 3), "pid": os.getpid(), **values}), flush=True)


def main(argv: list[str]) -> None:
    name, run, settings, device = argv
    lock = open(Path(run) / evaluator_client.FOLDER / f"{name}.lock", "w")
    for attempt in range(10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends
            break
        except BlockingIOError:
            time.sleep(0.05)  # a trial that looks whether it is held, holds it for a moment
            if attempt == 9:
                return  # another one was faster
    with evaluator_client.folder(Path(run)) as short:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{short}/{name}.sock")  # of one that was killed
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        listener.bind(f"{short}/{name}.sock")
        os.umask(before)
    if os.fork():  # the trial that started this one may be killed, and its children with it
        os._exit(0)
    listener.listen(1024)  # only now: clients are told the process that listens
    server = Server(listener, Path(run) / evaluator_client.FOLDER / f"{name}.sock")
    say(started=name)
    try:
        scorer = Scorer(run, Settings(**json.loads(settings)), device)
    except Exception as error:
        say(error=f"{type(error).__name__}: {error}")
        server.refuse(error)
        return
    say(loaded=scorer.hash)
    server.work(scorer)


if __name__ == "__main__":
    main(sys.argv[1:])
