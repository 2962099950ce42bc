"""A run that is not there: what makes one, and which of like names there are."""

from __future__ import annotations

import contextlib
import difflib
import shlex
from collections.abc import Sequence
from pathlib import Path

from spaces.errors import NEAREST, InputError, shown
from trials.common import run_files, typed


def no_run(run: str | Path, command: str) -> str:
    """The message for a folder that holds no run, or is not there: how to make one, and the runs beside it of like names.

    Args:
        command: whose run it shall be, such as "supernet".
    """
    there = nearest_runs(Path(run), command)
    others = f"; or name one that is there: {', '.join(there)}" if there else ""
    state, place = "does not exist", str(run)
    if Path(run).exists():
        state = "holds no run"
        if not (Path(run).is_dir() and not any(Path(run).iterdir())):  # other files are there, such as images
            place = "runs/mine" if not Path("runs/mine").exists() else typed.free_name("runs/mine")
    return f"'{shown(str(run))}' {state}; make one with: python -m trials.{command} --out {shown(place)}{others}"


def other_command(run: Path, holds: str, command: str) -> str:
    """The message for a run of another command: the runs of this one that lie in it, or that it lies in, else those beside it.

    Args:
        run: that was named.
        holds: whose run it is.
        command: whose run it shall be.
    """
    within = sorted(path.parent for path in (*run.glob("*/config.json"), *run.glob("*/*/config.json")))
    above = [folder for folder in (run.parent, run.parent.parent) if (folder / "config.json").exists()]
    found = of_command([*sorted(within, key=lambda folder: len(folder.parts)), *above], command)
    first = "" if found or (holds, command) != ("supernet", "retrain") else f"first: {retrains_winner(run)}"
    found = found or nearest_runs(run, command)
    named = f"name one that is there: {', '.join(found)}" if found else f"make one with: python -m trials.{command}"
    if first:
        named = f"{first}; or {named}" if found else first
    return f"'{shown(str(run))}' holds a run of {holds}, not of {command}; {named}"


def retrains_winner(run: Path) -> str:
    """The command that trains the winner of a supernet's run from scratch; after what must come before it."""
    retrain = ["python", "-m", "trials.retrain", "--fixed-arc", str(run / "arc.json"), "--supernet", str(run)]
    steps = [] if (run / "supernet.pt").exists() else [typed.go_on(run)]
    steps += [] if (run / "arc.json").exists() else [shlex.join(["python", "-m", "trials.search", str(run)])]
    return " && ".join([*steps, shlex.join(retrain)])


def weights_of(word: str) -> str:
    """What to give as --weights where a folder was named without it: of a supernet's run the network that was retrained in it.

    Raises:
        InputError: it is a supernet's run without one, with the command that trains it; or its configuration is damaged.
    """
    run = Path(word)
    if not (run / "config.json").is_file():
        return word
    holds = run_files.read(run / "config.json", "run configuration").get("command")
    if holds != "supernet":
        return word
    found = of_command([path.parent for path in sorted(run.glob("retrain*/config.json"))], "retrain")
    if not found:
        raise InputError(other_command(run, holds, "retrain"))
    return found[0]


def nearest_runs(run: Path, command: str) -> list[str]:
    """Runs of a command beside a folder, else in runs/, those of the nearest names first; at most NEAREST."""
    beside = run.parent if any(run.parent.glob("*/config.json")) else Path("runs")
    folders = [path.parent for path in beside.glob("*/config.json")]
    folders.sort(key=lambda path: (-difflib.SequenceMatcher(None, path.name, run.name).ratio(), path.name))
    return of_command(folders, command)


def of_command(folders: Sequence[Path], command: str) -> list[str]:
    """Those of some folders that hold a run of a command; the first NEAREST."""
    found: list[str] = []
    for folder in folders:
        with contextlib.suppress(InputError):  # a damaged file is no run to be named
            if run_files.read(folder / "config.json", "run configuration").get("command") == command:
                found.append(str(folder))
        if len(found) == NEAREST:
            break
    return found
