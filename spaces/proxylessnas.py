"""ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware, arXiv:1812.00332; and FairNAS.

21 choice blocks with 6 candidates, and a skip where input and output have the same shape. The presets `mobile`, `cpu`,
`gpu` and `mobile-14` have the widths of the released networks; `fairnas` is the space of FairNAS (arXiv:1907.01845),
with 19 blocks and no skip.
Conventions: ReLU6; BatchNorm eps 1e-3 (FairNAS 1e-5); a fixed MBConv without expansion after the first convolution.
Deviations from the paper: PyTorch's default weight initialisation; the first stage is 32 channels wide, as in the
released network, and not 24, the default of the search code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from spaces.blocks import (
    InvertedResidual,
    Style,
    layers,
    mobile_stem,
    pooled_classifier,
    residual_choice,
)
from spaces.chain import Chain
from spaces.preset import SMALL_STEM, choose_preset
from spaces.preset import Preset as MacroTable
from spaces.warm_start import inherit_residual

# for each stage, its blocks and the stride of the first one; 224x224 in, 7x7 out
DEPTHS = ((4, 2), (4, 2), (4, 2), (4, 1), (4, 2), (1, 1))
FAIRNAS_DEPTHS = ((2, 2), (4, 2), (4, 2), (4, 1), (4, 2), (1, 1))
CIFAR_DEPTHS = ((4, 1), (4, 2), (4, 2), (4, 1), (4, 2), (1, 1))  # 32x32 in, 4x4 out, after a stride-1 stem
TINY_DEPTHS = ((4, 1), (4, 2), (4, 2), (4, 1), (4, 1), (1, 1))  # 32x32 in, 4x4 out, after a stride-2 stem

# out channels of each stage
MOBILE_WIDTHS = (32, 40, 80, 96, 192, 320)
CPU_WIDTHS = (32, 48, 88, 104, 216, 360)
GPU_WIDTHS = (32, 56, 112, 128, 256, 432)
MOBILE_14_WIDTHS = (40, 56, 112, 136, 256, 448)
TINY_WIDTHS = (12, 16, 24, 32, 48, 64)

CANDIDATES = {
    "k3_e3": partial(InvertedResidual, kernel=3, expand=3),
    "k3_e6": partial(InvertedResidual, kernel=3, expand=6),
    "k5_e3": partial(InvertedResidual, kernel=5, expand=3),
    "k5_e6": partial(InvertedResidual, kernel=5, expand=6),
    "k7_e3": partial(InvertedResidual, kernel=7, expand=3),
    "k7_e6": partial(InvertedResidual, kernel=7, expand=6),
}


@dataclass(frozen=True)
class Preset(MacroTable):
    """Macro table of the space."""

    eps: float = 1e-3  # BatchNorm's eps
    skip: bool = True  # whether a block may be skipped
    dropout: float = 0.0  # before the classifier


def stages(widths: tuple[int, ...], depths: tuple[tuple[int, int], ...] = DEPTHS) -> tuple[tuple[int, int, int], ...]:
    """Out channels, blocks and stride of the first block of each stage."""
    return tuple((width, *depth) for width, depth in zip(widths, depths, strict=True))


MOBILE = Preset(224, 1000, (32, 16), 2, stages(MOBILE_WIDTHS), 1280)
FAIRNAS = Preset(224, 1000, (32, 16), 2, stages(MOBILE_WIDTHS, FAIRNAS_DEPTHS), 1280, eps=1e-5, skip=False, dropout=0.2)
PRESETS = {
    "imagenet": MOBILE,
    "mobile": MOBILE,
    "cpu": Preset(224, 1000, (40, 24), 2, stages(CPU_WIDTHS), 1432),
    "gpu": Preset(224, 1000, (40, 24), 2, stages(GPU_WIDTHS), 1728),
    "mobile-14": Preset(224, 1000, (48, 24), 2, stages(MOBILE_14_WIDTHS), 1792),
    "fairnas": FAIRNAS,
    "small": Preset(128, 10, (32, 16), 2, stages(MOBILE_WIDTHS), 1280, keep_below=SMALL_STEM),
    "cifar": Preset(32, 10, (32, 16), 1, stages(MOBILE_WIDTHS, CIFAR_DEPTHS), 1280),
    "tiny": Preset(32, 10, (8, 8), 2, stages(TINY_WIDTHS, TINY_DEPTHS), 256),
}


def proxylessnas(
    preset: str = "imagenet",
    *,
    classes: int | None = None,
    resolution: int | None = None,
    last_width: int | None = None,
    width_mult: float | None = None,
) -> Chain:
    """Describe the ProxylessNAS space, or with preset `fairnas` that of FairNAS.

    Args:
        preset: imagenet (the same as mobile), cpu, gpu, mobile-14 (1.4 times as wide), fairnas; small
            (128x128, good for 64 to 160), cifar (32x32), or tiny (32x32, narrow, for a CPU).
        classes: number of classes; None: the preset's.
        resolution: height and width of an image in pixels; None: the preset's.
        last_width: channels before the classifier; None: the preset's.
        width_mult: factor on all other channels, such as 0.75; None: 1.
    Raises:
        InputError: unknown preset, or a number out of range.
    """
    sizes = {"classes": classes, "resolution": resolution, "last_width": last_width}
    plan = choose_preset("proxylessnas", PRESETS, preset, sizes, width_mult=width_mult)
    style = Style(nn.ReLU6, eps=plan.eps)
    blocks = [residual_choice(style, layer, CANDIDATES, skip=plan.skip) for layer in layers(plan.stages, plan.stem[1])]
    head = partial(pooled_classifier, style, plan.stages[-1][0], plan.last_width, plan.classes, dropout=plan.dropout)
    return Chain(
        resolution=plan.resolution,
        classes=plan.classes,
        stem=partial(mobile_stem, style, plan.stem, plan.stem_stride),
        blocks=blocks,
        head=head,
        inherit=inherit_residual,
    )
