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
    from nni.nas.oneshot.pytorch.supermodule.sampling import PathSamplingLayer
    from nni.nas.strategy import RandomOneShot

from spaces.arch import Weights
from spaces.catalog import describe
from spaces.chain import Choice, slice_shared_weight

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
        return self._run(tuple(self.active.values()), x, {})

    def _run(self, key: tuple[Any, ...], x: torch.Tensor, masks: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The module of size `key`, with its part of our tensors; those named in `masks` times the mask."""
        if key not in self._shapes:
            with torch.device("meta"):
                shape = self._build(*key)
            mine = dict(self.named_modules())
            self._shapes[key] = shape, [(layer, mine[name]) for name, layer in shape.named_modules() if name in mine]
        shape, layers = self._shapes[key]
        for layer, ours in layers:  # what BN recalibration, and training on several devices, sets on our layers
            layer.training = ours.training
            if isinstance(layer, nn.BatchNorm2d) and isinstance(ours, nn.BatchNorm2d):
                layer.momentum = ours.momentum
                layer.__class__ = ours.__class__
        own = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        own |= {name: own[name] * mask for name, mask in masks.items()}
        tensors = {
            name: slice_shared_weight(own[name], tensor.shape)
            for name, tensor in shape.state_dict(keep_vars=True).items()
        }
        return functional_call(shape, tensors, (x,))

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        """For NNI; the fixed module with a copy of its part of the weights."""
        with torch.device("meta"):
            module = self._build(*(sample[label] for label in self.values))
        own = self.state_dict()
        part = {
            name: slice_shared_weight(own[name], tensor.shape).clone() for name, tensor in module.state_dict().items()
        }
        module.load_state_dict(part, assign=True)
        return module.train(self.training)


class SampledElastic(Elastic, BaseSuperNetModule):
    """What an Elastic becomes in a supernet: one size is active, or all are mixed by `Weights`."""

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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The active size; with Weights, the largest one, in which every part counts by the weight of its values.

        Input channels and kernel positions are weighted, which silences a part exactly: what a layer computes on output
        channels that a smaller value lacks, no later layer hears. A value without parameters (a skip) is added apart.
        """
        if not any(isinstance(value, Weights) for value in self.active.values()):
            return super().forward(x)
        masks: dict[str, torch.Tensor] = {}
        apart: list[tuple[torch.Tensor, list[tuple[torch.Tensor, tuple[Any, ...]]]]] = []
        full = {label: max(values) for label, values in self.values.items()}
        for label, values in self.values.items():
            weights = self._weights(label, x)
            kept = [place for place, value in enumerate(values) if self._sizes(label)[value]]
            share = weights[kept].sum()
            # among the values that are not apart; where all weight lies apart, what a gradient is to find its way back by
            chosen = self.active[label]
            rest = torch.ones(len(kept), device=x.device)
            if isinstance(chosen, Weights) and chosen.fallback is not None:
                rest = chosen.fallback[kept]
            rest = rest / rest.sum()
            within = torch.where(share > 0, weights[kept] / torch.where(share > 0, share, 1.0), rest)
            for name, regions in self._regions(label).items():
                mask = (within.view(-1, *[1] * (regions.dim() - 1)) * regions.to(x.device)).sum(0)
                masks[name] = masks[name] * mask if name in masks else mask
            others = [
                (weights[place], tuple(full[key] if key != label else value for key in full))
                for place, value in enumerate(values)
                if place not in kept
            ]
            if others:
                apart.append((share, others))
        y = self._run(tuple(full.values()), x, masks)
        for share, others in apart:
            y = share * y + sum(weight * self._run(key, x, {}) for weight, key in others)
        return y

    def squared_norms(self, label: str) -> torch.Tensor:
        """(K,) sum of the squares of the weights that each value of `label` uses, the others at their largest.

        Of convolutions with a spatial kernel that differ between the values, as in Single-Path NAS (arXiv:1904.02877),
        where that is the depthwise one; of all layers that differ where there is none such.
        """
        sizes = self._sizes(label)
        own = dict(self.named_parameters())
        largest = sizes[max(self.values[label])]
        differ = [name for name, shape in largest.items() if any(size.get(name) != shape for size in sizes.values())]
        differ = [name for name in differ if own[name].dim() > 1]
        spatial = [name for name in differ if max(own[name].shape[2:], default=1) > 1]
        zero = torch.zeros((), device=next(iter(own.values())).device)
        return torch.stack(
            [
                sum(
                    (
                        slice_shared_weight(own[name], size[name]).square().sum()
                        for name in spatial or differ
                        if name in size
                    ),
                    zero,
                )
                for size in sizes.values()
            ]
        )

    def _weights(self, label: str, x: torch.Tensor) -> torch.Tensor:
        chosen, values = self.active[label], self.values[label]
        given = chosen.values if isinstance(chosen, Weights) else [float(value == chosen) for value in values]
        return torch.as_tensor(given, dtype=torch.float32, device=x.device)

    def _sizes(self, label: str) -> dict[Any, dict[str, torch.Size]]:
        """value -> names and shapes of its parameters, the other labels at their largest."""
        known: dict[str, Any] = self.__dict__.setdefault("_known_sizes", {})
        if label not in known:
            known[label] = {}
            full = {key: max(values) for key, values in self.values.items()}
            for value in self.values[label]:
                with torch.device("meta"):
                    shape = self._build(*(full | {label: value}).values())
                known[label][value] = {name: tensor.shape for name, tensor in shape.named_parameters()}
        return known[label]

    def _regions(self, label: str) -> dict[str, torch.Tensor]:
        """name -> (values with parameters, *mask) 0/1: the input channels and kernel positions of each value."""
        known: dict[str, Any] = self.__dict__.setdefault("_known_regions", {})
        if label not in known:
            known[label] = {}
            sizes = [size for size in self._sizes(label).values() if size]
            for name, full in self._sizes(label)[max(self.values[label])].items():
                shapes = [(1, *size[name][1:]) for size in sizes]  # output channels are heard through the next layer
                if len(set(shapes)) > 1:
                    regions = torch.zeros(len(sizes), 1, *full[1:])
                    for region, shape in zip(regions, shapes, strict=True):
                        slice_shared_weight(region, shape).fill_(1)
                    known[label][name] = regions
        return known[label]


class MixedLayer(PathSamplingLayer):
    """What a LayerChoice becomes in a supernet: one candidate is active, or a weighted sum by `Weights`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen = self._sampled
        if not isinstance(chosen, Weights):
            return super().forward(x)
        places = range(len(self.names)) if chosen.active is None else chosen.active
        return sum(chosen.values[place] * self[self.names[place]](x) for place in places)


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

    def extra_oneshot_hooks(self, strategy: Any) -> list[Any]:
        """NNI asks a space how its own modules become parts of a supernet."""
        return [SampledElastic.mutate]


def _choice_block(block: Choice) -> nn.Module:
    built = {
        key: Elastic(build, block.elastic) if block.elastic else build() for key, build in block.candidates.items()
    }
    return next(iter(built.values())) if block.label is None else LayerChoice(built, label=block.label)


def squared_norms(supernet: nn.Module, label: str) -> torch.Tensor:
    """`SampledElastic.squared_norms` of the superkernel that has this label."""
    owners = supernet.__dict__.setdefault("_superkernels", {})
    if not owners:
        layers = [layer for layer in supernet.modules() if isinstance(layer, SampledElastic)]
        owners.update({label: layer for layer in layers for label in layer.values})
    return owners[label].squared_norms(label)


def make_supernet(space: ModelSpace) -> Any:
    """Turn a space into a supernet, in place; set its path with `spaces.arch.activate`, or `spaces.arch.activate_mixture` all."""
    return RandomOneShot(mutation_hooks=[MixedLayer.mutate]).mutate_model(space)


def build(name: str, preset: str = "imagenet", **options: Any) -> ChainSpace:
    """Build a space as an NNI ModelSpace; arguments as for `describe`.

    Returns:
        A ModelSpace with `stem`, `blocks` (one LayerChoice per choice block) and `head`.
    """
    describe(name, preset, **options)

    return ChainSpace(name, preset, options)
