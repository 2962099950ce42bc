"""BatchNorm in training mode with what follows it, as functions of matrices that torch.compile makes kernels of.

Few functions are compiled, not modules, so that a handful of compilations serves all candidates of a space, whatever their sizes.
The backward passes are written out, so nothing is compiled when they run first, and gradients may come as slices of a map.

Shapes: a map of N images and C channels is a matrix (M, C), M = N x H x W; in channels_last memory that is a view of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Matrix = torch.Tensor
Activation = type[nn.Module]
aten = torch.ops.aten
DYNAMIC = True  # one kernel for all sizes; False: one for each, which compiles many times as long
BACKEND = "inductor"  # of torch.compile
# activations that are fused: (forward, gradient of its input from the gradient of its output and the input)
ACTIVATIONS: dict[Activation, tuple[Callable[[Matrix], Matrix], Callable[[Matrix, Matrix], Matrix]]] = {
    nn.ReLU: (torch.relu, lambda g, x: torch.where(x > 0, g, 0.0)),
    nn.ReLU6: (lambda x: x.clamp(0, 6), lambda g, x: torch.where((x > 0) & (x < 6), g, 0.0)),
    nn.Hardswish: (aten.hardswish.default, aten.hardswish_backward.default),
}


def _wide(x: Matrix) -> Matrix:
    """In the precision of the statistics: 32 bits, or 64, whatever that of the map, as in PyTorch's own BatchNorm."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _normalised(
    x: Matrix, mean: Matrix, scale: Matrix, weight: Matrix | None, bias: Matrix | None
) -> tuple[Matrix, Matrix]:
    """The normalised matrix, and the same after weight and bias."""
    centred = (_wide(x) - mean) * scale
    return centred, centred if weight is None or bias is None else centred * weight + bias


def forward(
    x: Matrix,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    momentum: float,
    eps: float,
    activation: Activation | None,
    added: Matrix | None,
    beside: Matrix | None,
) -> tuple[Matrix, torch.Tensor, torch.Tensor]:
    """Normalise the columns of (M, C), then activate, or add a matrix, or set it beside another one.

    Returns:
        The result; mean and 1 / standard deviation, (C,).
    """
    variance, mean = torch.var_mean(_wide(x), 0, correction=0)
    scale = torch.rsqrt(variance + eps)
    if running_mean is not None and running_var is not None:
        running_mean.copy_(running_mean * (1 - momentum) + mean * momentum)
        running_var.copy_(running_var * (1 - momentum) + variance * (x.shape[0] / (x.shape[0] - 1)) * momentum)
    _, y = _normalised(x, mean, scale, weight, bias)
    if activation is not None:
        y = ACTIVATIONS[activation][0](y)
    y = y.to(x.dtype)
    if added is not None:
        y = y + added
    if beside is not None:
        y = torch.cat((beside, y), 1)
    return y, mean, scale


def backward(
    gradient: Matrix,
    x: Matrix,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mean: torch.Tensor,
    scale: torch.Tensor,
    activation: Activation | None,
) -> tuple[Matrix, torch.Tensor, torch.Tensor]:
    """The gradients of a normalised and activated matrix.

    Returns:
        Gradients of x, (M, C), of the weight and of the bias, (C,).
    """
    centred, y = _normalised(x, mean, scale, weight, bias)
    g = _wide(gradient)
    if activation is not None:
        g = ACTIVATIONS[activation][1](g, y)
    of_bias, of_weight = g.sum(0), (g * centred).sum(0)
    rows = x.shape[0]
    factor = scale if weight is None else scale * weight
    of_x = factor * (g - of_bias / rows - centred * (of_weight / rows))
    return of_x.to(x.dtype), of_weight, of_bias


def odd(x: Matrix) -> Matrix:
    """A copy of every second column."""
    return x[:, 1::2].clone(memory_format=torch.contiguous_format)


def interleave(even: Matrix, odd: Matrix) -> Matrix:
    """Columns of two matrices in turn, (M, C / 2) each to (M, C)."""
    return torch.stack((even, odd), 2).flatten(1)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of matrices as the compiler makes it."""
    return _compile(function, BACKEND, DYNAMIC)


@functools.cache
def _compile(function: Callable[..., Any], backend: str, dynamic: bool) -> Callable[..., Any]:
    return torch.compile(function, dynamic=dynamic, fullgraph=True, backend=backend)
