"""How long a trial takes from its start to its end under NNI: with the warm evaluator, and as a process of its own.

    python -m benchmarks.trial_turnaround runs/digits
    python -m benchmarks.trial_turnaround runs/digits --smoke      # one trial of each; the figures say nothing

Real experiments on a run of trials.supernet, one trial at a time, run in turn: ordinary NNI trials (`import nni` as it is,
PyTorch, the score in the trial), ours without the warm evaluator (--no-warm), and ours with it. Seconds are those of whole
processes, as the shell measures them. The first trial of each experiment is left out, because it starts the evaluator and
reads files that the later ones find in memory. Give --calibration-images so that a score takes about as long as yours do.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.common import parse
from spaces.files import CLONE, load_json
from trials import search
from trials.common import cli

WAYS = {
    "ordinary trial": "python -m benchmarks.ordinary_trial trials.evaluate {} --no-warm",
    "ours, cold": "python -m trials.evaluate {} --no-warm",
    "ours, warm": "python -m trials.evaluate {}",
}
SMOKE = {
    "ways": ["ordinary trial", "ours, warm"],
    "trials": 1,
    "warm_up": 0,
    "rounds": 1,
    "calibration_images": 64,
    "scoring_images": 64,
}


def run_experiment(
    run: Path, command: str, trials: int, warm_up: int, images: str, seed: int
) -> tuple[list[float], list[float]]:
    """Search with a copy of a run.

    Args:
        command: of a trial, one of WAYS.
        trials: that count, after `warm_up` others.
        images: options of trials.evaluate that say how many.
    Returns:
        Seconds of each trial's process, and of the score in it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "run"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("nni", "search", "evaluator", "retrain", "*.yml"))
        content = yaml.safe_load((CLONE / "experiments" / "spos_random.yml").read_text())
        content["tuner"]["codeDirectory"] = str(CLONE)
        content["tuner"]["classArgs"] = {"cost_table": str(copy / "cost_table.json"), "seed": seed}
        content |= {
            "searchSpaceFile": str(copy / "search_space.json"),
            "trialCodeDirectory": str(CLONE),
            "trialCommand": "time -p " + command.format(f"--run {copy} {images}"),
            "experimentWorkingDirectory": str(copy / "nni"),
            "maxTrialNumber": warm_up + trials,
            "trialConcurrency": 1,
        }
        path = copy / "experiment.yml"
        path.write_text(yaml.safe_dump(content))
        output = Path(scratch) / "output.txt"
        with open(output, "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            search.main([str(path)])
        logs = {log.resolve() for log in copy.glob("nni/*/environments/*/trials/*/trial.stderr")}  # _latest is a link
        in_order = sorted(logs, key=lambda log: log.stat().st_mtime)
        seconds = [float(re.findall(r"^real ([\d.]+)$", log.read_text(), re.M)[-1]) for log in in_order]
        scores = [load_json(path, "score") for path in (copy / "search").glob("*.json")]
        scores.sort(key=lambda score: score["finished"])
        return seconds[warm_up:], [score["seconds"] for score in scores[warm_up:]]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the experiments in turn, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "run", type=Path, help="run of trials.supernet, of a space that experiments/spos_random.yml fits"
    )
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="which trials are compared")
    parser.add_argument("--trials", type=int, default=5, help="of each way in a round")
    parser.add_argument("--warm-up", type=int, default=1, help="trials that are left out before them")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--calibration-images", type=int, default=640)
    parser.add_argument("--scoring-images", type=int, default=256)
    args = parse(parser, argv, SMOKE)
    images = f"--calibration-images {args.calibration_images} --scoring-images {args.scoring_images}"
    seconds: dict[str, list[float]] = {way: [] for way in args.ways}
    in_score: dict[str, list[float]] = {way: [] for way in args.ways}
    with cli.progress(args.rounds * len(args.ways), desc="experiments", unit="experiment") as bar:
        for seed in range(args.rounds):
            for way in args.ways:
                whole, scores = run_experiment(args.run, WAYS[way], args.trials, args.warm_up, images, seed)
                seconds[way] += whole
                in_score[way] += scores
                bar.update()
    last = args.ways[-1]
    rows = []
    for way, values in seconds.items():
        lowest_to_highest = f"{min(values):.2f} to {max(values):.2f}"
        median = statistics.median(values)
        score = f"{statistics.median(in_score[way]):.2f}"
        rows.append(
            (way, f"{median:.2f}", lowest_to_highest, score, f"{median / statistics.median(seconds[last]):.2f}")
        )
    print(
        cli.table(rows, ("trial", "seconds", "lowest to highest", "of which the score", f"ratio to {last}"), as_is=True)
    )
    print(f"n = {args.rounds * args.trials} trials each, medians")


if __name__ == "__main__":
    cli.run(main)
