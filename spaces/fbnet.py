"""FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable Neural Architecture Search, arXiv:1812.03443.

22 choice blocks with 9 candidates; a block may be skipped where its input and output have the same shape.
Conventions: ReLU, BatchNorm eps 1e-5. Without an expansion (e1) the first 1x1 convolution is left out. g2 gives the
1x1 convolutions two groups, which a channel shuffle mixes. The figures published for FBNet-A, -B and -C come from code
whose convolutions have biases before BatchNorm (`bias=True`; the MACs are the same); new networks are better trained
without them. No public code reproduces the three rows of the paper itself (249M, 295M, 375M), so published.py has the
costs of the released code.
Deviation from the paper: PyTorch's default weight initialisation.
"""

from __future__ import annotations

from functools import partial

from spaces.blocks import InvertedResidual, Style, conv_bn, layers, pooled_classifier, residual_choice
from spaces.chain import Chain
from spaces.preset import SMALL_STEM, Preset, check_flag, choose_preset
from spaces.warm_start import inherit_without_expansion

# out channels, blocks, stride of the first block; 224x224 in, 7x7 out
STAGES = ((16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
# 32x32 in, 4x4 out, after a stride-1 stem
CIFAR_STAGES = ((16, 1, 1), (24, 4, 1), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
# a quarter to a half of the widths; 32x32 in, 4x4 out, after a stride-2 stem
TINY_STAGES = ((8, 1, 1), (12, 4, 1), (16, 4, 2), (24, 4, 2), (32, 4, 1), (48, 4, 1), (64, 1, 1))

CANDIDATES = {
    "k3_e1": partial(InvertedResidual, kernel=3, expand=1),
    "k3_e1_g2": partial(InvertedResidual, kernel=3, expand=1, groups=2),
    "k3_e3": partial(InvertedResidual, kernel=3, expand=3),
    "k3_e6": partial(InvertedResidual, kernel=3, expand=6),
    "k5_e1": partial(InvertedResidual, kernel=5, expand=1),
    "k5_e1_g2": partial(InvertedResidual, kernel=5, expand=1, groups=2),
    "k5_e3": partial(InvertedResidual, kernel=5, expand=3),
    "k5_e6": partial(InvertedResidual, kernel=5, expand=6),
}

PRESETS = {
    "imagenet": Preset(224, 1000, (16,), 2, STAGES, 1984),  # FBNet-A: 1504
    "small": Preset(128, 10, (16,), 2, STAGES, 1984, keep_below=SMALL_STEM),
    "cifar": Preset(32, 10, (16,), 1, CIFAR_STAGES, 1984),
    "tiny": Preset(32, 10, (8,), 2, TINY_STAGES, 256),
}


def fbnet(
    preset: str = "imagenet",
    *,
    classes: int | None = None,
    resolution: int | None = None,
    last_width: int | None = None,
    width_mult: float | None = None,
    bias: bool = False,
) -> Chain:
    """Describe the FBNet space.

    Args:
        preset: imagenet (224x224), small (128x128, good for 64 to 160), cifar (32x32), or tiny (32x32, narrow, for
            a CPU).
        classes: number of classes; None: the preset's.
        resolution: height and width of an image in pixels; None: the preset's.
        last_width: channels before the classifier; None: the preset's.
        width_mult: factor on all other channels, such as 0.75; None: 1.
        bias: whether convolutions before BatchNorm have a bias; only to count the published networks.
    Raises:
        InputError: unknown preset, or a number out of range.
    """
    sizes = {"classes": classes, "resolution": resolution, "last_width": last_width}
    plan = choose_preset("fbnet", PRESETS, preset, sizes, width_mult=width_mult)
    check_flag("fbnet", "bias", bias)
    style = Style(bias=bias)
    blocks = [residual_choice(style, layer, CANDIDATES) for layer in layers(plan.stages, plan.stem[0])]
    return Chain(
        resolution=plan.resolution,
        classes=plan.classes,
        stem=partial(conv_bn, style, 3, plan.stem[0], 3, plan.stem_stride),
        blocks=blocks,
        head=partial(pooled_classifier, style, plan.stages[-1][0], plan.last_width, plan.classes),
        inherit=inherit_without_expansion,
    )
