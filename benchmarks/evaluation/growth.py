"""Time per candidate against the number of candidates of a search: scoring, and the tuner with its files apart."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from benchmarks.evaluation.candidates import stand_in_scores
from spaces.arch import Arch
from spaces.cost import CostTable, search_space
from spaces.errors import InputError
from spaces.files import CLONE, save_json
from trials.common import cli, run_dir
from trials.networks.accuracy import Graded
from trials.scoring.evaluate_config import Settings
from trials.scoring.measured import Measured
from trials.scoring.scorer import Scorer
from trials.scoring.shared_blocks import SharedBlocks
from trials.search_driver.in_process import search_in_process
from trials.search_driver.plan import plan_experiment
from trials.search_driver.session import restore_tuner

LAST = 100  # candidates at the end of a search that are timed apart; two generations


class Clock(NamedTuple):
    """A point in time, or a span of it, in seconds of the processor and of the wall clock."""

    cpu: float
    wall: float

    @classmethod
    def now(cls) -> Clock:
        """This moment."""
        return cls(time.process_time(), time.perf_counter())

    def since(self, other: Clock) -> Clock:
        """The span from an earlier moment to this one."""
        return Clock(self.cpu - other.cpu, self.wall - other.wall)


def write_experiment(run: Path, folder: Path, size: int, args: argparse.Namespace) -> Path:
    """Write the YAML of a search with the paper's numbers into a folder. Returns its path.

    Args:
        size: candidates that are scored.
    """
    table = CostTable.load(run / "cost_table.json")
    save_json(folder / "space.json", search_space(table.choices))
    images = (
        f"--score-by loss --calibration-images {args.images} --scoring-images {args.images} --batch-size {args.images}"
    )
    content = {
        "searchSpaceFile": "space.json",
        "trialCommand": f"python -m trials.evaluate --run {run} {images} --device cpu",
        "trialCodeDirectory": str(CLONE),
        "experimentWorkingDirectory": str(folder),
        "trialConcurrency": 1,
        "maxTrialNumber": size,
        "tuner": {
            "codeDirectory": str(CLONE),
            "className": "strategies.evolution.EvolutionTuner",
            "classArgs": {"cost_table": str(run / "cost_table.json"), "seed": args.seed},
        },
        "trainingService": {"platform": "local"},
    }
    path = folder / "search.yml"
    path.write_text(yaml.safe_dump(content))
    return path


def one_search(source: Path, folder: Path, size: int, args: argparse.Namespace) -> list[str]:
    """Search with a fresh copy of a run.

    Args:
        source: the run that is copied.
        folder: where the copy and the files of the search are written; removed at the end.
        size: candidates that are scored.
    Returns:
        A row of the table: the size, then milliseconds per candidate.
    """
    # a plan, as trials.search --in-process makes it
    folder.mkdir()
    run = folder / "run"
    shutil.copytree(source, run, ignore=shutil.ignore_patterns("search", "in_process", "checkpoints", "frontier"))
    plan = plan_experiment(write_experiment(run, folder, size, args), run=str(run))
    restore_tuner(plan, run / "in_process")

    # the scorer, with a clock around the scoring itself
    ends: list[Clock] = []  # when each candidate had its score
    scoring: list[
        tuple[int, Clock]
    ] = []  # candidates that had a score before, and how long the next ones took to score
    score_tree = Scorer._score_tree
    stand_in = stand_in_scores(args.scores, args.seed, plan.table.choices) if args.unscored else None

    def timed(
        self: Scorer, archs: Sequence[Arch], blocks: SharedBlocks, on_share: Callable[[float], None]
    ) -> list[Measured]:
        began = Clock.now()
        if stand_in:
            nothing_right = torch.zeros(1, 2, dtype=torch.bool)
            measured = [
                Measured(0.0, Graded(nothing_right, torch.tensor([-score])), 0) for score in stand_in(list(archs))
            ]
        else:
            measured = score_tree(self, archs, blocks, on_share)
        scoring.append((len(ends), Clock.now().since(began)))
        return measured

    bar = cli.progress(size, desc=f"{size:,} candidates", unit="arch")

    def scored(result: dict[str, Any]) -> None:
        ends.append(Clock.now())
        bar.update()

    # the search
    Scorer._score_tree = timed  # type: ignore[method-assign]
    began = Clock.now()
    try:
        search_in_process(plan, scored)
    finally:
        Scorer._score_tree = score_tree  # type: ignore[method-assign]
        bar.close()
    shutil.rmtree(folder)

    # milliseconds per candidate: by either clock, of all and of the last, for scoring and for the rest
    last = size - LAST
    row = [f"{size:,}"]
    for clock in range(2):
        for first, start in ((0, began), (last, ends[last - 1] if last else began)):
            whole = ends[-1].since(start)[clock]
            in_scoring = sum(spent[clock] for done, spent in scoring if done >= first)
            row += [f"{1000 * seconds / (size - first):.1f}" for seconds in (in_scoring, whole - in_scoring)]
    return row


def growth(args: argparse.Namespace) -> None:
    """Search with a run several times, with more and more candidates, and print the time per candidate."""
    sizes = [int(size) for size in args.sizes.split(",") if size.isdecimal()]
    if len(sizes) != len(args.sizes.split(",")) or any(size < LAST or size % LAST for size in sizes):
        raise InputError(f"--sizes '{args.sizes}': give multiples of {LAST} with commas, such as 100,300,1000")
    run_dir.load_run(args.growth, "supernet")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = folder / "run"
        shutil.copytree(args.growth, source, ignore=shutil.ignore_patterns("search", "in_process", "checkpoints"))
        # warm-up: the images are decoded, and what the first search would otherwise load is loaded
        Scorer(source, Settings(args.images, args.images, args.images), "cpu")
        if not args.smoke:
            one_search(source, folder / "first", LAST, args)
        rows = [one_search(source, folder / str(size), size, args) for size in sizes]
    kinds = [
        f"{clock}{span}\n{what}"
        for clock in ("cpu", "wall")
        for span in (", all", f", last {LAST}")
        for what in ("scoring", "rest")
    ]
    print(cli.table(rows, ("candidates", *kinds), as_is=True))
    print(
        f"\nmilliseconds per candidate, of all and of the last {LAST}; the rest is the tuner, its journal and the files of "
        f"scores. In-process search, EvolutionTuner with the paper's numbers and no limit, seed {args.seed}; {args.images} "
        f"calibration and {args.images} scoring images; n = 1 search of each size; one thread of {os.cpu_count()} cores"
    )
