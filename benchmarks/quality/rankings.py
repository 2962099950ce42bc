"""Tables of how well supernets rank the random architectures, each by itself and one less another."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.quality.evidence import difference_of_taus, ranking
from benchmarks.quality.tables import SIGNS, Measured
from trials.common import cli
from trials.evidence.ranking import seed_ceiling

# a variant, the one it is compared with, and what the two have in common
COMPARED = (
    ("strict-fair", "uniform-short", "weight updates"),
    ("strict-fair", "uniform", "images through the network"),
    ("cold", "uniform", "steps; with and without a warm start"),
    ("window", "uniform", "steps; within the limit or anywhere"),
    ("window-long", "window", "all but the steps, four times as many"),
    ("window-open", "window", "epochs; op warm-up or warm start"),
)


def rankings_table(pairs: Sequence[Measured]) -> str:
    """How well the supernets rank the random architectures: each seed by itself, and the mean of their scores."""
    rows = []
    for pair in pairs:
        if len(pair.randoms) < 5:
            continue
        macs = [pair.macs[name] for name in pair.randoms]
        for (kind, variant), results in pair.searches.items():
            if kind != "supernets":
                continue
            for key in SIGNS:
                scores = pair.scores(variant, key)
                if scores is None:
                    continue
                alike = seed_ceiling(scores.T)  # None with one seed
                seconds = [result["seconds"] for result in results]
                ways = [("each", scores, statistics.mean(seconds))]
                ways += [("mean of all", scores.mean(axis=0, keepdims=True), sum(seconds))] if alike else []
                for way, of, took in ways:
                    found = ranking(of, macs, pair.random_means())
                    rows.append(
                        (
                            *(pair.pair.name, variant, key, len(results), way, len(pair.randoms)),
                            *map(str, (found.tau, found.by_macs, found.difference, found.both, found.gain)),
                            *(str(alike or "-"), f"{took:.0f}"),
                        )
                    )
    header = (
        *("pair", "supernet", "score", "seeds", "of", "networks", "tau", "tau of MACs", "difference"),
        *("with MACs", "less MACs"),
        *("one with another", "seconds"),
    )
    return "ranking of the random architectures, Kendall's tau\n" + cli.table(rows, header, as_is=True)


def differences_table(pairs: Sequence[Measured]) -> str:
    """Tau of top-1 and of cross-entropy of one variant less that of another, of those in COMPARED that were measured."""
    rows = []
    for pair in pairs:
        if len(pair.randoms) < 5:
            continue
        for one, other, alike in COMPARED:
            found = [(pair.scores(one, key), pair.scores(other, key)) for key in SIGNS]
            differences = [
                "-" if first is None or second is None else str(difference_of_taus(first, second, pair.random_means()))
                for first, second in found
            ]
            if set(differences) == {"-"}:
                continue
            seeds = ", ".join(str(len(pair.searches["supernets", name])) for name in (one, other))
            rows.append((pair.pair.name, one, other, alike, seeds, *differences))
    header = ("pair", "supernet", "less that of", "equal", "seeds", "tau of top-1", "tau of cross-entropy")
    return "ranking, one supernet less another\n" + cli.table(rows, header, as_is=True)
