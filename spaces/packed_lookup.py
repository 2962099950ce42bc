"""Costs of many architectures at once, from lookup tables that each serve several neighbouring blocks. numpy only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from spaces.errors import InputError

# Largest size of a combined lookup table, in entries. Measured together with ROWS by benchmarks/cost.py.
PACK = 1 << 14
ROWS = 1 << 11  # architectures looked up at a time, so that their genes stay in the processor's cache


class PackedLookup:
    """Sums of per-block costs for many architectures.

    Neighbouring blocks are packed together as long as their combinations number at most PACK. A pack has one table with
    the summed costs of all combinations of its blocks, so that one lookup serves them all.

    Args:
        sizes: for each block, the number of candidates of each of its labels.
        costs: kind of cost (such as "macs") -> for each block, one number per combination of its candidates; the last
            label changes fastest.
    """

    def __init__(self, sizes: Sequence[Sequence[int]], costs: Mapping[str, Sequence[np.ndarray]]) -> None:
        self.candidates = [size for block in sizes for size in block]  # number of candidates of each label
        packs: list[list[int]] = []  # each is a list of block indices
        for index, block in enumerate(sizes):
            if packs and math.prod(math.prod(sizes[i]) for i in packs[-1]) * math.prod(block) <= PACK:
                packs[-1].append(index)
            else:
                packs.append([index])
        # strides @ genes are the indices into each pack's table. They are below 2^24, so float32 is exact, and a
        # matrix product of float32 is fast.
        self.strides = np.zeros((len(packs), len(self.candidates)), dtype=np.float32)
        column = 0
        for row, pack in enumerate(packs):
            candidates = [size for index in pack for size in sizes[index]]
            for label in range(len(candidates)):
                self.strides[row, column] = math.prod(candidates[label + 1 :])
                column += 1
        self.tables = {
            kind: [reduce(np.add.outer, [blocks[index] for index in pack]).ravel() for pack in packs]
            for kind, blocks in costs.items()
        }

    def sums(self, kind: str, base: int, genes: np.ndarray) -> np.ndarray:
        """The cost of each architecture.

        Args:
            kind: a key of `costs`.
            base: what is added to every sum.
            genes: (architectures, labels) integers, candidate indices; uint8 is fastest.
        Returns:
            (architectures,) int64.
        Raises:
            InputError: another number of labels, or a candidate index out of range.
        """
        sizes = self.candidates
        if genes.ndim != 2 or genes.shape[1] != len(sizes) or genes.dtype.kind not in "iu":
            raise InputError(f"genes are {genes.dtype} {genes.shape}; give integers (architectures, {len(sizes)})")
        total = np.full(len(genes), base, dtype=np.int64)
        for first in range(0, len(genes), ROWS):
            columns = genes[first : first + ROWS].T.astype(np.float32, order="C")
            if (columns.max(axis=1) >= sizes).any() or (genes.dtype.kind == "i" and columns.min() < 0):
                raise InputError(f"a candidate number is out of range; the labels have {sizes} candidates")
            indices = (self.strides @ columns).astype(np.intp)
            rows = total[first : first + ROWS]
            for table, index in zip(self.tables[kind], indices, strict=True):
                rows += table.take(index)
        return total
