"""Single-Path NAS: Designing Hardware-Efficient ConvNets in less than 4 Hours, arXiv:1904.02877.

20 choice blocks. Each is one superkernel, an MBConv with a 5x5 depthwise convolution and expansion 6. Kernel 3 is the
centre of kernel 5, expansion 3 is the first half of expansion 6, and expansion 0 skips the block (not offered in the
first block of a stage). All choices of a block share one set of weights, so a supernet is hardly larger than its largest
network. In a skipped block the kernel has no effect: 3 and 5 then name the same network.
Conventions of the PyTorch port that the published figures come from: ReLU, BatchNorm eps 1e-5; a depthwise separable
block 32->16 first and an MBConv k3 e6 192->320 last are fixed.
Deviations from the paper: PyTorch's default weight initialisation; one BatchNorm per superkernel, sliced like its
convolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from spaces.blocks import InvertedResidual, Style, layers, mobile_stem, pooled_classifier
from spaces.chain import Chain, Choice
from spaces.preset import SMALL_STEM, choose_preset, scaled_channels
from spaces.preset import Preset as MacroTable

# out channels, blocks, stride of the first block; 224x224 in, 7x7 out
STAGES = ((24, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2))
CIFAR_STAGES = ((24, 4, 1), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2))  # 32x32 in, 4x4 out; stride-1 stem
TINY_STAGES = ((12, 4, 1), (16, 4, 2), (24, 4, 2), (32, 4, 1), (48, 4, 1))  # 32x32 in, 4x4 out; stride-2 stem

KERNELS = (3, 5)
EXPANSIONS = (3, 6)
SKIP = 0  # the expansion of a block that is left out


@dataclass(frozen=True)
class Preset(MacroTable):
    """Macro table of the space."""

    last_block: int = 320  # out channels of the fixed MBConv k3 e6

    def widened(self, factor: float) -> Preset:
        """The same table with other widths."""
        return replace(super().widened(factor), last_block=scaled_channels(self.last_block, factor))


PRESETS = {
    "imagenet": Preset(224, 1000, (32, 16), 2, STAGES, 1280),
    "small": Preset(128, 10, (32, 16), 2, STAGES, 1280, keep_below=SMALL_STEM),
    "cifar": Preset(32, 10, (32, 16), 1, CIFAR_STAGES, 1280),
    "tiny": Preset(32, 10, (8, 8), 2, TINY_STAGES, 256, last_block=64),
}


def superkernel(style: Style, cin: int, cout: int, stride: int, kernel: int, expand: int) -> nn.Module:
    """One size of a superkernel: an MBConv (N, cin, H, W) to (N, cout, H / stride, W / stride), or a skip."""
    if expand == SKIP:
        return nn.Identity()
    return InvertedResidual(style, cin, cout, stride, kernel=kernel, expand=expand)


def last_layers(style: Style, cin: int, plan: Preset) -> nn.Module:
    """The fixed MBConv and the classifier: (N, cin, H, W) to (N, classes)."""
    return nn.Sequential(
        InvertedResidual(style, cin, plan.last_block, 1, kernel=3, expand=6),
        *pooled_classifier(style, plan.last_block, plan.last_width, plan.classes),
    )


def single_path_nas(
    preset: str = "imagenet",
    *,
    classes: int | None = None,
    resolution: int | None = None,
    last_width: int | None = None,
    width_mult: float | None = None,
) -> Chain:
    """Describe the Single-Path NAS space.

    Args:
        preset: imagenet (224x224), small (128x128, good for 64 to 160), cifar (32x32), or tiny (32x32, narrow, for
            a CPU).
        classes: number of classes; None: the preset's.
        resolution: height and width of an image in pixels; None: the preset's.
        last_width: channels before the classifier; None: the preset's.
        width_mult: factor on all other channels, such as 0.75; None: 1.
    Raises:
        InputError: unknown preset, or a number out of range.
    """
    sizes = {"classes": classes, "resolution": resolution, "last_width": last_width}
    plan = choose_preset("single-path-nas", PRESETS, preset, sizes, width_mult=width_mult)
    style = Style()
    blocks = []
    for layer in layers(plan.stages, plan.stem[1]):
        build = partial(superkernel, style, layer.cin, layer.cout, layer.stride)
        expansions = EXPANSIONS if layer.first else (SKIP, *EXPANSIONS)
        elastic = {f"kernel{layer.number}": KERNELS, f"expand{layer.number}": expansions}
        blocks.append(Choice(None, {"superkernel": build}, elastic))

    return Chain(
        resolution=plan.resolution,
        classes=plan.classes,
        stem=partial(mobile_stem, style, plan.stem, plan.stem_stride),
        blocks=blocks,
        head=partial(last_layers, style, plan.stages[-1][0], plan),
    )
