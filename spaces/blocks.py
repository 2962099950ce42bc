"""Building blocks that several spaces share. Shapes: N batch, C channels, H W height and width."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from spaces.chain import Choice


@dataclass(frozen=True)
class Style:
    """Conventions that all layers of a paper's network share."""

    activation: type[nn.Module] = nn.ReLU
    eps: float = 1e-5  # BatchNorm's eps; its momentum is 0.1 everywhere
    affine: bool = True  # whether BatchNorm has a trainable weight and bias
    bias: bool = False  # whether convolutions have a bias, although BatchNorm follows


def conv_bn(
    style: Style, cin: int, cout: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, linear: bool = False
) -> nn.Sequential:
    """Convolution with padding kernel // 2, BatchNorm and, unless `linear`, activation.

    Returns:
        A module (N, cin, H, W) to (N, cout, H / stride, W / stride).
    """
    layers: list[nn.Module] = [
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=style.bias),
        nn.BatchNorm2d(cout, eps=style.eps, affine=style.affine),
    ]
    if not linear:
        layers.append(style.activation(inplace=True))
    return nn.Sequential(*layers)


class Layer(NamedTuple):
    """One choice block of a macro table."""

    number: str  # its number in the network, from "00"
    stage: int  # index of its stage
    first: bool  # whether it is the first block of its stage
    cin: int  # input channels
    cout: int  # output channels
    stride: int


def layers(stages: Iterable[tuple[int, int, int]], cin: int) -> Iterator[Layer]:
    """Iterate over the choice blocks of a macro table.

    Args:
        stages: out channels, blocks, and stride of the first block of each stage.
        cin: channels that enter the first stage.
    """
    number = 0
    for stage, (cout, depth, first_stride) in enumerate(stages):
        for index in range(depth):
            yield Layer(f"{number:02d}", stage, index == 0, cin, cout, first_stride if index == 0 else 1)
            number, cin = number + 1, cout


