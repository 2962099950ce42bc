"""A chain as NNI knows it: a ModelSpace with one LayerChoice per choice block, value choices where weights are shared.

Importing NNI's NAS takes 4 s more.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

with warnings.catch_warnings():  # NNI 3.0 complains about every newer class in torch.nn
    warnings.simplefilter("ignore")
    import nni
    from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableModule
    from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
    from nni.nas.strategy import RandomOneShot

import spaces
from spaces.chain import Choice, cut

# harmless, and repeated for every module of a space
logging.getLogger("nni").setLevel(logging.ERROR)


class Elastic(MutableModule):
    """A module of the largest size, of which smaller ones are cut. Each label is an NNI value choice.

    The tensors have the names that they have in the fixed module, so state dicts need no translation.

    Args:
        build: makes the fixed module of one value per label.
        elastic: label -> values.
    """

    def __init__(self, build: Callable[..., nn.Module], elastic: Mapping[str, Sequence[Any]]) -> None:
        super().__init__()
        self._build = build
        self.values = {label: list(values) for label, values in elastic.items()}
        for label, values in self.values.items():
            self.add_mutable(nni.choice(label, values))
        self.active = {label: max(values) for label, values in self.values.items()}
        largest = build(*self.active.values())
        self._modules.update(largest._modules)
        self._parameters.update(largest._parameters)
        self._buffers.update(largest._buffers)
        # structure of each size, without memory, and its layers beside ours
        self._shapes: dict[tuple[Any, ...], tuple[nn.Module, list[tuple[nn.Module, nn.Module]]]] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The active size on the shared weights; BatchNorm updates the shared statistics."""
        key = tuple(self.active.values())
        if key not in self._shapes:
            with torch.device("meta"):
                shape = self._build(*key)
            mine = dict(self.named_modules())
            self._shapes[key] = shape, [(layer, mine[name]) for name, layer in shape.named_modules() if name in mine]
        shape, layers = self._shapes[key]
        for layer, ours in layers:  # what BN recalibration sets on our layers
            layer.training = ours.training
            if isinstance(layer, nn.BatchNorm2d) and isinstance(ours, nn.BatchNorm2d):
                layer.momentum = ours.momentum
        own = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        tensors = {name: cut(own[name], tensor.shape) for name, tensor in shape.state_dict(keep_vars=True).items()}
        return functional_call(shape, tensors, (x,))

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        """For NNI; the fixed module with a copy of its part of the weights."""
        with torch.device("meta"):
            module = self._build(*(sample[label] for label in self.values))
        own = self.state_dict()
        part = {name: cut(own[name], tensor.shape).clone() for name, tensor in module.state_dict().items()}
        module.load_state_dict(part, assign=True)
        return module.train(self.training)


class SampledElastic(Elastic, BaseSuperNetModule):
    """What an Elastic becomes in a supernet whose paths are sampled."""

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Take the values in `memo`; NNI's strategies leave out what is to be drawn at random."""
        drawn = {mutable.label: mutable.random() for mutable in self.mutables if mutable.label not in memo}
        self.active = {label: memo.get(label, drawn.get(label)) for label in self.values}
        return self.active

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        return {mutable.label: mutable.random() for mutable in self.mutables if mutable.label not in memo}

    @classmethod
    def mutate(cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]) -> Any:
        if type(module) is not Elastic:
            return None
        module.__class__ = cls  # in place: NNI mutates a model in place as well
        return module, True


class ChainSpace(ModelSpace):
    """The NNI ModelSpace of a chain. Its arguments are plain values, so that NNI can build it again elsewhere.

    Attributes:
        stem, blocks, head: the chain; `blocks` has one LayerChoice or Elastic per choice block.
        chain: the description it was built from.
    """

    def __init__(self, name: str, preset: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.chain = spaces.describe(name, preset, **options)
        self.stem = self.chain.stem()
        self.blocks = nn.ModuleList(_choice_block(block) for block in self.chain.blocks)
        self.head = self.chain.head()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) images to (N, classes) logits of the active path."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def extra_oneshot_hooks(self, strategy: Any) -> list[Any]:
        """NNI asks a space how its own modules become parts of a supernet."""
        return [SampledElastic.mutate]


def _choice_block(block: Choice) -> nn.Module:
    built = {
        key: Elastic(build, block.elastic) if block.elastic else build() for key, build in block.candidates.items()
    }
    return next(iter(built.values())) if block.label is None else LayerChoice(built, label=block.label)


def make_supernet(space: ChainSpace) -> ChainSpace:
    """Turn a space into NNI's single-path supernet, in place; set its path with `spaces.arch.activate`."""
    return RandomOneShot().mutate_model(space)
