"""A run that is not there: what makes one, and which of like names there are."""

from __future__ import annotations

import contextlib
import difflib
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


def nearest_runs(run: Path, command: str) -> list[str]:
    """Runs of a command beside a folder, else in runs/, those of the nearest names first; at most NEAREST."""
    beside = run.parent if any(run.parent.glob("*/config.json")) else Path("runs")
    folders = [path.parent for path in beside.glob("*/config.json")]
    folders.sort(key=lambda path: (-difflib.SequenceMatcher(None, path.name, run.name).ratio(), path.name))
    found: list[str] = []
    for folder in folders:
        with contextlib.suppress(InputError):  # a damaged file is no run to be named
            if run_files.read(folder / "config.json", "run configuration").get("command") == command:
                found.append(str(folder))
        if len(found) == NEAREST:
            break
    return found
