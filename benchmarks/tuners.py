"""How close to the best architecture the tuners come, on NAS-Bench-Macro: 6,561 networks, each trained for CIFAR-10.

    python -m benchmarks.tuners --table nas-bench-macro_cifar10.json
    python -m benchmarks.tuners --table nas-bench-macro_cifar10.json --tuners guided --limits 45M,55M,70M --first-seed 1000
    python -m benchmarks.tuners --smoke      # on a made-up table, in seconds

The table is https://github.com/xiusu/NAS-Bench-Macro, data/nas-bench-macro_cifar10.json (arXiv:2103.11922). It has 8
layers with 3 candidates each: identity, mb3_k3 and mb6_k5 (inverted bottlenecks of expansion 3 and 6, kernel 3 and 5).
Layers 0, 2 and 5 change the shape, so that their identity is no skip. Layers 3 and 4 are alike, and 6 and 7 too: the table
gives the same accuracies whichever of the two is skipped, so that 3,969 different networks are left.

Every tuner is asked through NNI's interface, one architecture at a time. Regret is in percentage points: the best
mean accuracy within the limit, less the best that was found. NNI's own evolution knows no limit; an architecture that breaks
it scores 0 and counts as an evaluation, as in experiments/spos_evo_builtin.yml. A search ends when it has found the best.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import logging
import platform
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from nni.algorithms.hpo.evolution_tuner import EvolutionTuner as BuiltinTuner

from benchmarks.common import parse
from spaces.arch import Arch
from spaces.cost import BlockCosts, CostTable, search_space
from spaces.errors import InputError, unknown
from spaces.files import load_json
from strategies.evolution import EvolutionTuner
from strategies.limits import amount
from strategies.model_guided import ModelGuidedTuner
from strategies.pareto import ParetoTuner
from strategies.random_search import RandomTuner
from trials.common import cli

LAYERS = [f"layer{number}" for number in range(8)]
CANDIDATES = ["identity", "mb3_k3", "mb6_k5"]  # digits 0, 1, 2 of the table's keys; their params tell which they are
SKIPS = (1, 3, 4, 6, 7)  # layers whose identity changes nothing
TWINS = (4, 7)  # layers like the one before
EVALUATIONS = (50, 100, 200, 400)
SMOKE = {
    "seeds": 1,
    "limits": "50M",
    "tuners": "random,builtin,evolution,pareto",
}  # ModelGuidedTuner takes 10 s a search

Entries = dict[str, dict[str, Any]]  # the networks of the table by their keys, such as 02120012
MakeTuner = Callable[[str, int, dict[str, Any]], Any]  # cost table, seed, limits -> tuner


def digits(arch: Arch) -> str:
    """The table's key of an architecture."""
    return "".join(str(CANDIDATES.index(str(arch[label]))) for label in LAYERS)


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


def builtin(costs: str, seed: int, limits: dict[str, Any]) -> BuiltinTuner:
    """NNI's own evolution, with a seed; it draws from random, and from a state that it makes without one."""
    tuner = BuiltinTuner(optimize_mode="maximize", population_size=50)
    tuner.update_search_space(search_space(CostTable.load(costs).choices))
    random.seed(seed)
    tuner.random_state.seed(seed)
    tuner.population.clear()
    for _ in range(tuner.population_size):
        tuner._random_generate_individual()
    return tuner


TUNERS: dict[str, tuple[str, MakeTuner]] = {
    "random": ("RandomTuner", lambda costs, seed, limits: RandomTuner(costs, seed=seed, **limits)),
    "builtin": ("NNI's Evolution", builtin),
    "evolution": ("EvolutionTuner", lambda costs, seed, limits: EvolutionTuner(costs, seed=seed, **limits)),
    "pareto": ("ParetoTuner", lambda costs, seed, limits: ParetoTuner(costs, seed=seed, **limits)),
    "guided": ("ModelGuidedTuner", lambda costs, seed, limits: ModelGuidedTuner(costs, seed=seed, **limits)),
}


def regrets(tuner: Any, entries: Entries, max_macs: float) -> np.ndarray:
    """Let a tuner search. Returns the regret after each evaluation, in percentage points, (EVALUATIONS[-1],)."""
    optimum = max(entry["mean_acc"] for entry in entries.values() if entry["flops"] <= max_macs)
    best, regret = 0.0, np.zeros(EVALUATIONS[-1])
    for number in range(EVALUATIONS[-1]):
        arch = tuner.generate_parameters(number)
        entry = entries[digits(arch)]
        score = entry["mean_acc"] if entry["flops"] <= max_macs else 0.0
        tuner.receive_trial_result(number, arch, {"default": score})
        tuner.trial_end(number, True)
        best = max(best, score)
        regret[number] = optimum - best
        if best == optimum:
            break
    return regret


def main(argv: Sequence[str] | None = None) -> None:
    """Search with every tuner under every limit, and print the regrets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", help="nas-bench-macro_cifar10.json")
    parser.add_argument("--seeds", type=int, default=60, help="searches of each tuner under each limit")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--limits", default="40M,50M,60M,80M,none", help="MACs, with commas")
    parser.add_argument("--tuners", default=",".join(TUNERS), help="which, with commas")
    args = parse(parser, argv, SMOKE)
    names, limits = args.tuners.split(","), args.limits.split(",")
    for name in names:
        if name not in TUNERS:
            raise InputError(unknown("tuner", name, TUNERS))
    if args.seeds < 1:
        raise InputError(f"--seeds {args.seeds} is not above 0; give at least 1")
    if not (args.table or args.smoke):
        raise InputError("--table is missing; give nas-bench-macro_cifar10.json, or --smoke for a made-up table")
    max_macs = {limit: amount(limit, "--limits") if limit != "none" else None for limit in limits}
    entries = load_json(args.table, "table") if args.table else made_up_table()
    logging.getLogger("nni").setLevel(logging.ERROR)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        costs = str(Path(folder) / "costs.json")
        cost_table(entries).save(costs)
        bar = cli.progress(len(names) * len(limits) * args.seeds, desc="searches", unit="search")
        for name in names:
            title, make = TUNERS[name]
            for limit, macs in max_macs.items():
                began = time.process_time()
                of_seeds = []
                for seed in range(args.first_seed, args.first_seed + args.seeds):
                    tuner = make(costs, seed, {"max_macs": macs} if macs else {})
                    of_seeds.append(regrets(tuner, entries, macs or np.inf))
                    bar.update()
                cells = [
                    f"{function(np.array(of_seeds)[:, evaluations - 1]):.3f}"
                    for evaluations in EVALUATIONS
                    for function in (np.median, lambda values: np.quantile(values, 0.9))
                ]
                seconds = (time.process_time() - began) / args.seeds
                rows.append((title, limit, *cells, f"{seconds:.1f}"))
        bar.close()
    header = [f"{what} {evaluations}" for evaluations in EVALUATIONS for what in ("median", "90%")]
    print(cli.table(rows, ("tuner", "limit", *header, "s/search"), as_is=True))
    print(
        f"\nregret in percentage points after {', '.join(map(str, EVALUATIONS))} evaluations; seeds {args.first_seed} to "
        f"{args.first_seed + args.seeds - 1}; {os.cpu_count()} cores, {platform.machine()}, one thread; "
        f"python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("nni", "numpy", "scikit-learn", "pymoo"))
    )


if __name__ == "__main__":
    cli.run(main, resumes=False)
