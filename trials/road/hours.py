"""About how many hours a road takes, asked of a process of its own: `measure_hours` loads torch, and trials.run does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple


class Hours(NamedTuple):
    """What a step takes.

    Attributes:
        step: name of its command.
        hours: about.
        what: of which it is.
    """

    step: str
    hours: float
    what: str


def ask(steps: Sequence[Sequence[str]]) -> list[Hours] | str:
    """Measure in a process of its own; arguments as for `measure_hours.measure`.

    Returns:
        The hours; or why they are not known, in a sentence.
    """
    command = [sys.executable, "-m", "trials.road.measure_hours", json.dumps([*map(list, steps)])]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return f"a few steps could not be timed (exit code {done.returncode})"
    return found if isinstance(found, str) else [Hours(*entry) for entry in found]


def text(found: Sequence[Hours]) -> str:
    """All of it in one line."""
    parts = ", ".join(f"{step} {hours:.2f}" for step, hours, _ in found)
    return f"about {sum(entry.hours for entry in found):.2f} hours in all, by a few timed steps: {parts}"
