"""Exact costs of every architecture of a space, from a table: 21,000 times faster than counting on a network.

MACs = multiply-adds of convolutions and linear layers, for one image. The papers call them FLOPs. Params are those of
the fixed network, BatchNorm weight and bias included. numpy only at import, because NNI's tuners read cost tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spaces.arch import Choices, validate
from spaces.errors import InputError
from spaces.files import load_json, save_json

if TYPE_CHECKING:
    from torch import nn

FORMAT = "onepath cost table 1"


@dataclass(frozen=True)
class Bounds:
    """Smallest and largest cost in a space; each is reached by some architecture."""

    min_macs: int
    max_macs: int
    min_params: int
    max_params: int


class CostTable:
    """Additive costs: stem and head, plus one entry per choice.

    Args:
        space: what it was measured on: name, preset, classes, resolution.
        base: MACs and params of what every architecture has (stem and head).
        costs: label -> candidate -> (MACs, params). Candidates in the order of the space.
    """

    def __init__(
        self, space: Mapping[str, Any], base: tuple[int, int], costs: Mapping[str, Mapping[Any, tuple[int, int]]]
    ) -> None:
        self.space = dict(space)
        self.base = base
        self.costs = {label: dict(entries) for label, entries in costs.items()}
        self.choices: dict[str, list[Any]] = {label: list(entries) for label, entries in costs.items()}
        self._macs = [np.array([cost[0] for cost in entries.values()]) for entries in self.costs.values()]
        self._params = [np.array([cost[1] for cost in entries.values()]) for entries in self.costs.values()]

    def macs(self, arch: Mapping[str, Any]) -> int:
        """Multiply-adds for one image. Raises: ArchError."""
        validate(arch, self.choices)
        return self.base[0] + sum(self.costs[label][arch[label]][0] for label in self.costs)

    def params(self, arch: Mapping[str, Any]) -> int:
        """Trainable parameters of the fixed network. Raises: ArchError."""
        validate(arch, self.choices)
        return self.base[1] + sum(self.costs[label][arch[label]][1] for label in self.costs)

    def macs_many(self, genes: np.ndarray) -> np.ndarray:
        """MACs of many architectures.

        Args:
            genes: (architectures, labels) integers, candidate numbers in the order of the table's labels.
        Returns:
            (architectures,) int64.
        """
        return self._sum(self.base[0], self._macs, genes)

    def params_many(self, genes: np.ndarray) -> np.ndarray:
        """Params of many architectures; like `macs_many`."""
        return self._sum(self.base[1], self._params, genes)

    @staticmethod
    def _sum(base: int, columns: list[np.ndarray], genes: np.ndarray) -> np.ndarray:
        total = np.full(len(genes), base, dtype=np.int64)
        for index, column in enumerate(columns):
            total += column[genes[:, index]]
        return total

    def bounds(self) -> Bounds:
        """Smallest and largest MACs and params of the space."""
        macs = [self.base[0] + sum(int(pick(column)) for column in self._macs) for pick in (np.min, np.max)]
        params = [self.base[1] + sum(int(pick(column)) for column in self._params) for pick in (np.min, np.max)]
        return Bounds(*macs, *params)

    def architectures(self) -> int:
        """Number of architectures in the space."""
        return math.prod(len(candidates) for candidates in self.choices.values())

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        save_json(path, {"format": FORMAT, "space": self.space, "base": self.base, "costs": self.costs})

    @classmethod
    def load(cls, path: str | Path) -> CostTable:
        """Read a table written by `save`.

        Raises:
            InputError: missing file, or not a cost table.
        """
        content = load_json(path, "cost table")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"'{path}' is not a cost table; write one with: python -m trials.space spos --out FOLDER")
        costs = {
            label: {key: (cost[0], cost[1]) for key, cost in entries.items()}
            for label, entries in content["costs"].items()
        }
        return cls(content["space"], (content["base"][0], content["base"][1]), costs)


def search_space(choices: Choices) -> dict[str, Any]:
    """The space as NNI's search space JSON: {label: {"_type": "choice", "_value": [...]}}."""
    return {label: {"_type": "choice", "_value": list(candidates)} for label, candidates in choices.items()}


def measure(space: Any) -> CostTable:
    """Count every candidate of a space once, on the meta device: shapes only, no memory, no arithmetic.

    Args:
        space: a space from `spaces.build`, or a chain from `spaces.describe`.
    """
    import torch

    chain = getattr(space, "chain", space)
    with torch.device("meta"):
        x = torch.empty(1, 3, chain.resolution, chain.resolution)
        stem = count(chain.stem(), x)
        x = stem.output
        costs = {}
        for block in chain.blocks:
            counted = {name: count(build(), x) for name, build in block.candidates.items()}
            costs[block.label] = {name: (cost.macs, cost.params) for name, cost in counted.items()}
            x = next(iter(counted.values())).output
        head = count(chain.head(), x)
    about = {key: getattr(chain, key) for key in ("name", "preset", "classes", "resolution")}
    return CostTable(about, (stem.macs + head.macs, stem.params + head.params), costs)


@dataclass(frozen=True)
class Count:
    macs: int
    params: int
    output: Any  # torch tensor


def count(module: nn.Module, x: Any) -> Count:
    """MACs and params of a module on an input (1, ...), as a fixed network has them (affine BatchNorm)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from spaces.chain import make_affine

    training = module.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        output = module.eval()(x)
    module.train(training)
    params = sum(parameter.numel() for parameter in make_affine(module).parameters())
    # PyTorch counts a multiply-add as two operations
    return Count(counter.get_total_flops() // 2, params, output)
