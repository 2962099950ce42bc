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
    """Build an optimiser for all weights of a model.

    Args:
        name: one of OPTIMIZERS. rmsprop-tf is TensorFlow's RMSprop (epsilon 0.001 within the root, squares start at 1) with
            MnasNet's decay of 0.9.
        lr: the learning rate; the training loops set it anew at every step.
        momentum: the momentum of SGD and RMSprop, beta1 of Adam.
        weight_decay: the L2 penalty on convolutions and linear layers.
        decay_norm_and_bias: also decay BatchNorm parameters and biases; the SPOS recipe does not.
        nesterov: whether SGD uses Nesterov momentum.
    """
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        # in these networks BatchNorm parameters and biases are the vectors
        (weights if parameter.dim() > 1 or decay_norm_and_bias else others).append(parameter)
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": weight_decay}]
    if others:
        groups.append({"params": others, "weight_decay": 0.0})
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
    if name == "adam":
        return torch.optim.Adam(groups, lr=lr, betas=(momentum, 0.999))
    if name == "rmsprop-tf":
        from timm.optim import RMSpropTF

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
        step: from 0 to steps - 1.
        peak: the rate after the warm-up.
        schedule: one of SCHEDULES.
        warmup: the fraction of `steps` during which the rate rises linearly from 0.
        step_fraction: schedule `step` multiplies the rate by `gamma` after each such fraction of the steps.
        every: schedule `exponential` multiplies it by `gamma` after so many steps, counted from the first, warm-up included.
        gamma: see `step_fraction` and `every`.
    """
    ramp = max(1, round(warmup * steps)) if warmup else 0
    if step < ramp:
        return peak * (step + 1) / ramp
    done = (step - ramp) / max(1, steps - ramp)  # the fraction of the steps after warm-up, 0 to below 1
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "linear":
        return peak * (1 - done)
    if schedule == "exponential":
        return peak * gamma ** math.floor(step / every)
    return peak * gamma ** math.floor(done / step_fraction)
