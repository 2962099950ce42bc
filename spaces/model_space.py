"""The NNI form of a chain: a ModelSpace with one LayerChoice per choice block, and value choices where weights are shared.

Importing this module imports NNI's NAS, which takes 4 s. Shapes: N batch, H W height and width.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

with warnings.catch_warnings():  # NNI 3.0 complains about every newer class in torch.nn
    warnings.simplefilter("ignore")
    from nni.nas.nn.pytorch import LayerChoice, ModelSpace
    from nni.nas.oneshot.pytorch.supermodule.sampling import PathSamplingLayer
    from nni.nas.strategy import RandomOneShot

from spaces.arch import Weights
from spaces.catalog import Option, describe
from spaces.chain import Choice
from spaces.elastic import Elastic, SampledElastic
from spaces.errors import InputError

if TYPE_CHECKING:
    from nni.nas.oneshot.pytorch.strategy import OneShotStrategy

# NNI's warnings are harmless here, and repeated for every module of a space.
logging.getLogger("nni").setLevel(logging.ERROR)


class MixedLayer(PathSamplingLayer):
    """The form of a LayerChoice in a supernet: one candidate is active, or all are mixed by `Weights`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the active candidate, or the weighted sum of candidates."""
        active = self._sampled
        if not isinstance(active, Weights):
            return super().forward(x)
        indices = range(len(self.names)) if active.active is None else active.active
        return sum(active.values[index] * self[self.names[index]](x) for index in indices)


class ChainSpace(ModelSpace):
    """The NNI ModelSpace of a chain. Its arguments are plain values, so that NNI can build it again elsewhere.

    Attributes:
        stem, blocks, head: the chain; `blocks` has one LayerChoice or Elastic per choice block.
        chain: the description it was built from.
    """

    def __init__(self, name: str, preset: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.chain = describe(name, preset, **options)
        self.stem = self.chain.stem()
        self.blocks = nn.ModuleList(_choice_block(block) for block in self.chain.blocks)
        self.head = self.chain.head()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) images to (N, classes) logits of the active path."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def extra_oneshot_hooks(self, strategy: OneShotStrategy) -> list[Any]:
        """NNI asks a space with which hooks its own modules become supernet modules.

        Raises:
            InputError: the space has value choices, and the strategy learns nothing about them: NNI's DARTS, GumbelDARTS
                and Proxyless would export widths and kernels that are drawn at random. A strategy of one's own that does
                learn them says so with the attribute `learns_value_choices = True`.
        """
        labels = [label for block in self.chain.blocks for label in block.elastic]
        learns = isinstance(strategy, RandomOneShot) or getattr(strategy, "learns_value_choices", False)
        if labels and not learns:  # RandomOneShot exports no winner, and ENAS, a class of its kind, learns every label
            raise InputError(
                f"{type(strategy).__name__} cannot learn the value choices of space {self.chain.name} ({labels[0]} and "
                f"{len(labels) - 1} more): it would export them drawn at random; use Softmax, Gumbel, Gates or Threshold of "
                "strategies.nni_oneshot, or learns_value_choices = True in a strategy of yours that learns them"
            )
        return [SampledElastic.mutate]


def _choice_block(block: Choice) -> nn.Module:
    """The NNI module of a choice block."""
    built = {
        key: Elastic(build, block.elastic) if block.elastic else build() for key, build in block.candidates.items()
    }
    return next(iter(built.values())) if block.label is None else LayerChoice(built, label=block.label)


def make_supernet(space: ModelSpace) -> ModelSpace:
    """Turn a space into a supernet, in place.

    Its path is set with `spaces.arch.activate`, or with `spaces.arch.activate_mixture`.
    """
    return RandomOneShot(mutation_hooks=[MixedLayer.mutate]).mutate_model(space)


def inherit_from_warm_path(supernet: ChainSpace) -> None:
    """End a warm start: every candidate inherits the weights of the first one in its choice block.

    The sizes of an elastic block share their weights anyway.
    """
    inherit = supernet.chain.inherit
    for block in supernet.blocks:
        if isinstance(block, MixedLayer):
            assert inherit is not None  # else the options were refused
            first, *others = block.names
            for name in others:
                inherit(block[name], block[first])


def build(name: str, preset: str = "imagenet", **options: Option) -> ChainSpace:
    """Build a space as an NNI ModelSpace, with fresh weights; arguments and errors as for `describe`.

    Returns:
        A ModelSpace with `stem`, `blocks` (one LayerChoice or Elastic per choice block) and `head`.
    """
    describe(name, preset, **options)
    return ChainSpace(name, preset, options)
