"""What the points of a frontier give and cost: each is exported and timed in ONNX Runtime, and tradeoff.json sets them side by side.

The network of seed 0 is exported and timed: choosing a seed by its test accuracy would make that accuracy too good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from spaces.errors import InputError, Stopped
from spaces.files import save_json
from trials.common import cli, run_dir, run_files
from trials.common.supernet_run import SupernetRun
from trials.evidence.comparison import as_good_as_the_best
from trials.evidence.intervals import accuracy_text
from trials.evidence.trade import beside_the_best, cheapest_sentence
from trials.export_formats import export_config, export_record
from trials.export_formats.export_network import export_network
from trials.frontier.points import Point, plan_points, train_points
from trials.networks import answers
from trials.networks.build import load_network
from trials.timing.runtimes import OnnxRuntime
from trials.timing.stopwatch import time_networks
from trials.training.dry_run import estimate_network
from trials.training.retrain_config import Config

FILE = "tradeoff.json"
SEED = 0  # whose network is exported and timed
ROUNDS = 100  # times that every network is timed


def retrain_frontier(config: Config) -> dict[str, Any] | None:
    """Train, export and time points of a frontier, write tradeoff.json and print its table; what is done is not done again.

    Args:
        config: with --frontier.
    Returns:
        The content of tradeoff.json; None for a dry run.
    Raises:
        InputError: what was asked for cannot be done.
        Stopped: a training stopped, or an exported file does not agree with its network.
    """
    run = SupernetRun.open(str(config.supernet), trained=False)
    points = plan_points(config, run)
    if points[-1].plan.recipe:
        print(points[-1].plan.recipe)
    if config.dry_run:
        plan = points[-1].plan
        networks = config.seeds * len(points)
        rounds, own = (math.ceil(number / min(config.jobs, number)) for number in (networks, config.seeds))
        print(cli.table(estimate_network(plan), ("dry run, the dearest point", ""), as_is=True))
        print(
            f"{len(points)} points of {config.seeds} trainings each: at most {rounds / own:.3g} times the hours above"
        )
        return None
    train_points(points, config.jobs)
    problems = [problem for point in points if (problem := export_point(point, config.data_root))]
    summary = compare_points(points, run)
    save_json(run.path / FILE, summary)
    print_trade(summary, run.path)
    if problems:
        raise problems[0]
    return summary


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


def compare_points(points: Sequence[Point], run: SupernetRun) -> dict[str, Any]:
    """Time the points in turns, and put together what tradeoff.json says; accuracies in percent."""
    networks = [load_network(point.run / f"seed{SEED}" / "network.pt").float() for point in points]
    resolution = points[0].plan.data.resolution
    with cli.progress(ROUNDS, desc="latency", unit="round") as bar:
        timings = time_networks(
            networks, resolution, device="cpu", runtime="onnxruntime", rounds=ROUNDS, progress=bar.update
        )
    runtime = OnnxRuntime("cpu", 0)
    threads = f"{runtime.threads} thread{'s' * (runtime.threads != 1)}"
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
    winner = run_files.read_if_there(run.path / "arc.json", "fixed arc")
    rows = [
        {
            "id": point.name,
            "run": point.run.relative_to(run.path).as_posix(),
            "arch": point.plan.arch,
            "macs": result["macs"],
            "params": result["params"],
            "mean": result["mean"],
            "interval": result["interval"],
            "test_top1": result["test_top1"],
            "test_correct": result["test_correct"],
            "test_images": result["test_images"],
            "latency_ms": timing.median_ms,
            "spread_ms": timing.spread_ms,
            "like_the_best": same,
            "best": number == best,
            "winner": point.plan.arch == winner,
            "files": f"{point.run.relative_to(run.path).as_posix()}/export",
        }
        for number, (point, result, timing, same) in enumerate(zip(points, results, timings, alike, strict=True))
    ]
    return {
        "networks": rows,
        "latency": f"one image, {runtime.name}, {threads}, onnxruntime {onnxruntime.__version__}, BatchNorm folded",
        "exported_seed": SEED,
        **run_dir.provenance(),
    }


def print_trade(summary: dict[str, Any], run: Path) -> None:
    """Print the table, and which point is the cheapest of those that cannot be told apart from the best."""
    rows = summary["networks"]
    cells = [
        (
            row["id"] + " (winner)" * row["winner"],
            accuracy_text(row["test_correct"], row["test_images"]),
            beside_the_best(row),
            f"{row['macs']:,}",
            f"{row['params']:,}",
            f"{row['latency_ms']:.3g} (IQR {row['spread_ms']:.2g})",
        )
        for row in rows
    ]
    print(cli.table(cells, ("architecture", "test top-1", "beside the best", "MACs", "params", "ms"), as_is=True))
    print(f"latency: {summary['latency']}; exported and timed: the network of seed {summary['exported_seed']} of each")
    print(cheapest_sentence(rows))
    print(f"the trade: {run / FILE}; files: {', '.join(str(run / row['files']) for row in rows)}")
