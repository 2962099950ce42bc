"""Exact costs of every architecture of a space, from a table: no network is run, or even built, to know one.

MACs = multiply-adds of convolutions and linear layers, for one image. The papers call them FLOPs. Params are those of
the fixed network, BatchNorm weight and bias included. A cost is the sum over the stem, the choice blocks and the head;
a block whose cost depends on two choices together (operation and width, kernel and expansion) has an entry for each
pair. numpy only at import, because NNI's tuners read cost tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from pathlib import Path
from typing import Any

import numpy as np

from spaces.arch import Choices, validate
from spaces.counting import COUNTING, Count, count
from spaces.errors import InputError, unknown, user_code
from spaces.files import load_json, save_json

FORMAT = "onepath cost table 2"
PACK = 1 << 14  # entries of a table that serves several blocks, at most; with ROWS, measured: benchmarks/cost.py
ROWS = 1 << 11  # architectures at a time: their genes stay in the processor's cache


@dataclass(frozen=True)
class Bounds:
    """Smallest and largest cost in a space; each is reached by some architecture."""

    min_macs: int
    max_macs: int
    min_params: int
    max_params: int


@dataclass(frozen=True)
class BlockCosts:
    """Costs of one choice block.

    Args:
        choices: label -> candidates, in order.
        macs, params: one number per combination of candidates; the last label changes fastest.
        identities: the combinations that give back what they get (a skip), as places among all.
        interchangeable_with_previous: the block has identities, and the same choices of the same operations as the one before: one may be
            skipped in place of the other.
    """

    choices: Mapping[str, Sequence[Any]]
    macs: np.ndarray
    params: np.ndarray
    identities: tuple[int, ...] = ()
    interchangeable_with_previous: bool = False

    def combination_index(self, arch: Mapping[str, Any]) -> int:
        """Place of the combination that `arch` chooses."""
        place = 0
        for label, candidates in self.choices.items():
            place = place * len(candidates) + list(candidates).index(arch[label])
        return place

    def combination(self, option: int) -> dict[str, Any]:
        """The combination at a place; the reverse of `combination_index`."""
        chosen = {}
        for label, candidates in reversed(list(self.choices.items())):
            option, place = divmod(option, len(candidates))
            chosen[label] = candidates[place]
        return {label: chosen[label] for label in self.choices}


class CostTable:
    """Additive costs: stem and head, plus one entry per choice block.

    Args:
        space: what it was measured on: name, preset, options, classes, resolution.
        base: MACs and params of what every architecture has (stem and head).
        blocks: in the order of the space.
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
        """A table of blocks with one label each: label -> candidate -> (MACs, params)."""
        blocks = []
        for label, entries in costs.items():
            macs, params = np.array(list(entries.values()), dtype=np.int64).T
            blocks.append(BlockCosts({label: list(entries)}, macs, params))
        return cls({}, base, blocks)

    def macs(self, arch: Mapping[str, Any]) -> int:
        """Multiply-adds for one image. Raises: ArchError."""
        validate(arch, self.choices)
        return self.base[0] + sum(int(block.macs[block.combination_index(arch)]) for block in self.blocks)

    def params(self, arch: Mapping[str, Any]) -> int:
        """Trainable parameters of the fixed network. Raises: ArchError."""
        validate(arch, self.choices)
        return self.base[1] + sum(int(block.params[block.combination_index(arch)]) for block in self.blocks)

    def arch(self, options: Sequence[int]) -> dict[str, Any]:
        """The architecture with these options, one place per block."""
        arch: dict[str, Any] = {}
        for block, option in zip(self.blocks, options, strict=True):
            arch |= block.combination(int(option))
        return arch

    def canonical(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """The first of all architectures that are the same network as `arch`, trained from scratch.

        Where neighbouring blocks offer the same operations, it does not matter which of them is skipped; where a block
        is skipped, its other choices (the kernel of a superkernel) have no effect. Known for `nn.Identity`.

        Raises: ArchError.
        """
        validate(arch, self.choices)
        if not any(block.identities for block in self.blocks):  # every architecture is the only one of its kind
            return {label: values[values.index(arch[label])] for label, values in self.choices.items()}
        options = np.array([[block.combination_index(arch) for block in self.blocks]])
        return self.arch(self.canonical_many(options)[0])

    def canonical_many(self, options: np.ndarray) -> np.ndarray:
        """`canonical` of many architectures, as (architectures, blocks) options."""
        options = options.copy()
        first = 0
        for last in range(1, len(self.blocks) + 1):
            if last < len(self.blocks) and self.blocks[last].interchangeable_with_previous:
                continue
            run, identities = options[:, first:last], list(self.blocks[first].identities)
            if identities:
                skipped = np.isin(run, identities)
                run[skipped] = identities[0]
                order = np.argsort(skipped, axis=1, kind="stable")
                options[:, first:last] = np.take_along_axis(run, order, axis=1)
            first = last
        return options

    def macs_many(self, genes: np.ndarray) -> np.ndarray:
        """MACs of many architectures.

        Args:
            genes: (architectures, labels) integers, candidate numbers in the order of `choices`; uint8 is fastest.
        Returns:
            (architectures,) int64.
        Raises:
            InputError: another number of labels, or a candidate number out of range.
        """
        return self._sum(self.base[0], self._packed[1], genes)

    def params_many(self, genes: np.ndarray) -> np.ndarray:
        """Params of many architectures; like `macs_many`."""
        return self._sum(self.base[1], self._packed[2], genes)

    @cached_property
    def _packed(self) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """Neighbouring blocks are looked up together, in one table of the sums of their costs.

        Returns:
            radix (packs, labels): radix @ genes is a place in each pack's table; the tables of MACs; those of params.
        """
        packs: list[list[BlockCosts]] = []
        for block in self.blocks:
            if packs and math.prod(len(b.macs) for b in packs[-1]) * len(block.macs) <= PACK:
                packs[-1].append(block)
            else:
                packs.append([block])
        radix = np.zeros((len(packs), len(self.choices)), dtype=np.float32)  # places are below 2^24: exact
        column = 0
        for row, pack in enumerate(packs):
            sizes = [len(candidates) for block in pack for candidates in block.choices.values()]
            for place in range(len(sizes)):
                radix[row, column] = math.prod(sizes[place + 1 :])
                column += 1
        macs, params = (
            [reduce(np.add.outer, [getattr(block, name) for block in pack]).ravel() for pack in packs]
            for name in ("macs", "params")
        )
        return radix, macs, params

    def _sum(self, base: int, tables: list[np.ndarray], genes: np.ndarray) -> np.ndarray:
        sizes = [len(candidates) for candidates in self.choices.values()]
        if genes.ndim != 2 or genes.shape[1] != len(sizes) or genes.dtype.kind not in "iu":
            raise InputError(f"genes are {genes.dtype} {genes.shape}; give integers (architectures, {len(sizes)})")
        total = np.full(len(genes), base, dtype=np.int64)
        for first in range(0, len(genes), ROWS):
            columns = genes[first : first + ROWS].T.astype(np.float32, order="C")
            if (columns.max(axis=1) >= sizes).any() or (genes.dtype.kind == "i" and columns.min() < 0):
                raise InputError(f"a candidate number is out of range; the labels have {sizes} candidates")
            places = (self._packed[0] @ columns).astype(np.intp)
            part = total[first : first + ROWS]
            for table, place in zip(tables, places, strict=True):
                part += table.take(place)
        return total

    def same_costs(self, other: CostTable) -> bool:
        """Whether another table is of the same choices with the same costs."""
        return (
            self.choices == other.choices
            and self.base == other.base
            and all(
                np.array_equal(mine.macs, theirs.macs) and np.array_equal(mine.params, theirs.params)
                for mine, theirs in zip(self.blocks, other.blocks, strict=True)
            )
        )

    def bounds(self) -> Bounds:
        """Smallest and largest MACs and params of the space."""
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
            blocks.append(
                entry
                | (
                    {"identities": block.identities, "twin": block.interchangeable_with_previous}
                    if block.identities
                    else {}
                )
            )
        save_json(path, {"format": FORMAT, "space": self.space, "base": self.base, "blocks": blocks}, indent=None)

    @classmethod
    def load(cls, path: str | Path) -> CostTable:
        """Read a table written by `save`.

        Raises:
            InputError: missing file, or not a cost table.
        """
        content = load_json(path, "cost table")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"'{path}' is not a cost table; write one with: python -m trials.space spos --out FOLDER")
        try:
            blocks = [
                BlockCosts(
                    b["choices"],
                    np.array(b["macs"], dtype=np.int64),
                    np.array(b["params"], dtype=np.int64),
                    tuple(b.get("identities", ())),
                    bool(b.get("twin")),
                )
                for b in content["blocks"]
            ]
            sizes = [math.prod(map(len, block.choices.values())) for block in blocks]
            if any(
                len(block.macs) != size or len(block.params) != size for block, size in zip(blocks, sizes, strict=True)
            ):
                raise ValueError
            return cls(content["space"], (int(content["base"][0]), int(content["base"][1])), blocks)
        except (KeyError, TypeError, ValueError, IndexError):
            raise InputError(f"cost table '{path}' is damaged; write it again") from None


