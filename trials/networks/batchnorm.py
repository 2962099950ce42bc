"""BatchNorm of one path: its statistics before it is scored, and how they are folded into the convolutions."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


@torch.no_grad()
def recalibrate_bn(model: nn.Module, batches: Iterable[torch.Tensor]) -> int:
    """Re-estimate the BatchNorm statistics of the active path.

    A supernet's running statistics mix all paths; scoring with them scores another network.

    Args:
        model: network with one path active; left in eval mode.
        batches: images (N, 3, H, W), normalised, from the training part only, all of one size.
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
    images = 0
    for batch in batches:
        model(batch)
        images += len(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    model.eval()
    if not images:
        raise ValueError("recalibrate_bn needs at least one batch")
    return images


def conv_bn_pairs(model: nn.Module) -> list[tuple[nn.Sequential, str, str]]:
    """Where a convolution hands its output to a BatchNorm and to nothing else: neighbours in a Sequential, used once.

    Returns:
        (the Sequential, name of the convolution, name of the BatchNorm) of each pair, in the order of `model.modules()`.
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


def fused(
    conv: nn.Conv2d, norm: nn.BatchNorm2d, mean: torch.Tensor, var: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the convolution that does what `conv` and then `norm` with these statistics do."""
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, var, norm.eps, norm.weight, norm.bias)  # type: ignore[arg-type]
    return weight.detach(), bias.detach()


@torch.no_grad()
def fold_bn(model: nn.Module) -> nn.Module:
    """Fold each BatchNorm that follows a convolution into it, in place: the same function in eval mode, to rounding.

    Returns:
        The model.
    """
    for parent, conv_name, norm_name in conv_bn_pairs(model):
        conv, norm = parent.get_submodule(conv_name), parent.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        weight, bias = fused(conv, norm, norm.running_mean, norm.running_var)
        conv.weight, conv.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
        setattr(parent, norm_name, nn.Identity())
    return model


def folded(network: Any, resolution: int) -> Any:
    """A copy of a network in eval mode, with each BatchNorm folded into the convolution before it, whatever its modules are.

    `fold_bn` knows neighbours in a Sequential, which the models of timm and torchvision are often not: without
    this, a comparison of latencies would be unfair to them. Where folding would change the function, nothing is folded.
    """
    import torch
    from torch import nn

    original = copy.deepcopy(network).float().cpu().eval()
    changed = copy.deepcopy(original)
    made: dict[int, nn.Conv2d] = {}  # id of a convolution's output -> the convolution
    kept: list[Any] = []  # outputs, so that no id is used twice
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after_conv(layer: nn.Module, inputs: Any, output: Any) -> None:
        made[id(output)] = layer  # type: ignore[assignment]
        kept.append(output)

    def before_norm(layer: nn.Module, inputs: Any) -> None:
        if id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])], layer))  # type: ignore[arg-type]

    handles: list[Any] = []
    for layer in changed.modules():
        if type(layer) is nn.Conv2d:
            handles.append(layer.register_forward_hook(after_conv))
        elif isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            handles.append(layer.register_forward_pre_hook(before_norm))
    images = torch.rand(2, 3, resolution, resolution, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = original(images)
        changed(images)
        for handle in handles:
            handle.remove()
        places = {id(layer): name for name, layer in changed.named_modules()}
        for conv, norm in pairs:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            weight, bias = fused(conv, norm, norm.running_mean, norm.running_var)
            conv.weight, conv.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
            rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]  # of timm's BatchNormAct2d
            changed.set_submodule(places[id(norm)], nn.Sequential(*rest) if rest else nn.Identity())
        same = torch.allclose(changed(images), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    return changed if same else original
