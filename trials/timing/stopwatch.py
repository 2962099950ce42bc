"""How long networks take on this device, at the pace of the quiet machine.

Networks are timed as they are deployed: in eval mode, BatchNorm folded into the convolutions, in 32 bits, with channels
last in memory (PyTorch) or as ONNX files (ONNX Runtime). The parts of a network are timed while the whole network runs
(`runtimes`): a part that runs alone, again and again, finds its data in the cache and is faster than it ever is in a
network.
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
MIN_FOR_PACE = 8  # networks in a round from which its pace can be told; with fewer, each would be compared with itself
# Reference pace: the 25 % quantile of the passes. Other work on the machine only ever makes a pass slower, so the fast
# passes show the quiet machine.
QUIET_QUANTILE = 0.25


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a batch, at the pace of the quiet machine."""

    median_ms: float
    spread_ms: float  # interquartile range

    @classmethod
    def of(cls, nanoseconds: Sequence[float] | np.ndarray) -> Timing:
        """Median and spread of repeated measurements."""
        low, middle, high = np.percentile(nanoseconds, (25, 50, 75)) / 1e6
        return cls(float(middle), float(high - low))


def normalise_by_pace(times: np.ndarray, keys: np.ndarray) -> tuple[list[Timing], np.ndarray]:
    """Tell apart what each thing takes and how fast the machine was in each pass; a pass times several things.

    A shared machine becomes faster and slower, by a third and for seconds at a time. A pass has one pace: the weighted
    median, over the things in it, of a thing's time in this pass divided by its usual time. Usual times are medians of
    times that were divided by the pace of their pass. Both are found by turns. Paces are relative to `QUIET_QUANTILE`.

    Args:
        times: nanoseconds, (passes, things in a pass).
        keys: which thing each time belongs to, 0, 1, ..., (passes, things in a pass); each occurs.
    Returns:
        A Timing for each thing. The pace of each pass, (passes,): 1 on the quiet machine, larger when it is slower.
    """
    number = int(keys.max()) + 1
    paces = np.ones(len(times))

    def usual_times() -> np.ndarray:
        normalised = (times / paces[:, None]).ravel()
        order = np.lexsort((normalised, keys.ravel()))
        ends = np.cumsum(np.bincount(keys.ravel()))[:-1]
        return np.array([np.median(times_of_one) for times_of_one in np.split(normalised[order], ends)])

    for _ in range(5):
        # The weights are nanoseconds, because a thing that takes long tells the pace more exactly.
        weights = np.maximum(usual_times(), 1.0)[keys]
        ratios = times / weights
        # Weighted median of each row: the first ratio at which half of the row's weight is reached.
        order = np.argsort(ratios, axis=1)
        reached = np.cumsum(np.take_along_axis(weights, order, 1), axis=1)
        middle = (reached < 0.5 * reached[:, -1:]).sum(axis=1, keepdims=True)
        paces = np.take_along_axis(np.take_along_axis(ratios, order, 1), middle, 1)[:, 0]
        paces /= np.quantile(paces, QUIET_QUANTILE)
    normalised = times / paces[:, None]
    return [Timing.of(normalised[keys == key]) for key in range(number)], paces


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
    """Time whole networks by turns, so that what disturbs the machine disturbs all of them.

    From MIN_FOR_PACE networks on, the pace of the machine is taken out (`normalise_by_pace`). With fewer, only the faster
    half of the rounds counts.

    Args:
        resolution: R, pixels; images are (batch, 3, R, R).
        device: auto, cpu or cuda.
        threads: of a CPU; 0: OMP_NUM_THREADS, or one for each core.
        batch: images at a time.
        rounds: passes through all networks that are counted; WARM_UP more come before them.
        runtime: torch or onnxruntime.
        progress: called after each round that counts.
    Returns:
        A Timing for each network.
    """
    threads_before = torch.get_num_threads()
    used_runtime = make_runtime(runtime, device, threads)
    example = torch.randn(batch, 3, resolution, resolution)
    prepared = [used_runtime.prepare(network, example) for network in networks]
    x = used_runtime.input(example.shape)
    times = np.zeros((WARM_UP + rounds, len(networks)))
    for round_index, row in enumerate(times):
        row[:] = [used_runtime.run([network], x)[0] for network in prepared]
        if round_index >= WARM_UP:
            progress()
    torch.set_num_threads(threads_before)
    counted = times[WARM_UP:]
    if len(networks) < MIN_FOR_PACE:
        faster = np.sort(counted, axis=0)[: math.ceil(len(counted) / 2)]
        return [Timing.of(column) for column in faster.T]
    return normalise_by_pace(counted, np.broadcast_to(np.arange(len(networks)), counted.shape))[0]
