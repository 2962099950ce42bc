"""SPOS block search: Single Path One-Shot Neural Architecture Search with Uniform Sampling, arXiv:1904.00420.

20 choice blocks with 4 candidates each: 4^20 = 1.1e12 architectures. Conventions of the official code
(megvii-model/SinglePathOneShot): BatchNorm eps 1e-5, momentum 0.1, without affine parameters in the supernet and with
them in fixed networks; padding k // 2; classifier without bias; dropout 0.1. Deviation: PyTorch's default weight
initialisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from spaces.blocks import conv_bn, inherit, shuffle_block, xception_block
from spaces.chain import Chain, Choice
from spaces.errors import InputError, unknown

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


@dataclass(frozen=True)
class Preset:
    resolution: int  # height and width of an image, pixels
    classes: int
    stem_width: int  # channels after the first convolution
    stem_stride: int
    stages: tuple[tuple[int, int, int], ...]
    last_width: int  # channels before the classifier


PRESETS = {
    "imagenet": Preset(224, 1000, 16, 2, STAGES, 1024),
    "cifar": Preset(32, 10, 16, 1, CIFAR_STAGES, 1024),
    "tiny": Preset(32, 10, 8, 2, TINY_STAGES, 256),
}
DROPOUT = 0.1  # before the classifier


def spos(
    preset: str = "imagenet", *, classes: int | None = None, resolution: int | None = None, affine: bool = False
) -> Chain:
    """Describe the SPOS space.

    Args:
        preset: imagenet (224x224), cifar (32x32), or tiny (32x32, a quarter as wide, for a CPU).
        classes: number of classes; the preset's where None.
        resolution: height and width in pixels; the preset's where None.
        affine: trainable BatchNorm weight and bias: False in a supernet, True in a fixed network to be trained.
    Raises:
        InputError: unknown preset, or a number out of range.
    """
    if preset not in PRESETS:
        raise InputError(unknown("preset of space spos:", preset, PRESETS))
    plan = PRESETS[preset]
    plan = replace(plan, classes=classes or plan.classes, resolution=resolution or plan.resolution)
    if plan.classes < 2 or plan.resolution < 8:
        raise InputError(f"classes {plan.classes}, resolution {plan.resolution}; give at least 2 classes and 8 pixels")

    blocks: list[Choice] = []
    cin = plan.stem_width
    for cout, depth, first_stride in plan.stages:
        for index in range(depth):
            stride = first_stride if index == 0 else 1
            candidates = {name: partial(build, cin, cout, stride, affine=affine) for name, build in CANDIDATES.items()}
            blocks.append(Choice(f"block{len(blocks):02d}", candidates))
            cin = cout

    def head() -> nn.Module:
        return nn.Sequential(
            conv_bn(cin, plan.last_width, affine=affine),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(DROPOUT),
            nn.Linear(plan.last_width, plan.classes, bias=False),
        )

    return Chain(
        name="spos",
        preset=preset,
        resolution=plan.resolution,
        classes=plan.classes,
        stem=partial(conv_bn, 3, plan.stem_width, 3, plan.stem_stride, affine=affine),
        blocks=blocks,
        head=head,
        inherit=inherit,
    )
