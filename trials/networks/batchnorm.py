"""BatchNorm of a fixed path: estimate its statistics anew, and fold it into the convolutions before it.

A BatchNorm in eval mode is a linear map per channel, so a convolution with other weights and a bias does the work of both.
There are two ways to find out which BatchNorm follows which convolution:

`fold_batchnorm` looks for neighbours in an nn.Sequential. It needs no images, works in place and is certain, and the blocks of
our spaces are built of such neighbours, so scoring, latencies and exports of our networks use it.
`fold_batchnorm_traced` watches one forward pass and accepts any module. The models of timm and torchvision are often not
made of Sequentials; timed without folding they would look slower, beside our networks, than they are when deployed.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


def equal_batches(images: int, most: int) -> int:
    """The size of batches that are all of one size, for recalibration: each has the same weight in an average over batches.

    Args:
        images: how many images there are.
        most: the largest batch.
    Returns:
        Images of a batch. Fewer images are left out than there are batches: of 254 and at most 128 none, in two batches of 127.
    """
    return images // -(-images // most)


@torch.no_grad()
def recalibrate_batchnorm(model: nn.Module, batches: Iterable[torch.Tensor]) -> int:
    """Re-estimate the BatchNorm statistics of the active path.

    A supernet's running statistics mix all paths; scoring with them scores another network.

    Args:
        model: network with one path active; left in eval mode.
        batches: images (N, 3, H, W), normalised, from the training part only, all of one size, each with images of all
            classes: in batches of one class the variance lacks what lies between classes.
    Returns:
        Number of images used.
    Raises:
        ValueError: `batches` is empty.
    Source: arXiv:1904.00420, section 3.4. Cumulative average (momentum=None), so batch order does not matter.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    images, apart, average = 0, list[torch.Tensor](), list[torch.Tensor]()
    for number, batch in enumerate(batches, 1):
        if number == 2:
            apart = _average_apart(layers)
            average = [statistic.clone() for statistic in apart]
        if apart:
            torch._foreach_zero_(apart)
        model(batch)
        if apart:
            add_to_average(average, apart, number)
        images += len(batch)
    if apart:
        torch._foreach_copy_(apart, average)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    model.eval()
    if not images:
        raise ValueError("recalibrate_batchnorm needs at least one batch")
    return images


def averages_apart(device: torch.device) -> bool:
    """Whether BatchNorm measures the statistics of a batch there, and `add_to_average` averages them.

    The number of a batch is part of what a layer does when it averages by itself, and a CUDA graph repeats what it did.
    """
    return device.type == "cuda"


def add_to_average(average: list[torch.Tensor], statistics: list[torch.Tensor], number: int) -> None:
    """Add the statistics of a batch to a cumulative average, in place.

    Args:
        average, statistics: tensors of the same shapes.
        number: of the batch, from 1.
    """
    torch._foreach_lerp_(average, statistics, 1 / number)


def _average_apart(layers: list[nn.BatchNorm2d]) -> list[torch.Tensor]:
    """Let layers that have seen one batch measure each further one by itself, where the device wants it.

    Returns:
        Their statistics, but of layers that are run more than once in a forward pass, which average by themselves.
    """
    tracked = [layer for layer in layers if layer.num_batches_tracked is not None]
    counts: Any = [layer.num_batches_tracked for layer in tracked]
    if not counts or not averages_apart(counts[0].device):
        return []
    statistics: list[Any] = []
    for layer, seen in zip(tracked, torch.stack(counts).tolist(), strict=True):
        if seen == 1:
            layer.momentum = 1.0
            statistics += [layer.running_mean, layer.running_var]
    return statistics


