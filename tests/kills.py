"""Commands that are killed at random moments and run again: nothing may be lost, nothing may be left behind.

    python -m tests.kills --kills 30 --seed 0                    every command in turn
    python -m tests.kills --kills 4 --only export report

Each kill has a place of its own: a fresh copy of what the command works on, with its own home, cache and folder for temporary
files. The command is killed (SIGKILL) at a moment drawn from the time that it takes alone; every second time all processes that
it has started are killed with it. Then it is run again, to the end. What stands in the place must be what an undisturbed
command leaves there, but for times; and no process, socket, lock or temporary file may be left.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import random
import re
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from tests.commands import Command
from tests.experiments import ENVIRONMENT, SMALL, experiment, free_port

GOES = 30.0  # seconds after which what a command has started must have ended by itself
# what differs between two undisturbed runs: times, and what is named after them
TIMES = (
    "seconds",
    "finished",
    "started",
    "time",
    "pid",
    "id",
    "experiment",
    "images_per_second",
    "measured",
    "typed",
    "commit",
    "trials",
)
# figures of a clock; and what NNI keeps of its experiments, resumed or not
UNLIKE = r"run/(nni|evaluator|cache/\.)|.*\.(html|log|jpg)$|.*/tb/|table\.(json|svg)$|run/test-|run/experiment\.json"
# what ONNX Runtime, torch and NNI keep for good: the mark of a session, caches, settings, experiments and their list
THEIRS = r"tmp/(\.ses|torchinductor_)|cache/Microsoft|home/(\.config|nni-experiments/\.experiment)|run/nni/"
RECIPE = ["--epochs", "1", "--batch-size", "256", "--lr", "0.05", "--checkpoint-every", "2", "--device", "cpu"]
SUPERNET = ["--space", "spos", "--preset", "tiny", "--data", "digits", "--resolution", "16", "--epochs", "2"]
SUPERNET += ["--batch-size", "128", "--warm-start", "0", "--device", "cpu", "--out", "{run}"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A command to be killed.

    Attributes:
        base: folder of `make_bases` that becomes PLACE/run; "" for none.
        words: of the command; {run} and {place} stand for the folders.
        prints: whether what it prints must be the same, too.
        prepare: writes what it needs more; returns words that are added.
    """

    command: str
    base: str
    words: Sequence[str]
    prints: bool = False
    prepare: Callable[[Path], list[str]] = lambda place: []


def _experiment(place: Path) -> list[str]:
    """A search of six architectures by NNI, two trials at a time."""
    trial = "python -m trials.evaluate"
    return [str(experiment(place / "run", trial=trial, classArgs=SMALL, maxTrialNumber=6, trialConcurrency=2))]


CASES = {
    "supernet": Case("supernet", "", [*SUPERNET, "--checkpoint-every", "4", "--resume"]),
    "search": Case("search", "supernet", ["--resume"], prepare=lambda place: [*_experiment(place), "--port", str(free_port())]),
    "search in process": Case("search", "supernet", ["{run}", "--in-process", "--max-trials", "5", "--resume"]),
    "evaluate": Case("evaluate", "searched", ["--run", "{run}", "--arch", "{run}/arc.json"], prints=True, prepare=lambda place: _forget_scores(place)),
    "retrain": Case("retrain", "searched", ["--fixed-arc", "{run}/arc.json", "--supernet", "{run}", *RECIPE, "--seeds", "2", "--jobs", "2", "--resume"]),
    "retrain --top": Case("retrain", "searched", ["--supernet", "{run}", "--top", "2", *RECIPE, "--jobs", "2", "--resume"]),
    "certify": Case("certify", "retrained", ["{run}", "--random", "2", "--seeds", "1", "--jobs", "2", "--device", "cpu"]),
    "export": Case("export", "retrained", ["--weights", "{run}/retrain"], prints=True),
    "report": Case("report", "retrained", ["{run}"], prints=True),
    "latency": Case("latency", "", ["--space", "spos", "--preset", "tiny", "--device", "cpu", "--threads", "1", "--rounds", "6", "--networks", "20", "--out", "{place}/table.json"]),
    "data": Case("data", "", ["check", "{place}/photos", "--out", "{place}/sheet.png"], prints=True, prepare=lambda place: _photos(place)),
}  # fmt: skip


