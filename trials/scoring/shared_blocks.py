"""One block of a prefix tree: its shared weights, and how they run with the BatchNorm statistics of a node.

The top of prefix_tree.py says what the tree is.

Shapes: N batch, C channels, H W height and width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import nn

from spaces.chain import Chain
from trials.networks import batchnorm
from trials.networks.batchnorm import conv_batchnorm_pairs, fold_batchnorm, fuse_weights
from trials.networks.fused_conv import FusedConv, Kernel, give_kernel, move_biases, neighbours
from trials.scoring.precision import Precision


class Count:
    """The counter of a BatchNorm layer, with the two operations that the layer uses.

    A cumulative average needs its value at every call: reading it from a GPU would make the CPU wait for the GPU, and on a CPU a
    tensor of one number costs as much as a tenth of the layer.
    """

    def __init__(self) -> None:
        self.value = 0

    def add_(self, number: int) -> None:
        """Count batches."""
        self.value += number

    def __float__(self) -> float:
        return float(self.value)


class BNStatistics(NamedTuple):
    """What one BatchNorm layer knows about its input; the names are those of its buffers."""

    running_mean: torch.Tensor  # (C,)
    running_var: torch.Tensor  # (C,)
    num_batches_tracked: Count  # batches that were averaged

    @classmethod
    def like(cls, other: BNStatistics) -> BNStatistics:
        """Those of the same layer before any batch."""
        return cls(torch.zeros_like(other.running_mean), torch.ones_like(other.running_var), Count())


class Pass(Enum):
    """What one batch goes through the tree for."""

    BEFORE = 0  # to see accuracy before recalibration: uses the statistics of the supernet
    CALIBRATE = 1  # BatchNorm in train mode: the batch is added to the statistics of each node
    SCORE = 2  # uses the statistics of each node, folded into convolutions where the precision says so


class SharedBlock:
    """One candidate of a choice block (or the stem, or the head), with the weights that all its nodes share.

    It holds up to two modules. `module` has BatchNorm layers, into which a node's statistics are put before each call. In
    `folded_module` BatchNorm is folded, so a node's folded weights are put into its convolutions instead; it exists where
    `precision` folds, and is used to score.

    Args:
        module: with the weights and the BatchNorm statistics of the supernet; it is changed in place.
    Attributes:
        supernet_statistics: of each BatchNorm layer, in the order of the module.
        mutates_input: whether the module changes its input in place. None: not yet known.
        apart: for each BatchNorm layer, whether it measures a batch by itself, see `batchnorm.averages_apart`. None: not yet known.
    """

    def __init__(self, module: nn.Module, precision: Precision, device: torch.device) -> None:
        master = precision.prepare(module, device)  # in 32 bits
        self.dtype = precision.dtype
        # Each convolution and the BatchNorm that is folded into it, both in 32 bits, and the index of the BatchNorm.
        self.folded_pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d, int]] = []
        if precision.fold:
            names = {id(layer): name for name, layer in master.named_modules()}
            layers = _bn_layers(master)
            self.folded_pairs = [(conv, bn, layers.index(bn)) for conv, bn in _conv_bn_layers(master)]
            self.folded_module = precision.finish(fold_batchnorm(copy.deepcopy(master)))
            self.folded_convs = [self.folded_module.get_submodule(names[id(conv)]) for conv, _, _ in self.folded_pairs]
            self.neighbours = neighbours(self.folded_module)
            # BatchNorm layers that follow no convolution stay as they are.
            folded_bn = [bn for _, bn, _ in self.folded_pairs]
            self.kept_bn_layers: list[tuple[int, Any]] = [
                (index, self.folded_module.get_submodule(names[id(layer)]))
                for index, layer in enumerate(layers)
                if layer not in folded_bn
            ]
        self.module = precision.finish(master if self.dtype == torch.float32 else copy.deepcopy(master))
        # Each BatchNorm layer with its index in a node's list of statistics.
        self.bn_layers = list(enumerate(_bn_layers(self.module)))
        self.supernet_statistics = [
            BNStatistics(layer.running_mean, layer.running_var, Count())  # type: ignore[arg-type]
            for _, layer in self.bn_layers
        ]
        self.mutates_input: bool | None = None
        self.device, self.apart = device, None if self.bn_layers else list[bool]()
        self.of_batch: list[BNStatistics] = []  # what is measured of a batch, where that is apart

    def fold(self, statistics: Sequence[BNStatistics]) -> dict[Any, Kernel]:
        """What the folded convolutions use for a node with these statistics: convolution of `folded_module` -> weight and bias."""
        kernels: dict[Any, Kernel] = {}
        for folded, (conv, bn, index) in zip(self.folded_convs, self.folded_pairs, strict=True):
            weight, bias = fuse_weights(conv, bn, statistics[index].running_mean, statistics[index].running_var)
            weight, bias = weight.to(self.dtype), bias.to(self.dtype)
            kernels[folded] = folded.kernel_of(weight, bias) if isinstance(folded, FusedConv) else Kernel(weight, bias)
        move_biases(kernels, self.neighbours)
        return kernels

    def run(self, node: Node, x: torch.Tensor, purpose: Pass) -> torch.Tensor:
        """The output of a node for one batch.

        Args:
            x: output of the node's parent, (N, C, H, W).
        """
        if purpose is Pass.CALIBRATE:
            return self._calibrate(node, x)
        self.prepare(node, purpose)
        statistics = self.supernet_statistics if purpose is Pass.BEFORE else node.statistics
        return self.call(self.lend(purpose, statistics, node.folded_weights), x)

    def prepare(self, node: Node, purpose: Pass) -> None:
        """Fold the statistics of a node, if the pass needs it and it was not done before."""
        if purpose is Pass.SCORE and self.folded_pairs and node.folded_weights is None:
            node.folded_weights = self.fold(node.statistics)

    def lend(
        self, purpose: Pass, statistics: Sequence[BNStatistics], kernels: Mapping[Any, Kernel] | None
    ) -> nn.Module:
        """Put statistics into the BatchNorm layers, and folded weights into the convolutions if the pass wants them.

        Returns:
            The module that is to be run.
        """
        module = self.module
        if purpose is Pass.SCORE and kernels is not None:
            module = self.folded_module
            for conv, kernel in kernels.items():
                give_kernel(conv, kernel)
        for index, layer in self.lent_layers(purpose):
            _lend(layer, statistics[index], purpose is Pass.CALIBRATE, None)  # a cumulative average
        return module

    def lent_layers(self, purpose: Pass) -> list[tuple[int, Any]]:
        """The BatchNorm layers that a pass uses, each with its index in a node's list of statistics."""
        return self.kept_bn_layers if purpose is Pass.SCORE and self.folded_pairs else self.bn_layers

    def call(self, module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Run a module without changing its input, which siblings read too.

        A module that changes it in place gets a copy. The first call finds out whether it does: PyTorch counts the changes of a
        tensor in `_version`.
        """
        if self.mutates_input is None or self.mutates_input:
            copied = copy_strided(x)
            version = copied._version  # making the copy is a change too
            y = module(copied)
            if self.mutates_input is None:
                self.mutates_input = copied._version > version
            return y
        return module(x)

    def _calibrate(self, node: Node, x: torch.Tensor) -> torch.Tensor:
        """Add a batch to the statistics of a node, which BatchNorm updates in place where it averages by itself."""
        if self.apart is not None and any(self.apart):
            y = self.measure(node.statistics, x)
            self.average(node)
            return y
        if self.apart is not None:
            return self.call(self.lend(Pass.CALIBRATE, node.statistics, None), x)
        counts = [statistics.num_batches_tracked for statistics in node.statistics]
        before = [count.value for count in counts]
        y = self.call(
            self.lend(Pass.CALIBRATE, node.statistics, None), x
        )  # of one batch the average is the batch's own
        apart = batchnorm.averages_apart(self.device)
        self.apart = [apart and count.value == old + 1 for count, old in zip(counts, before, strict=True)]
        if apart:
            self.of_batch = [BNStatistics.like(statistics) for statistics in self.supernet_statistics]
        return y

    def measure(self, statistics: Sequence[BNStatistics], x: torch.Tensor) -> torch.Tensor:
        """The output for a batch whose statistics are left in `of_batch`.

        Args:
            statistics: of a node, for the layers that average by themselves.
        """
        assert self.apart is not None
        torch._foreach_zero_(_tensors(self.of_batch))  # what is no number would stay otherwise
        for index, layer in self.bn_layers:
            apart = self.apart[index]
            _lend(layer, self.of_batch[index] if apart else statistics[index], True, 1.0 if apart else None)
        return self.call(self.module, x)

    def average(self, node: Node) -> None:
        """Add what was measured of a batch to the statistics of a node."""
        assert self.apart is not None
        chosen = [index for index, apart in enumerate(self.apart) if apart]
        for index in chosen:
            node.statistics[index].num_batches_tracked.add_(1)
        average, of_batch = ([list_[index] for index in chosen] for list_ in (node.statistics, self.of_batch))
        number = average[0].num_batches_tracked.value
        batchnorm.add_to_average(_tensors(average), _tensors(of_batch), number)


@dataclass(eq=False)
class Node:
    """One block at one position of the tree: shared weights, own statistics."""

    block: SharedBlock
    statistics: list[BNStatistics]  # one entry for each BatchNorm layer of the block
    children: dict[Any, Node]  # by the key of their block, see `SharedBlocks`; heads by ("head", arch_index)
    folded_weights: dict[Any, Kernel] | None = None  # from `SharedBlock.fold`, once needed
    arch_index: int = -1  # at a head: which architecture ends here


class SharedBlocks(dict[tuple[Any, ...], SharedBlock]):
    """The blocks of a supernet, built when they are first needed: (position, *choices there) -> SharedBlock.

    A position is the index of a choice block, "stem" or "head". One object may serve many trees; `clear` frees its memory.

    Args:
        weights: state dict of the supernet.
    """

    def __init__(
        self, chain: Chain, weights: Mapping[str, torch.Tensor], precision: Precision, device: torch.device
    ) -> None:
        super().__init__()
        self.chain, self.weights, self.precision, self.device = chain, weights, precision, device

    def at(self, position: int | str, arch: Mapping[str, Any]) -> tuple[tuple[Any, ...], SharedBlock]:
        """The key and the block of an architecture at a position."""
        labels = self.chain.blocks[position].choices if isinstance(position, int) else ()
        key = (position, *(arch[label] for label in labels))
        if key not in self:
            module = self.chain.module_at(position, arch, self.weights)
            self[key] = SharedBlock(module, self.precision, self.device)
        return key, self[key]


def _bn_layers(module: nn.Module) -> list[nn.BatchNorm2d]:
    """The BatchNorm layers of a module that keep statistics, in order."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    return [layer for layer in layers if layer.running_mean is not None]


def _conv_bn_layers(module: nn.Module) -> list[tuple[Any, Any]]:
    """The layers of each pair of a convolution and a BatchNorm that can be folded into it."""
    return [(parent.get_submodule(conv), parent.get_submodule(bn)) for parent, conv, bn in conv_batchnorm_pairs(module)]


def _lend(layer: Any, statistics: BNStatistics, training: bool, momentum: float | None) -> None:
    """Let a BatchNorm layer use, and in train mode update, these statistics."""
    for name, tensor in zip(BNStatistics._fields, statistics, strict=True):
        layer._buffers[name] = tensor
    layer.training, layer.momentum = training, momentum


def _tensors(statistics: Sequence[BNStatistics]) -> list[torch.Tensor]:
    """Means and variances."""
    return [tensor for mean, var, _ in statistics for tensor in (mean, var)]


def copy_strided(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with exactly the same strides. PyTorch chooses kernels by them, so other strides could change the bits."""
    if 0 in tensor.stride():
        return tensor.clone()
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device).copy_(tensor)
