"""NAS-Bench-Macro as a landscape: 6,561 networks, each trained three times for CIFAR-10 (arXiv:2103.11922).

The table is https://github.com/xiusu/NAS-Bench-Macro, data/nas-bench-macro_cifar10.json. It has 8 layers with 3 candidates
each: identity, mb3_k3 and mb6_k5 (inverted bottlenecks of expansion 3 and 6, kernel 3 and 5). Layers 0, 2 and 5 change the
shape, so that their identity is no skip. Layers 3 and 4 are alike, and 6 and 7 too: the table gives the same accuracies
whichever of the two is skipped, so that 3,969 different networks are left.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from benchmarks.tuners.landscape import Landscape
from spaces.cost import BlockCosts, CostTable
from spaces.errors import InputError
from strategies.limits import amount

LAYERS = [f"layer{number}" for number in range(8)]
CANDIDATES = ["identity", "mb3_k3", "mb6_k5"]  # digits 0, 1, 2 of the table's keys; their params tell which they are
SKIPS = (1, 3, 4, 6, 7)  # layers whose identity changes nothing
TWINS = (4, 7)  # layers like the one before

Entries = dict[str, dict[str, Any]]  # the networks of the table by their keys, such as 02120012


def macro(entries: Entries, limit: str) -> Landscape:
    """The landscape of mean accuracies, percent.

    Args:
        entries: the table.
        limit: MACs, such as 50M; or none.
    Raises:
        InputError: the table is not NAS-Bench-Macro's, or the limit is no number.
    """
    table = cost_table(entries)
    max_macs = None if limit == "none" else int(amount(limit, "--landscapes"))
    accuracy, macs = (
        np.array([entries["".join(key)][name] for key in product("012", repeat=len(LAYERS))])
        for name in ("mean_acc", "flops")
    )
    places = len(CANDIDATES) ** np.arange(len(LAYERS))[::-1]
    if max_macs is not None and max_macs < macs.min():
        raise InputError(f"--landscapes {limit} leaves no network of the table; its least MACs are {macs.min():,}")
    return Landscape(
        name=f"macro, {limit}" if limit != "none" else "macro",
        table=table,
        truth=lambda genes: np.asarray(accuracy[genes @ places]),
        within=lambda most: float(accuracy[macs <= most].max()),
        max_macs=max_macs,
    )


def made_up_table(seed: int = 0) -> Entries:
    """A table like that of NAS-Bench-Macro, with random costs and accuracies that add up over the layers."""
    generator = np.random.default_rng(seed)
    macs = np.stack([np.zeros(len(LAYERS)), *generator.uniform((2e6,), (9e6,), (2, len(LAYERS)))], axis=1).astype(int)
    gains = generator.uniform(0, 1, macs.shape)
    for layer in TWINS:
        macs[layer], gains[layer] = macs[layer - 1], gains[layer - 1]
    entries: Entries = {}
    for genes in product(range(len(CANDIDATES)), repeat=len(LAYERS)):
        added = int(macs[range(len(LAYERS)), genes].sum())
        accuracy = round(85 + float(gains[range(len(LAYERS)), genes].sum()), 6)
        entry = {"flops": 10_000_000 + added, "params": 1_000_000 + added, "mean_acc": accuracy, "test_acc": accuracy}
        entries["".join(map(str, genes))] = entry
    return entries


def cost_table(entries: Entries) -> CostTable:
    """Costs of each candidate of each layer, by taking differences from the network of identities.

    Raises:
        InputError: the table is not complete, not additive, or skips of twins differ.
    """
    keys = {"".join(key) for key in product("012", repeat=len(LAYERS))}
    if set(entries) != keys:
        raise InputError(
            f"--table has {len(entries)} networks; it must have the {len(keys):,} of NAS-Bench-Macro, 00000000 to 22222222"
        )
    none = "0" * len(LAYERS)
    base = (entries[none]["flops"], entries[none]["params"])
    blocks = []
    for layer, label in enumerate(LAYERS):
        alone = [entries[none[:layer] + digit + none[layer + 1 :]] for digit in "012"]
        macs, params = (
            np.array([entry[name] - start for entry in alone], dtype=np.int64)
            for name, start in zip(("flops", "params"), base, strict=True)
        )
        blocks.append(BlockCosts({label: CANDIDATES}, macs, params, (0,) if layer in SKIPS else (), layer in TWINS))
    table = CostTable({"name": "nas-bench-macro"}, base, blocks)
    genes = np.array([[int(digit) for digit in key] for key in entries])
    for name, costs in (("flops", table.macs_many(genes)), ("params", table.params_many(genes))):
        if costs.tolist() != [entry[name] for entry in entries.values()]:
            raise InputError(f"{name} of --table are not sums over the layers; give the table of NAS-Bench-Macro")
    for key, same in zip(entries, table.canonical_many(genes), strict=True):
        if entries[key]["test_acc"] != entries["".join(map(str, same))]["test_acc"]:
            raise InputError(f"network {key} of --table differs from its twin; give the table of NAS-Bench-Macro")
    return table
