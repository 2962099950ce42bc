"""Building blocks that several spaces share. Shapes: N batch, C channels, H W height and width."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from spaces.chain import Choice, slice_shared_weight


@dataclass(frozen=True)
class Style:
    """What all layers of a paper's network have in common."""

    activation: type[nn.Module] = nn.ReLU
    eps: float = 1e-5  # of BatchNorm; its momentum is 0.1 everywhere
    affine: bool = True  # trainable BatchNorm weight and bias
    bias: bool = False  # of convolutions, although BatchNorm follows


def conv_bn(
    style: Style, cin: int, cout: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, linear: bool = False
) -> nn.Sequential:
    """Convolution (padding kernel // 2), BatchNorm and, unless `linear`, activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=style.bias),
        nn.BatchNorm2d(cout, eps=style.eps, affine=style.affine),
    ]
    if not linear:
        layers.append(style.activation(inplace=True))
    return nn.Sequential(*layers)


@dataclass(frozen=True)
class Preset:
    """Macro table of a space with one convolution as its stem."""

    resolution: int  # height and width of an image, pixels
    classes: int
    stem_width: int  # channels after the first convolution
    stem_stride: int
    stages: tuple[tuple[int, int, int], ...]
    last_width: int  # channels before the classifier


class Layer(NamedTuple):
    """One choice block of a macro table."""

    number: str  # "00", "01", ...
    stage: int
    first: bool  # of its stage
    cin: int
    cout: int
    stride: int


def layers(stages: Iterable[tuple[int, int, int]], cin: int) -> Iterator[Layer]:
    """Walk through (out channels, blocks, stride of the first block) of each stage; `cin` enters the first one."""
    number = 0
    for stage, (cout, depth, first_stride) in enumerate(stages):
        for index in range(depth):
            yield Layer(f"{number:02d}", stage, index == 0, cin, cout, first_stride if index == 0 else 1)
            number, cin = number + 1, cout


def pooled_classifier(
    style: Style, cin: int, width: int, classes: int, *, dropout: float = 0.0, bias: bool = True
) -> nn.Sequential:
    """The usual head: 1x1 convolution to `width`, global average, dropout, linear layer; (N, cin, H, W) to (N, classes)."""
    return nn.Sequential(
        conv_bn(style, cin, width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(width, classes, bias=bias),
    )


def mobile_stem(style: Style, widths: tuple[int, int], stride: int) -> nn.Sequential:
    """3x3 convolution, then a depthwise separable block; (N, 3, H, W) to (N, widths[1], H / stride, W / stride)."""
    return nn.Sequential(
        conv_bn(style, 3, widths[0], 3, stride),
        InvertedResidual(style, widths[0], widths[1], 1, kernel=3, expand=1),
    )


# ShuffleNetV2 units


class ShuffleBlock(nn.Module):
    """ShuffleNetV2 unit around a `main` branch, at whose end may stand a squeeze-and-excitation `se`.

    Stride 2: (N, cin, H, W) -> cat(proj(x), main(x)); main makes cout - cin channels.
    Stride 1: even channels pass through, odd channels enter main. Slicing is the same split as the official
    reshape-and-transpose channel shuffle, and needs no copy where channels are last in memory either.

    Source: arXiv:1904.00420, official blocks.py.
    """

    def __init__(self, main: nn.Module, proj: nn.Module | None, se: nn.Module | None) -> None:
        super().__init__()
        self.main = main
        self.proj = proj
        self.se = se

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        through, main = (x[:, 0::2], x[:, 1::2]) if self.proj is None else (self.proj(x), x)
        main = self.main(main)
        return torch.cat((through, main if self.se is None else self.se(main)), 1)


def shuffle_block(
    style: Style, cin: int, cout: int, stride: int, width: float = 1.0, *, kernel: int, se: bool = False
) -> nn.Module:
    """ShuffleNetV2 unit with a k x k depthwise convolution.

    Args:
        width: channels in the middle of the main branch, relative to cout // 2; rounded down.
        se: squeeze-and-excitation at the end of the main branch.
    """
    inp, out, mid = _main_widths(cin, cout, stride, width)
    layers = [
        conv_bn(style, inp, mid),
        conv_bn(style, mid, mid, kernel, stride, groups=mid, linear=True),
        conv_bn(style, mid, out),
    ]
    return _shuffle(style, layers, cin, out, stride, kernel, se)


def xception_block(
    style: Style, cin: int, cout: int, stride: int, width: float = 1.0, *, se: bool = False
) -> nn.Module:
    """ShuffleNetV2 unit whose main branch is three depthwise separable 3x3 convolutions ("Shuffle Xception")."""
    inp, out, mid = _main_widths(cin, cout, stride, width)
    layers = []
    for first, last, step in ((inp, mid, stride), (mid, mid, 1), (mid, out, 1)):
        layers += [conv_bn(style, first, first, 3, step, groups=first, linear=True)]
        layers += [conv_bn(style, first, last)]
    return _shuffle(style, layers, cin, out, stride, 3, se)


def _main_widths(cin: int, cout: int, stride: int, width: float) -> tuple[int, int, int]:
    """(in, out, middle) channels of a main branch. A stride-1 block may change the width: half of cin passes through."""
    inp = cin if stride == 2 else cin // 2
    return inp, cout - inp, int(cout // 2 * width)


def _shuffle(
    style: Style, main: list[nn.Sequential], cin: int, out: int, stride: int, kernel: int, se: bool
) -> nn.Module:
    attention = squeeze_excitation(out) if se else None
    if stride == 1:
        return ShuffleBlock(nn.Sequential(*main), None, attention)
    depthwise = conv_bn(style, cin, cin, kernel, stride, groups=cin, linear=True)
    return ShuffleBlock(nn.Sequential(*main), nn.Sequential(depthwise, conv_bn(style, cin, cin)), attention)


def squeeze_excitation(channels: int) -> nn.Module:
    """Squeeze-and-excitation with hard-sigmoid; the middle is a quarter, rounded up to a multiple of 8."""
    from torchvision.ops import SqueezeExcitation  # 1 s to import, and one variant of one space needs it

    return SqueezeExcitation(channels, -(-(channels // 4) // 8) * 8, scale_activation=nn.Hardsigmoid)


# Inverted residuals


class InvertedResidual(nn.Module):
    """MBConv: 1x1 expansion, k x k depthwise convolution, linear 1x1 projection; a residual where shapes are equal.

    Without an expansion (`expand` 1) the first 1x1 convolution is left out. With `groups` the 1x1 convolutions are
    grouped and a channel shuffle mixes the groups.

    Source: arXiv:1801.04381; FBNet's shuffle and groups: arXiv:1812.03443.
    """

    def __init__(
        self, style: Style, cin: int, cout: int, stride: int, *, kernel: int, expand: int, groups: int = 1
    ) -> None:
        super().__init__()
        mid = cin * expand
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expand > 1:
            layers["expand"] = conv_bn(style, cin, mid, groups=groups)
        if groups > 1:
            layers["shuffle"] = nn.ChannelShuffle(groups)
        layers["depthwise"] = conv_bn(style, mid, mid, kernel, stride, groups=mid)
        layers["project"] = conv_bn(style, mid, cout, groups=groups, linear=True)
        self.layers = nn.Sequential(layers)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def residual_choice(
    style: Style, layer: Layer, candidates: Mapping[str, Callable[..., nn.Module]], *, skip: bool = True
) -> Choice:
    """The choice block of a layer among MBConvs; with `skip`, it may be left out where the shapes allow."""
    shape = (layer.cin, layer.cout, layer.stride)
    built: dict[str, Callable[..., nn.Module]] = {
        name: partial(build, style, *shape) for name, build in candidates.items()
    }
    if skip and layer.stride == 1 and layer.cin == layer.cout:
        built["skip"] = nn.Identity
    return Choice(f"block{layer.number}", built)


# Warm start


@torch.no_grad()
def inherit_shuffle(target: nn.Module, source: nn.Module) -> None:
    """Copy the convolutions of one ShuffleNetV2 unit into another, so that both compute (nearly) the same.

    A smaller kernel is set into the centre of a larger one, exactly. An Xception unit has three separable
    convolutions where the other has one: the additional ones become identities; their BatchNorm and ReLU remain.
    """
    for branch in ("proj", "se"):  # both units have it, or neither
        for to, given in zip(_convs(target, branch), _convs(source, branch), strict=True):
            _embed(to, given)
    wide, narrow = _convs(target, "main"), _convs(source, "main")
    if len(wide) == len(narrow):
        for to, given in zip(wide, narrow, strict=True):
            _embed(to, given)
        return
    # depthwise and pointwise in turn: dw pw dw pw dw pw, from pw dw pw
    first, depthwise, last = narrow
    same_size = depthwise.stride == (1, 1)  # at stride 2 the first depthwise convolution of `target` halves the size
    for to, given2 in zip(wide, (None, first, depthwise if same_size else None, None, None, last), strict=True):
        _embed(to, given2)


@torch.no_grad()
def inherit_residual(target: nn.Module, source: nn.Module) -> None:
    """Copy an MBConv with an expansion into another of at least its kernel and expansion: the very same function.

    Additional channels keep their fresh weights, but the projection does not listen to them yet. A skip stays a skip.
    """
    if not isinstance(target, InvertedResidual):
        return
    given = source.state_dict()
    for name, tensor in target.state_dict().items():
        small = given[name]
        if "project.0" in name:
            tensor.zero_()
        elif "depthwise.0" in name:
            tensor[: len(small)].zero_()
        slice_shared_weight(tensor, small.shape).copy_(small)


def _convs(unit: nn.Module, branch: str) -> list[nn.Conv2d]:
    part = getattr(unit, branch, None)  # absent in the Elastic of a unit without it
    return [layer for layer in part.modules() if isinstance(layer, nn.Conv2d)] if part is not None else []


def _embed(conv: nn.Conv2d, source: nn.Conv2d | None) -> None:
    """Set a kernel into the centre of another of at least its size; None is the identity."""
    conv.weight.zero_()
    if source is None:
        nn.init.dirac_(conv.weight, conv.groups)
        return
    slice_shared_weight(conv.weight, source.weight.shape).copy_(source.weight)
    if conv.bias is not None and source.bias is not None:
        conv.bias.copy_(source.bias)