def _forget_scores(place: Path) -> list[str]:
    for name in ("search", "cache"):
        shutil.rmtree(place / "run" / name)
    return []


def _photos(place: Path) -> list[str]:
    from tests.conftest import make_tree

    (place / "photos").mkdir()
    make_tree(place / "photos")
    return []


def make_bases(folder: Path) -> None:
    """What the commands work on, each in a folder of its own: a supernet, with a search, with a retrained winner."""
    from trials import retrain, search, supernet

    supernet.main([word.format(run=folder / "supernet") for word in SUPERNET])
    shutil.copytree(folder / "supernet", folder / "searched")
    search.main([str(folder / "searched"), "--in-process", "--max-trials", "5"])
    shutil.copytree(folder / "searched", folder / "retrained")
    retrained = folder / "retrained"
    retrain.main(["--fixed-arc", str(retrained / "arc.json"), "--supernet", str(retrained), *RECIPE])


class Place:
    """A copy of what a command works on, with its own home, cache and temporary files.

    Args:
        place: the folder, which must not be there.
        bases: what `make_bases` has filled.
    """

    def __init__(self, place: Path, case: Case, bases: Path) -> None:
        self.path, self.case, self.mark = place, case, f"{place}/tmp"
        for name in ("tmp", "home", "cache"):
            (place / name).mkdir(parents=True)
        if case.base:
            shutil.copytree(bases / case.base, place / "run")
        added = case.prepare(place)
        words = [word.format(run=place / "run", place=place) for word in case.words]
        self.words = words[:1] + added + words[1:] if case.command == "data" else added + words

    def start(self) -> Command:
        own = {"TMPDIR": self.mark, "HOME": f"{self.path}/home", "XDG_CACHE_HOME": f"{self.path}/cache"}
        return Command(f"trials.{self.case.command}", *self.words, environment={**ENVIRONMENT, **own})

    def finish(self) -> str:
        """Run the command to its end. Returns what it printed."""
        command = self.start()
        output, errors = command.communicate()
        assert command.returncode == (1 if self.case.command == "data" and "error" in errors else 0), output + errors
        assert "Traceback" not in output + errors, output + errors
        return output.replace(str(self.path), "PLACE")

    def processes(self) -> list[psutil.Process]:
        """What was started here and is alive."""
        alive = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("TMPDIR") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
        return alive

    def kill(self, command: Command, *, everything: bool) -> None:
        """Kill the command's process, or all that it has started, too."""
        victims = self.processes() if everything else []
        command.kill()
        for process in victims:
            with contextlib.suppress(psutil.Error):
                process.kill()
        command.wait()

    def left_behind(self) -> list[str]:
        """Processes, sockets, locks, temporary files and drafts that are there though nothing runs any more."""
        end = time.monotonic() + GOES
        while self.processes() and time.monotonic() < end:
            time.sleep(0.1)
        found = [f"process {' '.join(process.cmdline())}" for process in self.processes()]
        for path in self.path.rglob("*"):
            name = str(path.relative_to(self.path))
            temporary = re.fullmatch(r"\..*|.*\.(lock|sock|tmp|draft)", path.name)
            ours = not re.match(THEIRS, name)
            if path.is_socket() or (ours and (name.startswith("tmp/") or temporary)):
                found.append(name)
        return sorted(found)

    def contents(self) -> dict[str, str]:
        """What stands there, but for times: name of a file -> what it holds, or a hash of that."""
        found = {}
        for path in sorted(self.path.rglob("*")):
            name = str(path.relative_to(self.path))
            if path.is_file() and not re.match(r"(home|cache|tmp)/", name):
                found[name] = "" if re.match(UNLIKE, name) else self._content(path)
        return {
            name: content
            for name, content in found.items()
            if not re.match(r"run/(nni/|evaluator/)", name) and "tfevents" not in name
        }

    def _content(self, path: Path) -> str:
        if path.suffix == ".pt":
            return _hash(_plain(torch.load(path, map_location="cpu", weights_only=True)))
        if path.suffix in (".json", ".jsonl"):
            lines = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
            return json.dumps([_without_times(json.loads(line)) for line in lines]).replace(str(self.path), "PLACE")
        if path.suffix in (".npz", ".pt2"):
            with zipfile.ZipFile(path) as archive:
                return _hash([(name, archive.read(name)) for name in archive.namelist()])
        return hashlib.sha256(path.read_bytes().replace(str(self.path).encode(), b"PLACE")).hexdigest()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(entry) for key, entry in value.items() if key not in TIMES}
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, dict):
        return [(str(key), _plain(entry)) for key, entry in value.items() if key not in TIMES]
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _hash(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


@dataclasses.dataclass
class Undisturbed:
    """What a command leaves, prints and takes when nobody kills it."""

    contents: dict[str, str]
    printed: str
    seconds: float


def undisturbed(name: str, bases: Path, folder: Path) -> Undisturbed:
    place = Place(folder / f"{name} alone".replace(" ", "-"), CASES[name], bases)
    began = time.monotonic()
    printed = place.finish()
    seconds = time.monotonic() - began
    left = place.left_behind()
    assert not left, f"{name}, undisturbed, leaves {left}"
    return Undisturbed(place.contents(), printed, seconds)


def kill_once(name: str, number: int, moment: float, alone: Undisturbed, bases: Path, folder: Path) -> str:
    """Kill a command, run it again, and compare.

    Args:
        number: of the kill; at odd ones all processes are killed.
        moment: of the time that it takes alone, 0 to 1.
    Returns:
        What was seen, as a line of a table.
    Raises:
        AssertionError: something was lost, differs or is left behind.
    """
    place = Place(folder / f"{name} {number}".replace(" ", "-"), CASES[name], bases)
    command = place.start()
    time.sleep(moment * alone.seconds)
    ended = command.poll()
    place.kill(command, everything=number % 2 == 1)
    at_once = sorted({str(path.relative_to(place.path)) for path in place.path.rglob(".*")})
    printed = place.finish()
    what = f"{name}, kill {number} after {moment * alone.seconds:.1f} s of {alone.seconds:.1f}"
    left = place.left_behind()
    assert not left, f"{what}: left behind: {left}"
    contents = place.contents()
    different = {key for key in contents.keys() | alone.contents.keys() if contents.get(key) != alone.contents.get(key)}
    assert not different, (
        f"{what}: different: {[(key, contents.get(key), alone.contents.get(key)) for key in sorted(different)]}"
    )
    if CASES[name].prints:
        assert _last_lines(printed) == _last_lines(alone.printed), what
    shutil.rmtree(place.path)
    had = "had ended" if ended is not None else f"left {len(at_once)} to clear away" if at_once else "left nothing"
    return f"{what}: {had}"


def _last_lines(text: str) -> list[str]:
    """What was printed but for times and bars."""
    return [re.sub(r"[\d.]+ (s|ms|KB)\b", "", line) for line in text.splitlines() if "%|" not in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=CASES, default=[*CASES])
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="onepath-kills-"))
    if not (folder / "bases").exists():
        (folder / "bases.new").mkdir(parents=True)
        make_bases(folder / "bases.new")
        (folder / "bases.new").rename(folder / "bases")
    draw, alone, faults = random.Random(given.seed), {}, 0
    for number in range(given.kills):
        name = given.only[number % len(given.only)]
        try:
            if name not in alone:
                alone[name] = undisturbed(name, folder / "bases", folder)
            print(kill_once(name, number, draw.random(), alone[name], folder / "bases", folder), flush=True)
        except AssertionError as error:
            faults += 1
            print(f"FAULT {name} {number}: {error}", flush=True)
    print(f"{given.kills} kills, {faults} faults; {folder}")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
