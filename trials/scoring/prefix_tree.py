"""Many candidates at once, bit for bit as one after the other: what they have in common is computed once.

Candidates that choose alike in their first blocks are the same function up to there, also with recalibrated BatchNorm,
because the statistics of a layer depend on the layers before it alone. So the candidates form a tree: a node is a block
after a prefix of choices, with BatchNorm statistics of its own and weights that all nodes of the same candidate share. Each
batch walks the tree depth first; at most one activation per block is kept.

Shapes: N batch, C channels, R resolution in pixels, K architectures.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import nn

from spaces.arch import Arch, validate
from spaces.chain import Chain, make_affine
from trials.networks.accuracy import topk_hits
from trials.networks.batchnorm import conv_batchnorm_pairs, fold_batchnorm, fuse_weights

# of every BatchNorm in order: running mean and variance, (C,) each, and the number of batches in them; the number is never on a
# GPU, which would have to be asked for it at every call
Statistics = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Arithmetic:
    """How a network is computed."""

    layout: torch.memory_format
    fold: bool  # BatchNorm into the convolutions, once its statistics are known
    dtype: torch.dtype  # of activations and weights; BatchNorm's statistics always have 32 bits

    def place(self, module: nn.Module, device: torch.device) -> nn.Module:
        """A module in this layout, on the device, in eval mode, still in 32 bits; in place."""
        return module.to(memory_format=self.layout).to(device).eval()  # type: ignore[call-overload]

    def cast(self, module: nn.Module) -> nn.Module:
        """The weights and buffers of all layers but BatchNorm in `dtype`, in place."""
        if self.dtype == torch.float32:
            return module
        make_affine(
            module
        )  # a GPU's BatchNorm takes statistics of another type than its input only with affine weights
        for layer in module.modules():
            if not isinstance(layer, nn.modules.batchnorm._BatchNorm):
                for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
                    if tensor.is_floating_point():
                        tensor.data = tensor.data.to(self.dtype)
        return module

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, R, R), float32, as the first layer takes them."""
        return images.to(self.dtype).contiguous(memory_format=self.layout)


ARITHMETIC = {
    "exact": Arithmetic(torch.contiguous_format, False, torch.float32),
    "32": Arithmetic(torch.channels_last, True, torch.float32),
    "bf16": Arithmetic(torch.channels_last, True, torch.bfloat16),
    "16": Arithmetic(torch.channels_last, True, torch.float16),
}


class Pass(Enum):
    """What a walk through the tree is for."""

    BEFORE = 0  # with the statistics of the supernet
    CALIBRATE = 1  # BatchNorm in train mode; adds the batch to each node's statistics
    SCORE = 2  # with the node's statistics, folded or not


