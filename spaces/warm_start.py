"""Warm start: after one path was trained, all other candidates inherit its weights.

Each function copies the weights of a trained block (`source`) into another candidate of the same block (`target`), and
is what a space gives to its `Chain` as `inherit`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from spaces.blocks import InvertedResidual
from spaces.chain import slice_shared_weight


@torch.no_grad()
def inherit_shuffle(target: nn.Module, source: nn.Module) -> None:
    """Copy the convolutions of one ShuffleNetV2 unit into another, so that both compute nearly the same.

    A smaller kernel is placed exactly in the centre of a larger one. An Xception unit has three separable convolutions
    where the other unit has one: the additional ones become identities, but their BatchNorm and ReLU remain.
    """
    for branch in ("proj", "se"):  # both units have the branch, or neither
        for into, convolution in zip(_convs(target, branch), _convs(source, branch), strict=True):
            _embed(into, convolution)
    deep, shallow = _convs(target, "main"), _convs(source, "main")
    sources: list[nn.Conv2d | None] = [*shallow]
    if len(deep) != len(shallow):
        # An Xception branch is depthwise and pointwise in turn (dw pw dw pw dw pw), the other is pw dw pw. At stride 2
        # the first depthwise convolution already halves the size, so the other's depthwise one has no place.
        first, depthwise, last = shallow
        sources = [None, first, depthwise if depthwise.stride == (1, 1) else None, None, None, last]
    for into, source_or_none in zip(deep, sources, strict=True):
        _embed(into, source_or_none)


@torch.no_grad()
def inherit_residual(target: nn.Module, source: nn.Module) -> None:
    """Copy an MBConv with an expansion into another of at least its kernel and expansion, which then computes the same.

    Additional channels keep their fresh weights, but start with zero projection weights. A skip stays a skip.
    """
    if not isinstance(target, InvertedResidual):
        return
    small_state = source.state_dict()
    for name, tensor in target.state_dict().items():
        small = small_state[name]
        if "project.0" in name:
            tensor.zero_()
        elif "depthwise.0" in name:
            tensor[: len(small)].zero_()
        slice_shared_weight(tensor, small.shape).copy_(small)


@torch.no_grad()
def inherit_without_expansion(target: nn.Module, source: nn.Module) -> None:
    """Copy an MBConv without expansion and groups, FBNet's k3_e1, into another, which then computes nearly the same.

    A larger kernel alone computes exactly the same. An expansion gets x and -x as its first channels, whose depthwise filters
    are the source's and their negative: behind the ReLU they hold the positive and the negative part of what the source's hold.
    The channels beyond keep their fresh weights, but start with zero projection weights. In groups an output listens to the
    source's weights of the channels of its group alone. A skip stays a skip.
    """
    if not isinstance(target, InvertedResidual):
        return
    into: Any = target.layers
    given: Any = source.layers
    channels, groups = given.depthwise[0].out_channels, into.project[0].groups
    copies = min(2, into.depthwise[0].out_channels // channels)
    # which of the source's channels each of the target's is, after the shuffle
    device = given.depthwise[0].weight.device
    order = torch.arange(channels, device=device)
    if groups > 1:
        order = into.shuffle(order.view(1, -1, 1, 1).float()).flatten().long()
    order = order.repeat(copies)
    sign = torch.ones(copies, channels, device=device)
    sign[1:] = -1
    sign = sign.view(-1, 1, 1, 1)
    if "expand" in dict(into.named_children()):
        nn.init.zeros_(into.expand[0].weight[: len(order)])
        rows = torch.arange(len(order), device=device)
        into.expand[0].weight[rows, order] = sign[:, :, 0]
    filters = into.depthwise[0].weight[: len(order)]
    slice_shared_weight(filters.zero_(), (len(order), *given.depthwise[0].weight.shape[1:])).copy_(
        sign * given.depthwise[0].weight[order]
    )
    for name, tensor in given.depthwise.state_dict().items():
        if tensor.dim() == 1:  # BatchNorm's, and biases
            into.depthwise.state_dict()[name][: len(order)] = tensor[order]
    own = into.project.state_dict()
    for name, tensor in given.project.state_dict().items():
        if tensor.dim() <= 1:
            own[name].copy_(tensor)
    weight = own["0.weight"].zero_()
    for group, rows in enumerate(torch.arange(len(weight)).chunk(groups)):
        heard = order.chunk(groups)[group] if groups > 1 else order
        weight[rows, : len(heard)] = given.project[0].weight[rows][:, heard]


def _convs(unit: nn.Module, branch: str) -> list[nn.Conv2d]:
    """The convolutions of one branch of a ShuffleNetV2 unit, in order; none if the unit lacks the branch."""
    module = getattr(unit, branch, None)  # an Elastic has no attribute for a branch that its unit lacks
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)] if module is not None else []


def _embed(conv: nn.Conv2d, source: nn.Conv2d | None) -> None:
    """Place the kernel of `source` in the centre of `conv`'s, which is at least as large; None makes `conv` the identity."""
    conv.weight.zero_()
    if source is None:
        nn.init.dirac_(conv.weight, conv.groups)
        return
    slice_shared_weight(conv.weight, source.weight.shape).copy_(source.weight)
    if conv.bias is not None and source.bias is not None:
        conv.bias.copy_(source.bias)
