"""Runs that were moved: what their files say about places, as it is now."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spaces.arch import arch_id
from trials.common import run_files


def relocated(path: str | Path, was: str | Path, now: str | Path) -> Path:
    """Where a path leads now that the folder `was` is `now`: the same place in that folder, or the path itself outside of it."""
    inside = os.path.relpath(path, was)
    return Path(path) if inside.split(os.sep)[0] == ".." else Path(now, inside)


def supernet_of(run: str | Path, stored: Mapping[str, Any]) -> Path | None:
    """The supernet's run that a run of trials.retrain belongs to, also where both were moved together; None where to none.

    Args:
        run: where the retraining is now.
        stored: what `load_run` returned for it.
    """
    supernet, out = stored.get("supernet"), stored.get("out")
    if not supernet:
        return None
    if out:
        above = os.path.relpath(supernet, out)  # such as .. for RUN/retrain
        now = Path(os.path.normpath(Path(run, above)))
        if set(above.split(os.sep)) == {".."} and (now / "config.json").exists():
            return now
    return Path(supernet)


def winners_folder(run: Path, winner: object, suffix: str = "") -> Path:
    """Where an architecture is retrained in a run: retrain/, unless that holds another one, as of an earlier search.

    Args:
        winner: the architecture, as arc.json holds it.
        suffix: of the folder's name, for networks that do not start from fresh weights.
    """
    usual = run / f"retrain{suffix}"
    held = run_files.read_if_there(usual / "arc.json", "fixed arc", winner)
    if held == winner or not isinstance(winner, dict) or not isinstance(held, dict) or held.keys() != winner.keys():
        return usual  # of another form or space: whoever trains there refuses it
    return run / f"retrain-{arch_id(winner)}{suffix}"


def follow(command: str, was: str | Path | None, run: str | Path) -> str:
    """A command that was kept in a run, with the place where the run is now.

    Args:
        was: where the run was then; None where that is not known.
    """
    try:
        words = {word for word in shlex.split(command) if os.sep in word or word == str(was)} if was else set()
    except ValueError:  # an open quote: no command line
        return command
    for word in words:
        now = relocated(word, str(was), run)
        if now != Path(word):
            there = rf"(?<!\S){re.escape(shlex.quote(word))}(?!\S)"
            command = re.sub(there, lambda _, now=now: shlex.quote(str(now)), command)  # type: ignore[misc]
    return command
