"""Convolutions that do the work of the layers after them in the same call, in networks that are only run, never trained.

`fuse` replaces the convolutions in the Sequentials of a network, together with the ReLU or ReLU6 that follows. How a fused
convolution is computed depends on the device:

  CPU   oneDNN applies the activation where it computes the sum, from weights that are brought into its order once and not at
        every call: the numbers are those of the plain layers, bit for bit.
  GPU   cuDNN adds a bias in a kernel of its own, which costs as much as the convolution where memory is the limit. A 1x1
        convolution is a product of matrices, and cuBLASLt adds the bias and applies ReLU where it writes the product. Of others
        the bias moves into the bias of a 1x1 convolution behind them: W (x + b) = W x + W b, and
        relu(x + b) = max(x, -b) + b. What is left takes cuDNN's convolution with bias and ReLU. A 1x1 convolution of the odd
        channels of a ShuffleNetV2 unit reads all channels, with zeros between its weights, which saves a copy of the odd ones.
        The numbers are those of the plain layers to rounding.
  else  the plain layers.

PyTorch's functions for this are private: where one is absent, or gives something else, the plain layers do the same.

Shapes: N batch, C channels, H W height and width.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator, MutableMapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from spaces.blocks import ShuffleBlock

_CONVOLVE: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
_PACK: Any = getattr(torch.ops.mkldnn, "_reorder_convolution_weight", None)
_ONEDNN = torch.backends.mkldnn.is_available() and _CONVOLVE is not None and _PACK is not None
# type of an activation -> its name and its numbers in oneDNN; those that give the same bits as PyTorch's
_ACTIVATIONS: dict[type[nn.Module] | None, tuple[str, list[float]]] = {
    None: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
_TOP = {nn.ReLU: None, nn.ReLU6: 6.0}  # highest value of an activation
# The most outputs of a 1x1 convolution that reads twice the channels it uses. Arithmetic, not a measurement: on an H100 twice the
# products take as long as the copy that they save at about 320, with TF32 as with 16 bits.
WHOLE_OUTPUTS = 160


class Kernel:
    """Weight (C out, C / groups, k, k) and bias (C out,) or None of a convolution.

    Attributes:
        weight: on a CPU, from the second use on, in the order of oneDNN; for one use that order does not pay.
        floor: (C out, 1, 1) where the bias moved on into the next convolution; the output is cut off there instead of at 0.
        finite: whether there are only numbers.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, floor: torch.Tensor | None = None) -> None:
        self.weight, self.bias, self.floor = weight.detach(), None if bias is None else bias.detach(), floor
        self.uses = 0  # by oneDNN

    @functools.cached_property
    def finite(self) -> bool:
        return math.isfinite(float((self.weight if self.bias is None else self.bias).sum()))


