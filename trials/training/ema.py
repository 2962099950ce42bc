"""A moving average of the weights of a network, which is often better than the weights themselves."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

TensorList = tuple[torch.Tensor, ...] | list[torch.Tensor]


def decay_at(update: int, decay: float) -> float:
    """The weight of the old average in an update. It rises to `decay`, so that short runs forget their start.

    Args:
        update: number of the update, from 1.
        decay: the largest weight of the old average, 0 to below 1.

    Source: (1 + n) / (10 + n), as in TensorFlow's ExponentialMovingAverage.
    """
    return min(decay, (1 + update) / (10 + update))


def make_ema(network: nn.Module, decay: float) -> AveragedModel:
    """Make the moving average of a network.

    Floating-point parameters and buffers (BatchNorm statistics) are averaged, other buffers are copied. The first
    `update_parameters` copies the network; update n after it keeps `decay_at(n, decay)` of the old average.

    Args:
        decay: the largest weight of the old average, 0 to below 1.
    Returns:
        The average, whose `.module` is a network in eval mode.
    """

    @torch.no_grad()
    def update(mean: TensorList, current: TensorList, _: torch.Tensor | int) -> None:
        if mean[0].is_floating_point():
            # the counter of updates lies on the CPU, so that a GPU need not wait
            torch._foreach_lerp_(mean, current, 1 - decay_at(int(averaged.n_averaged), decay))
        else:
            torch._foreach_copy_(mean, current)

    averaged = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
    averaged.requires_grad_(False)
    return averaged.eval()
