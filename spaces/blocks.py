"""Building blocks that several spaces share. Shapes: N batch, C channels, H W height and width."""

from __future__ import annotations

import torch
from torch import nn


def conv_bn(
    cin: int, cout: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, relu: bool = True, affine: bool = True
) -> nn.Sequential:
    """Convolution (no bias, padding kernel // 2), BatchNorm (eps 1e-5, momentum 0.1) and, if asked for, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout, affine=affine),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class ShuffleBlock(nn.Module):
    """ShuffleNetV2 unit around a `main` branch.

    Stride 2: (N, cin, H, W) -> cat(proj(x), main(x)); main makes cout - cin channels.
    Stride 1: even channels pass through, odd channels enter main. Slicing is the same split as the official
    reshape-and-transpose channel shuffle, without the copy.

    Source: arXiv:1904.00420, official blocks.py.
    """

    def __init__(self, main: nn.Module, proj: nn.Module | None) -> None:
        super().__init__()
        self.main = main
        self.proj = proj

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.proj is None:
            return torch.cat((x[:, 0::2], self.main(x[:, 1::2])), 1)
        return torch.cat((self.proj(x), self.main(x)), 1)


def shuffle_block(cin: int, cout: int, stride: int, kernel: int, *, mid_scale: float = 1.0, affine: bool) -> nn.Module:
    """ShuffleNetV2 unit with a k x k depthwise convolution.

    Args:
        mid_scale: width of the middle relative to cout // 2.
    """
    inp, out, mid = _main_widths(cin, cout, stride, mid_scale)
    main = nn.Sequential(
        conv_bn(inp, mid, affine=affine),
        conv_bn(mid, mid, kernel, stride, groups=mid, relu=False, affine=affine),
        conv_bn(mid, out, affine=affine),
    )
    return ShuffleBlock(main, _projection(cin, stride, kernel, affine))


def xception_block(cin: int, cout: int, stride: int, *, mid_scale: float = 1.0, affine: bool) -> nn.Module:
    """ShuffleNetV2 unit whose main branch is three depthwise separable 3x3 convolutions ("Shuffle Xception")."""
    inp, out, mid = _main_widths(cin, cout, stride, mid_scale)
    layers = []
    for first, last, step in ((inp, mid, stride), (mid, mid, 1), (mid, out, 1)):
        layers += [conv_bn(first, first, 3, step, groups=first, relu=False, affine=affine)]
        layers += [conv_bn(first, last, affine=affine)]
    return ShuffleBlock(nn.Sequential(*layers), _projection(cin, stride, 3, affine))


def _main_widths(cin: int, cout: int, stride: int, mid_scale: float) -> tuple[int, int, int]:
    """(in, out, middle) channels of a main branch. A stride-1 block may change the width: half of cin passes through."""
    inp = cin if stride == 2 else cin // 2
    out = cout - inp
    return inp, out, int(cout // 2 * mid_scale)


def _projection(cin: int, stride: int, kernel: int, affine: bool) -> nn.Module | None:
    if stride == 1:
        return None
    return nn.Sequential(
        conv_bn(cin, cin, kernel, stride, groups=cin, relu=False, affine=affine),
        conv_bn(cin, cin, affine=affine),
    )


@torch.no_grad()
def inherit(target: nn.Module, source: nn.Module) -> None:
    """Copy the convolutions of one ShuffleNetV2 unit into another, so that both compute (nearly) the same.

    A smaller kernel is set into the centre of a larger one, exactly. An Xception unit has three separable
    convolutions where the other has one: the additional ones become identities; their BatchNorm and ReLU remain.
    """
    assert isinstance(target, ShuffleBlock)
    assert isinstance(source, ShuffleBlock)
    if target.proj is not None and source.proj is not None:
        for to, given in zip(_convs(target.proj), _convs(source.proj), strict=True):
            _embed(to, given)
    wide, narrow = _convs(target.main), _convs(source.main)
    if len(wide) == len(narrow):
        for to, given in zip(wide, narrow, strict=True):
            _embed(to, given)
        return
    # depthwise and pointwise in turn: dw pw dw pw dw pw, from pw dw pw
    first, depthwise, last = narrow
    same_size = depthwise.stride == (1, 1)  # at stride 2 the first depthwise convolution of `target` halves the size
    for to, given2 in zip(wide, (None, first, depthwise if same_size else None, None, None, last), strict=True):
        _embed(to, given2)


def _convs(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def _embed(conv: nn.Conv2d, source: nn.Conv2d | None) -> None:
    """Set a kernel into the centre of another of at least its size; None is the identity."""
    conv.weight.zero_()
    if source is None:
        nn.init.dirac_(conv.weight, conv.groups)
        return
    size = source.weight.shape[-1]
    edge = (conv.weight.shape[-1] - size) // 2
    conv.weight[:, :, edge : edge + size, edge : edge + size] = source.weight