def conv_batchnorm_pairs(model: nn.Module) -> list[tuple[nn.Sequential, str, str]]:
    """Find the convolutions whose output goes to a BatchNorm and to nothing else: neighbours in a Sequential, used once.

    Returns:
        (the Sequential, name of the convolution, name of the BatchNorm) for each pair, in the order of `model.modules()`.
    """
    uses = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    pairs = []
    for module in model.modules():
        if type(module) is nn.Sequential:
            for (conv, first), (norm, second) in itertools.pairwise(module._modules.items()):
                if (
                    type(first) is nn.Conv2d
                    and type(second) is nn.BatchNorm2d  # a subclass may do more
                    and second.running_mean is not None
                    and uses[id(first)] == uses[id(second)] == 1
                    and not (first._forward_hooks or second._forward_pre_hooks or second._forward_hooks)
                ):
                    pairs.append((module, conv, norm))
    return pairs


def fuse_weights(
    conv: nn.Conv2d, norm: nn.BatchNorm2d, mean: torch.Tensor, var: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the one convolution that computes what `conv`, and then `norm` with these statistics, compute.

    Args:
        mean, var: statistics of the output channels of `conv`, (C,).
    Returns:
        Weight (C, C_in / groups, k, k) and bias (C,), without gradients. The bits are those of torch.nn.utils.fusion, which
        multiplies by ones and adds zeros where a layer has no weights.
    """
    root = torch.rsqrt(var + norm.eps)
    scale = root if norm.weight is None else norm.weight * root
    bias = (-mean if conv.bias is None else conv.bias - mean) * root
    if norm.weight is not None:
        bias = bias * norm.weight
    if norm.bias is not None:
        bias = bias + norm.bias
    return (conv.weight * scale.view(-1, 1, 1, 1)).detach(), bias.detach()


def _fold_into(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Give a convolution the weights that also do the work of `norm`, with the running statistics of `norm`."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = fuse_weights(conv, norm, norm.running_mean, norm.running_var)
    conv.weight, conv.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)


@torch.no_grad()
def fold_batchnorm(model: nn.Module) -> nn.Module:
    """Fold each BatchNorm that follows a convolution in a Sequential into it, in place.

    Returns:
        The model: the same function in eval mode, to rounding.
    """
    for parent, conv_name, norm_name in conv_batchnorm_pairs(model):
        conv, norm = parent.get_submodule(conv_name), parent.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        _fold_into(conv, norm)
        setattr(parent, norm_name, nn.Identity())
    return model


@torch.no_grad()
def fold_batchnorm_traced(network: nn.Module, resolution: int) -> nn.Module:
    """Fold each BatchNorm into the convolution whose output it was given in a forward pass, whatever the modules are.

    Args:
        resolution: height and width of the random images of that pass, pixels.
    Returns:
        A folded copy on the CPU, in eval mode and in 32 bits; an unfolded one where folding would change the function, for example
        because something else reads the output of a convolution too.
    """
    original = copy.deepcopy(network).float().cpu().eval()
    folded = copy.deepcopy(original)
    images = torch.rand(2, 3, resolution, resolution, generator=torch.Generator().manual_seed(0))
    names = {id(layer): name for name, layer in folded.named_modules()}
    for conv, norm in _trace_pairs(folded, images):
        _fold_into(conv, norm)
        # timm's BatchNormAct2d brings an activation and a dropout with it, which have to stay
        rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
        folded.set_submodule(names[id(norm)], nn.Sequential(*rest) if rest else nn.Identity())
    expected = original(images)
    same = torch.allclose(folded(images), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    return folded if same else original


def _trace_pairs(network: nn.Module, images: torch.Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """The convolutions, and the BatchNorm layers that their outputs are given to, when the network sees these images."""
    conv_of_output: dict[int, nn.Conv2d] = {}  # by id of the output
    outputs: list[torch.Tensor] = []  # kept alive, so that no id is used twice
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after_conv(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        conv_of_output[id(output)] = layer
        outputs.append(output)

    def before_norm(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        if id(inputs[0]) in conv_of_output:
            pairs.append((conv_of_output[id(inputs[0])], layer))

    handles: list[RemovableHandle] = []
    for layer in network.modules():
        if type(layer) is nn.Conv2d:
            handles.append(layer.register_forward_hook(after_conv))
        elif isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            handles.append(layer.register_forward_pre_hook(before_norm))
    network(images)
    for handle in handles:
        handle.remove()
    return pairs
