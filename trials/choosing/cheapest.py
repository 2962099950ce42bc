"""The architecture of least cost within the limits of a search: the anchor of a certificate and of a frontier."""

from __future__ import annotations

import dataclasses
from random import Random

import numpy as np

from spaces.arch import Arch
from strategies.feasible import FeasibleSpace
from trials.choosing.searched import Searched

SEED = 17  # of the draws
DRAWS = 100_000  # where several limits leave the cheapest unknown, it is the cheapest of so many


def cheapest_arch(searched: Searched, cost: str) -> Arch:
    """The architecture of least cost within the limits; of several, the one with the least parameters.

    A lower limit, or one of another cost, can exclude it. Then it is the architecture of the least MACs that the limits allow,
    or, where these are not known, the cheapest of DRAWS.

    Args:
        cost: as for `Band`.
    """
    table, limits = searched.table, searched.limits
    within = FeasibleSpace(table, limits, searched.latency)
    blocks = searched.latency.costs.blocks if cost == "latency_ms" and searched.latency else table.blocks
    least = [np.lexsort((own.params, block.macs))[0] for own, block in zip(table.blocks, blocks, strict=True)]
    arch = table.arch(least)
    if within.allows(arch):
        return arch
    reachable = within.macs_range()
    if reachable:
        return FeasibleSpace(table, dataclasses.replace(limits, max_macs=reachable[0])).sample(Random(SEED))
    drawn = within.sample_many(DRAWS, np.random.default_rng(SEED))
    if not len(drawn):
        return searched.winner
    costs = within.costs(drawn)
    return table.arch(drawn[np.lexsort((costs[1], costs[2 if cost == "latency_ms" else 0]))[0]])
