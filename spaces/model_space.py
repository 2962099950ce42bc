"""A chain as NNI knows it: a ModelSpace with one LayerChoice per choice block. Importing NNI's NAS takes 4 s more."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import nn

with warnings.catch_warnings():  # NNI 3.0 complains about every newer class in torch.nn
    warnings.simplefilter("ignore")
    from nni.nas.nn.pytorch import LayerChoice, ModelSpace
    from nni.nas.strategy import RandomOneShot

import spaces

# harmless, and repeated for every module of a space
logging.getLogger("nni").setLevel(logging.ERROR)


class ChainSpace(ModelSpace):
    """The NNI ModelSpace of a chain. Its arguments are plain values, so that NNI can build it again elsewhere.

    Attributes:
        stem, blocks, head: the chain; `blocks` has one LayerChoice per choice block.
        chain: the description it was built from.
    """

    def __init__(self, name: str, preset: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.chain = spaces.describe(name, preset, **options)
        self.stem = self.chain.stem()
        self.blocks = nn.ModuleList(
            LayerChoice({key: build() for key, build in block.candidates.items()}, label=block.label)
            for block in self.chain.blocks
        )
        self.head = self.chain.head()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) images to (N, classes) logits of the active path."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def make_supernet(space: ChainSpace) -> ChainSpace:
    """Turn a space into NNI's single-path supernet, in place; set its path with `spaces.arch.activate`."""
    return RandomOneShot().mutate_model(space)
