"""Count MACs and params of a module, or of all modules of a space.

The module is run on PyTorch's meta device, which computes shapes only: no memory and no arithmetic.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from spaces.errors import InputError, user_code

if TYPE_CHECKING:
    import torch
    from torch import nn

    from spaces.chain import Chain, Choice

# Ways of counting: kind of operation -> operations counted per element, beside the multiply-adds. "bias" counts the
# elements that a bias is added to, "pooling" those that a pooling averages, "norm" and "activation" those that pass
# through BatchNorm or an activation. `macs` is the rule everywhere; the others reproduce published figures.
COUNTING: dict[str, dict[str, int]] = {
    "macs": {},
    # github.com/CanyonWind/Single-Path-One-Shot-NAS-MXNet, utils/calculate_flops.py, without and with ReLU and BatchNorm
    "mxnet": {"bias": 1, "pooling": 1},
    "mxnet-relu-bn": {"bias": 1, "pooling": 1, "norm": 3, "activation": 1},
    # github.com/Lyken17/pytorch-OpCounter, with which spos-cifar was published
    "thop": {"pooling": 1, "norm": 2},
}
# names of the activation layers, which compute one number from one number
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
# classes of torch.nn, and modules all of whose classes, are counted by shapes: see `_is_plain`
PLAIN_LAYERS = (
    *("Conv2d", "Linear", "BatchNorm2d", "Sequential", "Identity", "ChannelShuffle", "Flatten", "Dropout"),
    *("AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"),
)
PLAIN_MODULES = ("spaces.blocks", "torchvision.ops.misc")


@dataclass(frozen=True)
class Count:
    """Costs of one module, for one image."""

    macs: int  # or what the chosen way of counting counts
    params: int
    output: torch.Tensor  # what the module returned, (1, ...) on the meta device


def count(module: nn.Module, x: torch.Tensor, counting: str = "macs") -> Count:
    """Count MACs and params of a module as part of a fixed network, whose BatchNorm layers are affine.

    What `_is_plain` is counted from the shapes of its convolutions and linear layers, several times faster than PyTorch counts what
    it sees; everything else is counted by PyTorch.

    Args:
        x: an input for one image, (1, ...).
        counting: a key of COUNTING.
    """
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    training, layers = module.training, list(module.modules())
    plain = all(_is_plain(layer) for layer in layers)
    seen = None if plain else FlopCounterMode(display=False)
    with contextlib.ExitStack() as stack:
        for context in (seen, x.device) if seen else ():  # tensors that a user's own forward makes are where x is
            stack.enter_context(context)
        extra = stack.enter_context(_extras(layers, counting, plain))
        stack.enter_context(torch.no_grad())
        output = module.eval()(x)
    module.train(training)
    params = sum(parameter.numel() for parameter in module.parameters())
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and not layer.affine:  # affine in a fixed network: weight and bias
            params += 2 * layer.num_features
    # PyTorch counts a multiply-add as two operations.
    return Count((seen.get_total_flops() // 2 if seen else 0) + sum(extra), params, output)


def _is_plain(layer: nn.Module) -> bool:
    """Whether the layer itself is a convolution or linear layer of PyTorch's, or does no multiply-adds but those of its parts.

    A subclass, or a layer with hooks or a `forward` of its own, may do anything.
    """
    kind = type(layer)
    known = (
        kind.__name__ in PLAIN_LAYERS
        if kind.__module__.startswith("torch.nn.modules.")
        else kind.__module__ in PLAIN_MODULES
    )
    return (known or _activation(layer)) and not (
        layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
    )


@contextlib.contextmanager
def _extras(layers: list[nn.Module], counting: str, plain: bool) -> Iterator[list[int]]:
    """Yield a list of the operations that are counted here; it fills while the module of these layers runs.

    Args:
        plain: whether convolutions and linear layers are among them, and compute nothing but the shape of their output.
    """
    from torch import nn

    factors, extra = COUNTING[counting], [0]

    def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if getattr(layer, "bias", None) is not None and not isinstance(layer, nn.BatchNorm2d):
            extra.append(factors.get("bias", 0) * output.numel())
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            extra.append(factors.get("pooling", 0) * inputs[0].numel())
        elif isinstance(layer, nn.BatchNorm2d):
            extra.append(factors.get("norm", 0) * output.numel())
        elif _activation(layer):
            extra.append(factors.get("activation", 0) * output.numel())

    def multiply_adds(layer: Any, shape_of: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = shape_of(layer, x)
        products: int = math.prod(layer.weight.shape[1:])  # that each number of the output is a sum of
        extra.append(output.numel() * products)
        return output

    handles = [layer.register_forward_hook(hook) for layer in layers if factors]
    # BatchNorm and activations change no shape, but take more than half of the time on the meta device: pass through.
    bypassed = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d) or _activation(layer)]
    for layer in bypassed:
        layer.forward = lambda x: x
    shapes: dict[type, Callable[..., torch.Tensor]] = {nn.Conv2d: _convolved, nn.Linear: nn.Linear.forward}
    for layer in layers if plain else ():
        if type(layer) in shapes:
            layer.forward = partial(multiply_adds, layer, shapes[type(layer)])
            bypassed.append(layer)
    try:
        yield extra
    finally:
        for handle in handles:
            handle.remove()
        for layer in bypassed:
            del layer.forward


def _convolved(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """A tensor of the shape that a convolution gives; what is unusual, and what PyTorch refuses, is left to PyTorch."""
    from torch import nn

    fits = x.dim() == 4 and x.shape[1] == layer.in_channels and layer.out_channels
    if fits and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        sides = [
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, padding, dilation, kernel, stride in zip(
                x.shape[2:], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True
            )
        ]
        if min(sides) > 0:
            return x.new_empty((x.shape[0], layer.out_channels, *sides))
    return nn.Conv2d.forward(layer, x)


def _activation(layer: nn.Module) -> bool:
    """Whether the layer is one of PyTorch's activations."""
    return type(layer).__module__ == "torch.nn.modules.activation" and type(layer).__name__ in ELEMENTWISE