class FusedConv(nn.Module):
    """A convolution with the activation after it, in eval mode and without gradients.

    Args:
        conv: whose weight and bias it shares.
        activation: the module that follows; None: none of those that can be fused.
    Attributes:
        own: weight and bias of `conv`.
        kernel: what is used; may be replaced at any time.
        whole: whether the input has channels between those of the convolution.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None) -> None:
        super().__init__()
        self.whole = False
        self.own = self.kernel = Kernel(conv.weight, conv.bias)
        self.activation = None if activation is None else type(activation)
        self.padding, self.stride, self.dilation, self.groups = conv.padding, conv.stride, conv.dilation, conv.groups
        one_by_one = conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0)
        self.pointwise = one_by_one and conv.groups == 1
        self.by_cudnn = conv.groups == 1  # until it refuses

    def kernel_of(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Kernel:
        """What does the work of a convolution with such a weight, (C out, C / groups, k, k), and bias."""
        if self.whole:
            weight = torch.stack((torch.zeros_like(weight), weight), 2).flatten(1, 2)
        return (
            Kernel(weight.contiguous(memory_format=torch.channels_last), bias) if self.whole else Kernel(weight, bias)
        )

    def take_whole(self) -> None:
        """Take, from now on, twice the channels, and use every second one."""
        self.whole = True
        self.own = self.kernel = self.kernel_of(self.own.weight, self.own.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C out, H out, W out)."""
        if x.device.type == "cuda":
            return self._on_gpu(x)
        if _ONEDNN and x.device.type in ("cpu", "meta") and x.dtype in (torch.float32, torch.bfloat16):
            return self._by_onednn(x)
        return self._plain(x)

    def _by_onednn(self, x: torch.Tensor) -> torch.Tensor:
        kernel, where = self.kernel, (self.padding, self.stride, self.dilation, self.groups)
        apart = kernel.floor is not None or not (x.device.type == "meta" or self.activation is None or kernel.finite)
        kernel.uses += 1
        if kernel.uses == 2 and x.device.type == "cpu":
            kernel.weight = _PACK(kernel.weight, *where, x.shape)
        # oneDNN's ReLU would make 0 of what is no number
        name, limits = _ACTIVATIONS[None if apart else self.activation]
        y = _CONVOLVE(x, kernel.weight, kernel.bias, *where, name, limits, "")
        return self._activated(y) if apart else y

    def _on_gpu(self, x: torch.Tensor) -> torch.Tensor:
        kernel, relu = self.kernel, self.activation is nn.ReLU
        if self.pointwise and kernel.bias is not None and _works("pointwise", x.device, x.dtype):
            y = pointwise(x, kernel, relu=relu)
            return y if relu else self._activated(y)
        if relu and self.by_cudnn and kernel.bias is not None and _works("by_cudnn", x.device, x.dtype):
            try:
                where = (self.stride, self.padding, self.dilation, self.groups)
                return torch.cudnn_convolution_relu(x, kernel.weight, kernel.bias, *where)  # type: ignore[arg-type]
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # it has no kernel for such a convolution
                self.by_cudnn = False
        return self._plain(x)

    def _plain(self, x: torch.Tensor) -> torch.Tensor:
        kernel = self.kernel
        y = F.conv2d(x, kernel.weight, kernel.bias, self.stride, self.padding, self.dilation, self.groups)
        return self._activated(y)

    def _activated(self, y: torch.Tensor) -> torch.Tensor:
        if self.activation is None:
            return y
        top, floor = _TOP[self.activation], self.kernel.floor
        if floor is None:
            return F.relu_(y) if top is None else F.relu6(y, inplace=True)
        return y.clamp_min_(floor) if top is None else y.clamp_(floor, floor + top)


