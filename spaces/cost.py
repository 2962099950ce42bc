"""Exact costs of every architecture of a space, from a table: no network is built or run to know one.

MACs are the multiply-adds of convolutions and linear layers, for one image; papers call them FLOPs. Params are those of
the fixed network, weight and bias of BatchNorm included. A cost is the sum over the stem, the choice blocks and the
head. A block whose cost depends on two choices together (operation and width, kernel and expansion) has an entry for
each combination of the two.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spaces.arch import Choices, validate
from spaces.block_costs import BlockCosts
from spaces.counting import COUNTING, count_chain
from spaces.errors import InputError, unknown
from spaces.files import RESTORE, load_json, save_json
from spaces.packed_lookup import PackedLookup

if TYPE_CHECKING:
    from nni.nas.nn.pytorch import ModelSpace

    from spaces.chain import Chain

FORMAT = "onepath cost table 2"


@dataclass(frozen=True)
class Bounds:
    """Smallest and largest cost in a space; each is reached by some architecture."""

    min_macs: int
    max_macs: int
    min_params: int
    max_params: int


class CostTable:
    """Additive costs: those of stem and head, plus one entry per choice block.

    Args:
        space: the space that was measured: name, preset, options, classes, resolution.
        base: MACs and params of stem and head, which every architecture has.
        blocks: costs of the choice blocks, in the order of the space.
    """

    def __init__(self, space: Mapping[str, Any], base: tuple[int, int], blocks: Sequence[BlockCosts]) -> None:
        self.space = dict(space)
        self.base = base
        self.blocks = list(blocks)
        self.choices: dict[str, list[Any]] = {
            label: list(candidates) for block in blocks for label, candidates in block.choices.items()
        }

    @classmethod
    def additive(cls, costs: Mapping[str, Mapping[Any, tuple[int, int]]], base: tuple[int, int] = (0, 0)) -> CostTable:
        """Make a table of blocks with one label each.

        Args:
            costs: label -> candidate -> (MACs, params).
            base: MACs and params that every architecture has.
        """
        blocks = []
        for label, entries in costs.items():
            macs, params = np.array(list(entries.values()), dtype=np.int64).T
            blocks.append(BlockCosts({label: list(entries)}, macs, params))
        return cls({}, base, blocks)

    def macs(self, arch: Mapping[str, Any]) -> int:
        """Multiply-adds of an architecture for one image.

        Raises:
            ArchError: `arch` does not fit the space.
        """
        validate(arch, self.choices)
        return self.base[0] + sum(int(block.macs[block.combination_index(arch)]) for block in self.blocks)

    def params(self, arch: Mapping[str, Any]) -> int:
        """Trainable parameters of the fixed network of an architecture. Raises as `macs`."""
        validate(arch, self.choices)
        return self.base[1] + sum(int(block.params[block.combination_index(arch)]) for block in self.blocks)

    def arch(self, combinations: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """The architecture with these combination indices, one per block."""
        arch: dict[str, Any] = {}
        for block, index in zip(self.blocks, combinations, strict=True):
            arch |= block.combination(int(index))
        return arch

    def combinations(self, arch: Mapping[str, Any]) -> list[int]:
        """The combination index that an architecture has in each block; the reverse of `arch`."""
        return [block.combination_index(arch) for block in self.blocks]

    def canonical(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """The first of all architectures that are the same network as `arch` when trained from scratch.

        Where neighbouring blocks offer the same operations, it makes no difference which of them is skipped. Where a
        block is skipped, its other choices (the kernel of a superkernel) have no effect. A skip is an `nn.Identity`.

        Raises:
            ArchError: `arch` does not fit the space.
        """
        validate(arch, self.choices)
        if not any(block.identities for block in self.blocks):  # no two architectures are the same network
            return {label: values[values.index(arch[label])] for label, values in self.choices.items()}
        return self.arch(self.canonical_many(np.array([self.combinations(arch)]))[0])

    def canonical_many(self, combinations: np.ndarray) -> np.ndarray:
        """`canonical` for many architectures.

        Args:
            combinations: (architectures, blocks) combination indices.
        Returns:
            The same, of the canonical architectures.
        """
        combinations = combinations.copy()
        first = 0
        for last in range(1, len(self.blocks) + 1):
            if last < len(self.blocks) and self.blocks[last].interchangeable_with_previous:
                continue
            # Blocks first..last - 1 are interchangeable: move the skipped ones behind the others.
            run, identities = combinations[:, first:last], list(self.blocks[first].identities)
            if identities:
                skipped = np.isin(run, identities)
                run[skipped] = identities[0]
                order = np.argsort(skipped, axis=1, kind="stable")
                combinations[:, first:last] = np.take_along_axis(run, order, axis=1)
            first = last
        return combinations

    def macs_many(self, genes: np.ndarray) -> np.ndarray:
        """MACs of many architectures.

        Args:
            genes: (architectures, labels) integers, candidate indices in the order of `choices`; uint8 is fastest.
        Returns:
            (architectures,) int64.
        Raises:
            InputError: another number of labels, or a candidate index out of range.
        """
        return self._packed.sums("macs", self.base[0], genes)

    def params_many(self, genes: np.ndarray) -> np.ndarray:
        """Params of many architectures; arguments and result as for `macs_many`."""
        return self._packed.sums("params", self.base[1], genes)

    @cached_property
    def _packed(self) -> PackedLookup:
        return PackedLookup(
            [[len(candidates) for candidates in block.choices.values()] for block in self.blocks],
            {"macs": [block.macs for block in self.blocks], "params": [block.params for block in self.blocks]},
        )

    def same_costs(self, other: CostTable) -> bool:
        """Whether another table has the same choices with the same costs."""
        return (
            self.choices == other.choices
            and self.base == other.base
            and all(
                np.array_equal(mine.macs, theirs.macs) and np.array_equal(mine.params, theirs.params)
                for mine, theirs in zip(self.blocks, other.blocks, strict=True)
            )
        )

    def identity(self) -> str:
        """The space in words with its sizes, and 16 hex digits that only a table of this space with these costs has."""
        content = [self.space, self.base, [[b.choices, b.macs.tolist(), b.params.tolist()] for b in self.blocks]]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        options = "".join(f" {name}={value}" for name, value in self.space["options"].items())
        name, preset, classes, side = (self.space[key] for key in ("name", "preset", "classes", "resolution"))
        return f"{name} {preset}{options}, {classes} classes, {side}x{side} pixels, {digest}"

    def bounds(self) -> Bounds:
        """Smallest and largest MACs and params in the space."""
        macs = [self.base[0] + sum(int(pick(block.macs)) for block in self.blocks) for pick in (np.min, np.max)]
        params = [self.base[1] + sum(int(pick(block.params)) for block in self.blocks) for pick in (np.min, np.max)]
        return Bounds(*macs, *params)

    def architectures(self) -> int:
        """Number of architectures in the space."""
        return math.prod(len(candidates) for candidates in self.choices.values())

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        blocks = []
        for block in self.blocks:
            entry = {"choices": block.choices, "macs": block.macs.tolist(), "params": block.params.tolist()}
            if block.identities:
                entry |= {"identities": block.identities, "twin": block.interchangeable_with_previous}
            blocks.append(entry)
        save_json(path, {"format": FORMAT, "space": self.space, "base": self.base, "blocks": blocks}, indent=None)

    @classmethod
    def load(cls, path: str | Path) -> CostTable:
        """Read a table written by `save`.

        Raises:
            InputError: the file is missing, or is not a cost table.
        """
        content = load_json(path, "cost table")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"'{path}' is not a cost table; write one with: python -m trials.space spos --out FOLDER")
        try:
            blocks = []
            for entry in content["blocks"]:
                macs, params = (np.array(entry[name], dtype=np.int64) for name in ("macs", "params"))
                identities, interchangeable = tuple(entry.get("identities", ())), bool(entry.get("twin"))
                blocks.append(BlockCosts(entry["choices"], macs, params, identities, interchangeable))
            sizes = [math.prod(map(len, block.choices.values())) for block in blocks]
            if any(
                not size or block.macs.shape != (size,) or block.params.shape != (size,)
                for block, size in zip(blocks, sizes, strict=True)
            ):
                raise ValueError
            return cls(content["space"], (int(content["base"][0]), int(content["base"][1])), blocks)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
            raise InputError(
                f"cost table '{path}' is damaged or incomplete; {RESTORE}, or write it with trials.space"
            ) from None


def search_space(choices: Choices) -> dict[str, Any]:
    """The space as NNI's search space JSON: {label: {"_type": "choice", "_value": [...]}}."""
    return {label: {"_type": "choice", "_value": list(candidates)} for label, candidates in choices.items()}


def measure(space: Chain | ModelSpace, counting: str = "macs") -> CostTable:
    """Count every combination of every choice block of a space once, on the meta device.

    Args:
        space: a chain from `spaces.describe`, or a space from `spaces.build`.
        counting: a key of COUNTING; with another than `macs`, the table's MACs are such counts.
    Raises:
        InputError: unknown counting, or a space of a user's own that does not fit together.
    """
    if counting not in COUNTING:
        raise InputError(unknown("counting", counting, COUNTING))
    chain = getattr(space, "chain", space)
    stem, counted, head = count_chain(chain, counting)
    blocks = [
        BlockCosts(
            block.choices,
            np.array([cost.macs for cost in counts]),
            np.array([cost.params for cost in counts]),
            identities,
            interchangeable,
        )
        for block, (counts, identities, interchangeable) in zip(chain.blocks, counted, strict=True)
    ]
    metadata = {key: getattr(chain, key) for key in ("name", "preset", "classes", "resolution")}
    metadata["options"] = dict(chain.options)
    if counting != "macs":
        metadata["counting"] = counting
    return CostTable(metadata, (stem.macs + head.macs, stem.params + head.params), blocks)
