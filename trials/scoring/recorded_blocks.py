"""The blocks of a prefix tree on a GPU, recorded as CUDA graphs and repeated from the recordings.

For small images the launches take longer than the work. A recording belongs to a candidate in its place, not to a node: before
it is repeated for a node, what the node has of its own (folded weights) is copied to where the recording reads it, in one
launch. What a block gives is left where the recordings of the next place read it. A tree is walked depth first, so at most one
node of each level is at work, and all recordings share their memory.

On a CPU nothing can be recorded: there the same pieces are run one by one, which is how the tests compare them.

Shapes: N batch, C channels, H W height and width.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import torch

from spaces.errors import InputError
from trials.common.distributed import use_cuda
from trials.networks.fused_conv import Kernel
from trials.networks.recorder import RECORDED_PIXELS, Recorder, Work
from trials.scoring.shared_blocks import BNStatistics, Count, Node, Pass, copy_strided

# How often a recording should be repeated. It takes the launch of a block and the making of a graph, about 1 ms, and saves some
# 0.2 ms each time: an estimate from the launches of an H100, not a measurement.
USES = 10


def scoring_device(device: str, cuda_graphs: str) -> torch.device:
    """Where scores are computed.

    Args:
        device: auto, cpu or cuda.
        cuda_graphs: auto, on or off.
    Raises:
        InputError: a GPU is asked for, or needed, and none is visible or wanted.
    """
    found = torch.device("cuda" if use_cuda(device) else "cpu")
    if cuda_graphs == "on" and found.type != "cuda":
        raise InputError(f"--cuda-graphs on needs a GPU, not {found.type}; leave it out")
    return found


class Piece(NamedTuple):
    """The recording of a block."""

    repeat: Work
    output: torch.Tensor  # where it leaves what the block gives
    lent: list[torch.Tensor]  # where it reads what a node has of its own


class RecordedBlocks:
    """Recordings of the blocks of one `SharedBlocks`, for batches of one size in each pass.

    Args:
        device: where the blocks are.
    """

    def __init__(self, device: torch.device) -> None:
        self.recorder = Recorder(device)
        self.pool = self.recorder.new_pool()
        self.shapes: dict[Pass, torch.Size] = {}
        self.pieces: dict[tuple[Any, ...], Piece] = {}
        self.inputs: dict[tuple[Any, ...], torch.Tensor] = {}  # of a level of the tree, by its shape and strides

    def takes(self, x: torch.Tensor, purpose: Pass) -> bool:
        """Whether a batch is as large as the first one of such a pass was."""
        return self.shapes.setdefault(purpose, x.shape) == x.shape

    def run(self, node: Node, x: torch.Tensor, purpose: Pass, depth: int) -> torch.Tensor:
        """The output of a node for one batch, as `SharedBlock.run`; the next call for this depth overwrites it.

        Args:
            depth: of the node in the tree; 0 is the stem.
        Raises:
            Stopped: the block does what cannot be recorded.
        """
        block, source = node.block, self._kept(depth, x)
        key = (block, purpose, *_layout(x))
        piece = self.pieces.get(key)
        if piece is None:
            # once as it is, which chooses kernels and takes memory; it counts
            with self.recorder.aside():
                y = block.run(node, source, purpose)
            output = self._kept(depth + 1, y)
            del y
            if purpose is not Pass.CALIBRATE or (block.apart is not None and all(block.apart)):
                self.pieces[key] = self._record(node, source, purpose, output)
            return output
        block.prepare(node, purpose)
        if piece.lent:
            torch._foreach_copy_(piece.lent, _own(node, purpose))
        piece.repeat()
        if purpose is Pass.CALIBRATE and block.apart:
            block.average(node)
        return piece.output

    def _record(self, node: Node, source: torch.Tensor, purpose: Pass, output: torch.Tensor) -> Piece:
        """Record what a block does with an input and what it is lent."""
        block, count = node.block, len(node.statistics)
        lent = [copy_strided(tensor) for tensor in _own(node, purpose)]
        # which convolutions are lent weights, and whether a weight, a bias and a floor
        kernels = [
            (conv, [part is not None for part in _parts(kernel)])
            for conv, kernel in (node.folded_weights or {}).items()
        ]

        def score() -> torch.Tensor:
            tensors = iter(lent)
            own: dict[Any, Kernel] = {}
            for conv, there in kernels:
                weight, bias, floor = (next(tensors) if given else None for given in there)
                own[conv] = Kernel(weight, bias, floor)  # type: ignore[arg-type]
            statistics: list[Any] = [None] * count
            for index, _ in block.lent_layers(purpose):
                statistics[index] = BNStatistics(next(tensors), next(tensors), Count())
            return block.call(block.lend(purpose, statistics, own or None), source)

        def work() -> None:
            output.copy_(block.measure([], source) if purpose is Pass.CALIBRATE and block.apart else score())

        return Piece(self.recorder.record(work, self.pool), output, lent)

    def _kept(self, depth: int, x: torch.Tensor) -> torch.Tensor:
        """A batch of features in the memory that a level of the tree reads."""
        key = (depth, *_layout(x))
        stays = self.inputs.get(key)
        if stays is None:
            stays = self.inputs[key] = copy_strided(x)
        elif stays is not x:
            stays.copy_(x)
        return stays


class Graphs:
    """Whether passes are recorded, and the recordings.

    Args:
        wanted: auto, on or off.
        device: where the blocks are.
    """

    def __init__(self, wanted: str, device: torch.device) -> None:
        self.wanted, self.device = wanted, device
        self.recorded: RecordedBlocks | None = None

    def recorded_for(self, pixels: int, batches: int, nodes: int, blocks: int) -> RecordedBlocks | None:
        """What repeats a pass of a tree; None: it is launched, as recording would take more time than it saves.

        Args:
            pixels: of a batch.
            batches: of the pass.
            nodes, blocks: of the tree; a node is a use of a block.
        """
        pays = self.device.type == "cuda" and pixels <= RECORDED_PIXELS and batches * nodes >= USES * blocks
        if not (self.wanted == "on" or (self.wanted == "auto" and pays)):
            return None
        if self.recorded is None:
            self.recorded = RecordedBlocks(self.device)
            print("the passes of scores are recorded as CUDA graphs; --cuda-graphs off: not", file=sys.stderr)
        return self.recorded

    def turn_off(self) -> bool:
        """Free the recordings, if there are any, and make no more. Returns whether there were any."""
        if self.recorded is None:
            return False
        self.recorded, self.wanted = None, "off"
        return True


def _own(node: Node, purpose: Pass) -> list[torch.Tensor]:
    """What a node has of its own and a pass reads: folded weights, and the statistics of layers that are not folded."""
    if purpose is not Pass.SCORE:
        return []
    kernels = (node.folded_weights or {}).values()
    found = [part for kernel in kernels for part in _parts(kernel) if part is not None]
    for index, _ in node.block.lent_layers(purpose):
        found += node.statistics[index][:2]
    return found


def _parts(kernel: Kernel) -> tuple[torch.Tensor | None, ...]:
    """Weight, bias and floor."""
    return kernel.weight, kernel.bias, kernel.floor


def _layout(x: torch.Tensor) -> tuple[Any, ...]:
    """Strides too: PyTorch chooses kernels by them, and other kernels may round otherwise."""
    return x.shape, x.stride(), x.dtype
