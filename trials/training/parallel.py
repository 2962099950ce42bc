"""Many trainings, several at a time, each in a process of its own, with one progress bar for all of them.

A training leaves everything in its own folder, so that one that is stopped goes on from its checkpoint when its job is given
again. The processes end with the one that started them, however that ends: no orphan writes into a folder that a new
process goes on with.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import torch

from spaces.errors import InputError, Stopped
from trials.common import cli
from trials.training.retrain_config import Config
from trials.training.retrain_loop import train_seed

REPORT_EVERY = 0.3  # seconds between the reports of a training to the bar
Report = Callable[[str, Any], None]  # ("images", so many more), ("earlier", those of a checkpoint) or ("line", text)


@dataclass(frozen=True)
class Job:
    """One training: a network with one seed.

    Attributes:
        config: the options of trials.retrain; the training writes into `config.out`/seedK/.
        description: a network description, see trials.networks.build.
        images: steps times images of a batch, for the progress bar.
        name: what its lines of output begin with; "" for nothing.
        tests: whether the network is tested; otherwise it is measured on the held-out images alone.
    """

    config: Config
    description: Mapping[str, Any]
    seed: int
    images: int
    name: str = ""
    tests: bool = True


class SharedBar:
    """What a training's loop takes for its progress bar; it tells the bar of all trainings."""

    def __init__(self, report: Report, job: Job, earlier: int) -> None:
        self.report, self.job = report, job
        self.images, self.reported = 0, time.monotonic()
        report("earlier", earlier)

    def update(self, images: int) -> None:
        """Count images; several steps are reported together."""
        self.images += images
        if time.monotonic() - self.reported >= REPORT_EVERY:
            self.close()

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        """Losses of several trainings have no place on one bar; log.jsonl has them."""

    def write(self, text: str) -> None:
        """Print a line, unless there are many networks."""
        if not self.job.name:
            print(text)

    def close(self) -> None:
        """Report what is not reported yet."""
        self.report("images", self.images)
        self.images, self.reported = 0, time.monotonic()


class _Lines(io.TextIOBase):
    """A standard output whose lines go to the bar of all trainings, which prints them above itself."""

    def __init__(self, report: Report, name: str) -> None:
        self.report, self.name, self.begun = report, name, ""

    def write(self, text: str) -> int:
        *lines, self.begun = (self.begun + text).split("\n")
        for line in lines:
            self.report("line", f"{self.name}: {line}" if self.name and line else line)
        return len(text)


def train_jobs(
    jobs: Sequence[Job], processes: int, *, title: str, on_done: Callable[[Job], str] = lambda job: ""
) -> dict[int, InputError]:
    """Train and test networks; the jobs are begun in their order.

    Args:
        processes: trainings at the same time; 1 trains in this process.
        title: of the progress bar.
        on_done: called after each training that came to its end; what it returns is printed above the bar.
    Returns:
        Number of a job -> why its training stopped; {} where all came to their end.
    Raises:
        Stopped: a process died.
        OSError: the disk is full, for example; the other trainings are stopped.
    """
    failures: dict[int, InputError] = {}
    done = 0
    out = sys.stdout
    with cli.progress(sum(job.images for job in jobs), desc=title, unit="img") as bar:

        def report(kind: str, value: Any) -> None:
            if kind == "line":
                bar.write(value, file=out)
            elif kind == "earlier":
                cli.count_earlier(bar, value)
            else:
                bar.update(value)

        def finish(number: int, error: InputError | None) -> None:
            nonlocal done
            if error is not None:
                failures[number] = error
                if jobs[number].name:
                    report("line", f"{jobs[number].name}: {error}")
            else:
                done += 1
                line = on_done(jobs[number])
                if line:
                    report("line", line)
            bar.set_postfix_str(f"{done} of {len(jobs)} trained")

        if processes == 1 or len(jobs) == 1:
            for number, job in enumerate(jobs):
                try:
                    _train(job, report)
                except InputError as error:
                    finish(number, error)
                else:
                    finish(number, None)
        else:
            _train_in_pool(jobs, min(processes, len(jobs)), report, finish)
    return failures


def _train_in_pool(
    jobs: Sequence[Job], processes: int, report: Report, finish: Callable[[int, InputError | None], None]
) -> None:
    """`train_jobs` with a process for each of several trainings; arguments as there."""
    context = multiprocessing.get_context("spawn")
    reports = context.SimpleQueue()
    threads = max(1, torch.get_num_threads() // processes)
    with ProcessPoolExecutor(processes, context, _begin_process, (reports, threads)) as pool:
        try:
            # The processes start here, and inherit that Ctrl-C is held back: it is for the first process alone.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                futures: dict[Future[None], int] = {
                    pool.submit(_train_here, job): number for number, job in enumerate(jobs)
                }
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            waiting = set(futures)
            while waiting:
                ended, waiting = wait(waiting, timeout=REPORT_EVERY, return_when=FIRST_COMPLETED)
                while not reports.empty():
                    report(*reports.get())
                for future in sorted(ended, key=futures.__getitem__):
                    try:
                        future.result()
                    except InputError as error:
                        finish(futures[future], error)
                    else:
                        finish(futures[future], None)
        except BaseException as error:  # Ctrl-C, a full disk: the others go on from their checkpoints another time
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise Stopped(
                    "a training process died, perhaps for want of memory; run the same command again with a lower --jobs"
                ) from None
            raise


_report: Report | None = None  # of a process of the pool: sends a report to the process that started it


def _begin_process(reports: Any, threads: int) -> None:
    """Prepare a process of the pool.

    Args:
        reports: the queue that takes what the progress bar is told.
        threads: that torch may use.
    """
    global _report
    _report = lambda kind, value: reports.put((kind, value))  # noqa: E731
    torch.set_num_threads(threads)
    follow_parent()


def follow_parent() -> None:
    """Let a process of a pool end with the one that started it, however that ends, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches the whole group; the first process ends the others
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _train_here(job: Job) -> None:
    """Train in a process of the pool."""
    assert _report is not None
    _train(job, _report)


def _train(job: Job, report: Report) -> None:
    """Train and test one network.

    Raises:
        InputError: the training stopped, or its folder is damaged.
    """
    with _output_to(report, job.name):
        try:
            make_bar = lambda _, __, earlier: SharedBar(report, job, earlier)  # noqa: E731
            train_seed(job.config, job.description, job.seed, make_bar, tests=job.tests)
        except torch.OutOfMemoryError:
            raise Stopped(f"seed {job.seed}: the memory of the GPU is used up; lower --jobs or --batch-size") from None


@contextlib.contextmanager
def _output_to(report: Report, name: str) -> Iterator[None]:
    """Print lines above the bar while the body runs."""
    lines = _Lines(report, name)
    with contextlib.redirect_stdout(lines):
        yield
