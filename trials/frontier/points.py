"""The points of a frontier as runs of trials.retrain: which they are, their plans, their training."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from spaces.arch import arch_id, save_arch
from spaces.errors import InputError
from spaces.files import save_json
from trials.common import changes, cli, locks, run_dir, run_files, typed
from trials.evidence.gates import keep_warnings
from trials.evidence.intervals import accuracy_text
from trials.frontier.places import WINNER, Chosen, Place, Road, choose
from trials.training import run_gates
from trials.training.frontier_options import point_file, point_folder
from trials.training.parallel import Job, train_jobs
from trials.training.retrain_config import Config
from trials.training.retrain_plan import RetrainPlan, describe_network, plan_retraining
from trials.training.retrain_result import collect_result, missing_seeds, with_finished
from trials.training.run_gates import Found


@dataclass(frozen=True)
class Point:
    """An architecture of the frontier, and its training.

    Attributes:
        chosen: the architecture, and how it was chosen.
        plan: of trials.retrain; its config is that of the run.
    """

    chosen: Chosen
    plan: RetrainPlan

    @property
    def name(self) -> str:
        """The id of the architecture."""
        return arch_id(self.chosen.arch)

    @property
    def run(self) -> Path:
        """The folder of its training."""
        return Path(self.plan.config.out)

    def missing(self) -> list[int]:
        """The seeds without a result."""
        return missing_seeds(self.run, self.plan.config.seeds)

    def result(self) -> dict[str, Any]:
        """What result.json says about it, when all seeds have a result; a winner may have more of them."""
        return collect_result(
            self.run, with_finished(self.run, self.plan.config.seeds), self.plan.summary(), self.plan.data.classes
        )


def plan_points(config: Config, road: Road) -> tuple[list[Point], list[Place]]:
    """Check the training of each point against its network, its images, the device and what is in its folder.

    The winner, which needs the most memory, and the cheapest are checked before anything is scored.

    Args:
        config: with --frontier; with --dry-run nothing is scored.
    Returns:
        The points, the cheapest first, and the places whose architecture is not known before some are scored.
    Raises:
        InputError: something of these cannot be used, or does not fit together.
        Stopped: nothing at a step could be scored.
    """
    path, first = road.run.path, None
    count = len(road.places)

    def planned(chosen: Chosen) -> Point:
        name, arch = arch_id(chosen.arch), chosen.arch
        file, folder = point_file(path, road.run.table.macs(arch), name), point_folder(path, arch)
        own = dataclasses.replace(
            first.config if first else config,
            frontier=0,
            dry_run=False,
            fixed_arc=str(path / "arc.json" if folder.name == "retrain" else file),
            out=str(folder),
            resume=False,
        )
        if first is None:
            several = dataclasses.replace(own, seeds=own.seeds * count)  # that may be in memory at the same time
            plan = plan_retraining(several, arch)
            plan = dataclasses.replace(plan, config=dataclasses.replace(plan.config, seeds=own.seeds))
        else:
            network, macs, params = describe_network(own, arch, first.data)
            plan = dataclasses.replace(first, config=own, arch=arch, network=network, macs=macs, params=params)
        point = Point(chosen, plan)
        _check_folder(point, resume=config.resume or config.dry_run)
        return point

    by_place: dict[str, Point] = {}
    for place in (road.places[-1], road.places[0]):
        by_place[place.name] = planned(Chosen(place.name, place.archs[0], None, 1, place.searched > 0))
        first = first or by_place[place.name].plan
    chosen = choose(road, config.device, score=not config.dry_run)
    waiting = [place for place in chosen if isinstance(place, Place)]
    for one in chosen:
        if isinstance(one, Chosen):
            earlier = by_place.get(one.place)
            by_place[one.place] = dataclasses.replace(earlier, chosen=one) if earlier else planned(one)
    return [by_place[place.name] for place in road.places if place.name in by_place], waiting


def _check_folder(point: Point, *, resume: bool) -> None:
    """A winner that was retrained to the end is taken as it is; nothing is trained twice.

    Raises:
        InputError: the point is trained already and `resume` is off, or was begun with another recipe.
    """
    if not run_dir.begun(point.run):
        return
    taken = point.chosen.place == WINNER and (point.run / "result.json").exists() and not point.missing()
    if not (resume or taken):
        raise InputError(
            f"'{point.run}' holds a training already; add --resume to go on, which trains nothing twice, or move it away"
        )
    changed = changes.changed_options(run_dir.load_run(point.run, "retrain"), point.plan.config)
    if changed:
        differs, was = changes.change_texts(changed)
        raise InputError(
            f"'{point.run}' was trained with {differs}, so the points could not be compared; give {was}, or move it "
            "away to train it anew"
        )


def again_with(points: Sequence[Point], path: Path, changes: Mapping[str, object]) -> str:
    """The command that puts the networks of all points aside, where there are any, and trains them anew with some options changed.

    Args:
        path: the run of the supernet.
    """
    line = typed.line("trials.retrain") or cli.command("retrain", "--supernet", path, "--frontier", len(points))
    command = typed.changed(line, changes)
    there = [point.run for point in points if point.run.exists()]
    return f"{typed.put_aside(path / 'undertrained-frontier', *there)} && {command}" if there else command


def before_training(points: Sequence[Point], path: Path) -> Found:
    """What the gates say of the training of all points, which have one recipe and the same images."""
    plan = points[-1].plan
    return run_gates.before_retraining(plan.config, plan.data, partial(again_with, points, path))


def train_points(points: Sequence[Point], path: Path, jobs: int) -> None:
    """Train and test what has no result yet, and write result.json of each run.

    Args:
        path: the run of the supernet.
    Raises:
        InputError: another command trains one of them.
        Stopped: a training stopped.
    """
    with contextlib.ExitStack() as held:
        for point in points:
            held.enter_context(locks.exclusive(point.run, "training"))
        for point in points:
            plan = point.plan
            save_arch(point_file(path, plan.macs, point.name), point.chosen.arch)
            run_dir.open_run(point.run, "retrain", plan.config, resume=True, quiet=True)
            if run_files.read_if_there(point.run / "arc.json", "fixed arc", plan.arch) != plan.arch:
                raise InputError(f"'{point.run}' holds another architecture than {point.name}; move it away")
            save_arch(point.run / "arc.json", dict(plan.arch or {}))
            plan.data.save(point.run)
        warnings = before_training(points, path)
        for number, point in enumerate(points):
            keep_warnings(point.run, "retrain", warnings, quiet=number > 0)
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
                save_json(point.run / "result.json", point.result())
        if failures:
            raise next(iter(failures.values()))


def _result_line(job: Job) -> str:
    """What is printed when a training is done."""
    result = run_files.read(Path(job.config.out) / f"seed{job.seed}" / "result.json", "result of a seed")
    return f"{job.name}, seed {job.seed}: {accuracy_text([result['test_correct']], result['test_images'])}"
