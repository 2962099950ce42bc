"""Part `shuffle`: what the channel shuffle of ShuffleNetV2 copies, and other ways to do it, at the sizes of the stages of SPOS.

Shapes: M pixels of a batch, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.gpu.measure import steady_speed
from benchmarks.gpu.results import Results, Row
from benchmarks.gpu.scale import Scale
from trials.networks.fused_conv import Kernel, pointwise

PART = "shuffle"
STAGES = ((64, 8), (160, 16), (320, 32))  # channels, and the resolution of an image over that of the stage
REPEATS = 20  # of a step


@torch.no_grad()
def measure(results: Results, scale: Scale, device: torch.device) -> None:
    """The convolution that takes the odd channels, and the concatenation, of each stage."""
    for channels, factor in STAGES:
        side = max(1, scale.resolution // factor)
        for dtype in (torch.float32, torch.bfloat16):
            at = f"{channels} channels at {side} px, {str(dtype).removeprefix('torch.')}"
            with results.attempt(PART, at, 2) as begins:
                if begins:
                    x = torch.randn(scale.scoring_batch, channels, side, side, device=device, dtype=dtype)
                    x = x.contiguous(memory_format=torch.channels_last)
                    compare(results, scale, f"convolution of odd, {at}", convolutions(x), x)
                    compare(results, scale, f"concatenation, {at}", concatenations(x), x)


def convolutions(x: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """A 1x1 convolution of the odd channels of x, from a copy of them and from all."""
    half = x.shape[1] // 2
    weight = torch.randn(half, half, 1, 1, device=x.device, dtype=x.dtype)
    zeros = torch.zeros_like(weight)
    whole = torch.stack((zeros, weight), 2).flatten(1, 2)
    copied, whole_kernel = (Kernel(w, weight[:, 0, 0, 0].contiguous()) for w in (weight, whole))
    return {
        "a copy": lambda: pointwise(x[:, 1::2], copied, relu=True),
        "all channels": lambda: pointwise(x, whole_kernel, relu=True),
    }


def concatenations(x: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """The even channels of x beside what a branch has made, as maps and as matrices (M, C)."""
    main = x[:, 1::2].contiguous(memory_format=torch.channels_last)
    rows, own = (map_.permute(0, 2, 3, 1).flatten(0, 2) for map_ in (x, main))
    return {
        "maps": lambda: torch.cat((x[:, 0::2], main), 1),
        "matrices, one kernel": lambda: torch.cat((rows[:, 0::2], own), 1),
        "gathered by index": gathered(rows, own),
    }


def gathered(rows: torch.Tensor, own: torch.Tensor) -> Callable[[], torch.Tensor]:
    """The even columns by `index_select`, then a concatenation of two matrices that are contiguous."""
    even = torch.arange(0, rows.shape[1], 2, device=rows.device)
    return lambda: torch.cat((rows.index_select(1, even), own), 1)


def compare(
    results: Results, scale: Scale, title: str, ways: dict[str, Callable[[], torch.Tensor]], x: torch.Tensor
) -> None:
    """A row for each way; the first is what others are compared with."""
    first, peer = None, ""
    for name, work in ways.items():

        def step(work: Callable[[], torch.Tensor] = work) -> None:
            for _ in range(REPEATS):
                work()

        speed = steady_speed(step, REPEATS * len(x), x.device, warmup=2, steps=scale.steps, rounds=scale.rounds)
        what, ratio = f"{title}: {name}", speed.median / first if first else None
        note = f"{1e6 * len(x) / speed.median:.0f} us a batch of {len(x)}; {speed}"
        results.add(Row(PART, what, speed.median, ratio=ratio, peer=peer, note=note))
        first, peer = first or speed.median, peer or what
