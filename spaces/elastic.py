"""Modules whose sizes share weights: superkernels, and candidates of variable width.

Importing this module imports NNI's NAS, which takes 4 s. K values of a label.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

with warnings.catch_warnings():  # NNI 3.0 complains about every newer class in torch.nn
    warnings.simplefilter("ignore")
    import nni
    from nni.nas.nn.pytorch import MutableModule
    from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule

from spaces.arch import Weights
from spaces.chain import slice_shared_weight


class Elastic(MutableModule):
    """A module of the largest size, from whose weights the smaller sizes are sliced. Each label is an NNI value choice.

    Its tensors have the same names as in the fixed module, so state dicts need no translation.

    Args:
        build: makes the fixed module of one size, called with one value per label.
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
        # size -> its module on the meta device, and pairs of (layer of that module, our layer of the same name)
        self._shapes: dict[tuple[Any, ...], tuple[nn.Module, list[tuple[nn.Module, nn.Module]]]] = {}
        self._prepare: Callable[[nn.Module], object] | None = None

    def prepare_sizes(self, prepare: Callable[[nn.Module], object]) -> None:
        """Have something done to the module of each size before it is run, as was done to this module."""
        self._shapes.clear()
        self._prepare = prepare

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the active size on the shared weights; BatchNorm updates the shared statistics."""
        return self._run(tuple(self.active.values()), x, {})

    def _run(self, size: tuple[Any, ...], x: torch.Tensor, masks: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Run one size on its slices of the shared tensors.

        Args:
            size: one value per label.
            masks: names of tensors -> factors that the shared tensor is multiplied with first.
        """
        if size not in self._shapes:
            with torch.device("meta"):
                shape = self._build(*size)
            if self._prepare is not None:
                self._prepare(shape)
            mine = dict(self.named_modules())
            self._shapes[size] = shape, [(layer, mine[name]) for name, layer in shape.named_modules() if name in mine]
        shape, layers = self._shapes[size]
        # BatchNorm recalibration, and training on several devices, change these attributes on our own layers.
        for layer, ours in layers:
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
        """The fixed module of one size, with a copy of its slices of the weights; called by NNI."""
        with torch.device("meta"):
            module = self._build(*(sample[label] for label in self.values))
        own = self.state_dict()
        slices = {
            name: slice_shared_weight(own[name], tensor.shape).clone() for name, tensor in module.state_dict().items()
        }
        module.load_state_dict(slices, assign=True)
        return module.train(self.training)


class SampledElastic(Elastic, BaseSuperNetModule):
    """The form of an Elastic in a supernet: one size is active, or all sizes are mixed by `Weights`."""

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Make the values in `memo` active. Labels that NNI's strategies leave out get random values."""
        sampled = {mutable.label: mutable.random() for mutable in self.mutables if mutable.label not in memo}
        self.active = {label: memo.get(label, sampled.get(label)) for label in self.values}
        return self.active

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Random values of the labels that are not in `memo`; called by NNI."""
        return {mutable.label: mutable.random() for mutable in self.mutables if mutable.label not in memo}

    @classmethod
    def mutate(cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]) -> Any:
        """NNI's mutation hook: turn an Elastic into a SampledElastic in place, as NNI mutates models."""
        if type(module) is not Elastic:
            return None
        module.__class__ = cls
        return module, True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the active size; or, with Weights, the largest size with every slice scaled by the weight of its values.

        Input channels and kernel positions are scaled. Masking input channels removes a slice exactly, because later
        layers ignore the additional outputs of the layers before. A value without parameters (a skip) is no slice of
        the largest size: it is run by itself, and its output is added with its weight.
        """
        if not any(isinstance(value, Weights) for value in self.active.values()):
            return super().forward(x)
        masks: dict[str, torch.Tensor] = {}
        # for each label with values without parameters: the weight of its other values, and (weight, size) of these
        apart: list[tuple[torch.Tensor, list[tuple[torch.Tensor, tuple[Any, ...]]]]] = []
        full = {label: max(values) for label, values in self.values.items()}
        for label, values in self.values.items():
            weights = self._weights(label, x)
            kept = [index for index, value in enumerate(values) if self._sizes(label)[value]]
            share = weights[kept].sum()
            # Values with parameters: each slice counts with the sum of the weights of the values that use it.
            within = torch.where(
                share > 0, weights[kept] / torch.where(share > 0, share, 1.0), self._fallback(label, kept, x)
            )
            for name, regions in self._regions(label).items():
                mask = (within.view(-1, *[1] * (regions.dim() - 1)) * regions.to(x.device)).sum(0)
                masks[name] = masks[name] * mask if name in masks else mask
            # Values without parameters: each is a size of its own.
            others = [
                (weights[index], tuple(full[key] if key != label else value for key in full))
                for index, value in enumerate(values)
                if index not in kept
            ]
            if others:
                apart.append((share, others))
        y = self._run(tuple(full.values()), x, masks)
        for share, others in apart:
            y = share * y + sum(weight * self._run(size, x, {}) for weight, size in others)
        return y

    def squared_norms(self, label: str) -> torch.Tensor:
        """Squared norms of the weights that each value of a label uses, the other labels at their largest.

        The norm is that of the convolutions with a spatial kernel whose shapes differ between the values; in Single-Path
        NAS (arXiv:1904.02877) that is the depthwise one. If there is no such convolution, it is that of all layers whose
        shapes differ.

        Returns:
            (K,) with the gradient of the weights.
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
        """(K,) the weight of each value of a label; 1 and 0 if one value is active."""
        active, values = self.active[label], self.values[label]
        weights = active.values if isinstance(active, Weights) else [float(value == active) for value in values]
        return torch.as_tensor(weights, dtype=torch.float32, device=x.device)

    def _fallback(self, label: str, kept: list[int], x: torch.Tensor) -> torch.Tensor:
        """Weights of the values at the indices `kept`, with sum 1, for when the active weights leave them nothing."""
        active = self.active[label]
        weights = torch.ones(len(kept), device=x.device)
        if isinstance(active, Weights) and active.fallback is not None:
            weights = active.fallback[kept]
        return weights / weights.sum()

    def _sizes(self, label: str) -> dict[Any, dict[str, torch.Size]]:
        """Value of a label -> names and shapes of its parameters, the other labels at their largest."""
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
        """Name of a parameter -> masks of the input channels and kernel positions that each value of a label uses.

        Masks are (values with parameters, 1, C in, K, K), of zeros and ones. They do not mask output channels, because
        the next layer ignores those that a smaller value lacks.
        """
        known: dict[str, Any] = self.__dict__.setdefault("_known_regions", {})
        if label not in known:
            known[label] = {}
            sizes = [size for size in self._sizes(label).values() if size]
            for name, full in self._sizes(label)[max(self.values[label])].items():
                shapes = [(1, *size[name][1:]) for size in sizes]
                if len(set(shapes)) > 1:
                    regions = torch.zeros(len(sizes), 1, *full[1:])
                    for region, shape in zip(regions, shapes, strict=True):
                        slice_shared_weight(region, shape).fill_(1)
                    known[label][name] = regions
        return known[label]


def squared_norms(supernet: nn.Module, label: str) -> torch.Tensor:
    """(K,) squared norms of the weights that each value of a superkernel's label uses; see `SampledElastic`."""
    owners = supernet.__dict__.setdefault("_superkernels", {})
    if not owners:
        layers = [layer for layer in supernet.modules() if isinstance(layer, SampledElastic)]
        owners.update({label: layer for layer in layers for label in layer.values})
    return owners[label].squared_norms(label)
