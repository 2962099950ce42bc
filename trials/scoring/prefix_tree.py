"""Score many candidates at once, bit for bit as one after the other: what they have in common is computed once.

What a node is. A candidate's network is a path: stem, one candidate of each choice block, head. Two architectures that
choose alike in their first blocks are the same function up to there, so the paths of several architectures form a tree:

    stem -- block00=k3 -- block01=k5 -- head (architecture 0)
                      \\-- block01=k7 -- head (architecture 1)
         \\- block00=k5 -- block01=k5 -- head (architecture 2)

A node (`Node`) is one block after one prefix of choices. All children of a node read the node's output, which is computed
once. Here the stem runs once instead of three times, and block00=k3 once instead of twice.

What is shared. Nodes with the same candidate at the same position, such as the two block01=k5 above, share one module with
its weights (`SharedBlock`). Their inputs differ, hence so do their BatchNorm statistics: each node has statistics of its
own, which it lends to the module for the time of one call. The same holds for the weights of convolutions into which
BatchNorm was folded, because they contain the statistics.

In which order the tree is walked. Each batch of images walks the whole tree depth first, before the next batch comes. So
at most one output per block is in memory, and statistics are averaged over batches exactly as in `recalibrate_batchnorm`. A
search runs three kinds of walks (`Pass`): one to measure accuracy with the supernet's own statistics, then one per
calibration batch, then one per scoring batch.

Why it is exact. The statistics of a BatchNorm layer depend only on the images and on the layers before it, and these are
the same for all architectures below a node. Each operation gets the same input in the same memory layout as in the
network alone, and so gives the same bits. Two things would break this, and are taken care of: a module that changes its
input in place would change it for its siblings too, so it gets a copy; and BatchNorm averages cumulatively
(momentum=None), so no batch counts more than another.

Shapes: N batch, C channels, R resolution in pixels, K architectures.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import nn

from spaces.arch import Arch, validate
from spaces.chain import Chain, make_affine
from trials.networks.accuracy import topk_hits
from trials.networks.batchnorm import conv_batchnorm_pairs, fold_batchnorm, fuse_weights


class BNStatistics(NamedTuple):
    """What one BatchNorm layer knows about its input; the names are those of its buffers.

    The counter stays on the CPU: a cumulative average needs its value at every call, and reading it from a GPU would make
    the CPU wait for the GPU.
    """

    running_mean: torch.Tensor  # (C,)
    running_var: torch.Tensor  # (C,)
    num_batches_tracked: torch.Tensor  # batches that were averaged, a single number


@dataclass(frozen=True)
class Precision:
    """How a network is computed: the memory layout, whether BatchNorm is folded, and the number type.

    Networks are prepared in two steps, `prepare` and then `cast`, because folding needs the weights in 32 bits.
    """

    layout: torch.memory_format
    fold: bool  # whether BatchNorm is folded into the convolutions once its statistics are known
    dtype: torch.dtype  # of activations and weights; BatchNorm's statistics always have 32 bits

    def prepare(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Put a module into this layout, on the device and into eval mode, in place; it keeps its 32 bits."""
        return module.to(memory_format=self.layout).to(device).eval()  # type: ignore[call-overload]

    def cast(self, module: nn.Module) -> nn.Module:
        """Change weights and buffers of all layers except BatchNorm to `dtype`, in place."""
        if self.dtype == torch.float32:
            return module
        # A GPU's BatchNorm takes statistics of another type than its input only if it has affine weights.
        make_affine(module)
        for layer in module.modules():
            if not isinstance(layer, nn.modules.batchnorm._BatchNorm):
                for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
                    if tensor.is_floating_point():
                        tensor.data = tensor.data.to(self.dtype)
        return module

    def cast_images(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, R, R), float32, in the type and layout that the first layer takes."""
        return images.to(self.dtype).contiguous(memory_format=self.layout)


PRECISIONS = {
    "exact": Precision(torch.contiguous_format, False, torch.float32),
    "32": Precision(torch.channels_last, True, torch.float32),
    "bf16": Precision(torch.channels_last, True, torch.bfloat16),
    "16": Precision(torch.channels_last, True, torch.float16),
}


class Pass(Enum):
    """What one batch goes through the tree for."""

    BEFORE = 0  # to see accuracy before recalibration: uses the statistics of the supernet
    CALIBRATE = 1  # BatchNorm in train mode: the batch is added to the statistics of each node
    SCORE = 2  # uses the statistics of each node, folded into convolutions where the precision says so


class SharedBlock:
    """One candidate of a choice block (or the stem, or the head), with the weights that all its nodes share.

    It holds up to two modules. `module` has BatchNorm layers, into which a node's statistics are put before each call.
    `folded_module` has convolutions instead, into which a node's folded weights are put; it exists where `precision`
    folds, and is used to score.

    Args:
        module: with the weights and the BatchNorm statistics of the supernet; it is changed in place.
    Attributes:
        supernet_statistics: of each BatchNorm layer, in the order of the module.
        mutates_input: whether the module changes its input in place. None: not yet known.
    """

    def __init__(self, module: nn.Module, precision: Precision, device: torch.device) -> None:
        master = precision.prepare(module, device)  # in 32 bits
        self.dtype = precision.dtype
        self.module = master if self.dtype == torch.float32 else precision.cast(copy.deepcopy(master))
        # Each BatchNorm layer with its index in a node's list of statistics.
        self.bn_layers = list(enumerate(_bn_layers(self.module)))
        self.supernet_statistics = [
            BNStatistics(layer.running_mean, layer.running_var, torch.tensor(0))  # type: ignore[arg-type]
            for _, layer in self.bn_layers
        ]
        # Each convolution and the BatchNorm that is folded into it, both in 32 bits, and the index of the BatchNorm.
        self.folded_pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d, int]] = []
        if precision.fold:
            layers = _bn_layers(master)
            self.folded_pairs = [(conv, bn, layers.index(bn)) for conv, bn in _conv_bn_layers(master)]
            self.folded_module = copy.deepcopy(master)
            pairs = _conv_bn_layers(self.folded_module)
            self.folded_convs, folded_bn = [conv for conv, _ in pairs], [bn for _, bn in pairs]
            # BatchNorm layers that follow no convolution stay as they are.
            self.kept_bn_layers = [
                (index, layer) for index, layer in enumerate(_bn_layers(self.folded_module)) if layer not in folded_bn
            ]
            precision.cast(fold_batchnorm(self.folded_module))
        self.mutates_input: bool | None = None

    def fold(self, statistics: Sequence[BNStatistics]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Weight and bias of each folded convolution, for a node with these statistics."""
        weights = [
            fuse_weights(conv, bn, statistics[index].running_mean, statistics[index].running_var)
            for conv, bn, index in self.folded_pairs
        ]
        return [(weight.to(self.dtype), bias.to(self.dtype)) for weight, bias in weights]

    def run(self, node: Node, x: torch.Tensor, purpose: Pass) -> torch.Tensor:
        """The output of a node for one batch.

        Args:
            x: output of the node's parent, (N, C, H, W).
        """
        # Choose the module; the folded one takes the node's folded weights.
        if purpose is Pass.SCORE and self.folded_pairs:
            if node.folded_weights is None:
                node.folded_weights = self.fold(node.statistics)
            for conv, (weight, bias) in zip(self.folded_convs, node.folded_weights, strict=True):
                conv._parameters["weight"], conv._parameters["bias"] = weight, bias
            module, bn_layers = self.folded_module, self.kept_bn_layers
        else:
            module, bn_layers = self.module, self.bn_layers

        # Lend the statistics to the BatchNorm layers. In train mode these update the tensors in place, hence the node's.
        statistics = self.supernet_statistics if purpose is Pass.BEFORE else node.statistics
        for index, layer in bn_layers:
            for name, tensor in zip(BNStatistics._fields, statistics[index], strict=True):
                layer._buffers[name] = tensor
            layer.training = purpose is Pass.CALIBRATE
            layer.momentum = None  # a cumulative average

        # A module that changes its input in place gets a copy, because its siblings read the same input. The first call
        # finds out whether it does: PyTorch counts the changes of a tensor in `_version`.
        if self.mutates_input is None or self.mutates_input:
            copied = _copy(x)
            y = module(copied)
            if self.mutates_input is None:
                self.mutates_input = copied._version > 0
            return y
        return module(x)


