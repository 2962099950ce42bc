"""A moving average of the weights of a network, which is often better than the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


class SupernetEma:
    """The moving average of the weights of a supernet, of which a step trains one path.

    All weights are averaged at every step, those off the path as they are. So the average is that of the supernet at the same
    steps everywhere: a candidate is averaged with what all paths share as it was when both were trained together. Buffers are
    not averaged: BatchNorm's statistics mix all paths, and are measured anew for each candidate.

    Args:
        network: the supernet, on its device.
        decay: the largest weight of the old average, 0 to below 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay, self.updates = network, decay, 0
        self.names = [name for name, _ in network.named_parameters()]
        self.current = [parameter.detach() for parameter in network.parameters()]  # these share memory with the weights
        self.mean = [tensor.clone() for tensor in self.current]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights as they are now into the average."""
        self.updates += 1
        torch._foreach_lerp_(self.mean, self.current, 1 - decay_at(self.updates, self.decay))

    @torch.no_grad()
    def restart(self) -> None:
        """Forget what was averaged, because the weights were replaced; the average is then what they are now."""
        self.updates = 0
        torch._foreach_copy_(self.mean, self.current)

    def weights(self) -> dict[str, torch.Tensor]:
        """State dict of the supernet, with averaged weights and its own buffers."""
        return {**self.network.state_dict(), **dict(zip(self.names, self.mean, strict=True))}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"updates": self.updates, "mean": dict(zip(self.names, self.mean, strict=True))}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state()` returned."""
        self.updates = state["updates"]
        for name, mean in zip(self.names, self.mean, strict=True):
            mean.copy_(state["mean"][name])
