"""A whole search, counted and not timed: what its trees compute and write against candidates one by one.

Costs are those of one image, in an int64 array whose entries COUNTED names. A block is known by its key: ("stem",),
(index of the block, candidate, ...) or ("head",).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import spaces
from benchmarks.evaluation.candidates import COSTS, MAX_MACS, described_scores, generations, make_score_function
from benchmarks.evaluation.official_way import official_shuffle
from spaces.arch import Arch
from spaces.chain import Chain
from spaces.cost import CostTable
from spaces.counting import count
from spaces.files import CLONE
from trials.common import cli
from trials.scoring.precision import PRECISIONS
from trials.scoring.shared_blocks import BNStatistics, Node, Pass, SharedBlock

CALIBRATION, SCORING = 25_600, 8_000  # images of the official search, for each candidate

Key = tuple[Any, ...]
Costs = Mapping[Key, np.ndarray]
NODES, MACS, CONVOLUTIONS = 0, 1, 2  # 1 for each block or node; multiply-adds; bytes that convolutions put out
OFFICIAL, OURS = slice(3, 5), slice(5, 7)  # bytes written by either forward pass, in calibration and in scoring
COUNTED = 7  # entries of an array of costs


_aten = torch.ops.aten
_CONVOLUTIONS = (_aten.convolution.default, torch.ops.mkldnn._convolution_pointwise.default)
# operators that return a tensor without writing its numbers
_WRITE_NOTHING = (_aten._unsafe_view.default, _aten.empty.memory_format, _aten.empty_strided.default)


class Writes(TorchDispatchMode):
    """Adds up the bytes of the tensors that operators write.

    Views and empty tensors write none. Single numbers, such as the batch counter of a BatchNorm, are not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _CONVOLUTIONS and not _dense(args[0]):
            self.bytes += args[0].nbytes  # its kernels take no input with gaps: it is copied first
        if func in _WRITE_NOTHING:
            return result
        values = result if isinstance(result, tuple) else (result,)
        for returned, value in zip(func._schema.returns, values, strict=True):
            view = returned.alias_info is not None and not returned.alias_info.is_write
            if isinstance(value, torch.Tensor) and value.dim() and not view:
                self.bytes += value.nbytes
        return result


def _dense(x: torch.Tensor) -> bool:
    """Whether the numbers of a tensor fill a piece of memory, in any order."""
    return sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) + 1 == x.numel()


