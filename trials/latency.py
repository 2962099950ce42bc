"""How long networks take on this machine, measured side by side."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from trials.bn import fold_bn
from trials.device import use_cuda


@dataclass(frozen=True)
class Timing:
    median_ms: float
    spread_ms: float  # interquartile range


def time_networks(
    networks: Sequence[nn.Module],
    resolution: int,
    *,
    device: str = "auto",
    threads: int = 0,
    batch: int = 1,
    rounds: int = 30,
) -> list[Timing]:
    """Milliseconds of a forward pass of each network, with BatchNorm folded, all in turn in every round.

    Args:
        threads: of PyTorch on the CPU; 0: as they are.
    Raises:
        InputError: a GPU is asked for and there is none.
    """
    where = torch.device("cuda" if use_cuda(device) else "cpu")
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        copies = [fold_bn(copy.deepcopy(network).eval()) for network in networks]
        ready = [network.to(where).to(memory_format=torch.channels_last) for network in copies]  # type: ignore[call-overload]
        images = torch.rand(batch, 3, resolution, resolution, device=where).to(memory_format=torch.channels_last)
        times: list[list[float]] = [[] for _ in ready]
        with torch.inference_mode():
            for number in range(-3, rounds):  # the first three warm up
                for network, measured in zip(ready, times, strict=True):
                    if where.type == "cuda":
                        torch.cuda.synchronize()
                    began = time.perf_counter()
                    network(images)
                    if where.type == "cuda":
                        torch.cuda.synchronize()
                    if number >= 0:
                        measured.append(1000 * (time.perf_counter() - began))
    finally:
        torch.set_num_threads(before)
    quartiles = [statistics.quantiles(measured, n=4) for measured in times]
    return [Timing(q[1], q[2] - q[0]) for q in quartiles]
