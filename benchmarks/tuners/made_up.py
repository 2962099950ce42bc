"""Landscapes of 20 and 40 labels: sums of single choices, pairs and triples, with costs and the exact best under a limit.

Larger candidates cost more and are better on average. Interactions reach from a label to the next two, so the best
architecture under a limit follows from a recursion over the labels, the last two choices and the MACs that are spent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.tuners.landscape import DRAWN, Landscape
from spaces.cost import CostTable

CANDIDATES = 4
SHARES = (0.6, 0.3, 0.1)  # of the variance over all architectures: single choices, pairs, triples
GAIN = 0.7  # correlation of a candidate's own effect with its cost
MACS = 9  # a candidate costs 1 to so many units
UNIT = 1_000_000  # MACs
LIMIT = 0.25  # the limit leaves about this share of the architectures


@dataclass(frozen=True)
class Effects:
    """Tables of effects; those of label n are with the choices of labels n - 2 and n - 1 before it.

    Args:
        single: (labels, K).
        near, far: (labels, K, K): of label n - 1 and n, of label n - 2 and n.
        triple: (labels, K, K, K): of labels n - 2, n - 1 and n.
    """

    single: np.ndarray
    near: np.ndarray
    far: np.ndarray
    triple: np.ndarray

    def step(self, label: int) -> np.ndarray:
        """What a label adds, (K, K, K) for the choices of the two labels before it and of its own."""
        return self.single[label] + self.near[label] + self.far[label][:, None] + self.triple[label]

    def __call__(self, genes: np.ndarray) -> np.ndarray:
        """Sums of effects, (architectures,), of genes (architectures, labels)."""
        before = np.concatenate([np.zeros((len(genes), 2), genes.dtype), genes], axis=1)
        labels = np.arange(genes.shape[1])
        last2, last, own = before[:, :-2], before[:, 1:-1], genes
        added = self.single[labels, own] + self.near[labels, last, own] + self.far[labels, last2, own]
        return np.asarray((added + self.triple[labels, last2, last, own]).sum(axis=1))


def made_up(labels: int, seed: int, limited: bool = True) -> Landscape:
    """A landscape with CANDIDATES candidates of each label; true scores have mean 0 and deviation 1 within the limit.

    Args:
        limited: whether MACs are limited, to what LIMIT of the architectures have.
    """
    generator = np.random.default_rng([labels, seed])
    size = CANDIDATES
    macs = np.sort(generator.integers(1, MACS + 1, (labels, size)), axis=1)
    effects = _effects(generator, macs)
    table = CostTable.additive(
        {
            f"label{label:02d}": {f"c{gene}": (int(cost) * UNIT,) * 2 for gene, cost in enumerate(costs)}
            for label, costs in enumerate(macs)
        }
    )
    spent = macs[np.arange(labels), generator.integers(size, size=(DRAWN, labels))].sum(axis=1)
    limit = int(np.quantile(spent, LIMIT)) * UNIT if limited else None
    best = _best(effects, macs)
    values = effects(Landscape("", table, effects, lambda most: 0, limit).drawn)
    mean, deviation = values.mean(), values.std()
    return Landscape(
        name=f"{labels} labels",
        table=table,
        truth=lambda genes: (effects(genes) - mean) / deviation,
        within=lambda most: float((best[: int(min(most / UNIT, len(best))) + 1].max() - mean) / deviation),
        max_macs=limit,
    )


def _effects(generator: np.random.Generator, macs: np.ndarray) -> Effects:
    """Draw effects; a label matters 0.3 to 1.7 times as much as another."""
    labels, size = macs.shape
    importance = generator.uniform(0.3, 1.7, labels)
    cost = (macs - macs.mean(axis=1, keepdims=True)) / macs.std()
    own = GAIN * cost + (1 - GAIN**2) ** 0.5 * generator.normal(size=macs.shape)
    shapes = ((labels, size, size), (labels, size, size), (labels, size, size, size))
    near, far, triple = (generator.normal(size=shape) for shape in shapes)
    near[0] = far[:2] = triple[:2] = 0  # the first labels have none before them
    single, pair, three = ((share / labels) ** 0.5 * importance for share in (SHARES[0], SHARES[1] / 2, SHARES[2]))
    return Effects(
        single[:, None] * own,
        pair[:, None, None] * near,
        pair[:, None, None] * far,
        three[:, None, None, None] * triple,
    )


def _best(effects: Effects, macs: np.ndarray) -> np.ndarray:
    """The largest sum of effects of all architectures for each number of units of MACs, -inf where there is none."""
    labels, size = macs.shape
    most = int(macs.max(axis=1).sum())
    # best[a, b, m]: of the labels so far, the last two of which chose a and b, with m units spent
    best = np.full((size, size, most + 1), -np.inf)
    best[0, 0, 0] = 0
    for label in range(labels):
        step, after = effects.step(label), np.full_like(best, -np.inf)
        for own, cost in enumerate(macs[label]):
            reached = (best + step[:, :, own, None]).max(axis=0)  # over the choice of two labels before
            after[:, own, cost:] = reached[:, : most + 1 - cost]
        best = after
    return np.asarray(best.max(axis=(0, 1)))
