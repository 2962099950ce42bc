"""The two ways to score that are compared: networks one by one, as the official SPOS code does, and trees of prefixes.

Shapes: N images, K candidates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from spaces.arch import Arch
from spaces.blocks import ShuffleBlock
from spaces.chain import Chain
from trials.networks.batchnorm import recalibrate_batchnorm
from trials.scoring.precision import PRECISIONS
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.shared_blocks import SharedBlocks


def official_forward(self: ShuffleBlock, x: torch.Tensor) -> torch.Tensor:
    """ShuffleBlock.forward as in megvii-model/SinglePathOneShot, blocks.py: the shuffle by reshape and transpose."""
    if self.proj is None:
        n, channels, height, width = x.shape
        pairs = x.reshape(n * channels // 2, 2, height * width).permute(1, 0, 2)
        through, main = pairs.reshape(2, -1, channels // 2, height, width)
    else:
        through, main = self.proj(x), x
    return torch.cat((through, self.main(main)), 1)


@contextlib.contextmanager
def official_shuffle() -> Iterator[None]:
    """Within this context, every ShuffleBlock runs the official forward."""
    ours = ShuffleBlock.forward
    ShuffleBlock.forward = official_forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        ShuffleBlock.forward = ours  # type: ignore[method-assign]


@torch.no_grad()
def one_by_one(
    chain: Chain,
    weights: dict[str, torch.Tensor],
    archs: Sequence[Arch],
    calibration: Iterable[torch.Tensor],
    scoring: Iterable[torch.Tensor],
) -> torch.Tensor:
    """Score each candidate as a network of its own, on the device of the weights.

    Args:
        weights: state dict of the supernet.
        calibration, scoring: batches of normalised images; gone through once for each candidate.
    Returns:
        Logits (K, N, classes).
    """
    logits = []
    for arch in archs:
        network = chain.network(arch, weights)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.num_batches_tracked is not None:
                # Reading the batch counter from a GPU would synchronise at every call.
                layer.num_batches_tracked = layer.num_batches_tracked.cpu()
        recalibrate_batchnorm(network, calibration)
        logits.append(torch.cat([network(x) for x in scoring]))
    return torch.stack(logits)


@torch.no_grad()
def in_trees(
    chain: Chain,
    weights: dict[str, torch.Tensor],
    archs: Sequence[Arch],
    calibration: Sequence[torch.Tensor],
    scoring: Sequence[torch.Tensor],
    precision: str,
    group: int = 0,
) -> torch.Tensor:
    """Score candidates as trees of prefixes on the CPU.

    Args:
        weights: state dict of the supernet.
        calibration, scoring: batches of normalised images.
        precision: a key of PRECISIONS.
        group: candidates in a tree; 0: all.
    Returns:
        Logits (K, N, classes).
    """
    parts = SharedBlocks(chain, weights, PRECISIONS[precision], torch.device("cpu"))
    size = group or len(archs)
    logits: list[torch.Tensor] = []
    for first in range(0, len(archs), size):
        tree = PrefixTree(parts, archs[first : first + size])
        tree.calibrate(calibration)
        batches: list[list[torch.Tensor]] = [[] for _ in range(tree.arch_count)]  # for each candidate
        for x in scoring:
            for number, y in tree.logits(x):
                batches[number].append(y)
        logits += [torch.cat(of_candidate) for of_candidate in batches]
    return torch.stack(logits)
