"""A moving average of the weights of a network, which is often better than the weights themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def decay_at(update: int, decay: float) -> float:
    """How much of the average stays at update number 1, 2, ...: it rises to `decay`, so that short runs forget their start.

    Source: (1 + n) / (10 + n), as in TensorFlow's ExponentialMovingAverage.
    """
    return min(decay, (1 + update) / (10 + update))


def make_ema(network: nn.Module, decay: float) -> AveragedModel:
    """The average of a network: its floating-point parameters and buffers (BatchNorm statistics); other buffers are copied.

    The first `update_parameters` copies the network, update n of those that follow keeps `decay_at(n, decay)`. `.module`
    is a network in eval mode.
    """

    @torch.no_grad()
    def update(mean: Any, current: Any, _: Any) -> None:
        if mean[0].is_floating_point():
            # counted on the CPU, so that a GPU need not wait
            torch._foreach_lerp_(mean, current, 1 - decay_at(int(averaged.n_averaged), decay))
        else:
            torch._foreach_copy_(mean, current)

    averaged = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
    averaged.requires_grad_(False)
    return averaged.eval()
