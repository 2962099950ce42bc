"""Experiments for the tests: shipped YAMLs turned to the supernet of the tests, and what NNI leaves behind."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import yaml

from spaces.files import load_json
from tests.commands import ROOT
from trials.search_driver import nni_manager

ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
IMAGES = "--calibration-images 256 --scoring-images 128"
SMALL = {"population": 4, "top_k": 2, "mutation": 2, "crossover": 1}  # arguments of EvolutionTuner


# nnictl gives its manager four seconds to start, which a busy machine exceeds, and which nothing outside its code sets.
NNICTL = """import sys
from nni.experiment import launcher
from nni.tools.nnictl.nnictl import parse_args
launcher._check_rest_server.__defaults__ = (300, None)  # tries, one a second
sys.exit(parse_args())
"""


def nnictl(*arguments: object) -> str:
    """NNI's command line, in a process of its own, with more patience. Returns what it wrote."""
    line = [sys.executable, "-c", NNICTL, *map(str, arguments)]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def experiment(run: Path, name: str = "quickstart.yml", trial: str = "python -m trials.evaluate", **changes) -> Path:
    """A copy of a shipped YAML for the supernet of the tests, beside that supernet.

    Args:
        trial: the trial's command, without its arguments.
        changes: keys of the YAML; classArgs are added to those there.
    """
    content = yaml.safe_load((ROOT / "experiments" / name).read_text())
    tuner = content["tuner"]
    tuner["classArgs"] = {**tuner.get("classArgs", {}), **changes.pop("classArgs", {})}
    if str(tuner["classArgs"].get("cost_table")).startswith("runs/"):  # the shipped one, of the run that it names
        tuner["classArgs"]["cost_table"] = str(run / "cost_table.json")
    if "codeDirectory" in tuner:
        tuner["codeDirectory"] = str(ROOT)
    content |= {
        "searchSpaceFile": str(ROOT / "experiments/spaces/spos-tiny.json"),
        "trialCodeDirectory": str(ROOT),
        "trialCommand": f"{trial} --run {run} {IMAGES}",
        "experimentWorkingDirectory": str(run / "nni"),
        "maxTrialNumber": 3,
        **changes,
    }
    path = run / f"test-{len(list(run.glob('test-*')))}.yml"
    path.write_text(yaml.safe_dump(content))
    return path


def copy_run(run: Path, to: Path) -> Path:
    """A fresh copy of a supernet run, so that no test sees another's scores."""
    shutil.copytree(
        run,
        to,
        ignore=shutil.ignore_patterns("nni", "search", "search.json", "test-*", "experiment.json", ".search.lock"),
    )
    return to


def log_without_times(run: Path) -> list[dict]:
    """log.jsonl of a training, but for what a clock says."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def events(folder: Path) -> dict[str, list[int]]:
    """TensorBoard's tags -> their steps, of all event files of a folder as they stand, whatever a viewer would leave out."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    steps: dict[str, list[int]] = {}

    def begun(file: Path) -> tuple[int, int]:
        """The second, and the number within the process: of one second file 10 comes after file 9."""
        parts = file.name.split(".")
        return int(parts[3]), int(parts[-1])

    for file in sorted(folder.glob("events*"), key=begun):
        read = EventAccumulator(str(file), size_guidance={"scalars": 0, "images": 0}, purge_orphaned_data=False)
        read.Reload()
        for tag in read.Tags()["scalars"]:
            steps.setdefault(tag, []).extend(event.step for event in read.Scalars(tag))
        for tag in read.Tags()["images"]:
            steps.setdefault(tag, []).extend(event.step for event in read.Images(tag))
        for tag in read.Tags()["tensors"]:
            steps.setdefault(tag, []).append(0)
    return steps


def scores(run: Path) -> dict[str, dict]:
    """The stored scores of a run, by id of the architecture."""
    return {path.stem: load_json(path, "") for path in (run / "search").glob("*.json")}


def left_behind(run: Path) -> list[str]:
    """Processes of the experiments of a run that are alive."""
    names = [path.name for path in (run / "nni").iterdir() if not path.is_symlink()] if (run / "nni").exists() else []
    return [" ".join(process.cmdline()) for name in names for process in nni_manager.processes_of(name)]


def metric(data: str) -> dict:
    """NNI wraps a metric in JSON twice."""
    return json.loads(json.loads(data))
