"""The band of cost of a winner, and random architectures out of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from spaces.arch import Arch
from spaces.errors import InputError
from spaces.latency import NANOSECONDS_PER_MS
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from trials.choosing.searched import Within

BELOW_LIMIT = 0.10  # width of the band below a limit, as a part of it
AROUND_WINNER = 0.05  # half the width of the band around a winner that lies further below its limit, or has none
FIRST_BATCH, LARGEST_BATCH = 64, 8192  # proposals that are drawn at once; each batch is twice the one before
PATIENCE = 200_000  # proposals without a new architecture, after which the band holds no more


@dataclass(frozen=True)
class Band:
    """The costs that random architectures are drawn from, bounds included.

    Attributes:
        cost: "macs" or "latency_ms".
    """

    cost: str
    low: float
    high: float

    def __str__(self) -> str:
        if self.cost == "macs":
            return f"{self.low:,.0f} to {self.high:,.0f} MACs"
        return f"{self.low:.4g} to {self.high:.4g} ms"


def band_of(within: Within, winner: Arch | None) -> Band:
    """A winner's own band of cost: below the limit, where the winner is near it, else around the winner.

    Latency where the search was limited by it, else MACs.

    Args:
        winner: None where nothing is found yet; then the band is that below the limit.
    Raises:
        InputError: there is neither a winner nor a limit from above.
    """
    limits = within.limits
    ms = within.latency_ms(winner) if winner else limits.max_latency_ms
    if limits.max_latency_ms is not None and ms is not None:
        return _band("latency_ms", ms, limits.max_latency_ms)
    macs = within.table.macs(winner) if winner else limits.max_macs
    if macs is None:
        raise InputError(
            f"'{within.run.path}' has neither a winner nor a limit, so there is no band of cost to draw from; give trials.supernet "
            "--max-macs, such as --max-macs 3M, or search first"
        )
    return _band("macs", macs, limits.max_macs)


def _band(cost: str, of_winner: float, limit: float | None) -> Band:
    if limit is not None and of_winner >= (1 - BELOW_LIMIT) * limit:
        return Band(cost, (1 - BELOW_LIMIT) * limit, limit)
    return Band(cost, (1 - AROUND_WINNER) * of_winner, (1 + AROUND_WINNER) * of_winner)  # that is below the limit


def random_archs(within: Within, band: Band, number: int, *, known: Sequence[Arch], seed: int) -> list[Arch]:
    """Draw architectures of a band uniformly, each another network than the others and than those that are known.

    Args:
        seed: of the sequence of draws.
    Returns:
        At most `number`, fewer where the band holds fewer; always the same sequence.
    """
    table = within.table
    taken = {_key(table.canonical_many(np.array([table.combinations(arch)]))[0]) for arch in known}
    found: list[Arch] = []
    fruitless = 0
    for proposals, combinations in _proposals(within, band, seed):
        before = len(found)
        for drawn, canonical in zip(combinations, table.canonical_many(combinations), strict=True):
            if len(found) < number and (key := _key(canonical)) not in taken:
                taken.add(key)
                found.append(table.arch(drawn))
        fruitless = 0 if len(found) > before else fruitless + proposals
        if len(found) == number or fruitless >= PATIENCE:
            break
    return found


def _key(combinations: np.ndarray) -> bytes:
    return combinations.astype(np.int64).tobytes()


def _proposals(within: Within, band: Band, seed: int) -> Iterator[tuple[int, np.ndarray]]:
    """Batches of architectures in the band and within all limits.

    Yields:
        Number of proposals; those that are allowed, as combination indices (at most so many, blocks).
    """
    allowed = FeasibleSpace(within.table, within.limits, within.latency)
    if band.cost == "macs":
        bounds = dataclasses.replace(
            within.limits,
            min_macs=max(int(np.ceil(band.low)), within.limits.min_macs or 0),
            max_macs=int(band.high),
        )
        source = FeasibleSpace(within.table, bounds, within.latency)
    else:
        # the latencies as a cost table, so that the band is sampled, not hit by chance
        assert within.latency is not None
        low, high = (round(ms * NANOSECONDS_PER_MS) for ms in (band.low, band.high))
        source = FeasibleSpace(within.latency.costs, Limits(min_macs=low, max_macs=high))
    generator, size = np.random.default_rng(seed), FIRST_BATCH
    while True:
        drawn = source.sample_many(size, generator)
        yield size, drawn[allowed.satisfied_by(drawn)]
        size = min(2 * size, LARGEST_BATCH)