def pooled_classifier(
    style: Style, cin: int, width: int, classes: int, *, dropout: float = 0.0, bias: bool = True
) -> nn.Sequential:
    """The usual head: 1x1 convolution to `width` channels, global average pooling, dropout, linear layer.

    Returns:
        A module (N, cin, H, W) to (N, classes).
    """
    return nn.Sequential(
        conv_bn(style, cin, width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(width, classes, bias=bias),
    )


def mobile_stem(style: Style, widths: Sequence[int], stride: int) -> nn.Sequential:
    """3x3 convolution to widths[0] channels, then a depthwise separable block.

    Returns:
        A module (N, 3, H, W) to (N, widths[1], H / stride, W / stride).
    """
    return nn.Sequential(
        conv_bn(style, 3, widths[0], 3, stride),
        InvertedResidual(style, widths[0], widths[1], 1, kernel=3, expand=1),
    )


# ShuffleNetV2 units


class ShuffleBlock(nn.Module):
    """ShuffleNetV2 unit: (N, cin, H, W) to (N, cout, H / stride, W / stride).

    Stride 2: the output is cat(proj(x), main(x)), where main makes cout - cin channels.
    Stride 1: even channels pass through, odd channels enter main. Slicing them makes the same split as the official
    channel shuffle by reshape and transpose, and copies nothing even in the channels-last memory format.

    Args:
        main: the main branch.
        proj: the branch beside it at stride 2; None at stride 1.
        se: squeeze-and-excitation at the end of the main branch; None: left out.
    Source: arXiv:1904.00420, official blocks.py.
    """

    def __init__(self, main: nn.Module, proj: nn.Module | None, se: nn.Module | None) -> None:
        super().__init__()
        self.main = main
        self.proj = proj
        self.se = se

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, cin, H, W) to (N, cout, H / stride, W / stride)."""
        through, main = (x[:, 0::2], x[:, 1::2]) if self.proj is None else (self.proj(x), x)
        main = self.main(main)
        return torch.cat((through, main if self.se is None else self.se(main)), 1)


def shuffle_block(
    style: Style, cin: int, cout: int, stride: int, width: float = 1.0, *, kernel: int, se: bool = False
) -> nn.Module:
    """ShuffleNetV2 unit with a k x k depthwise convolution.

    Args:
        width: channels in the middle of the main branch, relative to cout // 2; their number is rounded down.
        kernel: k.
        se: whether squeeze-and-excitation ends the main branch.
    """
    main_in, main_out, middle = main_widths(cin, cout, stride, width)
    layers = [
        conv_bn(style, main_in, middle),
        conv_bn(style, middle, middle, kernel, stride, groups=middle, linear=True),
        conv_bn(style, middle, main_out),
    ]
    return _shuffle(style, layers, cin, main_out, stride, kernel, se)


def xception_block(
    style: Style, cin: int, cout: int, stride: int, width: float = 1.0, *, se: bool = False
) -> nn.Module:
    """ShuffleNetV2 unit whose main branch is three depthwise separable 3x3 convolutions ("Shuffle Xception").

    Arguments as for `shuffle_block`.
    """
    main_in, main_out, middle = main_widths(cin, cout, stride, width)
    layers = []
    for before, after, step in ((main_in, middle, stride), (middle, middle, 1), (middle, main_out, 1)):
        layers += [conv_bn(style, before, before, 3, step, groups=before, linear=True)]
        layers += [conv_bn(style, before, after)]
    return _shuffle(style, layers, cin, main_out, stride, 3, se)


def main_widths(cin: int, cout: int, stride: int, width: float) -> tuple[int, int, int]:
    """Channels that enter a main branch, leave it, and are in its middle.

    At stride 1 half of cin passes through beside the branch, which makes the rest of cout: a block may change width.
    """
    main_in = cin if stride == 2 else cin // 2
    return main_in, cout - main_in, int(cout // 2 * width)


def _shuffle(
    style: Style, main: list[nn.Sequential], cin: int, main_out: int, stride: int, kernel: int, se: bool
) -> nn.Module:
    """The unit around the layers of a main branch."""
    attention = squeeze_excitation(main_out) if se else None
    if stride == 1:
        return ShuffleBlock(nn.Sequential(*main), None, attention)
    depthwise = conv_bn(style, cin, cin, kernel, stride, groups=cin, linear=True)
    return ShuffleBlock(nn.Sequential(*main), nn.Sequential(depthwise, conv_bn(style, cin, cin)), attention)


def squeeze_excitation(channels: int) -> nn.Module:
    """Squeeze-and-excitation with hard-sigmoid; a quarter of the channels inside, rounded up to a multiple of 8."""
    from torchvision.ops import SqueezeExcitation

    return SqueezeExcitation(channels, -(-(channels // 4) // 8) * 8, scale_activation=nn.Hardsigmoid)


# Inverted residuals


class InvertedResidual(nn.Module):
    """MBConv: 1x1 expansion, k x k depthwise convolution, linear 1x1 projection.

    Takes (N, cin, H, W) to (N, cout, H / s, W / s).

    Where input and output have the same shape, the input is added to the output.

    Args:
        kernel: k.
        expand: channels of the depthwise convolution, relative to cin; with 1 the first 1x1 convolution is left out.
        groups: groups of the 1x1 convolutions; above 1, a channel shuffle mixes them.
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
        """(N, cin, H, W) to (N, cout, H / stride, W / stride)."""
        return x + self.layers(x) if self.residual else self.layers(x)


def residual_choice(
    style: Style, layer: Layer, candidates: Mapping[str, Callable[..., nn.Module]], *, skip: bool = True
) -> Choice:
    """The choice block of one layer of a macro table, among MBConvs.

    Args:
        candidates: name -> builder, called with (style, cin, cout, stride).
        skip: offer a skip too where input and output have the same shape.
    """
    shape = (layer.cin, layer.cout, layer.stride)
    built: dict[str, Callable[..., nn.Module]] = {
        name: partial(build, style, *shape) for name, build in candidates.items()
    }
    if skip and layer.stride == 1 and layer.cin == layer.cout:
        built["skip"] = nn.Identity
    return Choice(f"block{layer.number}", built)
