"""Which networks stand beside the winner of a run: random architectures of the same cost, and the cheapest one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np

from spaces.arch import Arch, arch_id
from spaces.errors import InputError
from spaces.latency import NANOSECONDS_PER_MS
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from trials.certifying.searched import Searched
from trials.common import run_files

DRAW_SEED = 17  # of the sequence of random architectures: more of them begin with those that are trained already
BELOW_LIMIT = 0.10  # width of the band below a limit, as a part of it
AROUND_WINNER = 0.05  # half the width of the band around a winner that lies further below its limit, or has none
FIRST_BATCH, LARGEST_BATCH = 64, 8192  # proposals that are drawn at once; each batch is twice the one before
PATIENCE = 200_000  # proposals without a new architecture, after which the band holds no more
CHEAPEST_DRAWS = 100_000  # where several limits leave the cheapest unknown, it is the cheapest of so many


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


@dataclass(frozen=True)
class Network:
    """An architecture that is trained for the certificate.

    Attributes:
        role: "winner", "cheapest" or "random".
        folder: its retraining, relative to the run.
        latency_ms: by the latency table; None without one.
    """

    role: str
    arch: Arch
    macs: int
    params: int
    latency_ms: float | None
    folder: str

    @property
    def id(self) -> str:
        """The id of the architecture."""
        return arch_id(self.arch)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return "winner" if self.role == "winner" else f"{self.role} {self.id}"


@dataclass(frozen=True)
class Networks:
    """The networks of a certificate.

    Attributes:
        cheapest: the winner itself, where that is the cheapest architecture.
        wanted: random architectures that were asked for; the band may hold fewer.
    """

    winner: Network
    cheapest: Network
    randoms: list[Network]
    band: Band
    wanted: int

    @property
    def all(self) -> list[Network]:
        """Each network once: the winner, the cheapest, the random ones."""
        return list({network.folder: network for network in (self.winner, self.cheapest, *self.randoms)}.values())


def choose_networks(searched: Searched, number: int) -> Networks:
    """Choose the networks of a certificate.

    Args:
        number: random architectures; a larger number gives the same ones and more.
    Raises:
        InputError: the band holds no architecture beside the winner and the cheapest.
    """
    canonical, band = searched.table.canonical, winners_band(searched)
    cheapest = cheapest_arch(searched, band.cost)
    if canonical(cheapest) == canonical(searched.winner):
        cheapest = searched.winner
    randoms = random_archs(searched, band, number, known=[searched.winner, cheapest])
    if not randoms:
        raise InputError(
            f"no other architecture within {searched.limits} has {band}, as the winner of '{searched.run.path}' has, so there is "
            "nothing to compare it with; search again with a wider limit"
        )

    def network(role: str, arch: Arch) -> Network:
        folder = winners_folder(searched) if arch == searched.winner else f"controls/{arch_id(arch)}"
        costs = searched.table.macs(arch), searched.table.params(arch), searched.latency_ms(arch)
        return Network(role, arch, *costs, folder)

    return Networks(
        network("winner", searched.winner),
        network("cheapest", cheapest),
        [network("random", arch) for arch in randoms],
        band,
        number,
    )


def winners_folder(searched: Searched) -> str:
    """Where the winner is retrained, relative to the run: retrain/, unless that is of the winner of an earlier search."""
    stored = searched.run.path / "retrain" / "arc.json"
    if stored.exists() and run_files.read(stored, "fixed arc") != searched.winner:
        return f"retrain-{arch_id(searched.winner)}"
    return "retrain"


def winners_band(searched: Searched) -> Band:
    """The winner's own band of cost: below the limit, where the winner is near it, else around the winner.

    Latency where the search was limited by it, else MACs.
    """
    limits = searched.limits
    ms = searched.latency_ms(searched.winner)
    if limits.max_latency_ms is not None and ms is not None:
        return _band("latency_ms", ms, limits.max_latency_ms)
    return _band("macs", searched.table.macs(searched.winner), limits.max_macs)


def _band(cost: str, of_winner: float, limit: float | None) -> Band:
    if limit is not None and of_winner >= (1 - BELOW_LIMIT) * limit:
        return Band(cost, (1 - BELOW_LIMIT) * limit, limit)
    return Band(cost, (1 - AROUND_WINNER) * of_winner, (1 + AROUND_WINNER) * of_winner)  # that is below the limit


def random_archs(searched: Searched, band: Band, number: int, *, known: list[Arch]) -> list[Arch]:
    """Draw architectures of a band uniformly, each another network than the others and than those that are known.

    Returns:
        At most `number`, fewer where the band holds fewer; always the same sequence.
    """
    table = searched.table
    taken = {_key(table.canonical_many(np.array([table.combinations(arch)]))[0]) for arch in known}
    found: list[Arch] = []
    fruitless = 0
    for proposals, combinations in _proposals(searched, band):
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


def _proposals(searched: Searched, band: Band) -> Iterator[tuple[int, np.ndarray]]:
    """Batches of architectures in the band and within all limits.

    Yields:
        Number of proposals; those that are allowed, as combination indices (at most so many, blocks).
    """
    within = FeasibleSpace(searched.table, searched.limits, searched.latency)
    if band.cost == "macs":
        bounds = dataclasses.replace(
            searched.limits,
            min_macs=max(int(np.ceil(band.low)), searched.limits.min_macs or 0),
            max_macs=int(band.high),
        )
        source = FeasibleSpace(searched.table, bounds, searched.latency)
    else:
        # the latencies as a cost table, so that the band is sampled, not hit by chance
        assert searched.latency is not None
        low, high = (round(ms * NANOSECONDS_PER_MS) for ms in (band.low, band.high))
        source = FeasibleSpace(searched.latency.costs, Limits(min_macs=low, max_macs=high))
    generator, size = np.random.default_rng(DRAW_SEED), FIRST_BATCH
    while True:
        drawn = source.sample_many(size, generator)
        yield size, drawn[within.satisfied_by(drawn)]
        size = min(2 * size, LARGEST_BATCH)


def cheapest_arch(searched: Searched, cost: str) -> Arch:
    """The architecture of least cost within the limits; of several, the one with the least parameters.

    A lower limit, or one of another cost, can exclude it. Then it is the architecture of the least MACs that the limits allow,
    or, where these are not known, the cheapest of CHEAPEST_DRAWS.

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
        return FeasibleSpace(table, dataclasses.replace(limits, max_macs=reachable[0])).sample(Random(DRAW_SEED))
    drawn = within.sample_many(CHEAPEST_DRAWS, np.random.default_rng(DRAW_SEED))
    if not len(drawn):
        return searched.winner
    costs = within.costs(drawn)
    return table.arch(drawn[np.lexsort((costs[1], costs[2 if cost == "latency_ms" else 0]))[0]])
