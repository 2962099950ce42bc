"""A search space is a chain: a stem, choice blocks one after another, a head.

Each paper's file describes its space as a `Chain`. From it are built, on demand,
  - the NNI ModelSpace with one LayerChoice per choice block (`spaces.build`, in model_space.py);
  - one fixed network with plain torch modules (`Chain.network`), without importing NNI: 4 s less in every trial;
  - the exact cost table, on the meta device (cost.py).

Shapes: N batch, C channels, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from spaces.arch import Arch, validate


@dataclass(frozen=True)
class Choice:
    """One choice block: a label, and how to build each of its candidates."""

    label: str
    candidates: Mapping[str, Callable[[], nn.Module]]  # in the order of the paper


@dataclass(frozen=True)
class Chain:
    """A whole search space, not yet built."""

    name: str
    preset: str
    resolution: int  # height and width of an image, pixels
    classes: int
    stem: Callable[[], nn.Module]  # (N, 3, H, W) in
    blocks: Sequence[Choice]
    head: Callable[[], nn.Module]  # (N, classes) out
    inherit: Callable[[nn.Module, nn.Module], None] | None = None  # (candidate, source) -> None: for a warm start

    @cached_property
    def choices(self) -> dict[str, list[str]]:
        """label -> candidates, in order."""
        return {block.label: list(block.candidates) for block in self.blocks}

    def network(self, arch: Arch) -> Network:
        """The fixed network of `arch` with fresh weights.

        Raises:
            ArchError: `arch` does not fit.
        """
        validate(arch, self.choices)
        blocks = [block.candidates[arch[block.label]]() for block in self.blocks]
        return Network(self.stem(), blocks, self.head())


class Network(nn.Module):
    """A fixed network: plain torch modules, no NNI inside."""

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


def make_affine(module: Any) -> Any:
    """Give every BatchNorm without affine parameters weight 1 and bias 0, in place: the same function.

    Returns:
        The module.
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and not layer.affine:
            where = layer.running_mean.device if layer.running_mean is not None else None
            layer.affine = True
            layer.weight = nn.Parameter(torch.ones(layer.num_features, device=where))
            layer.bias = nn.Parameter(torch.zeros(layer.num_features, device=where))
    return module
