"""How many threads compute on a CPU: as many as there are cores that nothing else uses when a run begins.

The threads of a training wait for each other after every layer. Where another program has one of the cores, all wait for
the thread that shares it: two threads are then two to five times slower than one (docs/method.md has the table). The last
bits of a result depend on the number, so a run keeps the one that it began with, in its config.json; what is computed of a
supernet takes that of the supernet's run. OMP_NUM_THREADS decides where it is set.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from trials.common import machine, run_files

LOOK = 0.5  # seconds for which the cores are watched
NEARLY = 0.75  # a core is free that is idle for so much of them


def use_free_cores(run: str | Path) -> None:
    """Let torch compute with the threads that a run began with; where it has not begun, with one for each free core.

    Args:
        run: the folder of the run.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        return
    import torch

    most = _most_threads()
    began = run_files.read_if_there(Path(run) / "config.json", "run configuration")
    if began is not None:
        torch.set_num_threads(min(began.get("threads") or most, most))
        return
    threads = min(free_cores(), most)
    torch.set_num_threads(threads)
    if threads < most and machine.rank_and_world()[0] == 0:
        print(f"threads: {threads} of {most}, other programs use the rest; OMP_NUM_THREADS={most} takes them all")


@functools.cache
def _most_threads() -> int:
    """The number of threads that torch would take by itself, but no more than there are cores."""
    import torch

    return min(torch.get_num_threads(), machine.usable_cores())


def free_cores() -> int:
    """Number of cores that this process may use and that nothing else uses at the moment, at least 1."""
    watched: Sequence[Any] = psutil.cpu_times_percent(LOOK, percpu=True)
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(watched))
    # in some containers nothing is counted, not even idle time
    idle = [times.idle / 100 if any(times) else 1.0 for core, times in enumerate(watched) if core in own]
    return max(1, min(math.floor(sum(idle) + 1 - NEARLY), machine.usable_cores()))
