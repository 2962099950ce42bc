"""Do searches beat chance? Real images, real retraining, a unit at a time; what is measured is kept and never measured twice.

    python -m benchmarks.quality                                  whatever is missing, until it is all there or Ctrl-C: days
    python -m benchmarks.quality --pairs fbnet-fashion --minutes 60 --jobs 2
    python -m benchmarks.quality --dry-run                        what is missing
    python -m benchmarks.quality --table                          the tables of docs/chance.md, from what there is
    python -m benchmarks.quality --smoke                          minutes at most, on digits; the figures say nothing

For each pair of a search space and a data set: 30 random architectures of the band of cost below the limit, the cheapest one,
the one with most MACs and models of timm with as many are trained from scratch with several seeds; supernets are trained by
every strategy, rank the random architectures and are searched; differentiable strategies learn; and what they find is trained
from scratch in the same way. Units are in benchmarks/results/quality/, runs in --work; several processes may add to them.
Fashion-MNIST is read from Debian's package dataset-fashion-mnist.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process for each core takes its place

import argparse
import dataclasses
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from benchmarks.common import parse
from benchmarks.quality import rankings, tables
from benchmarks.quality.carry_out import carry_out
from benchmarks.quality.pairs import DEFAULT, PAIRS, SHORTS, SMOKE_PAIR, Pair, cut_fashion_mnist
from benchmarks.quality.tables import Measured
from benchmarks.quality.units import KINDS, LEARNERS, SUPERNETS, Plan, missing
from benchmarks.roads.folders import FASHION_MNIST
from spaces.errors import InputError, unknown
from spaces.files import CLONE
from trials.common import cli
from trials.common.machine import usable_cores
from trials.training.parallel import follow_parent

RESULTS = CLONE / "benchmarks" / "results" / "quality"
SMOKE_PLAN = Plan(pool=2, seeds=1, evaluations=2, supernets=("uniform",), learners=("gumbel",))


def measure(pairs: Sequence[Pair], plan: Plan, args: argparse.Namespace, results: Path, work: Path) -> None:
    """Measure what is missing, several units at a time, until all is there or the time is over.

    Raises:
        InputError: a unit failed; the others are measured before.
    """
    for pair in pairs:
        if pair.data == "fashion-mnist":
            cut_fashion_mnist(Path(args.fashion_mnist), Path(pair.root(work)))
    end = time.monotonic() + 60 * args.minutes
    failed: dict[Path, InputError] = {}
    with (
        cli.progress(len(missing(pairs, plan, results)), desc="quality", unit="unit") as bar,
        ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn"), follow_parent) as pool,
    ):
        running: dict[Future[None], Path] = {}
        while True:
            # winners come up as searches end, so what is missing is looked at anew
            waiting = [
                unit
                for unit in missing(pairs, plan, results)
                if unit.kind in args.kinds.split(",")
                and unit.path not in failed
                and unit.path not in running.values()
                and not unit.is_measured_elsewhere(work)
            ]
            bar.total = bar.n + len(waiting) + len(running)
            for unit in waiting[: args.jobs - len(running)] if time.monotonic() < end else []:
                running[pool.submit(carry_out, unit, plan, results, work, args.device)] = unit.path
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                path = running.pop(future)
                try:
                    future.result()
                except InputError as error:
                    failed[path] = error
                    bar.write(str(error))
                bar.update(1)
    if failed:
        raise InputError(f"{len(failed)} units failed, the first: {next(iter(failed.values()))}")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default=",".join(DEFAULT), help=f"which, with commas: {', '.join(PAIRS)}")
    parser.add_argument("--seeds", type=int, default=Plan.seeds, help="of networks, supernets and strategies")
    parser.add_argument("--pool", type=int, default=Plan.pool, help="random architectures")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of units, with commas: {', '.join(KINDS)}")
    parser.add_argument(
        "--variants", help=f"of supernets and learners, with commas: {', '.join((*SUPERNETS, *LEARNERS))}"
    )
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="units at a time")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no unit is begun")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="folder of all runs")
    parser.add_argument("--fashion-mnist", default=str(FASHION_MNIST), help="folder of its four files")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    parser.add_argument("--dry-run", action="store_true", help="only print which units are missing")
    args = parse(parser, argv, {"jobs": 1})
    names = args.pairs.split(",")
    for name in names:
        if name not in PAIRS:
            raise InputError(unknown("pair", name, PAIRS))
    for kind in args.kinds.split(","):
        if kind not in KINDS:
            raise InputError(unknown("kind", kind, KINDS))
    if min(args.seeds, args.pool, args.jobs) < 1:
        raise InputError("--seeds, --pool and --jobs must be at least 1")
    pairs = [PAIRS[name] for name in names]
    plan = dataclasses.replace(Plan(), seeds=args.seeds, pool=args.pool)
    if args.variants:
        chosen = args.variants.split(",")
        for name in chosen:
            if name not in (*SUPERNETS, *LEARNERS):
                raise InputError(unknown("variant", name, (*SUPERNETS, *LEARNERS)))
        supernets, learners = (tuple(name for name in chosen if name in known) for known in (SUPERNETS, LEARNERS))
        plan = dataclasses.replace(plan, supernets=supernets, learners=learners)
    if args.smoke:
        with tempfile.TemporaryDirectory() as folder:
            measure([SMOKE_PAIR], SMOKE_PLAN, args, Path(folder) / "results", Path(folder) / "work")
            return print_tables([Measured(SMOKE_PAIR, SMOKE_PLAN, Path(folder) / "results")])
    if args.dry_run:
        units = missing(pairs, plan, RESULTS)
        print("\n".join(map(str, units)))
        return print(f"{len(units)} units are missing; winners come up as searches end")
    if not args.table:
        measure(pairs, plan, args, RESULTS, args.work)
    elif args.pairs == ",".join(DEFAULT):
        pairs += SHORTS  # which nothing but a table needs
    print_tables([Measured(pair, plan, RESULTS) for pair in pairs])


def print_tables(pairs: Sequence[Measured]) -> None:
    """Print all tables."""
    shown = (
        tables.pools_table,
        tables.short_trainings_table,
        rankings.rankings_table,
        rankings.differences_table,
        tables.winners_table,
        tables.shapes_table,
        tables.strategies_table,
    )
    for table in shown:
        print(table(pairs) + "\n")
    print("\n".join(f"{pair.pair.name}: {len(pair.found)} units, {pair.missing} missing" for pair in pairs))


if __name__ == "__main__":
    cli.run(main)
