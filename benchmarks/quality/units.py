"""The units of the measurement: single trainings, each of which leaves one small JSON file and is never done twice.

PAIR/networks/ID-seedK.json       a network trained from scratch and tested, with one seed
PAIR/supernets/NAME-seedK.json    a supernet: the scores of all random architectures, and the winners of its searches
PAIR/learned/NAME-seedK.json      an architecture that a differentiable strategy has learned
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.pairs import BASELINE_RATES, Pair
from spaces.arch import Arch, arch_id
from spaces.errors import InputError
from spaces.files import load_json
from trials.common import locks
from trials.networks.baselines import baseline_folder

# Name -> options of trials.supernet; LIMIT stands for the pair's limit. The first is the one that others are compared with.
SUPERNETS = {
    "uniform": "--strategy uniform --warm-start 0.3",
    "cold": "--strategy uniform --warm-start 0",
    "window": "--strategy window --max-macs LIMIT --warm-start 0.3",
    "strict-fair": "--strategy strict-fair --warm-start 0.3",  # as many images go through the network as in uniform
    "uniform-short": "--strategy uniform --warm-start 0.3",  # as many weight updates as in strict-fair
    "uniform-long": "--strategy uniform --warm-start 0.3",
    "window-long": "--strategy window --max-macs LIMIT --warm-start 0.3",
    "window-open": "--strategy window --max-macs LIMIT --op-warmup 0.3",
    "window-three": "--strategy window --max-macs LIMIT --warm-start 0.3 --supernets 3",
    "window-thirds": "--strategy window --max-macs LIMIT --warm-start 0.3 --supernets 3",  # as much training as of one supernet
}
SHORT = ("strict-fair", "uniform-short")  # get as many epochs less as a step of strict fairness has paths
LONG = {"uniform-long": 4, "window-long": 4, "window-thirds": 1 / 3}  # times as many epochs
_COLD = "--max-macs LIMIT --warm-start 0 --arch-warmup 0"
_LEARN = "--max-macs LIMIT --warm-start 0.3 --arch-warmup 0"
LEARNERS = {
    "softmax": f"--strategy softmax {_LEARN}",
    "softmax-cold": f"--strategy softmax {_COLD}",
    "gumbel": f"--strategy gumbel {_LEARN}",
    "gumbel-cold": f"--strategy gumbel {_COLD}",
    "gates": f"--strategy gates {_LEARN}",
    "gates-open": "--strategy gates --max-macs LIMIT --op-warmup 0.3 --arch-warmup 0",
    "gates-wide": "--strategy gates --max-macs LIMIT --op-warmup 0.6 --arch-warmup 0",
    "threshold": f"--strategy threshold {_LEARN}",  # of superkernels: single-path-nas alone
}
KINDS = ("networks", "supernets", "learned")
LOCK = "measurement"  # of a unit, so that several processes can add to the same results
# tuner -> its class, and its arguments beside those of every tuner
TUNERS: dict[str, tuple[str, dict[str, int]]] = {
    "evolution": (
        "strategies.evolution.EvolutionTuner",
        {"population": 20, "top_k": 5, "mutation": 10, "crossover": 5},
    ),
    "guided": ("strategies.model_guided.ModelGuidedTuner", {}),
}


@dataclass(frozen=True)
class Plan:
    """How much is measured of each pair.

    Attributes:
        pool: random architectures.
        shaped: random architectures that have the shape of what gumbel learned; one seed each.
        seeds: of everything: networks, supernets, learned architectures.
        evaluations: architectures that a search scores.
        supernets, learners: names of the variants.
    """

    pool: int = 30
    shaped: int = 6
    seeds: int = 3
    evaluations: int = 100
    supernets: tuple[str, ...] = tuple(SUPERNETS)
    learners: tuple[str, ...] = tuple(LEARNERS)


@dataclass(frozen=True)
class Unit:
    """One training.

    Attributes:
        kind: networks, supernets or learned.
        name: of the file: the id of an architecture, the name of a baseline or of a variant.
        arch: of a network; None for a baseline, and for the other kinds.
        baseline: a model of timm, such as timm:mobilenetv2_035.
        lr: the learning rate of a baseline, where it is not that of the pair.
    """

    pair: Pair
    kind: str
    name: str
    seed: int
    arch: Arch | None = None
    baseline: str = ""
    lr: float | None = None

    @property
    def training(self) -> dict[str, object]:
        """What the unit says about its images and training, see `Pair.training`."""
        return self.pair.training(self.kind) | ({} if self.lr is None else {"lr": self.lr})

    @property
    def path(self) -> Path:
        """Its file, relative to the folder of results."""
        return Path(self.pair.name) / self.kind / f"{self.name}-seed{self.seed}.json"

    def run(self, work: Path) -> Path:
        """The folder of its run.

        Args:
            work: the folder of all runs.
        """
        return work / self.path.with_suffix("")

    def is_measured_elsewhere(self, work: Path) -> bool:
        """Whether another process measures it at the moment."""
        return locks.is_held(self.run(work) / f".{LOCK}.lock")

    def __str__(self) -> str:
        return (
            f"{self.pair.name} {self.kind[:-1] if self.kind.endswith('s') else self.kind} {self.name}, seed {self.seed}"
        )


def result_of(unit: Unit, results: Path) -> dict[str, Any] | None:
    """The result of a unit; None where it was not measured yet.

    Raises:
        InputError: it was measured with other images or trainings than the pair has now.
    """
    path = results / unit.path
    if not path.exists():
        return None
    result: dict[str, Any] = load_json(path, "result")
    if result["training"] != unit.training:
        raise InputError(
            f"'{path}' is of {result['training']}, and the pair is now of {unit.training}; move it away to measure anew"
        )
    return result


def networks(pair: Pair, archs: Sequence[Arch], seed: int) -> Iterator[Unit]:
    """The trainings of architectures with one seed."""
    for arch in archs:
        yield Unit(pair, "networks", arch_id(arch), seed, arch)


def baseline_units(pair: Pair, text: str, seed: int) -> Iterator[Unit]:
    """The trainings of a baseline with one seed: with the rate of the pair, and with smaller ones, of which it gets the best."""
    yield Unit(pair, "networks", baseline_folder(text), seed, baseline=text)
    for lr in BASELINE_RATES:
        if lr != pair.lr:
            yield Unit(pair, "networks", f"{baseline_folder(text)}-lr{lr}", seed, baseline=text, lr=lr)


def all_units(pair: Pair, plan: Plan, results: Path) -> Iterator[Unit]:
    """All units of a pair, as far as they can be known: winners are known when their searches are done.

    The order is one in which an interrupted measurement is useful: seed by seed, random architectures first.
    """
    randoms, extremes = pair.random_archs(plan.pool), list(pair.extremes().values())
    for seed in range(plan.seeds):
        yield from networks(pair, randoms, seed)
        yield from searches(pair, plan, seed)
        yield from networks(pair, winners(pair, plan, results), seed)
        yield from networks(pair, extremes, seed)
        for text in pair.baselines:
            yield from baseline_units(pair, text, seed)
        if not seed:
            yield from networks(pair, pair.shaped_archs(plan.shaped), seed)
    for seed in range(plan.seeds):  # of the winners that came up in between
        yield from networks(pair, winners(pair, plan, results), seed)


def searches(pair: Pair, plan: Plan, seed: int) -> Iterator[Unit]:
    """The supernets and the differentiable strategies with one seed."""
    for name in plan.supernets:
        yield Unit(pair, "supernets", name, seed)
    for name in plan.learners:
        if name != "threshold" or pair.space == "single-path-nas":
            yield Unit(pair, "learned", name, seed)


def winners(pair: Pair, plan: Plan, results: Path) -> list[Arch]:
    """The architectures that searches and differentiable strategies have found so far, each once."""
    found: dict[str, Arch] = {}
    for seed in range(plan.seeds):
        for unit in searches(pair, plan, seed):
            result = result_of(unit, results)
            for arch in found_by(result).values() if result else ():
                found.setdefault(arch_id(arch), arch)
    return list(found.values())


def found_by(result: Mapping[str, Any]) -> dict[str, Arch]:
    """What a supernet's searches, or a differentiable strategy, have found: tuner, or "learned" -> architecture."""
    if "searches" in result:
        return {tuner: search["arch"] for tuner, search in result["searches"].items()}
    return {"learned": result["arch"]}


def missing(pairs: Sequence[Pair], plan: Plan, results: Path) -> list[Unit]:
    """The units that have no result yet, in the order in which they are to be measured, each once."""
    waiting = {
        unit.path: unit for pair in pairs for unit in all_units(pair, plan, results) if result_of(unit, results) is None
    }
    return list(waiting.values())
