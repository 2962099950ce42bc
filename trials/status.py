"""Where a run is on the whole road: which step, how much of it is done, minutes gone, and what comes next.

    python -m trials.status runs/images

It reads files alone, in no time and without changing any: while the run is going on in another process, after a kill, and after
the end; of trials.run and of commands that were typed one by one.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

from spaces.errors import InputError
from trials.common import cli, near_runs, run_files
from trials.common.answers import answer
from trials.common.cli import option
from trials.common.commands import as_typed
from trials.road.progress import Progress, read_road
from trials.road.record import RECORD


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of trials.status."""

    positional: ClassVar[str] = "run"

    run: str = option(help="Run directory of trials.run, or of trials.supernet")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    config = cli.parse(Config, argv, __doc__, "trials.status")
    run = Path(config.run)
    if not any((run / name).exists() for name in (RECORD, "config.json")):
        raise InputError(near_runs.no_run(run, "supernet"))
    if (run / "config.json").exists():
        holds = str(run_files.read(run / "config.json", "run configuration")["command"])
        if holds != "supernet":
            raise InputError(near_runs.other_command(run, holds, "supernet"))

    road = read_road(run)
    rows = [(entry.step, entry.state, minutes_text(entry), entry.what) for entry in road.steps]
    planned = any(entry.planned is not None for entry in road.steps)
    print(cli.table(rows, ("step", "state", "minutes, of planned" if planned else "minutes", "done"), as_is=True))
    if road.gone is not None and road.left is not None:
        rest = f"{road.left:.1f} are left" if road.left >= 0 else f"{-road.left:.1f} more than planned"
        print(f"{road.gone:.1f} of {road.record['minutes']['given']:g} minutes are gone, {rest}")
    if road.running:
        print("going on in another process")
    if road.following:
        cli.say_next(road.following, road.why)
    return answer(
        "status",
        run=run,
        images=road.record.get("images"),
        running=road.running,
        steps=[dataclasses.asdict(entry) for entry in road.steps],
        minutes=road.record.get("minutes", {}).get("given"),
        gone=road.gone,
        next=as_typed(road.following) or None,
    )


def minutes_text(entry: Progress) -> str:
    """The minutes that a step took beside those planned; "" where neither is known."""
    took = "" if entry.seconds is None else f"{entry.seconds / 60:.1f}"
    return took if entry.planned is None else f"{took or '-'} of {entry.planned / 60:.1f}"


if __name__ == "__main__":
    cli.run(main)
