"""What the points of a frontier give and cost: each is exported and timed in ONNX Runtime, and tradeoff.json sets them side by side.

The network of seed 0 is exported and timed: choosing a seed by its test accuracy would make that accuracy too good.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spaces.arch import arch_id
from spaces.errors import InputError, Stopped
from spaces.files import save_json
from strategies.feasible import FeasibleSpace
from trials.choosing.searched import latency_path
from trials.common import cli, run_dir, run_files
from trials.common.commands import as_typed
from trials.common.supernet_run import SupernetRun
from trials.evidence.comparison import as_good_as_the_best
from trials.evidence.floor import floor_of, floor_text, measure_floor
from trials.evidence.gates import below_floor, keep_warnings, warnings_from
from trials.evidence.intervals import Interval, accuracy_text
from trials.evidence.trade import beside_the_best, cheapest_sentence, not_above_sentence, trained_enough
from trials.export_formats import export_config, export_record
from trials.export_formats.export_network import export_network
from trials.frontier.places import AT_A_STEP, WINNER, Place, Road, find_places
from trials.frontier.points import Point, again_with, before_training, plan_points, train_points
from trials.networks import answers
from trials.networks.build import load_network
from trials.scoring.score_value import has_value, score_value, searched_by
from trials.search_driver.experiment_file import PARETO, PARETO_NAME, write_experiment
from trials.timing.runtimes import OnnxRuntime, conditions
from trials.timing.stopwatch import time_networks
from trials.training import run_gates
from trials.training.dry_run import advise, estimate_network
from trials.training.retrain_config import Config
from trials.training.retrain_plan import print_winners_recipe

FILE = "tradeoff.json"
RESULT_KEYS = ("macs", "params", "mean", "interval", "test_top1", "test_correct", "test_images")
SEED = 0  # whose network is exported and timed
ROUNDS = 100  # times that every network is timed


def retrain_frontier(config: Config) -> dict[str, Any]:
    """Train, export and time points of a frontier, write tradeoff.json and print its table; what is done is not done again.

    Args:
        config: with --frontier.
    Returns:
        What --json says of it: `run`, `tradeoff`, `floor` and `warnings`; `estimate` of a dry run.
    Raises:
        InputError: what was asked for cannot be done.
        Stopped: a training stopped, or an exported file does not agree with its network.
    """
    run = SupernetRun.open(str(config.supernet), trained=False)
    road = find_places(run, config.frontier)
    points, waiting = plan_points(config, road)
    if points[-1].plan.recipe:
        print(points[-1].plan.recipe)
    print_winners_recipe(config)
    print_reach(road, writes=not config.dry_run)
    if config.dry_run:
        return {"estimate": print_estimate(config, road, points, waiting)}
    train_points(points, run.path, config.jobs)
    data = points[-1].plan.data
    floor = floor_of(run.path, data)
    warn_of_points(points, run.path, floor)
    problems = [problem for point in points if (problem := export_point(point, config.data_root))]
    summary = compare_points(points, road, floor)
    save_json(run.path / FILE, summary)
    print_trade(summary, run.path)
    if problems:
        raise problems[0]
    warnings = [
        {**warning, "run": row["run"]}
        for row in summary["networks"]
        for warning in warnings_from(run.path / row["run"], "retrain")
    ]
    return {"run": run.path, "tradeoff": summary, "floor": floor, "warnings": warnings}


def warn_of_points(points: Sequence[Point], run: Path, floor: Mapping[str, Any]) -> None:
    """Keep what the gates say of each trained point in its folder, and print it, with the command that mends all of them once."""
    said: dict[str, list[str]] = {}
    for point in points:
        again = partial(again_with, points, run)
        warnings = run_gates.after_retraining(point.plan.config, point.plan.data, floor, again)
        keep_warnings(point.run, "retrain", warnings, more=True, quiet=True)
        for warning in filter(None, warnings):
            said.setdefault(warning.command, []).append(f"{point.name} ({point.chosen.place}): {warning.text}")
    for command, lines in said.items():
        print("\n".join(f"warning: {line}" for line in lines))
        print(f"what mends {'it' if len(lines) == 1 else 'them'}: {as_typed(command)}")


def print_reach(road: Road, *, writes: bool) -> None:
    """Say how far the search's own results reach, where nothing can stand, and what would look harder.

    Args:
        writes: whether the experiment of that search may be written into the run.
    """
    print(road.note())
    if road.missing:
        print(f"left out: {', '.join(road.missing)}: no architecture within {road.searched.limits} costs as much")
    if not any(place.name.startswith("step") and place.searched < AT_A_STEP for place in road.places):
        return
    run, objective = road.run.path, road.cost.partition("_")[0]
    if writes:
        feasible = FeasibleSpace(road.run.table, road.searched.limits, road.searched.latency)
        table = str(latency_path(road.run) or "")
        names: dict[str, str] = {"name": PARETO_NAME, "tuner": PARETO, "objective": objective}
        write_experiment(run, feasible, table, **names)
    where = run / PARETO_NAME
    if where.exists():
        print(f"a search of every cost, whose winner replaces this one: {cli.command('search', where, '--in-process')}")
    else:
        print(f"a search of every cost: the same command without --dry-run writes '{where}' for it")


def print_estimate(config: Config, road: Road, points: Sequence[Point], waiting: Sequence[Place]) -> dict[str, str]:
    """What a dry run says: the points, as far as they are known, and what their training takes.

    Returns:
        The rows of its table about the training of the winner: name -> text.
    """
    known = {point.chosen.place: point for point in points}
    score_by, unscored = searched_by(road.run.path), road.waiting()
    rows = []
    for place in road.places:
        point = known.get(place.name)
        if point:
            score = point.chosen.score
            rows.append(
                (place.name, point.name, f"{point.plan.macs:,}", f"{point.plan.params:,}", score_text(score, score_by))
            )
        else:
            new = sum(arch_id(arch) in unscored for arch in place.archs)
            rows.append(
                (
                    place.name,
                    f"the best of {len(place.archs)}",
                    f"about {road.amount(place.cost)}",
                    "",
                    f"{new} to score",
                )
            )
    print(cli.table(rows, ("point", "architecture", "MACs", "params", "score %"), as_is=True))
    if waiting:
        print(f"{len(unscored)} architectures are scored on the supernet first, and their scores kept")
    plan = points[-1].plan
    took = estimate_network(plan)
    print(cli.table(took, ("dry run, the winner", ""), as_is=True))
    networks = config.seeds * len(road.places)
    done = sum(config.seeds - len(point.missing()) for point in points)
    rounds, own = (math.ceil(number / config.jobs) for number in (networks - done, config.seeds))
    held = f", {done} of them done" if done else ""
    print(
        f"{len(road.places)} points of {config.seeds} trainings each{held}: at most {rounds / own:.3g} times the hours above"
    )
    print(advise(plan.config, plan.config.recipe_values(), plan.data.size(plan.config.training_part), plan.config.kind))
    for warning in filter(None, before_training(points, road.run.path)):
        print(warning)
    print(floor_text(floor_of(road.run.path) or measure_floor(plan.data)))
    return dict(took)


def score_text(record: Mapping[str, Any] | None, score_by: str) -> str:
    """A score on the supernet, as the table shows it."""
    return f"{score_value(record, score_by):.2f}" if record and has_value(record, score_by) else "-"


def export_point(point: Point, data_root: str) -> Stopped | None:
    """Export the network of seed 0 of a point, unless that is done. Returns why a file is not good enough; None: all are."""
    config = export_config.Config(weights=str(point.run), seed=SEED, data_root=data_root)
    record = config.target.parent / export_record.FILE
    if record.exists() and record.stat().st_mtime >= config.network_file.stat().st_mtime:
        entries = {entry["format"]: entry for entry in run_files.read(record, "export")["formats"]}
        files = [record.parent / name for entry in entries.values() for name in entry["files"]]
        done = set(config.wanted) <= set(entries) and not any(entry["problem"] for entry in entries.values())
        if done and all(file.exists() for file in files):
            return None
    exported = export_network(config)
    print(f"{point.name}: exported the network of seed {SEED} to {config.target.parent}/")
    try:
        exported.require_good()
    except Stopped as error:
        print(f"{point.name}: {error}")
        return error
    return None


def compare_points(points: Sequence[Point], road: Road, floor: Mapping[str, Any]) -> dict[str, Any]:
    """Time the points in turns, and put together what tradeoff.json says; accuracies in percent."""
    run, score_by = road.run, searched_by(road.run.path)
    networks = [load_network(point.run / f"seed{SEED}" / "network.pt").float() for point in points]
    resolution = points[0].plan.data.resolution
    with cli.progress(ROUNDS, desc="latency", unit="round") as bar:
        timings = time_networks(
            networks, resolution, device="cpu", runtime="onnxruntime", rounds=ROUNDS, progress=bar.update
        )
    results = [run_files.read(point.run / "result.json", "result") for point in points]
    right = [
        np.stack(
            [
                answers.Answers.load(point.run / f"seed{seed}" / answers.FILE).right
                for seed in range(point.plan.config.seeds)
            ]
        )
        for point in points
    ]
    if len({found.shape for found in right}) > 1:
        raise InputError(
            f"the points of '{run.path}' were tested on different images; move their folders away to train them anew"
        )
    best = max(range(len(points)), key=lambda number: results[number]["mean"])
    alike = as_good_as_the_best(right, best)
    rows = []
    for number, (point, result, timing, same) in enumerate(zip(points, results, timings, alike, strict=True)):
        folder, chosen = point.run.relative_to(run.path).as_posix(), point.chosen
        known = chosen.score if chosen.score and has_value(chosen.score, score_by) else None
        rows.append(
            {
                "id": point.name,
                "point": chosen.place,
                "search": road.search,
                "among": chosen.among,
                "searched": chosen.found,
                "score": known and score_value(known, score_by),
                "run": folder,
                "arch": point.plan.arch,
                **{key: result[key] for key in RESULT_KEYS},
                "below_floor": below_floor(Interval(result["mean"], *result["interval"]), floor, "") is not None,
                "latency_ms": timing.median_ms,
                "spread_ms": timing.spread_ms,
                "like_the_best": same,
                "best": number == best,
                "winner": point.chosen.place == WINNER,
                "files": f"{folder}/export",
            }
        )
    table = road.searched.latency
    return {
        "networks": rows,
        "latency": f"{conditions(OnnxRuntime('cpu', 0))}, BatchNorm folded",
        "latency_limit": f"{road.searched.limits} by a table of {table}" if table else None,
        "exported_seed": SEED,
        "search": road.search,
        "floor": {key: floor[key] for key in ("top1", "interval", "name")},
        "reach": road.note(),
        **run_dir.provenance(),
    }


def print_trade(summary: dict[str, Any], run: Path) -> None:
    """Print the table, and which point is the cheapest of those that cannot be told apart from the best."""
    rows = summary["networks"]
    cells = [
        (
            row["id"],
            row["point"],
            accuracy_text(row["test_correct"], row["test_images"]),
            trained_enough(row) or beside_the_best(row),
            f"{row['macs']:,}",
            f"{row['params']:,}",
            f"{row['latency_ms']:.3g} (IQR {row['spread_ms']:.2g})",
        )
        for row in rows
    ]
    header = ("architecture", "point", "test top-1", "beside the best", "MACs", "params", "ms, onnxruntime")
    print(cli.table(cells, header, as_is=True))
    for line in filter(None, (floor_text(summary["floor"]), not_above_sentence(rows, summary["floor"]))):
        print(line)
    print(f"latency: {summary['latency']}; exported and timed: the network of seed {summary['exported_seed']} of each")
    if summary["latency_limit"]:
        print(f"the search went by other milliseconds: {summary['latency_limit']}")
    print(cheapest_sentence(rows))
    print(f"the trade: {run / FILE}; files: {', '.join(str(run / row['files']) for row in rows)}")
