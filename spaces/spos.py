"""SPOS: Single Path One-Shot Neural Architecture Search with Uniform Sampling, arXiv:1904.00420.

20 choice blocks with 4 candidates each: 4^20 = 1.1e12 architectures. Three variants:

    block     the paper's block search
    channel   its channel search: the middle of each block has one of 8 widths, 0.2 to 1.6 times the usual
    plus      OneShot-S+ (github.com/CanyonWind/Single-Path-One-Shot-NAS-MXNet): 10 widths, 0.2 to 2.0 times the usual;
              squeeze-and-excitation in the last two stages, hard-swish, the last convolution after the pooling

Conventions of the official code (megvii-model/SinglePathOneShot): BatchNorm eps 1e-5, momentum 0.1, without affine
parameters in the supernet and with them in fixed networks; padding k // 2; classifier without bias; dropout 0.1.
Preset cifar and variant plus have the costs of their sources, not their functions: in ShunLu91's code for CIFAR even channels enter
the main branch, and the activation is ReLU6; in the MXNet code channels are shuffled after a block, and the first half passes
through (`counts_only` of published.py). Here all are SPOS's blocks: even channels pass through, with ReLU or hard-swish.
Deviations from the official code: PyTorch's default weight initialisation; images of any resolution, because the
pooling before the classifier averages whatever size is left.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from spaces.blocks import (
    Style,
    conv_bn,
    layers,
    main_widths,
    pooled_classifier,
    shuffle_block,
    xception_block,
)
from spaces.chain import Chain, Choice
from spaces.names import check_variant
from spaces.preset import SMALL_STEM, Preset, check_flag, choose_preset
from spaces.warm_start import inherit_shuffle

# out channels, blocks, stride of the first block; 224x224 in, 7x7 out
STAGES = ((64, 4, 2), (160, 4, 2), (320, 8, 2), (640, 4, 2))
# 32x32 in, 8x8 out: blocks 4 and 8 halve the size, blocks 0 and 16 only change the width
CIFAR_STAGES = ((64, 4, 1), (160, 4, 2), (320, 8, 2), (640, 4, 1))
# a quarter of the width, CIFAR's strides after a stride-2 stem; 32x32 in, 4x4 out
TINY_STAGES = ((16, 4, 1), (40, 4, 2), (80, 8, 2), (160, 4, 1))

CANDIDATES: dict[str, Callable[..., nn.Module]] = {
    "k3": partial(shuffle_block, kernel=3),
    "k5": partial(shuffle_block, kernel=5),
    "k7": partial(shuffle_block, kernel=7),
    "xception": xception_block,
}

VARIANTS: tuple[dict[str, str], ...] = ({}, {"variant": "channel"}, {"variant": "plus"})
# variant -> channels in the middle of a block, relative to half of its output channels
WIDTHS = {
    "block": (),
    "channel": (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6),
    "plus": (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0),
}

PRESETS = {
    "imagenet": Preset(224, 1000, (16,), 2, STAGES, 1024),
    "small": Preset(128, 10, (16,), 2, STAGES, 1024, keep_below=SMALL_STEM),
    "cifar": Preset(32, 10, (16,), 1, CIFAR_STAGES, 1024),
    "tiny": Preset(32, 10, (8,), 2, TINY_STAGES, 256),
}


def late_classifier(cin: int, width: int, classes: int) -> nn.Module:
    """Head of the plus variant, (N, cin, H, W) to (N, classes): the last convolution follows the pooling, without BatchNorm."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(cin, width, 1),
        nn.Hardswish(inplace=True),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(width, classes),
    )


def _has_channels(width: float, plan: Preset) -> bool:
    """Whether channels enter, leave and are in the middle of every main branch, at the smallest width of its middle."""
    blocks = layers(plan.stages, plan.stem[0])
    return all(min(main_widths(block.cin, block.cout, block.stride, width)) > 0 for block in blocks)


def spos(
    preset: str = "imagenet",
    *,
    classes: int | None = None,
    resolution: int | None = None,
    variant: str = "block",
    last_width: int | None = None,
    width_mult: float | None = None,
    affine: bool = False,
) -> Chain:
    """Describe the SPOS space.

    Args:
        preset: imagenet (224x224), small (128x128, good for 64 to 160), cifar (32x32), or tiny (32x32, a quarter as wide, for a CPU).
        classes: number of classes; None: the preset's.
        resolution: height and width of an image in pixels; None: the preset's.
        variant: block, channel or plus, see above.
        last_width: channels before the classifier; None: the preset's.
        width_mult: factor on all other channels, such as 0.75; None: 1.
        affine: BatchNorm has a trainable weight and bias in the supernet too; a warm start is then not possible.
    Raises:
        InputError: unknown preset or variant, or a number out of range.
    """
    check_variant("spos", "variant", variant)
    sizes = {"classes": classes, "resolution": resolution, "last_width": last_width}
    usable = partial(_has_channels, min(WIDTHS[variant], default=1.0))
    plan = choose_preset("spos", PRESETS, preset, sizes, width_mult=width_mult, usable=usable)
    check_flag("spos", "affine", affine)
    plus = variant == "plus"
    relu, hswish = Style(nn.ReLU, affine=affine), Style(nn.Hardswish, affine=affine)

    blocks = []
    for layer in layers(plan.stages, plan.stem[0]):
        style = hswish if plus and layer.stage > 0 else relu
        candidates = {
            name: partial(build, style, layer.cin, layer.cout, layer.stride, se=plus and layer.stage > 1)
            for name, build in CANDIDATES.items()
        }
        elastic = {f"width{layer.number}": WIDTHS[variant]} if WIDTHS[variant] else {}
        blocks.append(Choice(f"block{layer.number}", candidates, elastic))

    last = (plan.stages[-1][0], plan.last_width, plan.classes)
    head = partial(pooled_classifier, relu, *last, dropout=0.1, bias=False)
    return Chain(
        resolution=plan.resolution,
        classes=plan.classes,
        stem=partial(conv_bn, hswish if plus else relu, 3, plan.stem[0], 3, plan.stem_stride),
        blocks=blocks,
        head=partial(late_classifier, *last) if plus else head,
        inherit=None if affine else inherit_shuffle,  # inherit_shuffle copies no affine parameters
    )
