"""What was timed for a road, kept beside its run for an hour: a second try, with other --minutes, answers at once and by the same figures."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from spaces.files import load_json, save_json
from trials.common import machine, run_dir
from trials.images.options import IN_MEMORY
from trials.road import hours
from trials.road.hours import Rates, Work

FILE = "timings.json"  # in the folder of runs
LONGEST = 3600.0  # seconds; a machine that is shared has other work to do by then
MOST = 20  # timings in a file, the newest
BUSY = 1.0  # load for each core before the timing from which other work shares the cores


def timed(steps: Sequence[Sequence[str]], out: str, images: str, file: str, why: str = "") -> tuple[Rates, Work] | str:
    """As `hours.ask`, or what that answered for the same steps within the last hour; how busy the machine was is said.

    Args:
        steps: the words of all steps.
        out: the run; the timings are kept beside it.
        images: a folder, or a data set.
        file: of --config; "" where none is given.
        why: what follows "timing a few steps" where that is said.
    """
    path, key, now = Path(out).parent / FILE, _key(steps, out, images, file), time.time()
    entries = {name: entry for name, entry in _entries(path).items() if 0 <= now - entry["at"] < LONGEST}
    if key in entries:
        with contextlib.suppress(TypeError, ValueError):  # of another version
            entry = entries[key]
            rates, work = Rates(**entry["rates"]), Work(**entry["work"])
            age = now - entry["at"]
            ago = f"{_minutes(age)} ago" if age >= 60 else "just now"
            print(f"timed {ago}{_busy(entry['load'])}; this counts for {_minutes(LONGEST - age)} more", flush=True)
            return replace(rates, taken=0.0), work
    print(f"timing a few steps{why}", flush=True)
    load = _load()
    found = hours.ask(steps)
    if isinstance(found, str):
        return found
    rates, work = found
    if busy := _busy(load):
        print(f"timed{busy}", flush=True)
    entries[key] = {"at": time.time(), "load": load, "rates": asdict(rates), "work": asdict(work)}
    newest = sorted(entries.items(), key=lambda item: item[1]["at"])[-MOST:]
    with contextlib.suppress(OSError):  # it is needed for nothing else
        save_json(path, dict(newest))
    return rates, work


def _minutes(seconds: float) -> str:
    """A time in minutes, one at least."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} minute{'s' * (minutes != 1)}"


def _load() -> float:
    """How many processes want to run for each core, on average over the last minute."""
    return os.getloadavg()[0] / machine.usable_cores()


def _busy(load: float) -> str:
    """That other work ran beside the timing, in words; "" where none did."""
    if load < BUSY:
        return ""
    return f" beside other work ({load:.1f} processes for each core): without it the steps take less, with more of it longer"


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    """What a file of timings holds; nothing where it cannot be read, or is none."""
    try:
        content = load_json(path, "timings of a road")
    except InputError:
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {
        name: entry
        for name, entry in entries
        if isinstance(entry, dict) and all(isinstance(entry.get(part), int | float) for part in ("at", "load"))
    }


def _key(steps: Sequence[Sequence[str]], out: str, images: str, file: str) -> str:
    """What a timing depends on: options, images, machine, versions; not the name of the run, and not the minutes."""
    words = [[word.replace(out, "RUN") if word.startswith(out) else word for word in step] for step in steps]
    provenance = run_dir.provenance()
    del provenance["started"], provenance["threads"]  # the load decides how many
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
    options = Path(file).read_text(encoding="utf-8") if file else ""
    known = [words, provenance, threads, options, _folders(images), run_dir.begun(out), os.uname().nodename]
    return hashlib.sha256(json.dumps(known, default=str).encode()).hexdigest()[:16]


def _folders(images: str) -> list[tuple[str, int]]:
    """The folders of images down to the second level, and when something was last added to or removed from each, nanoseconds."""
    if images in IN_MEMORY:
        return []
    found, level = [], [Path(images)]
    for _ in range(3):
        found += level
        level = sorted(Path(entry.path) for folder in level for entry in os.scandir(folder) if entry.is_dir())
    return [(str(folder.resolve()), folder.stat().st_mtime_ns) for folder in found]
