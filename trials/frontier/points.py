"""The points of a frontier as runs of trials.retrain: which they are, their plans, their training."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spaces.arch import save_arch
from spaces.arch_file import load_arch
from spaces.errors import InputError
from spaces.files import save_json
from trials.common import cli, locks, run_dir, run_files
from trials.common.supernet_run import SupernetRun
from trials.evidence.gates import keep_warnings
from trials.evidence.intervals import accuracy_text
from trials.training import run_gates
from trials.training.frontier_options import point_files, point_folder
from trials.training.parallel import Job, train_jobs
from trials.training.retrain_config import Config
from trials.training.retrain_plan import RetrainPlan, describe_network, plan_retraining
from trials.training.retrain_result import collect_result, missing_seeds


@dataclass(frozen=True)
class Point:
    """An architecture of the frontier, and its training.

    Attributes:
        name: id of the architecture.
        plan: of trials.retrain; its config is that of the run.
    """

    name: str
    plan: RetrainPlan

    @property
    def run(self) -> Path:
        """The folder of its training."""
        return Path(self.plan.config.out)

    def missing(self) -> list[int]:
        """The seeds without a result."""
        return missing_seeds(self.run, self.plan.config.seeds)


def choose_files(run: SupernetRun, count: int) -> list[Path]:
    """`count` files of the frontier, from the cheapest to the best, evenly spread over its order.

    Raises:
        InputError: no search has ended yet, or its frontier has fewer.
    """
    files = point_files(run.path)
    if not files:
        raise InputError(
            f"--frontier {count}: no search of '{run.path}' has ended yet; search it with: "
            f"{cli.command('search', run.path, '--in-process')}"
        )
    if count > len(files):
        several = (
            f"has {len(files)} architectures; give at most {len(files)}"
            if len(files) > 1
            else "has one; retrain it with --fixed-arc"
        )
        raise InputError(f"--frontier {count}: the frontier of '{run.path}' {several}, or search for longer")
    return [files[round(place)] for place in np.linspace(0, len(files) - 1, count)]


def plan_points(config: Config, run: SupernetRun) -> list[Point]:
    """Check the training of each point against its network, its images, the device and what is in its folder.

    Args:
        config: with --frontier.
    Raises:
        InputError: something of these cannot be used, or does not fit together.
    """
    files = choose_files(run, config.frontier)
    points: list[Point] = []
    for file in reversed(files):  # the dearest needs the most memory
        folder, arch = point_folder(run.path, file), load_arch(file, run.table.choices)
        own = dataclasses.replace(
            points[0].plan.config if points else config,
            frontier=0,
            dry_run=False,
            fixed_arc=str(file),
            out=str(folder),
            resume=False,
        )
        if not points:
            several = dataclasses.replace(own, seeds=own.seeds * len(files))  # that may be in memory at the same time
            plan = plan_retraining(several, arch)
            plan = dataclasses.replace(plan, config=dataclasses.replace(plan.config, seeds=own.seeds))
        else:
            first = points[0].plan
            network, macs, params = describe_network(own, arch, first.data)
            plan = dataclasses.replace(first, config=own, arch=arch, network=network, macs=macs, params=params)
        points.append(Point(file.stem.partition("-")[2], plan))
    for point in points:
        _check_folder(point, resume=config.resume)
    return points[::-1]


def _check_folder(point: Point, *, resume: bool) -> None:
    """Raises InputError: the point is trained already and `resume` is off, or was begun with another recipe."""
    if not run_dir.begun(point.run):
        return
    if not resume:
        raise InputError(
            f"'{point.run}' holds a training already; add --resume to go on, which trains nothing twice, or move it away"
        )
    changed = run_dir.changed_option(run_dir.load_run(point.run, "retrain"), point.plan.config)
    if changed:
        option, was, value = changed
        raise InputError(
            f"'{point.run}' was trained with {option} {was}, not {value}, so the points could not be compared; give {was}, or move it "
            "away to train it anew"
        )


def train_points(points: Sequence[Point], jobs: int) -> None:
    """Train and test what has no result yet, and write result.json of each run.

    Raises:
        InputError: another command trains one of them.
        Stopped: a training stopped.
    """
    with contextlib.ExitStack() as held:
        for point in points:
            held.enter_context(locks.exclusive(point.run, "training"))
        for point in points:
            plan = point.plan
            run_dir.open_run(point.run, "retrain", plan.config, resume=True, quiet=True)
            if run_files.read_if_there(point.run / "arc.json", "fixed arc", plan.arch) != plan.arch:
                raise InputError(f"'{point.run}' holds another architecture than {point.name}; move it away")
            save_arch(point.run / "arc.json", dict(plan.arch or {}))
            plan.data.save(point.run)
            keep_warnings(point.run, "retrain", run_gates.before_retraining(plan.config, plan.data))
        todo = [
            Job(point.plan.config, point.plan.network, seed, point.plan.images, point.name)
            for point in points
            for seed in point.missing()
        ]
        networks = len(points) * points[0].plan.config.seeds
        print(
            f"{len(todo)} of {networks} trainings are left to do" if len(todo) < networks else f"{networks} trainings"
        )
        failures = train_jobs(todo, jobs, title="frontier", on_done=_result_line) if todo else {}
        for point in points:
            if not point.missing():
                seeds, plan = point.plan.config.seeds, point.plan
                save_json(
                    point.run / "result.json", collect_result(point.run, seeds, plan.summary(), plan.data.classes)
                )
        if failures:
            raise next(iter(failures.values()))


def _result_line(job: Job) -> str:
    """What is printed when a training is done."""
    result = run_files.read(Path(job.config.out) / f"seed{job.seed}" / "result.json", "result of a seed")
    return f"{job.name}, seed {job.seed}: {accuracy_text([result['test_correct']], result['test_images'])}"
