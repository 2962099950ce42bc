"""Random architectures that lie where learned ones do: as many MACs, as early in the network, and all else by chance.

What gumbel learns under a limit spends its MACs earlier than random architectures do, in some spaces earlier than any of thirty. Networks
of this shape whose candidates are drawn say whether the shape is all that it has found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import fsolve
from scipy.special import softmax

from spaces.arch import Arch, arch_id
from spaces.cost import CostTable

SEED = 18  # of the drawing
WITHIN = 0.4  # blocks by which the centre of an architecture that is drawn may differ
Costs = Sequence[NDArray[np.float64]]  # MACs of the variants of each block


def centre(costs: NDArray[np.float64]) -> float:
    """Where the MACs of a network lie: the mean index of its choice blocks, weighted by their MACs.

    Args:
        costs: MACs of the blocks, (blocks,).
    """
    return float((costs * np.arange(len(costs))).sum() / costs.sum())


def centre_of(table: CostTable, arch: Arch) -> float:
    """`centre` of an architecture."""
    return centre(
        np.array([block.macs[index] for block, index in zip(table.blocks, table.combinations(arch), strict=True)])
    )


def shaped_archs(table: CostTable, least: float, most: float, wanted: float, number: int) -> list[Arch]:
    """Random architectures of a band of cost whose centre is about that which is wanted; always the same sequence.

    Each block draws by itself, with the probabilities of largest entropy among those with these mean MACs and this centre; what lies outside
    the band, or more than WITHIN from the centre, is drawn again.

    Args:
        least, most: the band, MACs.
        wanted: the centre, in blocks from 0.
    """
    costs = [block.macs.astype(float) for block in table.blocks]
    base, middle = float(table.base[0]), (least + most) / 2

    def misses(tilt: NDArray[np.float64]) -> list[float]:
        means = np.array([(p * cost).sum() for p, cost in zip(_tilted(costs, tilt, most), costs, strict=True)])
        return [(base + means.sum()) / middle - 1, centre(means) - wanted]

    probabilities = _tilted(costs, fsolve(misses, np.zeros(2)), most)
    generator = np.random.default_rng(SEED)
    found: dict[str, Arch] = {}
    while len(found) < number:
        drawn = [int(generator.choice(len(p), p=p)) for p in probabilities]
        own = np.array([cost[index] for cost, index in zip(costs, drawn, strict=True)])
        if least <= base + own.sum() <= most and abs(centre(own) - wanted) <= WITHIN:
            arch = table.arch(drawn)
            found.setdefault(arch_id(table.canonical(arch)), arch)
    return list(found.values())


def _tilted(costs: Costs, tilt: NDArray[np.float64], scale: float) -> list[NDArray[np.float64]]:
    """The probabilities of each block's variants, whose logarithm is linear in their MACs, with a slope that is linear in the block's place.

    Args:
        tilt: slope in the middle, and how much it rises from the first block to the last, (2,).
        scale: MACs of a network, which make the slopes numbers near 1.
    """
    slopes = tilt[0] + tilt[1] * (np.arange(len(costs)) / len(costs) - 0.5)
    return [softmax(slope * len(costs) * cost / scale) for slope, cost in zip(slopes, costs, strict=True)]
