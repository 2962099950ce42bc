"""How close to the best architecture the tuners come, where every true score is known; exact scores and noisy ones.

    python -m benchmarks.tuners --table nas-bench-macro_cifar10.json --out tuners.jsonl
    python -m benchmarks.tuners --landscapes 20,40 --noises 0.7,0.7s --tuners evolution,guided --first-seed 1000
    python -m benchmarks.tuners --front --landscapes 20 --tuners random,nsga2,pareto --out fronts.jsonl
    python -m benchmarks.tuners --smoke      # on a made-up table, in seconds

Landscapes: macro:LIMIT is NAS-Bench-Macro under a limit of MACs, or macro:none (macro.py); 20 and 40 are made-up ones of so
many labels under a limit (made_up.py). Noises: 1 is none; 0.7 is an error that leaves Kendall's tau of 0.7 between told and
true scores of random architectures within the limit; with an s, half of the error's variance is systematic (noise.py).

Every tuner is asked through NNI's interface, one architecture at a time. Regret is the best true score within the limit,
less the true score of: the best that was evaluated; the best by the told scores, which a search returns; the best by a model
of all told scores. It is in percentage points for macro, and in standard deviations of random architectures within the
limit for the others. With --front there is no limit in the search, and regrets are means over ten limits. NNI's own evolution
knows no limit; an architecture that breaks it gets the worst score there is and counts as an evaluation.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import logging
import platform
from collections.abc import Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parse
from benchmarks.tuners.landscape import Landscape
from benchmarks.tuners.macro import macro, made_up_table
from benchmarks.tuners.made_up import made_up
from benchmarks.tuners.noise import Noise
from benchmarks.tuners.search import TUNERS, as_json, search
from spaces.errors import InputError, unknown
from spaces.files import append_json, load_json, read_jsonl
from trials.common import cli

EVALUATIONS = "100,200,400,700,1000"
REGRETS = {"evaluated": "best evaluated", "by_score": "returned by score", "by_model": "returned by the model"}
SMOKE = {
    "seeds": 1,
    "landscapes": "macro:50M,20",
    "noises": "1,0.7s",
    "tuners": "random,builtin,evolution,pareto,guided",
    "evaluations": "30,60",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Search every landscape under every noise with every tuner, and print the regrets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", help="nas-bench-macro_cifar10.json")
    parser.add_argument("--landscapes", default="macro:60M,macro:none,20,40", help="which, with commas")
    parser.add_argument("--landscape-seed", type=int, default=0, help="of the made-up landscapes")
    parser.add_argument("--noises", default="1,0.7,0.5,0.7s,0.5s", help="which, with commas")
    parser.add_argument(
        "--tuners", default="random,paper,evolution,guided", help=f"with commas, of {', '.join(TUNERS)}"
    )
    parser.add_argument("--evaluations", default=EVALUATIONS, help="after which regrets are taken, with commas")
    parser.add_argument("--front", action="store_true", help="regrets along the front of score and MACs")
    parser.add_argument("--seeds", type=int, default=20, help="searches of each kind")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", help="JSON lines, one per search; what stands there is not searched again")
    args = parse(parser, argv, SMOKE)
    names, checks = args.tuners.split(","), read_checks(args.evaluations)
    for name in names:
        if name not in TUNERS:
            raise InputError(unknown("tuner", name, TUNERS))
    if args.seeds < 1:
        raise InputError(f"--seeds {args.seeds} is not above 0; give at least 1")
    entries = load_json(args.table, "table") if args.table else made_up_table() if args.smoke else None
    landscapes = [read_landscape(text, args.landscape_seed, entries, args.front) for text in args.landscapes.split(",")]
    noises = [read_noise(text) for text in args.noises.split(",")]
    logging.getLogger("nni").setLevel(logging.ERROR)

    # search, or take what an earlier call has found
    known = read_jsonl(Path(args.out), repair=True) if args.out and Path(args.out).exists() else []
    found = {key(record): record for record in known}
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    cases = list(product(landscapes, noises, names))
    bar = cli.progress(len(cases) * args.seeds, desc="searches", unit="search")
    for seed in seeds:
        for landscape, noise, name in cases:
            record = {"landscape": landscape.name, "landscape_seed": args.landscape_seed, "noise": str(noise)}
            record |= {"tuner": name, "seed": seed, "front": args.front, "checks": checks}
            if key(record) not in found:
                record |= as_json(search(landscape, noise, name, seed, checks, args.front))
                found[key(record)] = record
                if args.out:
                    append_json(Path(args.out), record)
            bar.update()
    bar.close()

    # one table for each kind of regret
    wanted = [record for record in found.values() if record["seed"] in seeds and record["front"] == args.front]
    wanted = [
        record for record in wanted if (record["landscape_seed"], record["checks"]) == (args.landscape_seed, checks)
    ]
    for regret, title in REGRETS.items():
        print(f"\nregret of the {title}{', mean over ten limits' * args.front}: median / 90th percentile")
        print(table(cases, wanted, regret, checks))
    versions = ", ".join(f"{name} {version(name)}" for name in ("nni", "numpy", "scipy", "pymoo"))
    print(
        f"\nafter {', '.join(map(str, checks))} evaluations; seeds {seeds[0]} to {seeds[-1]}, made-up landscapes of seed "
        f"{args.landscape_seed}; s is processor seconds of the tuner in a search; {os.cpu_count()} cores, {platform.machine()}, "
        f"one thread; python {platform.python_version()}, {versions}"
    )


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    """What tells one search from another."""
    names = ("landscape", "landscape_seed", "noise", "tuner", "seed", "front")
    return (*(record[name] for name in names), tuple(record["checks"]))


def table(
    cases: Sequence[tuple[Landscape, Noise, str]], records: list[dict[str, Any]], regret: str, checks: list[int]
) -> str:
    """A line for each landscape, noise and tuner."""
    rows = []
    for landscape, noise, name in cases:
        what = (landscape.name, str(noise), name)
        mine = [record for record in records if (record["landscape"], record["noise"], record["tuner"]) == what]
        values = np.array([record[regret] for record in mine])
        cells = [f"{np.median(column):.3f} / {np.quantile(column, 0.9):.3f}" for column in values.T]
        seconds = np.mean([record["seconds"] for record in mine])
        rows.append((landscape.name, str(noise), TUNERS[name][0], *cells, f"{seconds:.1f}"))
    return cli.table(rows, ("landscape", "noise", "tuner", *map(str, checks), "s"), as_is=True)


def read_landscape(text: str, seed: int, entries: dict[str, Any] | None, front: bool) -> Landscape:
    """A landscape by its name on the command line; without a limit for a front."""
    kind, _, limit = text.partition(":")
    if kind == "macro" and limit:
        if entries is None:
            raise InputError("--table is missing; give nas-bench-macro_cifar10.json, or --smoke for a made-up table")
        return macro(entries, "none" if front else limit)
    if not kind.isdigit() or int(kind) < 3 or limit:
        raise InputError(f"--landscapes {text}; give macro:LIMIT, macro:none, or a number of labels such as 20")
    return made_up(int(kind), seed, limited=not front)


def read_noise(text: str) -> Noise:
    """A noise by its name on the command line."""
    try:
        tau = float(text.removesuffix("s"))
    except ValueError:
        tau = 0.0
    if not 0 < tau <= 1:
        raise InputError(f"--noises {text}; give Kendall's tau above 0, at most 1, with an s for half systematic")
    return Noise(tau, 0.5 if text.endswith("s") else 0.0)


def read_checks(text: str) -> list[int]:
    """Numbers of evaluations, ascending."""
    numbers = [int(word) if word.isdigit() else 0 for word in text.split(",")]
    if min(numbers) < 1 or numbers != sorted(set(numbers)):
        raise InputError(f"--evaluations {text}; give ascending numbers above 0 with commas, such as {EVALUATIONS}")
    return numbers


if __name__ == "__main__":
    cli.run(main)
