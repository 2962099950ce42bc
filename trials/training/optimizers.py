"""Optimisers and learning-rate schedules that supernet training and retraining share."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

OPTIMIZERS = ("sgd", "adam", "rmsprop", "rmsprop-tf")
SCHEDULES = ("cosine", "linear", "step", "exponential")


def make_optimizer(
    model: nn.Module,
    name: str,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    decay_norm_and_bias: bool,
    nesterov: bool = False,
) -> torch.optim.Optimizer:
    """Build an optimiser.

    Args:
        name: rmsprop-tf is TensorFlow's (epsilon 0.001 within the root, squares start at 1) with MnasNet's decay of 0.9.
        decay_norm_and_bias: also decay BatchNorm parameters and biases; the SPOS recipe does not.
        nesterov: of SGD.
    """
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        # BatchNorm parameters and biases are the vectors of these networks
        (weights if parameter.dim() > 1 or decay_norm_and_bias else others).append(parameter)
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": weight_decay}]
    if others:
        groups.append({"params": others, "weight_decay": 0.0})
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
    if name == "adam":
        return torch.optim.Adam(groups, lr=lr, betas=(momentum, 0.999))
    if name == "rmsprop-tf":
        from timm.optim import RMSpropTF  # only here, because importing timm takes seconds

        return RMSpropTF(groups, lr=lr, momentum=momentum, alpha=0.9, eps=1e-3)
    return torch.optim.RMSprop(groups, lr=lr, momentum=momentum)


def learning_rate(
    step: int,
    steps: int,
    *,
    peak: float,
    schedule: str,
    warmup: float,
    step_fraction: float = 1 / 3,
    gamma: float = 0.1,
    every: float = math.inf,
) -> float:
    """The learning rate of one step.

    Args:
        step: 0 to steps - 1.
        warmup: part of `steps` during which the rate rises linearly from 0.
        step_fraction, gamma: the `step` schedule multiplies by `gamma` after each such part of the steps.
        every, gamma: the `exponential` one after so many steps, counted from the first, warm-up included.
    """
    ramp = max(1, round(warmup * steps)) if warmup else 0
    if step < ramp:
        return peak * (step + 1) / ramp
    done = (step - ramp) / max(1, steps - ramp)  # 0 to below 1
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "linear":
        return peak * (1 - done)
    if schedule == "exponential":
        return peak * gamma ** math.floor(step / every)
    return peak * gamma ** math.floor(done / step_fraction)
