"""The description of a search space: a chain of a stem, choice blocks and a head.

Each paper's file describes its space as a `Chain`. From it are built, on demand,
  - the NNI ModelSpace, with a LayerChoice or value choices per choice block (`spaces.build`, in model_space.py);
  - a fixed network of plain torch modules (`Chain.network`), without importing NNI, which takes 4 s in every trial;
  - the exact cost table, on the meta device (`measure` in cost.py).

Shapes: N batch, C channels, H W height and width.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import nn

from spaces.arch import Arch, validate
from spaces.errors import InputError

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Choice:
    """One choice block: its labels, and how to build the module that each combination of choices stands for.

    Candidates have weights of their own. Elastic values (a width, a kernel size) share the weights of the largest
    value: a smaller one uses the leading channels and the centre of the kernel.

    Examples:
        Choice("block00", {"k3": build_k3, "k5": build_k5})                            a LayerChoice
        Choice("block00", {"k3": build_k3, ...}, {"width00": [0.5, 1.0]})              candidates of variable width
        Choice(None, {"mbconv": build}, {"kernel00": [3, 5], "expand00": [3, 6]})      a superkernel
    """

    label: str | None  # label of the choice among candidates; None if there is only one candidate
    candidates: Mapping[str, Callable[..., nn.Module]]  # name -> builder, called with one value per elastic label
    elastic: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # label -> values

    @property
    def choices(self) -> dict[str, list[Any]]:
        """Label -> its candidates, in order. The choice of the operation comes first, then the elastic values."""
        operation: dict[str, list[Any]] = {} if self.label is None else {self.label: list(self.candidates)}
        return operation | {label: list(values) for label, values in self.elastic.items()}

    @property
    def display_name(self) -> str:
        """The block's name in an error message: its first label."""
        return next(iter(self.choices), "a block without choices")

    @property
    def largest(self) -> dict[str, Any]:
        """Elastic label -> its largest value, whose weights contain those of all other values."""
        return {label: max(values) for label, values in self.elastic.items()}

    def candidate(self, arch: Mapping[str, Any]) -> str:
        """Name of the candidate that `arch` chooses in this block."""
        return arch[self.label] if self.label is not None else next(iter(self.candidates))

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build the module that `arch` chooses in this block, with fresh weights."""
        return self.candidates[self.candidate(arch)](*(arch[label] for label in self.elastic))

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Every combination of candidates of this block's labels, label -> candidate; the last label changes fastest."""
        for values in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))


