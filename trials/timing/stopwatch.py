"""How long networks take on this device, and how long each of their parts takes while the whole network runs.

Networks are timed as they are deployed: in eval mode, BatchNorm folded into the convolutions, channels last in memory
(PyTorch), or as ONNX files (ONNX Runtime), 32 bits. The time of a part is taken between the parts before and after it in one
pass, with the caches and the memory as they then are: parts that are run alone, again and again, are faster than they ever
are in a network. Shapes: N batch, R resolution in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from trials.timing.runtimes import make_runtime

WARM_UP = 3  # rounds that are not counted
MANY = 8  # networks in a round that can tell its pace: of few, one would be compared with itself
QUIET = 0.25  # of the passes: so many are faster than the pace that counts. What else runs on a machine only makes it slower


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a batch, at the pace of the quiet machine."""

    median_ms: float
    spread_ms: float  # interquartile range

    @classmethod
    def of(cls, nanoseconds: Sequence[float] | np.ndarray) -> Timing:
        low, middle, high = np.percentile(nanoseconds, (25, 50, 75)) / 1e6
        return cls(float(middle), float(high - low))


def settle(times: np.ndarray, keys: np.ndarray) -> tuple[list[Timing], np.ndarray]:
    """What each thing takes, and the pace of the machine in each pass, from passes that timed several things each.

    A machine that is shared is now faster, now slower, by a third and for seconds. A pass sees one pace: the median, over
    what it timed, of the time by what that thing takes otherwise. Times are divided by their pass's pace; both are found in
    turns. Paces are relative to the one of the quiet machine.

    Args:
        times: nanoseconds, (passes, things in a pass).
        keys: which thing that was, 0, 1, ..., (passes, things in a pass); each occurs.
    Returns:
        A Timing for each thing; the pace of each pass, 1 and above for most.
    """
    number = int(keys.max()) + 1
    paces = np.ones(len(times))

    def medians() -> np.ndarray:
        even = (times / paces[:, None]).ravel()
        order = np.lexsort((even, keys.ravel()))
        return np.array([np.median(part) for part in np.split(even[order], np.cumsum(np.bincount(keys.ravel()))[:-1])])

    for _ in range(5):
        weights = np.maximum(medians(), 1.0)[keys]  # nanoseconds: what takes long tells more
        ratios = times / weights
        order = np.argsort(ratios, axis=1)
        reached = np.cumsum(np.take_along_axis(weights, order, 1), axis=1)
        middle = (reached < 0.5 * reached[:, -1:]).sum(axis=1, keepdims=True)
        paces = np.take_along_axis(np.take_along_axis(ratios, order, 1), middle, 1)[:, 0]
        paces /= np.quantile(paces, QUIET)
    even = times / paces[:, None]
    return [Timing.of(even[keys == key]) for key in range(number)], paces


def time_networks(
    networks: Sequence[nn.Module],
    resolution: int,
    *,
    device: str = "auto",
    threads: int = 0,
    batch: int = 1,
    rounds: int = 30,
    runtime: str = "torch",
    progress: Callable[[], object] = lambda: None,
) -> list[Timing]:
    """Time whole networks, in turns, so that what disturbs the machine disturbs all of them.

    Many networks tell the pace of the machine (`settle`); of few, the faster half of the rounds counts.

    Args:
        resolution: R of the images, (batch, 3, R, R).
        threads: of a CPU; 0: OMP_NUM_THREADS, or one for each core.
        rounds: passes through all networks, beside a few to warm up.
        progress: called after each round that counts.
    """
    before = torch.get_num_threads()
    where = make_runtime(runtime, device, threads)
    example = torch.randn(batch, 3, resolution, resolution)
    prepared = [where.prepare(network, example) for network in networks]
    x = where.input(example.shape)
    times = np.zeros((WARM_UP + rounds, len(networks)))
    for number, row in enumerate(times):
        row[:] = [where.run([network], x)[0] for network in prepared]
        if number >= WARM_UP:
            progress()
    torch.set_num_threads(before)
    counted = times[WARM_UP:]
    if len(networks) < MANY:
        faster = np.sort(counted, axis=0)[: math.ceil(len(counted) / 2)]
        return [Timing.of(column) for column in faster.T]
    return settle(counted, np.broadcast_to(np.arange(len(networks)), counted.shape))[0]
