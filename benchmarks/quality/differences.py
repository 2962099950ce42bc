"""Does one way to train a supernet rank better than another? Differences of Kendall's tau on the same random architectures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.quality.evidence import difference_of_taus
from benchmarks.quality.tables import Measured
from trials.common import cli

# a variant, the one it is compared with, and what the two have in common
COMPARED = (
    ("strict-fair", "uniform-short", "weight updates"),
    ("strict-fair", "uniform", "images through the network"),
    ("cold", "uniform", "steps; with and without a warm start"),
    ("window", "uniform", "steps; within the limit or anywhere"),
    ("window-long", "window", "all but the steps, four times as many"),
    ("window-open", "window", "epochs; op warm-up or warm start"),
)


def differences_table(pairs: Sequence[Measured]) -> str:
    """Tau of top-1 and of cross-entropy of one variant less that of another, of those in COMPARED that were measured."""
    rows = []
    for pair in pairs:
        if len(pair.randoms) < 5:
            continue
        for one, other, alike in COMPARED:
            found = [pair.searches.get(("supernets", name), []) for name in (one, other)]
            if not all(found):
                continue
            differences = []
            for key, sign in (("top1", 1), ("loss", -1)):
                scores = [
                    np.array([[sign * result["scores"][name][key] for name in pair.randoms] for result in results])
                    for results in found
                ]
                differences.append(str(difference_of_taus(scores[0], scores[1], pair.random_means())))
            rows.append((pair.pair.name, one, other, alike, f"{len(found[0])}, {len(found[1])}", *differences))
    header = ("pair", "supernet", "less that of", "equal", "seeds", "tau of top-1", "tau of cross-entropy")
    return "ranking, one supernet less another\n" + cli.table(rows, header, as_is=True)
