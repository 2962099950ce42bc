"""Layers whose BatchNorm is compiled with what follows it: an activation, a sum or a concatenation.

Eager PyTorch reads and writes a feature map once for each of these; the functions of batchnorm_kernels.py do it once for all.
Convolutions stay those of the library.

`fuse_layers` gives the modules of a network other classes, as a BatchNorm is synchronised; parameters, buffers and all their names
stay. In eval mode, and with a BatchNorm that averages over batches (momentum None), the modules do what they did before.

Shapes: N batch, C channels, H W height and width; M = N x H x W rows of a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from spaces.blocks import InvertedResidual, ShuffleBlock
from trials.training import batchnorm_kernels as kernels
from trials.training.batchnorm_kernels import ACTIVATIONS, Activation, Matrix, compiled


def _rows(x: torch.Tensor) -> Matrix:
    """A map (N, C, H, W) as a matrix (M, C)."""
    # no view in the eyes of autograd, or the compiler would look at the sizes of the map too
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).detach()


def _map(matrix: Matrix, like: torch.Tensor) -> torch.Tensor:
    """A matrix (M, C) as a map of the height and width of another one, channels last in memory."""
    n, _, height, width = like.shape
    return matrix.view(n, height, width, -1).permute(0, 3, 1, 2)


class Normalise(torch.autograd.Function):
    """`kernels.forward` with the gradient `kernels.backward`, of maps."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        added: torch.Tensor | None,
        beside: torch.Tensor | None,
        norm: nn.BatchNorm2d,
        activation: Activation | None,
    ) -> torch.Tensor:
        # parameters would have a kernel for each of their sizes
        weight, bias = (None if tensor is None else tensor.detach() for tensor in (weight, bias))
        matrices = (None if tensor is None else _rows(tensor) for tensor in (added, beside))
        statistics = norm.running_mean, norm.running_var, norm.momentum, norm.eps
        y, mean, scale = compiled(kernels.forward)(_rows(x), weight, bias, *statistics, activation, *matrices)
        ctx.save_for_backward(x, weight, bias, mean, scale)
        ctx.activation, ctx.adds, ctx.beside = activation, added is not None, 0 if beside is None else beside.shape[1]
        return _map(y, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        x, weight, bias, mean, scale = ctx.saved_tensors
        beside, own = gradient[:, : ctx.beside], gradient[:, ctx.beside :]
        of_x, of_weight, of_bias = compiled(kernels.backward)(
            _rows(own), _rows(x), weight, bias, mean, scale, ctx.activation
        )
        affine = (None, None) if weight is None else (of_weight, of_bias)
        return _map(of_x, x), *affine, gradient if ctx.adds else None, beside if ctx.beside else None, None, None


class Split(torch.autograd.Function):
    """The even channels of a map as a view, and the odd ones as a copy."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x[:, 0::2], _map(compiled(kernels.odd)(_rows(x)), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, even: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
        return _map(compiled(kernels.interleave)(_rows(even), _rows(odd)), even)


def fuses(norm: nn.Module) -> TypeGuard[FusedBatchNorm2d]:
    """Whether a BatchNorm does now what is compiled."""
    return isinstance(norm, FusedBatchNorm2d) and norm.training and norm.momentum is not None


def normalise(
    norm: nn.BatchNorm2d,
    x: torch.Tensor,
    activation: nn.Module | None = None,
    added: torch.Tensor | None = None,
    beside: torch.Tensor | None = None,
) -> torch.Tensor:
    """Normalise a map by the statistics of its batch, which enter the running ones, then do what follows.

    Args:
        norm: a BatchNorm that `fuses`.
        x: (N, C, H, W).
        activation: one of ACTIVATIONS; None for none.
        added: is added to the result, (N, C, H, W).
        beside: channels that come before those of the result, (N, C', H, W).
    Raises:
        ValueError: there is one value in each channel, as PyTorch's own BatchNorm says.
    """
    if x.numel() == x.shape[1]:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    kind = None if activation is None else type(activation)
    result: torch.Tensor = Normalise.apply(x, norm.weight, norm.bias, added, beside, norm, kind)
    return result


class FusedBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm that is compiled alone."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, H, W)."""
        return normalise(self, input) if fuses(self) else super().forward(input)


class FusedBatchNormAct2d(FusedBatchNorm2d):
    """The same for timm's BatchNormAct2d, which is followed by a `drop` layer and an activation."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, H, W), then drop and activate."""
        if fuses(self) and isinstance(self.drop, nn.Identity) and type(self.act) in ACTIVATIONS:
            return normalise(self, input, self.act)  # type: ignore[arg-type]
        return self.act(self.drop(super().forward(input)))  # type: ignore[operator]


class FusedSequential(nn.Sequential):
    """Layers of which a BatchNorm is compiled with the activation that follows it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The layers one after the other."""
        return run_layers(list(self), input)


def run_layers(layers: Sequence[nn.Module], x: torch.Tensor) -> torch.Tensor:
    """Run layers one after the other, a BatchNorm with the activation that follows it."""
    done = False
    for layer, following in zip(layers, (*layers[1:], None), strict=True):
        if done:
            done = False
        elif type(layer) is FusedBatchNorm2d and fuses(layer) and type(following) in ACTIVATIONS:
            x, done = normalise(layer, x, following), True
        else:
            x = layer(x)
    return x


class FusedShuffleBlock(ShuffleBlock):
    """A ShuffleNetV2 unit whose split and concatenation are compiled, the latter with the last BatchNorm."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, cin, H, W) to (N, cout, H / stride, W / stride)."""
        *layers, last = self.main.children()
        convolution, norm, *activation = last.children()
        known = all(type(layer) in ACTIVATIONS for layer in activation)
        if not (fuses(norm) and known) or (self.proj is None and x.shape[1] % 2):
            return super().forward(x)
        through, main = Split.apply(x) if self.proj is None else (self.proj(x), x)
        main = run_layers(layers, main)
        if self.se is not None:
            return torch.cat((through, self.se(last(main))), 1)
        return normalise(norm, convolution(main), activation[0] if activation else None, beside=through)


class FusedInvertedResidual(InvertedResidual):
    """An MBConv whose last BatchNorm is compiled with the sum."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, cin, H, W) to (N, cout, H / stride, W / stride)."""
        *layers, last = self.layers.children()
        convolution, norm = last.children()
        if not (self.residual and fuses(norm)):
            return super().forward(x)
        return normalise(norm, convolution(run_layers(layers, x)), added=x)


def fuse_layers(network: nn.Module) -> int:
    """Give the layers of a network the classes of this file, in place; parameters, buffers and names stay.

    Returns:
        The number of BatchNorm layers.
    """
    fused = 0
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d or type(layer).__name__ == "BatchNormAct2d":
            layer.__class__ = FusedBatchNorm2d if type(layer) is nn.BatchNorm2d else FusedBatchNormAct2d
            fused += 1
        elif type(layer) in (ShuffleBlock, InvertedResidual):
            layer.__class__ = FusedShuffleBlock if type(layer) is ShuffleBlock else FusedInvertedResidual
        elif isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward:
            layer.__class__ = FusedSequential
        elif hasattr(layer, "prepare_sizes"):  # an Elastic of spaces, whose module imports NNI
            layer.prepare_sizes(fuse_layers)  # type: ignore[operator]
    return fused
