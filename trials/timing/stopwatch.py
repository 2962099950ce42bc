"""How long networks take on this device, at the pace of the quiet machine.

Networks are timed as they are deployed: in eval mode, BatchNorm folded into the convolutions, in 32 bits, with channels
last in memory (PyTorch) or as ONNX files (ONNX Runtime). The parts of a network are timed while the whole network runs
(`runtimes`): a part that runs alone, again and again, finds its data in the cache and is faster than it ever is in a
network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from trials.timing.passes import WARM_UP, Timing, normalise_by_pace
from trials.timing.runtimes import make_runtime

MIN_FOR_PACE = 8  # networks in a round from which its pace can be told; with fewer, each would be compared with itself


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
