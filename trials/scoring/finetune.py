"""A few steps of training for one candidate, from the supernet's weights, before it is scored.

Every candidate takes the same images in the same order, so a score depends on the architecture and the supernet alone. But the
weights are then the candidate's own: nothing is shared in a prefix tree, and each step costs about three forward passes.

Shapes: N batch, R resolution in pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import nn

RATE, MOMENTUM = 0.01, 0.9  # of SGD; the rate falls linearly to 0


@torch.enable_grad()
def finetune(
    network: nn.Module, batches: Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]], steps: int, seed: int
) -> None:
    """Train a fixed network in place, in 32 bits; it is in eval mode afterwards, with BatchNorm still to be recalibrated.

    Args:
        network: with the weights of the supernet, on its device.
        batches: makes an iterator of normalised images (N, 3, R, R) and labels (N,), which begins anew when it has ended.
        steps: how many batches are learned from.
        seed: of dropout.
    """
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)
    endless = itertools.chain.from_iterable(batches() for _ in itertools.count())
    device = next(network.parameters()).device
    network.train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for step, (x, labels) in enumerate(itertools.islice(endless, steps)):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
            F.cross_entropy(network(x), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    network.eval().requires_grad_(False)
