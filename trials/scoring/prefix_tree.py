"""Score many candidates at once, bit for bit as one after the other: what they have in common is computed once.

What a node is. A candidate's network is a path: stem, one candidate of each choice block, head. Two architectures that
choose alike in their first blocks are the same function up to there, so the paths of several architectures form a tree:

    stem -+- block00=k3 -+- block01=k5 --- head    architecture 0
          |              +- block01=k7 --- head    architecture 1
          +- block00=k5 --- block01=k5 --- head    architecture 2

A node is one block after one prefix of choices (`Node`, in shared_blocks.py). All children of a node read the node's
output, which is computed once: here the stem runs once instead of three times, and block00=k3 once instead of twice.

What is shared. Nodes with the same candidate at the same position, such as the two block01=k5 above, share one module with
its weights (`SharedBlock`). Their inputs differ, hence so do their BatchNorm statistics: each node has statistics of its
own, which it lends to the module for the time of one call. The same holds for the weights of convolutions into which
BatchNorm was folded, because they contain the statistics.

In which order the tree is walked. Each batch of images walks the whole tree, depth first, before the next batch comes. So
at most one output per block is in memory, and statistics are averaged over batches exactly as in
`recalibrate_batchnorm`. A search makes three kinds of walks (`Pass`): one that measures accuracy with the supernet's own
statistics, then one per calibration batch, then one per scoring batch.

Why it is exact. The statistics of a BatchNorm layer depend only on the images and on the layers before it, and these are
the same for all architectures below a node. Each operation gets the same input, in the same memory layout, as in the
network alone, and so gives the same bits. Only a module that changes its input in place would change it for its siblings
too; such a module gets a copy.

Shapes: N batch, R resolution in pixels, K architectures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from spaces.arch import Arch, validate
from trials.networks.accuracy import Graded, grade
from trials.scoring.recorded_blocks import RecordedBlocks
from trials.scoring.shared_blocks import BNStatistics, Node, Pass, SharedBlock, SharedBlocks


class PrefixTree:
    """The prefix tree of some architectures; see the top of this file.

    Args:
        blocks: of the supernet of these architectures.
        archs: the K architectures.
    Attributes:
        node_count, block_count: number of nodes, and of the blocks that they share.
    Raises:
        ArchError: an architecture does not fit the space.
    """

    def __init__(self, blocks: SharedBlocks, archs: Sequence[Arch]) -> None:
        self.blocks, self.arch_count, self.node_count = blocks, len(archs), 0
        used = set[tuple[Any, ...]]()
        self.root = self._make_node(blocks.at("stem", {})[1])
        for arch_index, arch in enumerate(archs):
            validate(arch, blocks.chain.choices)
            node = self.root
            for position in range(len(blocks.chain.blocks)):
                key, block = blocks.at(position, arch)
                used.add(key)
                if key not in node.children:
                    node.children[key] = self._make_node(block)
                node = node.children[key]
            head = self._make_node(blocks.at("head", {})[1])
            head.arch_index = arch_index
            node.children["head", arch_index] = head
        self.block_count = len(used) + 2

    @torch.no_grad()
    def calibrate(self, batches: Iterable[torch.Tensor], recorded: RecordedBlocks | None = None) -> int:
        """Measure the BatchNorm statistics of every node: a cumulative average over batches of one size.

        A second call continues the average of the first.

        Args:
            batches: normalised images (N, 3, R, R), from the training part only.
            recorded: what repeats the work of the blocks from recordings; None: it is launched.
        Returns:
            Number of images used.
        Raises:
            ValueError: `batches` is empty.
        """
        images = 0
        self._forget_folded_weights(self.root)
        for x in batches:
            for _ in self._batch(x, Pass.CALIBRATE, recorded):
                pass
            images += len(x)
        if not images:
            raise ValueError("calibrate needs at least one batch")
        return images

    @torch.no_grad()
    def logits(
        self, x: torch.Tensor, *, before: bool = False, recorded: RecordedBlocks | None = None
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Run one batch through all architectures.

        Args:
            x: normalised images (N, 3, R, R).
            before: use the statistics of the supernet, which mix all its paths.
            recorded: as in `calibrate`.
        Yields:
            Index of an architecture and its logits (N, classes) in 32 bits, in the order of the tree.
        """
        yield from self._batch(x, Pass.BEFORE if before else Pass.SCORE, recorded)

    def hits(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], *, before: bool = False) -> torch.Tensor:
        """Count the images that each architecture has right.

        Args:
            batches: normalised images (N, 3, R, R) and labels (N,).
            before: as in `logits`.
        Returns:
            Right answers in the first 1 and in the first 5 guesses, int64 (K, 2), on the CPU.
        """
        return self.answers(batches, before=before).right.sum(1)

    def answers(
        self,
        batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
        *,
        before: bool = False,
        recorded: RecordedBlocks | None = None,
    ) -> Graded:
        """What each architecture says of each image.

        Args:
            batches, before: as for `hits`.
            recorded: as in `calibrate`.
        Returns:
            On the CPU: `right`, bool (K, images, 2), and `losses`, float32 (K, images).
        """
        device = self.blocks.device
        right = [torch.empty(self.arch_count, 0, 2, dtype=torch.bool, device=device)]
        losses = [torch.empty(self.arch_count, 0, device=device)]
        for x, labels in batches:
            right.append(torch.empty(self.arch_count, len(labels), 2, dtype=torch.bool, device=device))
            losses.append(torch.empty(self.arch_count, len(labels), device=device))
            for arch_index, logits in self.logits(x, before=before, recorded=recorded):
                right[-1][arch_index], losses[-1][arch_index] = grade(logits, labels)
        return Graded(torch.cat(right, 1).cpu(), torch.cat(losses, 1).cpu())

    def _make_node(self, block: SharedBlock) -> Node:
        self.node_count += 1
        return Node(block, [BNStatistics.like(of_supernet) for of_supernet in block.supernet_statistics], {})

    def _forget_folded_weights(self, node: Node) -> None:
        """Drop folded weights of a node and all below it, because their statistics are about to change."""
        node.folded_weights = None
        for child in node.children.values():
            self._forget_folded_weights(child)

    def _batch(
        self, x: torch.Tensor, purpose: Pass, recorded: RecordedBlocks | None
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Run a batch through the tree; yields as `logits` does. A last batch, which is smaller, is launched."""
        repeats = recorded is not None and recorded.takes(x, purpose)
        yield from self._walk(self.root, self.blocks.precision.cast_images(x), purpose, recorded if repeats else None)

    def _walk(
        self, node: Node, x: torch.Tensor, purpose: Pass, recorded: RecordedBlocks | None, depth: int = 0
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Run a batch through a node and everything below it, depth first; yields as `logits` does."""
        y = node.block.run(node, x, purpose) if recorded is None else recorded.run(node, x, purpose, depth)
        del x  # frees the memory of the input where nobody else needs it
        if node.arch_index >= 0:
            # the next recording would overwrite what one has left
            yield node.arch_index, y.float() if recorded is None else y.to(torch.float32, copy=True)
        for child in node.children.values():
            yield from self._walk(child, y, purpose, recorded, depth + 1)