class Part:
    """A candidate of a block with its weights (or the stem, or the head). Each node brings its own statistics."""

    def __init__(self, module: nn.Module, arithmetic: Arithmetic, device: torch.device) -> None:
        master = arithmetic.place(module, device)
        self.dtype = arithmetic.dtype
        self.module = master if self.dtype == torch.float32 else arithmetic.cast(copy.deepcopy(master))
        self.norms = list(enumerate(_norms(self.module)))
        self.own: Statistics = [
            (norm.running_mean, norm.running_var, torch.tensor(0))  # type: ignore[misc]
            for _, norm in self.norms
        ]
        # the folded form: convolutions whose weights each node brings, and BatchNorms that follow no convolution
        self.pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d, int]] = []  # in 32 bits; and which statistics
        if arithmetic.fold:
            norms = _norms(master)
            self.pairs = [(conv, norm, norms.index(norm)) for conv, norm in _pairs(master)]
            self.folded = copy.deepcopy(master)
            pairs = _pairs(self.folded)
            self.convs, paired = [conv for conv, _ in pairs], [norm for _, norm in pairs]
            self.rest = [(number, norm) for number, norm in enumerate(_norms(self.folded)) if norm not in paired]
            arithmetic.cast(fold_batchnorm(self.folded))
        self.writes_input: bool | None = None  # None: not yet known

    def fold(self, statistics: Statistics) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Weights and biases of the folded convolutions of a node."""
        weights = [fuse_weights(conv, norm, *statistics[number][:2]) for conv, norm, number in self.pairs]
        return [(weight.to(self.dtype), bias.to(self.dtype)) for weight, bias in weights]

    def run(self, node: Node, x: torch.Tensor, what: Pass) -> torch.Tensor:
        """One node on one batch."""
        if what is Pass.SCORE and self.pairs:
            if node.folded is None:
                node.folded = self.fold(node.statistics)
            for conv, (weight, bias) in zip(self.convs, node.folded, strict=True):
                conv._parameters["weight"], conv._parameters["bias"] = weight, bias
            module, norms = self.folded, self.rest
        else:
            module, norms = self.module, self.norms
        statistics = self.own if what is Pass.BEFORE else node.statistics
        for number, norm in norms:
            for name, tensor in zip(
                ("running_mean", "running_var", "num_batches_tracked"), statistics[number], strict=True
            ):
                norm._buffers[name] = tensor
            norm.training = what is Pass.CALIBRATE
            norm.momentum = None  # a cumulative average
        if self.writes_input is None or self.writes_input:
            given = _copy(x)
            y = module(given)
            if self.writes_input is None:
                self.writes_input = given._version > 0  # its siblings must see what came in
            return y
        return module(x)


@dataclass(eq=False)
class Node:
    """A part after a prefix of choices."""

    part: Part
    statistics: Statistics
    children: dict[Any, Node]
    folded: list[tuple[torch.Tensor, torch.Tensor]] | None = None  # once its statistics are known
    number: int = -1  # of the architecture, at a head


class Parts(dict[tuple[Any, ...], Part]):
    """The candidates of a supernet, built when they are needed: (place, *choices there) -> Part.

    Args:
        weights: state dict of the supernet.
    """

    def __init__(
        self, chain: Chain, weights: Mapping[str, torch.Tensor], arithmetic: Arithmetic, device: torch.device
    ) -> None:
        super().__init__()
        self.chain, self.weights, self.arithmetic, self.device = chain, weights, arithmetic, device

    def of(self, place: int | str, arch: Mapping[str, Any]) -> tuple[tuple[Any, ...], Part]:
        """The part of an architecture at a block, "stem" or "head", and its key."""
        labels = self.chain.blocks[place].choices if isinstance(place, int) else ()
        key = (place, *(arch[label] for label in labels))
        if key not in self:
            self[key] = Part(self.chain.module_at(place, arch, self.weights), self.arithmetic, self.device)
        return key, self[key]


class PrefixTree:
    """The prefix tree of some architectures.

    Args:
        parts: of their supernet; may serve many trees.
    Raises:
        ArchError: an architecture does not fit the space.
    """

    def __init__(self, parts: Parts, archs: Sequence[Arch]) -> None:
        self.parts, self.size, self.nodes = parts, len(archs), 0
        self.root = self._node(parts.of("stem", {})[1])
        for number, arch in enumerate(archs):
            validate(arch, parts.chain.choices)
            node = self.root
            for place in range(len(parts.chain.blocks)):
                key, part = parts.of(place, arch)
                if key not in node.children:
                    node.children[key] = self._node(part)
                node = node.children[key]
            head = self._node(parts.of("head", {})[1])
            head.number = number
            node.children["head", number] = head

    def _node(self, part: Part) -> Node:
        self.nodes += 1
        fresh = [(torch.zeros_like(mean), torch.ones_like(var), torch.tensor(0)) for mean, var, _ in part.own]
        return Node(part, fresh, {})

    @torch.no_grad()
    def calibrate(self, batches: Iterable[torch.Tensor]) -> int:
        """BatchNorm statistics of every node, a cumulative average over batches of one size, of earlier calls too.

        Args:
            batches: normalised images (N, 3, R, R), from the training part only.
        Returns:
            Number of images used.
        Raises:
            ValueError: `batches` is empty.
        """
        images = 0
        self._forget(self.root)
        for x in batches:
            for _ in self._walk(self.root, self.parts.arithmetic.images(x), Pass.CALIBRATE):
                pass
            images += len(x)
        if not images:
            raise ValueError("calibrate needs at least one batch")
        return images

    @torch.no_grad()
    def logits(self, x: torch.Tensor, *, before: bool = False) -> Iterator[tuple[int, torch.Tensor]]:
        """(number of the architecture, logits (N, classes) in 32 bits) of each, in the order of the tree.

        Args:
            x: normalised images (N, 3, R, R).
            before: with the statistics of the supernet, which mix all its paths.
        """
        what = Pass.BEFORE if before else Pass.SCORE
        yield from self._walk(self.root, self.parts.arithmetic.images(x), what)

    def hits(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], *, before: bool = False) -> torch.Tensor:
        """Numbers of right answers in the first 1 and the first 5 guesses, int64 (K, 2).

        Args:
            batches: normalised images (N, 3, R, R) and labels (N,).
        """
        found = torch.zeros(self.size, 2, dtype=torch.int64, device=self.parts.device)
        for x, labels in batches:
            for number, logits in self.logits(x, before=before):
                found[number] += topk_hits(logits, labels)
        return found.cpu()

    def _forget(self, node: Node) -> None:
        """Folded weights of statistics that change."""
        node.folded = None
        for child in node.children.values():
            self._forget(child)

    def _walk(self, node: Node, x: torch.Tensor, what: Pass) -> Iterator[tuple[int, torch.Tensor]]:
        y = node.part.run(node, x, what)
        del x  # the last child of a node may reuse its memory
        if node.number >= 0:
            yield node.number, y.float()
        for child in node.children.values():
            yield from self._walk(child, y, what)


def _norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    """Those that keep statistics."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    return [layer for layer in layers if layer.running_mean is not None]


def _pairs(module: nn.Module) -> list[tuple[Any, Any]]:
    """(convolution, BatchNorm) of each pair."""
    return [
        (parent.get_submodule(conv), parent.get_submodule(norm)) for parent, conv, norm in conv_batchnorm_pairs(module)
    ]


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with the very strides, because a kernel is chosen by them."""
    if 0 in tensor.stride():
        return tensor.clone()
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device).copy_(tensor)