def search_space(choices: Choices) -> dict[str, Any]:
    """The space as NNI's search space JSON: {label: {"_type": "choice", "_value": [...]}}."""
    return {label: {"_type": "choice", "_value": list(candidates)} for label, candidates in choices.items()}


def measure(space: Any, counting: str = "macs") -> CostTable:
    """Count every choice of a space once, on the meta device: shapes only, no memory, no arithmetic.

    Args:
        space: a space from `spaces.build`, or a chain from `spaces.describe`.
        counting: a key of COUNTING; with another than `macs`, the table's MACs are such counts.
    Raises:
        InputError: unknown counting.
    """
    import torch

    if counting not in COUNTING:
        raise InputError(unknown("counting", counting, COUNTING))
    chain = getattr(space, "chain", space)
    seen: dict[Any, Count] = {}  # a stage repeats its blocks

    def once(build: Callable[..., Any], values: list[Any], x: Any, title: str) -> Count:
        with user_code(f"{title} of space {chain.name}"):
            if isinstance(build, partial):
                key = (build.func, build.args, *sorted(build.keywords.items()), *values, x.shape)
                try:
                    if key not in seen:
                        seen[key] = count(build(*values), x, counting)
                    return seen[key]
                except TypeError as error:
                    if "unhashable" not in str(error):
                        raise
            return count(build(*values), x, counting)

    with torch.device("meta"):
        x = torch.empty(1, 3, chain.resolution, chain.resolution)
        stem = once(chain.stem, [], x, "the stem")
        x = stem.output
        blocks = []
        before: list[Any] = []  # what the block before is made of
        for block in chain.blocks:
            counted: list[Count] = []
            parts: list[Any] = [x.shape]
            identities = []
            outputs: dict[tuple[int, ...], str] = {}  # shape -> who makes it
            for arch in block.combinations():
                name = block.candidate(arch)
                title = ", ".join(f"{label} {value}" for label, value in arch.items())
                cost = once(block.candidates[name], [arch[label] for label in block.elastic], x, title)
                made, values = block.candidates[name], [arch[label] for label in block.elastic]
                if cost.macs == cost.params == 0 and isinstance(made(*values), torch.nn.Identity):
                    identities.append(len(counted))
                parts.append(((made.func, made.args, made.keywords) if isinstance(made, partial) else made, values))
                counted.append(cost)
                outputs.setdefault(tuple(cost.output.shape[1:]), title)
            if len(outputs) > 1:
                (one, first), (other, second), *_ = outputs.items()
                raise InputError(
                    f"space {chain.name}: {first} makes (C, H, W) = {one}, but {second} makes {other}; all candidates of a "
                    "block must give the same shape"
                )
            macs, params = (np.array([getattr(cost, name) for cost in counted]) for name in ("macs", "params"))
            twin = bool(identities) and parts == before
            blocks.append(BlockCosts(block.choices, macs, params, tuple(identities), twin))
            before = parts
            x = counted[0].output
        head = once(chain.head, [], x, "the head")
    if tuple(head.output.shape) != (1, chain.classes):
        made = tuple(head.output.shape[1:])
        raise InputError(
            f"space {chain.name}: the head makes {made} numbers per image; it must make {chain.classes}, one a class"
        )
    about = {key: getattr(chain, key) for key in ("name", "preset", "classes", "resolution")}
    about["options"] = dict(chain.options)
    if counting != "macs":
        about["counting"] = counting
    return CostTable(about, (stem.macs + head.macs, stem.params + head.params), blocks)
