"""How long a trial takes from its start to its end under NNI: with the warm evaluator, and as a process of its own.

    python -m benchmarks.trial_turnaround runs/digits
    python -m benchmarks.trial_turnaround runs/digits --smoke      # half a minute of NNI's starts; the figures say nothing

Real experiments on a run of trials.supernet, one trial at a time, run in turn: ordinary NNI trials (`import nni` as it is,
PyTorch, the score in the trial), ours without the warm evaluator (--no-warm), and ours with it. Seconds are those of whole
processes, as the shell measures them. The first trial of each experiment is left out, because it starts the evaluator and
reads files that the later ones find in memory. Give --calibration-images so that a score takes about as long as yours do.
"""

from __future__ import annotations

import argparse
import re
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from spaces.files import load_json
from trials.common import cli

ROOT = Path(__file__).resolve().parent.parent
WAYS = {
    "ordinary trial": "python -m benchmarks.trial_turnaround --ordinary trials.evaluate {} --no-warm",
    "ours, cold": "python -m trials.evaluate {} --no-warm",
    "ours, warm": "python -m trials.evaluate {}",
}


def measure(run: Path, way: str, trials: int, images: str, seed: int) -> tuple[list[float], list[float]]:
    """Seconds of each trial's process, and of the score in it."""
    import yaml

    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "run"
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("nni", "search", "evaluator", "retrain", "*.yml"))
        content = yaml.safe_load((ROOT / "experiments" / "spos_random.yml").read_text())
        content["tuner"]["codeDirectory"] = str(ROOT)
        content["tuner"]["classArgs"] = {"cost_table": str(copy / "cost_table.json"), "seed": seed}
        content |= {
            "searchSpaceFile": str(copy / "search_space.json"),
            "trialCodeDirectory": str(ROOT),
            "trialCommand": "time -p " + WAYS[way].format(f"--run {copy} {images}"),
            "experimentWorkingDirectory": str(copy / "nni"),
            "maxTrialNumber": trials + 1,
            "trialConcurrency": 1,
        }
        path = copy / "experiment.yml"
        path.write_text(yaml.safe_dump(content))
        subprocess.run([sys.executable, "-m", "trials.search", str(path)], cwd=ROOT, check=True, capture_output=True)
        found = {log.resolve() for log in copy.glob("nni/*/environments/*/trials/*/trial.stderr")}  # _latest is a link
        logs = sorted(found, key=lambda log: log.stat().st_mtime)
        seconds = [float(re.findall(r"^real ([\d.]+)$", log.read_text(), re.M)[-1]) for log in logs]
        scores = [load_json(path, "score") for path in (copy / "search").glob("*.json")]
        scores.sort(key=lambda score: score["finished"])
        return seconds[1:], [score["seconds"] for score in scores[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "run", type=Path, help="run of trials.supernet, of a space that experiments/spos_random.yml fits"
    )
    parser.add_argument("--trials", type=int, default=5, help="of each way in a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--calibration-images", type=int, default=640)
    parser.add_argument("--scoring-images", type=int, default=256)
    given = parser.parse_args()
    images = f"--calibration-images {given.calibration_images} --scoring-images {given.scoring_images}"
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    inside: dict[str, list[float]] = {way: [] for way in WAYS}
    with cli.progress(given.rounds * len(WAYS), desc="experiments", unit="experiment") as bar:
        for seed in range(given.rounds):
            for way in WAYS:
                whole, scores = measure(given.run, way, given.trials, images, seed)
                seconds[way] += whole
                inside[way] += scores
                bar.update()
    warm = statistics.median(seconds["ours, warm"])
    rows = []
    for way, values in seconds.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        middle = statistics.median(values)
        rows.append((way, f"{middle:.2f}", spread, f"{statistics.median(inside[way]):.2f}", f"{middle / warm:.2f}"))
    print(cli.table(rows, ("trial", "seconds", "lowest to highest", "of which the score", "ratio to warm"), as_is=True))
    print(f"n = {given.rounds * given.trials} trials each, medians")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ordinary"]:
        import nni  # noqa: F401

        sys.argv = sys.argv[2:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        cli.run(main)