@dataclass(frozen=True)
class Chain:
    """The description of a whole search space; no module of it is built yet."""

    resolution: int  # height and width of an image, pixels
    classes: int
    stem: Callable[[], nn.Module]  # builds the module that takes images (N, 3, H, W)
    blocks: Sequence[Choice]
    head: Callable[[], nn.Module]  # builds the module that returns logits (N, classes)
    # (candidate, source) -> None: copies the source's weights into the candidate, for a warm start; None: no warm start
    inherit: Callable[[nn.Module, nn.Module], None] | None = None
    # The fields below are set by `spaces.describe`.
    name: str = ""
    preset: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)  # the space's own options, without classes and resolution

    def __post_init__(self) -> None:
        if not self.blocks:
            raise InputError("a Chain without choice blocks leaves nothing to search; give it blocks")
        labels = [label for block in self.blocks for label in block.choices]
        for label in labels:
            if labels.count(label) > 1:
                raise InputError(f"two choices are labelled '{label}'; number them, such as {label}00, {label}01")
        for label, candidates in self.choices.items():
            if not candidates:
                raise InputError(f"choice '{label}' has no candidates; give it at least one")
        builders = {"stem": self.stem, "head": self.head}
        for block in self.blocks:
            if block.label is None and len(block.candidates) != 1:
                raise InputError(
                    f"{block.display_name} chooses among {len(block.candidates)} candidates without a label; give it one"
                )
            builders |= {
                f"candidate '{name}' of {block.display_name}": build for name, build in block.candidates.items()
            }
        for what, build in builders.items():
            if isinstance(build, nn.Module) or not callable(build):
                kind = type(build).__name__
                raise InputError(f"{what} is a {kind}; give a function (or partial) that makes the module")

    @cached_property
    def choices(self) -> dict[str, list[Any]]:
        """Label -> its candidates, in order, for the whole space."""
        return {label: values for block in self.blocks for label, values in block.choices.items()}

    @property
    def operations(self) -> dict[str, list[str]]:
        """Label -> its candidates, of the choices among candidates alone, not of elastic values."""
        return {block.label: list(block.candidates) for block in self.blocks if block.label is not None}

    @property
    def warm_path(self) -> Arch:
        """The path that a warm start trains: the first candidate of every block, with the largest elastic values."""
        first = {label: candidates[0] for label, candidates in self.operations.items()}
        largest = {label: value for block in self.blocks for label, value in block.largest.items()}
        return {label: first.get(label, largest.get(label)) for label in self.choices}

    def network(
        self, arch: Arch, weights: Mapping[str, torch.Tensor] | None = None, *, affine: bool = False
    ) -> Network:
        """Build the fixed network of an architecture.

        Args:
            weights: state dict of a supernet (or ModelSpace) of this space, from which the architecture's weights are
                copied; None: fresh weights.
            affine: give BatchNorm layers without affine parameters weight 1 and bias 0: the same function, and one
                that can be trained.
        Raises:
            ArchError: `arch` does not fit this space.
            InputError: `weights` belong to another space.
        """
        validate(arch, self.choices)
        # Fresh weights are drawn in this order, so that a seed always gives the same network.
        positions: list[int | str] = ["stem", *range(len(self.blocks)), "head"]
        stem, *blocks, head = (self.module_at(position, arch, weights) for position in positions)
        network = Network(stem, blocks, head)
        return make_affine(network) if affine else network

    def module_at(
        self, position: int | str, arch: Mapping[str, Any], weights: Mapping[str, torch.Tensor] | None = None
    ) -> nn.Module:
        """Build one module of the fixed network of an architecture.

        Args:
            position: index of a choice block, or "stem" or "head".
            weights: as for `network`.
        Raises:
            InputError: as for `network`.
        """
        block = self.blocks[position] if isinstance(position, int) else None
        build = getattr(self, position) if isinstance(position, str) else lambda: self.blocks[position].build(arch)
        if weights is None:
            return build()
        with torch.device("meta"):  # shapes only: no time is spent on random numbers that are then replaced
            module = build()
        prefix = f"blocks.{position}." if block else f"{position}."
        if block and block.label is not None:
            prefix += f"{block.candidate(arch)}."
        state = {}
        for name, tensor in module.state_dict().items():
            source = prefix + name
            have = tuple(weights[source].shape) if source in weights else "none"
            if have == "none" or (not (block and block.elastic) and have != tuple(tensor.shape)):
                raise InputError(
                    f"these weights are of another space than {self.name} {self.preset}: {source} has shape {have} "
                    f"instead of {tuple(tensor.shape)}"
                )
            state[name] = slice_shared_weight(weights[source], tensor.shape).clone()
        module.load_state_dict(state, assign=True)
        return module


class Network(nn.Module):
    """A fixed network: stem, blocks and head as plain torch modules, without NNI."""

    def __init__(self, stem: nn.Module, blocks: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) images to (N, classes) logits."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def slice_shared_weight(tensor: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The slice of a shared weight that a smaller operation uses: the leading channels and the centre of the kernel.

    Args:
        tensor: the weight of the largest operation, such as (C out, C in, K, K).
        shape: the shape of the smaller operation's weight, with as many dimensions.
    Returns:
        A view of `tensor` with this shape.
    Raises:
        InputError: `shape` is larger than the tensor.
    Source: arXiv:1904.00420, channel number search; arXiv:1904.02877, superkernels.
    """
    if tensor.shape == shape:
        return tensor
    if tensor.dim() != len(shape) or any(want > have for want, have in zip(shape, tensor.shape, strict=True)):
        raise InputError(f"a weight of shape {tuple(tensor.shape)} cannot serve one of shape {tuple(shape)}")
    starts = [
        (have - want) // 2 if axis > 1 else 0 for axis, (have, want) in enumerate(zip(tensor.shape, shape, strict=True))
    ]
    return tensor[tuple(slice(start, start + want) for start, want in zip(starts, shape, strict=True))]


def make_affine(module: M) -> M:
    """Give every BatchNorm without affine parameters weight 1 and bias 0, in place; the function stays the same.

    Returns:
        The module itself.
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and not layer.affine:
            like = layer.running_mean if layer.running_mean is not None else torch.empty(layer.num_features)
            layer.affine = True
            layer.weight = nn.Parameter(torch.ones_like(like))
            layer.bias = nn.Parameter(torch.zeros_like(like))
    return module
