"""Which networks stand beside the winner of a run: random architectures of the same cost, and the cheapest one."""

from __future__ import annotations

from dataclasses import dataclass

from spaces.arch import Arch, arch_id
from spaces.errors import InputError
from trials.choosing.band import Band, band_of, random_archs
from trials.choosing.candidates import candidates_of
from trials.choosing.cheapest import cheapest_arch
from trials.choosing.searched import Searched
from trials.common import places

DRAW_SEED = 17  # of the sequence of random architectures: more of them begin with those that are trained already


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
        InputError: the band holds no architecture beside the winner, the cheapest and those that the winner was chosen among.
    """
    canonical, band = searched.table.canonical, band_of(searched, searched.winner)
    cheapest = cheapest_arch(searched, band.cost)
    if canonical(cheapest) == canonical(searched.winner):
        cheapest = searched.winner
    tried = candidates_of(searched.run.path)
    randoms = random_archs(searched, band, number, known=[searched.winner, cheapest, *tried], seed=DRAW_SEED)
    if not randoms:
        raise InputError(
            f"no other architecture within {searched.limits} has {band}, as the winner of '{searched.run.path}' has"
            f"{f', beside the {len(tried)} that it was chosen among' if tried else ''}, so there is nothing to compare it with; "
            "search again with a wider limit"
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
    return places.winners_folder(searched.run.path, searched.winner).name
