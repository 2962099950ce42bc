"""The tables of the measurement, from the files of its units."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.evidence import accuracies, against_random, foretold, picked, spread
from benchmarks.quality.pairs import Pair
from benchmarks.quality.shapes import centre_of
from benchmarks.quality.units import Plan, Unit, all_units, baseline_units, found_by, result_of
from spaces.arch import arch_id
from trials.common import cli
from trials.scoring import noise

SIGNS = {"top1": 1, "loss": -1}  # of the scores that a supernet gives: with which sign a larger one is better


class Measured:
    """The results of a pair that there are.

    Attributes:
        networks: name -> test accuracies, percent, one for each of `seeds`, or fewer.
        repeated: those of the random architectures that were trained with most seeds, (architectures, seeds).
        right: name -> which test images the network of the first seed answers rightly, (images,).
        macs: name of a network -> MACs for one image.
        searches: (kind, variant) -> results, one for each seed.
        seeds: with which at least half of the random architectures were trained that were trained at all.
        randoms: names of the random architectures that were trained with these seeds.
    """

    def __init__(self, pair: Pair, plan: Plan, results: Path) -> None:
        self.pair, self.plan = pair, plan
        units = {unit.path: unit for unit in all_units(pair, plan, results)}.values()
        self.found: list[tuple[Unit, dict[str, Any]]] = [
            (unit, result) for unit in units if (result := result_of(unit, results)) is not None
        ]
        self.missing = len(units) - len(self.found)
        trained = [result for unit, result in self.found if unit.kind == "networks" and "diverged" not in result]
        self.networks = accuracies(trained)
        self.right = {result["name"]: _answers(result) for result in trained if result["seed"] == 0}
        self.macs = {result["name"]: result["macs"] for result in trained}
        self.searches: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for unit, result in self.found:
            if unit.kind != "networks":
                self.searches.setdefault((unit.kind, unit.name), []).append(result)
        pool = [arch_id(arch) for arch in pair.random_archs(plan.pool)]
        trainings = sorted(len(self.networks[name]) for name in pool if name in self.networks) or [0]
        most = trainings[-1]
        self.repeated = np.array([self.networks[name] for name in pool if len(self.networks.get(name, [])) == most > 1])
        self.seeds = trainings[len(trainings) // 2]
        self.networks = {name: accuracies[: self.seeds or 1] for name, accuracies in self.networks.items()}
        self.randoms = [name for name in pool if self.seeds and len(self.networks.get(name, [])) == self.seeds]

    def mean(self, name: str) -> float | None:
        """Mean accuracy of a network; None where it was not trained yet."""
        return statistics.mean(self.networks[name]) if name in self.networks else None

    def best_of_rates(self, baseline: str) -> float | None:
        """Mean accuracy of a model of timm with the learning rate that suits it best; None where not all rates were tried yet.

        A rate with which a training diverges is tried and out of the question.
        """
        names = {unit.name for unit in baseline_units(self.pair, baseline, 0)}
        tried = {result["name"] for _, result in self.found if result.get("name") in names}
        means = [mean for name in tried if (mean := self.mean(name)) is not None]
        return max(means, default=None) if tried == names else None

    def scores(self, variant: str, key: str) -> NDArray[np.float64] | None:
        """What the supernets of a variant say of the random architectures, (seeds, architectures); larger is better.

        Args:
            key: one of SIGNS.
        Returns:
            None where a supernet is missing, or was measured before its file had such scores.
        """
        found = [result["scores"] for result in self.searches.get(("supernets", variant), [])]
        if not found or any(key not in scores[name] for scores in found for name in self.randoms):
            return None
        return SIGNS[key] * np.array([[scores[name][key] for name in self.randoms] for scores in found])

    def random_means(self) -> list[float]:
        """Mean accuracies of the random architectures."""
        return [statistics.mean(self.networks[name]) for name in self.randoms]


def pools_table(pairs: Sequence[Measured]) -> str:
    """How far random architectures of one cost are apart, and what else stands beside the winners."""
    rows = []
    for pair in pairs:
        if len(pair.randoms) < 2:
            continue
        means, deviations = np.array(pair.random_means()), "-"
        if len(pair.repeated) > 1:
            found, (number, seeds) = spread(pair.repeated), pair.repeated.shape
            deviations = f"{found.architectures:.2f}, {found.seeds:.2f}, {found.noise:.2f} ({number} x {seeds})"
        others = [pair.mean(arch_id(arch)) for arch in pair.pair.extremes().values()]
        baselines = [pair.best_of_rates(text) for text in pair.pair.baselines]
        low, median, high = np.percentile(means, (0, 50, 75))
        rows.append(
            (
                pair.pair.name,
                f"{pair.pair.max_macs / 1e6:.3g}M",
                f"{len(means)} x {pair.seeds}",
                f"{low:.2f}, {median:.2f}, {high:.2f}, {means.max():.2f}",
                deviations,
                *("-" if mean is None else f"{mean:.2f}" for mean in others),
                ", ".join("-" if mean is None else f"{mean:.2f}" for mean in baselines),
            )
        )
    header = (
        *(
            "pair",
            "limit",
            "networks x seeds",
            "random: lowest, median, 75 %, best",
            "sd: architectures, seeds, training",
        ),
        *("cheapest", "most MACs", "timm"),
    )
    return "random architectures of the band of cost, test top-1 %\n" + cli.table(rows, header, as_is=True)


def short_trainings_table(pairs: Sequence[Measured]) -> str:
    """What short trainings say about long ones: pairs that differ in their epochs alone, first seed."""
    rows = []
    for long in pairs:
        for short in _shorts_of(long, pairs):
            both = [name for name in short.randoms if name in long.right]
            if len(both) < 9:
                continue
            found = foretold(*(np.array([pair.right[name] for name in both]) for pair in (short, long)))
            rows.append(
                (
                    *(long.pair.name, short.pair.epochs, long.pair.epochs, len(both)),
                    str(found.tau),
                    *(f"{found.gain:+.2f}", f"{100 * found.ahead:.0f} %"),
                )
            )
    header = ("pair", "epochs", "of", "networks", "tau", "best of 8 above the others, points", "in")
    return "short trainings of random architectures\n" + cli.table(rows, header, as_is=True)


CHOICES = 8  # architectures that a strategy chooses among


def strategies_table(pairs: Sequence[Measured]) -> str:
    """What each strategy picks out of the same random architectures, at which cost; and what searches of the whole space find.

    The cost is in epochs of training before the winner's own: of candidates, and of the supernet. Seed 0 of everything.
    """
    rows: list[tuple[object, ...]] = []
    for pair in pairs:
        names = [name for name in pair.randoms if pair.right.get(name) is not None]
        if len(names) < CHOICES + 1 or any(pair in _shorts_of(other, pairs) for other in pairs):
            continue
        right, shorts = np.array([pair.right[name] for name in names]), _shorts_of(pair, pairs)
        ways: list[tuple[str, str, Any]] = [
            ("random pick", "0", np.zeros(len(names))),
            ("most MACs", "0", np.array([pair.macs[name] for name in names], float)),
        ]
        for (kind, variant), results in pair.searches.items():
            if kind == "supernets" and "top1" in results[0]["scores"][names[0]]:
                scores = np.array([results[0]["scores"][name]["top1"] for name in names])
                ways.append((f"{variant} supernet's score", f"{results[0]['epochs']}", scores))
        for short in shorts:
            if all(name in short.right for name in names):
                epochs = short.pair.epochs
                cost = f"{CHOICES} x {epochs} = {CHOICES * epochs}"
                ways.append(("short trainings", cost, np.array([short.right[name] for name in names])))
        for way, cost, scores in ways:
            found = picked(scores, right, choose=CHOICES)
            rows.append(
                (
                    pair.pair.name,
                    f"{way}, of {CHOICES}",
                    cost,
                    len(names),
                    str(found.gain),
                    f"{100 * found.ahead:.0f} %",
                )
            )
        mean = statistics.mean(pair.random_means())
        for (_, variant), results in pair.searches.items():
            for how, arch in found_by(results[0]).items():
                own = pair.mean(arch_id(arch))
                if own is not None:
                    gain = f"{own - mean:.2f}"
                    rows.append((pair.pair.name, f"{variant}, {how}", str(results[0]["epochs"]), len(names), gain, "-"))
    header = ("pair", "strategy", "epochs before", "networks", "above a random pick, points", "in")
    return "what strategies find, beside a random architecture of the same cost\n" + cli.table(rows, header, as_is=True)


def _answers(result: Mapping[str, Any]) -> NDArray[np.bool_] | None:
    """Which test images a network has right, (images,); None where its file does not say."""
    found = noise.unpack_answers({"right": result["right"], "scoring_images": result["test_images"]})
    return None if found is None else found[0]


def _shorts_of(long: Measured, pairs: Sequence[Measured]) -> list[Measured]:
    """The pairs that differ from one in their epochs alone, and have fewer."""
    same = [pair for pair in pairs if _but_for_epochs(pair.pair) == _but_for_epochs(long.pair)]
    return [pair for pair in same if pair.pair.epochs < long.pair.epochs]


def _but_for_epochs(pair: Pair) -> Pair:
    return dataclasses.replace(pair, name="", epochs=0)


def winners_table(pairs: Sequence[Measured]) -> str:
    """What the searches find, against random architectures of the same cost."""
    rows = []
    for pair in pairs:
        randoms = pair.random_means()
        if len(randoms) < 2:
            continue
        for (_, variant), results in pair.searches.items():
            for how in found_by(results[0]):
                names = [arch_id(found_by(result)[how]) for result in results]
                means = [mean for name in names if (mean := pair.mean(name)) is not None]
                if not means:
                    continue
                found = against_random(means, randoms)
                macs = [pair.macs[name] / 1e6 for name in names if name in pair.macs]
                rows.append(
                    (
                        *(pair.pair.name, variant, how, len(means)),
                        *(f"{statistics.mean(macs):.3g}M", f"{found.mean:.2f}"),
                        str(found.difference) if len(means) > 1 else f"{found.difference.value:.2f}",
                        *(f"{found.percentile:.0f}", f"{found.p:.2g}"),
                    )
                )
    header = ("pair", "strategy", "found by", "seeds", "MACs", "top-1 %", "above random", "percentile", "p")
    return "what searches find, against the random architectures\n" + cli.table(rows, header, as_is=True)


def shapes_table(pairs: Sequence[Measured]) -> str:
    """Is the shape of what is learned, how early its MACs lie, all that it has found? Beside random architectures of that shape."""
    rows = []
    for pair in pairs:
        shaped = [mean for arch in pair.pair.shaped_archs(pair.plan.shaped) if (mean := pair.mean(arch_id(arch)))]
        randoms, table = pair.random_means(), pair.pair.table()
        if len(shaped) < 2 or len(randoms) < 2:
            continue
        centres = [
            centre_of(table, arch) for arch in pair.pair.random_archs(pair.plan.pool) if arch_id(arch) in pair.randoms
        ]
        drawn = f"{statistics.mean(centres):.1f} ({statistics.stdev(centres):.1f})"
        alike = against_random(shaped, randoms)
        for (kind, variant), results in pair.searches.items():
            archs = [result["arch"] for result in results if kind == "learned" and pair.mean(arch_id(result["arch"]))]
            if not archs:
                continue
            means = [pair.mean(arch_id(arch)) or 0.0 for arch in archs]
            own = against_random(means, shaped)
            rows.append(
                (
                    *(pair.pair.name, drawn, len(shaped), f"{pair.pair.learned_centre:.1f}", f"{alike.mean:.2f}"),
                    *(str(alike.difference), variant, ", ".join(f"{centre_of(table, arch):.1f}" for arch in archs)),
                    *(f"{own.mean:.2f}", f"{own.difference.value:.2f}", f"{own.p:.2g}"),
                )
            )
    header = (
        *("pair", "random: centre (sd)", "alike", "their centre", "top-1 %", "above random"),
        *("strategy", "centres", "top-1 %", "above those alike", "p"),
    )
    return "random architectures of the shape that was learned\n" + cli.table(rows, header, as_is=True)
