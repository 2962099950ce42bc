"""Count the MACs and params of a module by running it on the meta device: shapes only, no memory, no arithmetic."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

# What is counted beside the multiply-adds, as a factor per number: added biases, numbers averaged by a pooling, numbers
# through BatchNorm and through an activation. `macs` is the rule everywhere; the others reproduce published figures.
COUNTING: dict[str, dict[str, int]] = {
    "macs": {},
    # github.com/CanyonWind/Single-Path-One-Shot-NAS-MXNet, utils/calculate_flops.py, without and with ReLU and BN
    "mxnet": {"bias": 1, "pooling": 1},
    "mxnet-relu-bn": {"bias": 1, "pooling": 1, "norm": 3, "activation": 1},
    # github.com/Lyken17/pytorch-OpCounter, which spos-cifar was published with
    "thop": {"pooling": 1, "norm": 2},
}
# activations: one number in, one number out
ELEMENTWISE = (
    "ReLU",
    "ReLU6",
    "Hardtanh",
    "Hardswish",
    "Hardsigmoid",
    "SiLU",
    "Sigmoid",
    "Tanh",
    "GELU",
    "ELU",
    "LeakyReLU",
)


@dataclass(frozen=True)
class Count:
    macs: int
    params: int
    output: Any  # torch tensor


def count(module: nn.Module, x: Any, counting: str = "macs") -> Count:
    """MACs and params of a module on an input (1, ...), as a fixed network has them (affine BatchNorm)."""
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    training = module.training
    with FlopCounterMode(display=False) as counter, _extras(module, counting) as extra, torch.no_grad():
        output = module.eval()(x)
    module.train(training)
    params = sum(parameter.numel() for parameter in module.parameters())
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and not layer.affine:  # a fixed network has a weight and a bias there
            params += 2 * layer.num_features
    # PyTorch counts a multiply-add as two operations
    return Count(counter.get_total_flops() // 2 + sum(extra), params, output)


@contextlib.contextmanager
def _extras(module: nn.Module, counting: str) -> Iterator[list[int]]:
    """What `counting` adds to the multiply-adds; filled while the module runs."""
    from torch import nn

    factors, extra = COUNTING[counting], [0]

    def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
        if getattr(layer, "bias", None) is not None and not isinstance(layer, nn.BatchNorm2d):
            extra.append(factors.get("bias", 0) * output.numel())
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            extra.append(factors.get("pooling", 0) * inputs[0].numel())
        elif isinstance(layer, nn.BatchNorm2d):
            extra.append(factors.get("norm", 0) * output.numel())
        elif _activation(layer):
            extra.append(factors.get("activation", 0) * output.numel())

    handles = [layer.register_forward_hook(hook) for layer in module.modules() if factors]
    # these change no shape, and take more than half of the time on the meta device
    still = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d) or _activation(layer)]
    for layer in still:
        layer.forward = lambda x: x  # type: ignore[method-assign]
    try:
        yield extra
    finally:
        for handle in handles:
            handle.remove()
        for layer in still:
            del layer.forward


def _activation(layer: nn.Module) -> bool:
    return type(layer).__module__ == "torch.nn.modules.activation" and type(layer).__name__ in ELEMENTWISE