class WholeShuffleBlock(ShuffleBlock):
    """A ShuffleNetV2 unit of stride 1 whose main branch is given all channels, and begins with a convolution of the odd ones.

    What is no number in an even channel, which goes on to the output anyway, then makes none of the others.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, cin, H, W) to (N, cout, H, W)."""
        main = self.main(x[:, : x.shape[1] // 2 * 2])
        return torch.cat((x[:, 0::2], main if self.se is None else self.se(main)), 1)


def pointwise(x: torch.Tensor, kernel: Kernel, *, relu: bool) -> torch.Tensor:
    """A 1x1 convolution with bias, and ReLU if asked for, as a product of matrices; (N, C out, H, W), channels last."""
    n, _, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(n * height * width, -1)  # copies what is not channels last
    weight = kernel.weight.flatten(1).t()
    assert kernel.bias is not None
    y = (torch._addmm_activation if relu else torch.addmm)(kernel.bias, pixels, weight)
    return y.view(n, height, width, -1).permute(0, 3, 1, 2)


@functools.cache
def _works(name: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a fused function is there, and gives on an example what the plain layers give."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        x = torch.randn(2, 16, 8, 8, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
        size = 1 if name == "pointwise" else 3
        kernel = Kernel(
            torch.randn(16, 16, size, size, device=device).to(dtype), torch.randn(16, device=device).to(dtype)
        )
    assert kernel.bias is not None
    expected = F.conv2d(x.float(), kernel.weight.float(), kernel.bias.float(), padding=size // 2).relu_()
    try:
        if name == "pointwise":
            found = pointwise(x, kernel, relu=True)
        else:
            found = torch.cudnn_convolution_relu(x, kernel.weight, kernel.bias, (1, 1), (1, 1), (1, 1), 1)
    except (AttributeError, TypeError, RuntimeError):
        return False
    return torch.allclose(found.float(), expected, rtol=0.05, atol=0.05 * float(expected.max()))


def move_biases(kernels: MutableMapping[FusedConv, Kernel], pairs: list[tuple[FusedConv, FusedConv]]) -> None:
    """Move biases of convolutions into those of the 1x1 convolutions behind them, where the device gains by it.

    Args:
        kernels: what convolutions are to use; changed in place. Of others it is their own.
        pairs: of `neighbours`.
    """
    for first, second in pairs:
        mine, theirs = kernels.get(first, first.own), kernels.get(second, second.own)
        if mine.bias is None or not gains_by_moving(mine.weight.device):
            continue
        bias = theirs.weight.flatten(1).float() @ mine.bias.float()
        bias = bias if theirs.bias is None else bias + theirs.bias.float()
        kernels[first] = Kernel(mine.weight, None, -mine.bias.view(-1, 1, 1))
        kernels[second] = Kernel(theirs.weight, bias.to(theirs.weight.dtype))


def gains_by_moving(device: torch.device) -> bool:
    """Whether a bias, or a copy of channels, costs a kernel of its own there."""
    return device.type == "cuda"


def _take_whole(model: nn.Module) -> None:
    """Spare ShuffleNetV2 units the copy of the channels that enter their main branch, where the device gains by it."""
    for unit in [unit for unit in model.modules() if type(unit) is ShuffleBlock]:
        first = next(_layers(unit.main), None) if unit.proj is None and type(unit.main) is nn.Sequential else None
        if not (isinstance(first, FusedConv) and first.pointwise and len(first.own.weight) <= WHOLE_OUTPUTS):
            continue
        if gains_by_moving(first.own.weight.device):
            first.take_whole()
            unit.__class__ = WholeShuffleBlock


def neighbours(model: nn.Module) -> list[tuple[FusedConv, FusedConv]]:
    """The convolutions whose bias can move, each with the 1x1 convolution that takes its output, and nothing else does."""
    pairs: dict[FusedConv, FusedConv] = {}
    for module in model.modules():
        if type(module) is nn.Sequential:
            for first, second in itertools.pairwise(_layers(module)):
                if not (isinstance(first, FusedConv) and isinstance(second, FusedConv)):
                    continue
                if second.pointwise and not first.pointwise:
                    pairs[first] = second
    return list(pairs.items())


def _layers(sequential: nn.Sequential) -> Iterator[nn.Module]:
    """The modules that are run one after the other."""
    for module in sequential:
        if type(module) is nn.Sequential:
            yield from _layers(module)
        elif not isinstance(module, nn.Identity):
            yield module


def give_kernel(conv: nn.Module, kernel: Kernel) -> None:
    """Let a convolution, plain or fused, use other weights."""
    if isinstance(conv, FusedConv):
        conv.kernel = kernel
    else:
        conv._parameters["weight"], conv._parameters["bias"] = kernel.weight, kernel.bias  # type: ignore[assignment]


@torch.no_grad()
def fuse(model: nn.Module) -> nn.Module:
    """Replace each plain convolution in a Sequential, and the activation behind it, by a `FusedConv`, in place.

    The model is only to be run in eval mode without gradients from then on, on the device where it is.

    Returns:
        The model: the same function.
    """
    uses = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for parent in [module for module in model.modules() if type(module) is nn.Sequential]:
        layers = [(name, layer) for name, layer in parent._modules.items() if not isinstance(layer, nn.Identity)]
        for (name, conv), (after, activation) in itertools.pairwise([*layers, ("", None)]):
            if type(conv) is not nn.Conv2d or not _simple(conv, uses):
                continue
            follows = activation is not None and type(activation) in _TOP and _simple(activation, uses)
            setattr(parent, name, FusedConv(conv, activation if follows else None))
            if follows:
                setattr(parent, after, nn.Identity())
    _take_whole(model)
    kernels: dict[FusedConv, Kernel] = {}
    move_biases(kernels, neighbours(model))
    for fused, kernel in kernels.items():
        fused.kernel = kernel
    return model


def _simple(module: nn.Module, uses: Counter[int]) -> bool:
    """Whether a layer is used once, nobody looks at what it does, and its padding, if any, is numbers of zeros."""
    watched = module._forward_hooks or module._forward_pre_hooks
    zeros = getattr(module, "padding_mode", "zeros") == "zeros" and not isinstance(getattr(module, "padding", ()), str)
    return uses[id(module)] == 1 and not watched and zeros
