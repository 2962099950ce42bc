"""Where a road is, by the files of its run alone: it may be going on in another process, have been killed, or be at its end.

The steps may have been done by trials.run or by commands of their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spaces.files import read_jsonl
from trials.common import cli, locks, near_runs, places, run_dir, run_files, typed
from trials.evidence.comparison import verdict_text
from trials.evidence.intervals import Interval, percent
from trials.road import longer
from trials.road.minutes import minutes_left
from trials.road.record import RECORD, begun_strategy, seconds_of_killed
from trials.training.start_options import retrain_folder
from trials.training.strategy_options import DIFFERENTIABLE

COMPLETE, GOING_ON, BEGUN, TO_COME, LEFT_OUT = "complete", "going on", "begun", "to come", "left out"


@dataclass(frozen=True)
class Progress:
    """How far a step is.

    Attributes:
        step: name of its command.
        state: one of the constants of this module.
        what: of it that is done, in words.
        seconds: that it took, of all attempts; None where trials.run did not do it.
        planned: seconds that --minutes planned for it; None without them.
    """

    step: str
    state: str
    what: str
    seconds: float | None
    planned: float | None


@dataclass(frozen=True)
class Road:
    """How far a road is.

    Attributes:
        steps: in their order.
        running: whether a process works on it.
        record: road.json; {} where the steps were done by commands of their own.
        gone, left: minutes of --minutes that are gone and left, with those of the step that is going on; None without them.
        following: the command that comes next; "" while a process works on the road, and where none does.
        why: what that is good for; "" where it goes without saying.
    """

    steps: list[Progress]
    running: bool
    record: dict[str, Any]
    gone: float | None
    left: float | None
    following: str
    why: str


def read_road(run: Path) -> Road:
    """Read how far a road is.

    Raises:
        InputError: a file of the run is damaged.
    """
    record = run_files.read_if_there(run / RECORD, "record of a road", {})
    running, plan, began = is_running(run), record.get("minutes", {}), record.get("began")
    taken = dict(record.get("taken", {})) if running else seconds_of_killed(run, record)
    if began and running:  # its time is written when it ends
        taken[began["step"]] = taken.get(began["step"], 0.0) + max(0.0, time.time() - began["at"])
    steps, going = [], False
    for step, done, what in _found(run, record):
        worked_at = step in taken or (began and began["step"] == step)
        state = COMPLETE if done else BEGUN if what or worked_at else TO_COME
        if longer.left_out(step, str(run), record):
            state = LEFT_OUT
        elif not done and running and not going:
            state, going = GOING_ON, True
        steps.append(Progress(step, state, what, taken.get(step), plan.get("seconds", {}).get(step)))
    left = minutes_left(plan, taken) if plan else None
    gone = None if left is None else plan["given"] - left
    following, why = ("", "") if running else _following(run, record, steps)
    return Road(steps, running, record, gone, left, following, why)


def is_running(run: Path) -> bool:
    """Whether a process works on a run, or on a network in it."""
    folders = (run, *run.glob("retrain*"), *run.glob("controls/*"))
    return any(locks.is_held(lock) for folder in folders for lock in folder.glob(".*.lock"))


def _found(run: Path, record: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """Each step, whether it is complete, and how far it is in words."""
    if "data" in record.get("steps", {}) or (run / "check.png").exists():
        yield "data", (run / "check.png").exists(), ""
    yield "supernet", (run / "supernet.pt").exists(), _supernet_text(run)
    summary, winner = run_files.read_if_there(run / "search.json", "search summary"), (run / "arc.json").exists()
    scored = len(summary["history"] if summary else [*run.glob("search/*.json")])  # the certificate scores some more
    if summary or begun_strategy(run) not in DIFFERENTIABLE:  # what is learned is not searched
        yield "search", winner, f"{scored:,} architectures scored" * bool(scored)
    network = retrain_folder(run / "arc.json", "")
    trained = (network / "result.json").exists() and not longer.stands_short(network, record)
    yield "retrain", trained, _retrain_text(network)
    yield "certify", (run / "certificate.json").exists(), _certify_text(run)
    export = network / "export" / "export.json"
    yield "export", export.exists(), str(export.parent) if export.exists() else ""
    # the search and the certificate write a report as well: the road's is of the exported files
    report, exported = run / "report.html", export.exists()
    after = exported and report.exists() and report.stat().st_mtime >= export.stat().st_mtime
    yield "report", after, str(report) if after else ""


def _supernet_text(run: Path) -> str:
    """How far the training of a supernet is, or of several of consecutive seeds, in words."""
    folders = sorted(run.glob("supernets/seed*"), key=lambda path: int(path.name.removeprefix("seed")))
    now = _epochs(folders[-1], run) if folders else _epochs(run)
    if not (run / "config.json").exists():
        return now
    wanted = run_dir.supernets_of(run_files.read(run / "config.json", "run configuration")["config"])
    return f"supernet {len(folders) + 1} of {wanted}: {now}" if now and wanted > 1 else now


def _epochs(run: Path, home: Path | None = None) -> str:
    """How many epochs of a training are done, in words; "" where it has not begun.

    Args:
        home: the folder with its options; found where it is None.
    """
    path = run / "log.jsonl"
    lines = [line["epoch"] for line in (read_jsonl(path) if path.exists() else []) if "epoch" in line]
    if home is None:
        home = run if (run / "config.json").exists() else run.parent  # a seed is trained by the options of its network
    if not lines or not (home / "config.json").exists():
        return ""
    wanted = run_files.read(home / "config.json", "run configuration")["config"].get("epochs")
    return f"{lines[-1]:.4g} of {wanted:,} epochs" if wanted else f"{lines[-1]:.4g} epochs"


def _retrain_text(network: Path) -> str:
    if (network / "result.json").exists():
        result = run_files.read(network / "result.json", "result")
        return f"test top-1 {percent(Interval(result['mean'], *result['interval']))}, {len(result['test_top1'])} seeds"
    parts = []
    for folder in sorted(network.glob("seed*"), key=lambda path: int(path.name.removeprefix("seed"))):
        done = (folder / "result.json").exists()
        parts.append(f"seed {folder.name.removeprefix('seed')} {'trained' if done else _epochs(folder)}".strip())
    return ", ".join(parts)


def _certify_text(run: Path) -> str:
    if (run / "certificate.json").exists():
        return verdict_text(run_files.read(run / "certificate.json", "certificate")["verdict"])
    controls = [path for path in run.glob("controls/*") if (path / "config.json").exists()]
    if not controls:
        return ""
    seeds = [run_files.read(path / "config.json", "run configuration")["config"].get("seeds", 1) for path in controls]
    done = sum(len([*path.glob("seed*/result.json")]) for path in controls)
    return f"{done:,} of {sum(seeds):,} trainings beside the winner's"


def _following(run: Path, record: Mapping[str, Any], steps: list[Progress]) -> tuple[str, str]:
    """The command that comes next, and why: that of the road, else of the first step that is not complete."""
    left = [entry.step for entry in steps if entry.state not in (COMPLETE, LEFT_OUT)]
    if not left:
        network = retrain_folder(run / "arc.json", "")
        if longer.left_out("certify", str(run), record):
            _, command, why = longer.without_certificate(str(run), network, record)
            return command, why
        verdict = run_files.read(run / "certificate.json", "certificate")["verdict"]
        if "trials.export" in verdict["next"]:
            return "", ""
        return places.follow(verdict["next"], record.get("out"), run), verdict["why"]
    if record.get("typed"):
        return places.follow(record["typed"], record.get("out"), run), f"goes on with {left[0]}"
    first = {
        "search": cli.command("search", run, *(["--resume"] if (run / "search").is_dir() else [])),
        "certify": cli.command("certify", run),
        "export": cli.command("export", "--weights", retrain_folder(run / "arc.json", "")),
        "report": cli.command("report", run),
    }
    if left[0] == "supernet":
        return typed.go_on(run), ""
    network = retrain_folder(run / "arc.json", "")
    if left[0] == "retrain":
        return (typed.go_on(network) if run_dir.begun(network) else near_runs.retrains_winner(run)), ""
    return first.get(left[0], ""), ""