@dataclass(eq=False)
class Node:
    """One block at one position of the tree: shared weights, own statistics."""

    block: SharedBlock
    statistics: list[BNStatistics]  # of each BatchNorm layer of the block
    children: dict[Any, Node]  # by the key of their block, see `SharedBlocks`; heads by ("head", arch_index)
    folded_weights: list[tuple[torch.Tensor, torch.Tensor]] | None = None  # from `SharedBlock.fold`, once needed
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


class PrefixTree:
    """The prefix tree of some architectures; see the top of this file.

    Args:
        blocks: of the supernet of these architectures.
        archs: the K architectures.
    Attributes:
        node_count: number of nodes.
    Raises:
        ArchError: an architecture does not fit the space.
    """

    def __init__(self, blocks: SharedBlocks, archs: Sequence[Arch]) -> None:
        self.blocks, self.arch_count, self.node_count = blocks, len(archs), 0
        self.root = self._make_node(blocks.at("stem", {})[1])
        for arch_index, arch in enumerate(archs):
            validate(arch, blocks.chain.choices)
            node = self.root
            for position in range(len(blocks.chain.blocks)):
                key, block = blocks.at(position, arch)
                if key not in node.children:
                    node.children[key] = self._make_node(block)
                node = node.children[key]
            head = self._make_node(blocks.at("head", {})[1])
            head.arch_index = arch_index
            node.children["head", arch_index] = head

    @torch.no_grad()
    def calibrate(self, batches: Iterable[torch.Tensor]) -> int:
        """Measure the BatchNorm statistics of every node: a cumulative average over batches of one size.

        A second call continues the average of the first.

        Args:
            batches: normalised images (N, 3, R, R), from the training part only.
        Returns:
            Number of images used.
        Raises:
            ValueError: `batches` is empty.
        """
        images = 0
        self._forget_folded_weights(self.root)
        for x in batches:
            for _ in self._walk(self.root, self.blocks.precision.cast_images(x), Pass.CALIBRATE):
                pass
            images += len(x)
        if not images:
            raise ValueError("calibrate needs at least one batch")
        return images

    @torch.no_grad()
    def logits(self, x: torch.Tensor, *, before: bool = False) -> Iterator[tuple[int, torch.Tensor]]:
        """Run one batch through all architectures.

        Args:
            x: normalised images (N, 3, R, R).
            before: use the statistics of the supernet, which mix all its paths.
        Yields:
            Index of an architecture and its logits (N, classes) in 32 bits, in the order of the tree.
        """
        purpose = Pass.BEFORE if before else Pass.SCORE
        yield from self._walk(self.root, self.blocks.precision.cast_images(x), purpose)

    def hits(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], *, before: bool = False) -> torch.Tensor:
        """Count the images that each architecture has right.

        Args:
            batches: normalised images (N, 3, R, R) and labels (N,).
            before: as in `logits`.
        Returns:
            Right answers in the first 1 and in the first 5 guesses, int64 (K, 2), on the CPU.
        """
        hits = torch.zeros(self.arch_count, 2, dtype=torch.int64, device=self.blocks.device)
        for x, labels in batches:
            for arch_index, logits in self.logits(x, before=before):
                hits[arch_index] += topk_hits(logits, labels)
        return hits.cpu()

    def _make_node(self, block: SharedBlock) -> Node:
        self.node_count += 1
        fresh = [
            BNStatistics(torch.zeros_like(mean), torch.ones_like(var), torch.tensor(0))
            for mean, var, _ in block.supernet_statistics
        ]
        return Node(block, fresh, {})

    def _forget_folded_weights(self, node: Node) -> None:
        """Drop folded weights of a node and all below it, because their statistics are about to change."""
        node.folded_weights = None
        for child in node.children.values():
            self._forget_folded_weights(child)

    def _walk(self, node: Node, x: torch.Tensor, purpose: Pass) -> Iterator[tuple[int, torch.Tensor]]:
        """Run a batch through a node and everything below it, depth first; yields as `logits` does."""
        y = node.block.run(node, x, purpose)
        del x  # frees the memory of the input where nobody else needs it
        if node.arch_index >= 0:
            yield node.arch_index, y.float()
        for child in node.children.values():
            yield from self._walk(child, y, purpose)


def _bn_layers(module: nn.Module) -> list[nn.BatchNorm2d]:
    """The BatchNorm layers of a module that keep statistics, in order."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    return [layer for layer in layers if layer.running_mean is not None]


def _conv_bn_layers(module: nn.Module) -> list[tuple[Any, Any]]:
    """The layers of each pair of a convolution and a BatchNorm that can be folded into it."""
    return [(parent.get_submodule(conv), parent.get_submodule(bn)) for parent, conv, bn in conv_batchnorm_pairs(module)]


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with exactly the same strides. PyTorch chooses kernels by them, so other strides could change the bits."""
    if 0 in tensor.stride():
        return tensor.clone()
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device).copy_(tensor)