class BlockCount(NamedTuple):
    """Counts of one choice block. A combination is one candidate for each label of the block."""

    counts: list[Count]  # one per combination; the last label changes fastest
    identities: tuple[int, ...]  # indices of the combinations that return their input (a skip)
    interchangeable_with_previous: bool  # it has identities, and the same operations as the block before


def count_chain(chain: Chain, counting: str = "macs") -> tuple[Count, list[BlockCount], Count]:
    """Count every combination of every choice block of a space once.

    Args:
        counting: a key of COUNTING.
    Returns:
        Counts of the stem, of the blocks in order, and of the head.
    Raises:
        InputError: candidates of a block differ in the shape of their output, the head does not return one number per
            class, or a module of a user's own space fails.
    """
    import torch

    counter = _ModuleCounter(chain, counting)
    x = torch.empty(1, 3, chain.resolution, chain.resolution, device="meta")
    stem = counter.count(chain.stem, [], x, "the stem")
    x = stem.output
    blocks: list[BlockCount] = []
    previous: list[Any] = []
    for block in chain.blocks:
        counts, identities = _count_block(counter, block, x)
        operations = [x.shape, *_operations(block)]
        blocks.append(BlockCount(counts, identities, bool(identities) and operations == previous))
        previous = operations
        x = counts[0].output
    head = counter.count(chain.head, [], x, "the head")
    if tuple(head.output.shape) != (1, chain.classes):
        shape = tuple(head.output.shape[1:])
        raise InputError(
            f"space {chain.name}: the head makes {shape} numbers per image; it must make {chain.classes}, one a class"
        )
    return stem, blocks, head


class _ModuleCounter:
    """Counts the modules of one space, and remembers their counts, because a stage repeats its blocks."""

    def __init__(self, chain: Chain, counting: str) -> None:
        self.chain, self.counting = chain, counting
        self.known: dict[Any, Count] = {}

    def count(self, build: Callable[..., nn.Module], values: list[Any], x: torch.Tensor, title: str) -> Count:
        """Count `build(*values)` on the input `x`; `title` names the module in errors."""
        with user_code(f"{title} of space {self.chain.name}"):
            if isinstance(build, partial):
                key = (build.func, build.args, *sorted(build.keywords.items()), *values, x.shape)
                try:
                    if key not in self.known:
                        self.known[key] = self._count(build, values, x)
                    return self.known[key]
                except TypeError as error:
                    if "unhashable" not in str(error):
                        raise
            return self._count(build, values, x)

    def _count(self, build: Callable[..., nn.Module], values: list[Any], x: torch.Tensor) -> Count:
        with x.device:  # the counting itself is outside, for in here every function of torch takes twice as long
            module = build(*values)
        return count(module, x, self.counting)


def _count_block(counter: _ModuleCounter, block: Choice, x: torch.Tensor) -> tuple[list[Count], tuple[int, ...]]:
    """Count all combinations of a block.

    Returns:
        Their counts, and the indices of those that return their input.
    """
    from torch import nn

    counts: list[Count] = []
    identities = []
    outputs: dict[tuple[int, ...], str] = {}  # shape of an output -> the first combination that makes it
    for arch in block.combinations():
        build, values = block.candidates[block.candidate(arch)], [arch[label] for label in block.elastic]
        title = ", ".join(f"{label} {value}" for label, value in arch.items())
        cost = counter.count(build, values, x, title)
        if cost.macs == cost.params == 0 and isinstance(build(*values), nn.Identity):  # it has no weights
            identities.append(len(counts))
        counts.append(cost)
        outputs.setdefault(tuple(cost.output.shape[1:]), title)
    if len(outputs) > 1:
        (one, first), (other, second), *_ = outputs.items()
        raise InputError(
            f"space {counter.chain.name}: {first} makes (C, H, W) = {one}, but {second} makes {other}; all candidates of a "
            "block must give the same shape"
        )
    return counts, tuple(identities)


def _operations(block: Choice) -> list[Any]:
    """What each combination of a block is built from, in a form that compares equal for equal operations."""
    operations = []
    for arch in block.combinations():
        build, values = block.candidates[block.candidate(arch)], [arch[label] for label in block.elastic]
        operations.append(((build.func, build.args, build.keywords) if isinstance(build, partial) else build, values))
    return operations
