"""What the tuners search: architectures whose true scores are all known, and the best of them within a limit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spaces.cost import CostTable
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits

DRAWN = 2000  # architectures within the limit, of which spread and rank correlation are taken


@dataclass(frozen=True)
class Landscape:
    """A space in which every architecture has a known true score.

    Args:
        name: as the tables of results show it.
        table: costs; each block has one label, so that combination indices are the genes.
        truth: genes (architectures, labels) -> true scores (architectures,).
        within: MACs -> highest true score of all architectures of at most so many.
        max_macs: the limit of the search; None: there is none.
    """

    name: str
    table: CostTable
    truth: Callable[[np.ndarray], np.ndarray]
    within: Callable[[float], float]
    max_macs: int | None

    @cached_property
    def best(self) -> float:
        """Highest true score within the limit of the search."""
        return self.within(math.inf if self.max_macs is None else self.max_macs)

    @cached_property
    def feasible(self) -> FeasibleSpace:
        """The architectures within the limit."""
        return FeasibleSpace(self.table, Limits(max_macs=self.max_macs))

    @cached_property
    def drawn(self) -> np.ndarray:
        """Genes of DRAWN random architectures within the limit, canonical, (DRAWN, labels)."""
        return self.table.canonical_many(self.feasible.sample_many(DRAWN, np.random.default_rng(0)))