def block_costs(make: Callable[[], nn.Module], x: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
    """What a candidate of a block costs for one image.

    Args:
        make: makes the candidate's module on the meta device.
        x: its input (1, C, H, W), on the meta device.
    Returns:
        The costs, and the output.
    """
    counted = count(make(), x)
    costs = [1, counted.macs, _convolution_bytes(make(), x), *_official_writes(make(), x), *_our_writes(make(), x)]
    return np.array(costs, dtype=np.int64), counted.output


@torch.no_grad()
def _convolution_bytes(module: nn.Module, x: torch.Tensor) -> int:
    """Bytes that the convolutions of a module put out."""
    total = 0

    def hook(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        total += output.nbytes

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(hook)
    module.eval()(x)
    return total


@torch.no_grad()
def _official_writes(module: nn.Module, x: torch.Tensor) -> list[int]:
    """Bytes that the official forward pass writes, in calibration and in scoring."""
    module.eval()
    written = []
    with official_shuffle():
        for training in (True, False):
            for layer in module.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.train(training)
            with Writes() as writes:
                module(x)
            written.append(writes.bytes)
    return written


@torch.no_grad()
def _our_writes(module: nn.Module, x: torch.Tensor) -> list[int]:
    """Bytes that a node of a prefix tree writes at precision "32", in calibration and in scoring."""
    block = SharedBlock(module, PRECISIONS["32"], torch.device("meta"))
    node = Node(block, [BNStatistics.like(of_supernet) for of_supernet in block.supernet_statistics], {})
    x = x.contiguous(memory_format=torch.channels_last)
    written = []
    for purpose in (Pass.CALIBRATE, Pass.SCORE):
        block.run(node, x, purpose)  # the first run also finds out whether the input is changed, and folds BatchNorm
        with Writes() as writes:
            block.run(node, x, purpose)
        written.append(writes.bytes)
    return written


def all_costs(chain: Chain) -> dict[Key, np.ndarray]:
    """The costs of the stem, of every candidate of every block, and of the head."""
    costs: dict[Key, np.ndarray] = {}
    with torch.device("meta"):
        x = torch.empty(1, 3, chain.resolution, chain.resolution)
        costs["stem",], x = block_costs(chain.stem, x)
        for index, block in enumerate(chain.blocks):
            for combination in block.combinations():
                key = (index, *combination.values())
                costs[key], output = block_costs(partial(block.build, combination), x)
            x = output
        costs["head",], _ = block_costs(chain.head, x)
    return costs


def keys_of(chain: Chain, arch: Arch) -> list[Key]:
    """The keys of the stem, the blocks and the head of an architecture."""
    blocks = [(index, *(arch[label] for label in block.choices)) for index, block in enumerate(chain.blocks)]
    return [("stem",), *blocks, ("head",)]


def tally(chain: Chain, costs: Costs, archs: Sequence[Arch], group: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of costs: of candidates one by one, and of the nodes of their trees.

    Args:
        group: candidates in a tree.
    """
    alone, shared = np.zeros((2, COUNTED), dtype=np.int64)
    seen: set[tuple[Key, ...]] = set()
    for number, arch in enumerate(archs):
        if number % group == 0:
            seen.clear()  # another tree
        keys = keys_of(chain, arch)
        for depth, key in enumerate(keys, 1):
            alone += costs[key]
            prefix = tuple(keys[:depth])
            if key == ("head",) or prefix not in seen:
                seen.add(prefix)
                shared += costs[key]
    return alone, shared


def bytes_written(sums: np.ndarray, forward: slice) -> float:
    """Bytes written in a search's mix of calibration and scoring images.

    Args:
        sums: of `tally`.
        forward: OFFICIAL or OURS.
    """
    calibration, scoring = sums[forward]
    return float(calibration * CALIBRATION + scoring * SCORING)


def _row(title: str, tallies: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[str, ...]:
    """A row of the tables: nodes, and the ratios one by one / trees."""
    alone, shared = (np.sum(sums, axis=0) for sums in zip(*tallies, strict=True))
    ratios = (
        alone[MACS] / shared[MACS],
        alone[CONVOLUTIONS] / shared[CONVOLUTIONS],
        bytes_written(alone, OFFICIAL) / bytes_written(shared, OURS),
    )
    return title, f"{int(shared[NODES]):,} of {int(alone[NODES]):,}", *(f"{ratio:.2f}" for ratio in ratios)


def count_search(args: argparse.Namespace) -> None:
    """Print what the trees of a search compute and write, by generations and by sizes of trees."""
    chain = spaces.describe("spos", "imagenet")
    costs = all_costs(chain)
    bred = generations(args.generations, make_score_function(args), args.seed)
    archs = [arch for generation in bred for arch in generation]
    table = CostTable.load(CLONE / COSTS)
    assert all(sum(int(costs[key][MACS]) for key in keys_of(chain, arch)) == table.macs(arch) for arch in archs[:50])

    tallies = [tally(chain, costs, generation, len(generation)) for generation in bred]
    rows = [_row(f"generation {number}", [tallies[number]]) for number in (0, 1, 5, 20) if number < len(bred)]
    rows.append(_row(f"all {len(archs):,}", tallies))
    header = ("one by one / trees", "nodes", "MACs", "bytes of convolutions", "bytes written")
    print(cli.table(rows, header, as_is=True))

    rows = [
        _row(f"trees of {group}", [tally(chain, costs, generation, group) for generation in bred])
        for group in (50, 25, 10, 5, 1)
    ]
    print("\n" + cli.table(rows, ("whole search", *header[1:]), as_is=True))

    alone, shared = (np.sum(sums, axis=0) for sums in zip(*tallies, strict=True))
    base = bytes_written(alone, OFFICIAL)
    calibration, scoring = alone[OFFICIAL] / alone[OURS]
    print(
        f"\nbytes written, whole search: by sharing alone (the official forward in trees) "
        f"{base / bytes_written(shared, OFFICIAL):.2f}; by the forward alone (ours one by one) "
        f"{base / bytes_written(alone, OURS):.2f}, of which calibration {calibration:.2f} and scoring {scoring:.2f}; "
        f"both {base / bytes_written(shared, OURS):.2f}"
    )
    images = CALIBRATION + SCORING
    print(
        f"images decoded: one by one {len(archs) * images:,} ({CALIBRATION:,} + {SCORING:,} for each candidate), ours "
        f"{images:,} once; {len(archs):,} times fewer"
    )
    print(
        f"spos imagenet at {chain.resolution} px, at most {MAX_MACS:,} MACs; scores: {described_scores(args)}, seed {args.seed}"
    )
