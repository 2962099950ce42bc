"""Where the points of a frontier lie: at even steps of cost from the cheapest architecture to the winner, and what is found there.

A search under a limit looks near its limit, so that the cheap half of a space is hardly scored. The points are those of the space
instead: its cheapest architecture, the winner, and between them, around each step, the best of what the search has scored there and of
random architectures that are scored beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spaces.arch import Arch, arch_id
from spaces.errors import InputError, Stopped
from strategies.feasible import FeasibleSpace
from trials.choosing.band import Band, random_archs
from trials.choosing.cheapest import cheapest_arch
from trials.choosing.searched import Searched, read_searched
from trials.common import run_files
from trials.common.supernet_run import SupernetRun
from trials.evidence.trade import search_name
from trials.scoring import noise
from trials.scoring.run_scores import score_archs, stored_scores
from trials.scoring.score_store import score_path
from trials.scoring.score_value import score_value, searched_by
from trials.search_driver.ranking import rank
from trials.training.frontier_options import require_search

AT_A_STEP = 24  # architectures that are scored around a step, those of the search among them
REACH = 0.25  # of a step: how far from it an architecture may cost
WINNER = "winner"  # the last place
SEED = 29  # of the draws; those of candidates and certificates are others


@dataclass(frozen=True)
class Place:
    """A point of the frontier before it is known which architecture stands there.

    Attributes:
        name: "cheapest", "step 1 of 3" or "winner".
        archs: what comes into question; one for the cheapest and the winner.
        searched: how many of them the search itself has scored.
        cost: in the unit of `Band`, what the point is meant to cost.
    """

    name: str
    archs: list[Arch]
    searched: int
    cost: float


@dataclass(frozen=True)
class Chosen:
    """The architecture of a place.

    Attributes:
        place: its name.
        score: the record of its score on the supernet; None where it has none.
        among: how many scored architectures it is the best of.
        found: whether the search itself has scored it.
    """

    place: str
    arch: Arch
    score: dict[str, Any] | None
    among: int
    found: bool


@dataclass(frozen=True)
class Road:
    """All places between the cheapest architecture and the winner.

    Attributes:
        cost: "macs" or "latency_ms" (by the search's table), which the places are even in.
        scored: how many architectures the search has scored, from the cost `low` to `high`.
        search: the name of the search.
        missing: names of steps at which no architecture costs as much.
    """

    run: SupernetRun
    searched: Searched
    places: list[Place]
    cost: str
    scored: int
    low: float
    high: float
    search: str
    missing: list[str]

    def waiting(self) -> dict[str, Arch]:
        """What comes into question and has no score yet: id -> architecture."""
        if not self.run.trained:
            return {}
        archs = [arch for place in self.places for arch in place.archs]
        stored = stored_scores(self.run, archs)
        return {name: arch for arch in archs if (name := arch_id(arch)) not in stored}

    def amount(self, value: float) -> str:
        """A cost with its unit."""
        return f"{value:,.0f} MACs" if self.cost == "macs" else f"{value:.3g} ms by the table"

    def note(self) -> str:
        """How far the search's own results reach, in one line."""
        drawn = [place for place in self.places if place.name.startswith("step") and not place.searched]
        reached = (
            f"the search scored {self.scored:,} architectures of {self.amount(self.low)} to {self.amount(self.high)}"
        )
        least = self.places[0].cost
        if not drawn:
            return f"{reached}; the cheapest that its limits allow has {self.amount(least)}"
        several = len(drawn) > 1
        return (
            f"{reached}, none near {' and '.join(place.name for place in drawn)}: {'these are' if several else 'that is'} the best of random "
            "architectures, and a search of every cost may find better ones"
        )


def find_places(run: SupernetRun, count: int) -> Road:
    """The places of `count` points, and what comes into question at each; the same ones for the same search.

    Raises:
        InputError: as `require_search`, the winner is the cheapest architecture itself, or its latency table is gone.
    """
    path = run.path
    summary = require_search(run, count)
    searched = read_searched(run)
    timed = searched.latency is not None and all("latency_ms" in entry for entry in summary["history"])
    cost = "latency_ms" if timed else "macs"

    def cost_of(arch: Arch) -> float:
        return float((searched.latency_ms(arch) if timed else None) or run.table.macs(arch))

    allowed = FeasibleSpace(run.table, searched.limits, searched.latency)
    read = (run_files.read_score(score_path(path, entry["id"])) for entry in summary["history"])
    archs = [dict(record["arch"]) for record in read if record and allowed.allows(record["arch"])]
    stored = stored_scores(run, archs) if run.trained else {}
    winner, cheapest = searched.winner, cheapest_arch(searched, cost)
    low, high = cost_of(cheapest), cost_of(winner)
    if not low < high:
        raise InputError(
            f"--frontier {count}: the winner of '{path}', {arch_id(winner)}, is as cheap as the cheapest architecture, so there is nothing "
            "to choose; search under a higher limit, or retrain it with --fixed-arc"
        )
    step = (high - low) / (count - 1)
    places, missing = [Place("cheapest", [cheapest], 0, low)], []
    for number in range(1, count - 1):
        middle, name = low + number * step, f"step {number} of {count - 2}"
        band = Band(cost, middle - REACH * step, middle + REACH * step)
        own = [arch for arch in archs if band.low <= cost_of(arch) <= band.high and arch_id(arch) in stored]
        drawn = random_archs(searched, band, max(0, AT_A_STEP - len(own)), known=own, seed=SEED)
        if own or drawn:
            places.append(Place(name, [*own, *drawn], len(own), middle))
        else:
            missing.append(name)
    places.append(Place(WINNER, [winner], 1, high))
    costs = [cost_of(arch) for arch in archs] or [high]
    return Road(run, searched, places, cost, len(archs), min(costs), max(costs), search_name(summary), missing)


def choose(road: Road, device: str, *, score: bool = True) -> list[Chosen | Place]:
    """The architecture of each place, the cheapest first; what has no score yet is scored, and its score is kept.

    Args:
        device: auto, cpu or cuda.
        score: off: nothing is scored, and a place that waits for scores stays a `Place`.
    Raises:
        Stopped: nothing at a place could be scored.
    """
    waiting = road.waiting()
    if waiting and score:
        print(f"scoring {len(waiting)} architectures from the cheapest to the winner on the supernet")
        score_archs(road.run, {f"architecture {name}": arch for name, arch in waiting.items()}, device)
        waiting = {}
    found: list[Chosen | Place] = []
    for place in road.places:
        records = stored_scores(road.run, place.archs) if road.run.trained else {}
        if len(place.archs) > 1 and any(arch_id(arch) in waiting for arch in place.archs):
            found.append(place)
        else:
            found.append(_best(road, place, records))
    return found


def _best(road: Road, place: Place, records: Mapping[str, dict[str, Any]]) -> Chosen:
    """The architecture of a place that a search would call its winner."""
    if len(place.archs) == 1:
        arch = place.archs[0]
        return Chosen(place.name, arch, records.get(arch_id(arch)), 1, place.searched > 0)
    results: Sequence[dict[str, Any]] = [records[name] for arch in place.archs if (name := arch_id(arch)) in records]
    if not results:
        raise Stopped(f"none of the {len(place.archs)} architectures at {place.name} of the frontier could be scored")
    score_by = searched_by(road.run.path)
    values = [score_value(result, score_by) for result in results]
    feasible = FeasibleSpace(road.run.table, road.searched.limits, road.searched.latency)
    best = rank(feasible, results, values, noise.like_the_best(results, road.run.path, score_by))[0]
    of_search = {arch_id(arch) for arch in place.archs[: place.searched]}
    return Chosen(place.name, dict(best["arch"]), best, len(results), arch_id(best["arch"]) in of_search)
