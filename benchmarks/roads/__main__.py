"""Whole roads by the README's own commands, with defaults alone: do they end above the floor, and with which verdict?

    python -m benchmarks.roads                          photographs and fashion, one after the other; minutes each on two cores
    python -m benchmarks.roads digits                   the quickstart: `make search`, timed, and its figures
    python -m benchmarks.roads photographs --nni        the search in NNI instead of --in-process
    python -m benchmarks.roads --table                  the table of docs/results.md, from the roads that were run
    python -m benchmarks.roads --smoke                  seconds, on two dozen images; the figures say nothing

The images are made anew by benchmarks/roads/folders.py, always the same ones. Everything goes to --work: images/ROAD, the run
in ROAD/, what the commands printed in ROAD.log, and ROAD.json with every command, its seconds and the machine's load when it ended,
and the figures that benchmarks/roads/figures.py reads from the run. Exit code 1 where a road stops, ends without a verdict, or its
winner is below the floor that needs no deep learning.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import parse
from benchmarks.roads import figures, folders
from spaces.errors import InputError
from spaces.files import CLONE, load_json, save_json
from trials.common import cli, run_dir

ROADS = ("digits", "photographs", "fashion")
SMOKE_COUNTS = {"building": 12, "flower": 12, "cell mono": 12}
# step -> words that make it short for --smoke
SMOKE_WORDS = {
    "supernet": ("--epochs", "2", "--batch-size", "16", "--eval-paths", "1"),
    "search": ("--max-trials", "3"),
    "retrain": ("--epochs", "1", "--batch-size", "16"),
    "certify": ("--random", "2", "--seeds", "1", "--jobs", "1"),
}


def commands(run: Path, images: Path, *, nni: bool, smoke: bool) -> list[list[str]]:
    """The commands of the README's road on an image folder, each as the words after `python -m trials.`."""
    sheet = run.with_name(f"{run.name}-check.png")
    options = ["--data", "folder", "--data-root", str(images), "--warm-start", "0.3"]
    # the certificate trains its networks as RUN/retrain was trained
    short = ["retrain", "--fixed-arc", str(run / "arc.json"), "--supernet", str(run)]
    steps = [
        ["data", "check", str(images), "--out", str(sheet)],
        ["supernet", *options, "--out", str(run)],
        ["search", str(run), *([] if nni else ["--in-process"])],
        *([short] if smoke else []),
        ["certify", str(run)],
        ["report", str(run)],
    ]
    return [[*words, *(SMOKE_WORDS.get(words[0], ()) if smoke else ())] for words in steps]


def take_step(words: Sequence[str], log: Path, *, here: bool) -> dict[str, Any]:
    """Run one command, and append what it prints to the log.

    Args:
        words: the command and its arguments.
        here: call it in this process, which saves the imports.
    Returns:
        "command", "exit", "seconds", and "load": the load average of the last minute at its end.
    """
    line = f"python -m trials.{shlex.join(words)}" if words[0] != "make" else shlex.join(words)
    print(f"$ {line}", flush=True)
    began = time.perf_counter()
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"$ {line}\n")
        file.flush()
        if here:
            code = 0
            with contextlib.redirect_stdout(file):
                importlib.import_module(f"trials.{words[0]}").main(list(words[1:]))
        else:
            program = list(words) if words[0] == "make" else [sys.executable, "-m", f"trials.{words[0]}", *words[1:]]
            code = subprocess.run(program, cwd=CLONE, stdout=file, stderr=subprocess.STDOUT).returncode
        seconds, load = time.perf_counter() - began, os.getloadavg()[0]
        file.write(f"[exit {code} after {seconds:.0f} s, load {load:.1f}]\n\n")
    print(f"  exit {code} after {seconds:.0f} s, load {load:.1f}", flush=True)
    return {"command": line, "exit": code, "seconds": seconds, "load": load}


def take_road(name: str, work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Go one road from its images to its report, and write WORK/NAME.json.

    Raises:
        InputError: images to make folders of are missing.
    """
    log, run = work / f"{name}.log", work / name
    log.unlink(missing_ok=True)
    if name == "digits":
        run = Path("runs/quickstart")
        if run.exists():
            raise InputError(
                f"'{run}' is there already, and make search would not do again what it holds; move it away"
            )
        steps = [["make", "search"]]
    else:
        images = work / "images" / name
        for old in (images, run):
            shutil.rmtree(old, ignore_errors=True)
        if name == "fashion":
            folders.make_fashion(images, Path(args.fashion_mnist))
        elif args.smoke:
            folders.make_photographs(images, counts=SMOKE_COUNTS)
        else:
            folders.make_photographs(images, Path(args.fashion_mnist))
        steps = commands(run, images, nni=args.nni, smoke=args.smoke)
    taken = []
    for words in steps:
        taken.append(take_step(words, log, here=args.smoke))
        if taken[-1]["exit"]:
            print(f"  see {log}")
            break
    road = {"road": name, "steps": taken, "machine": run_dir.provenance(), "figures": figures.figures_of(run)}
    save_json(work / f"{name}.json", road)
    return road


def main(argv: Sequence[str] | None = None) -> None:
    """Take the roads, and print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roads", nargs="*", metavar="ROAD", help=f"of {', '.join(ROADS)}")
    parser.add_argument("--work", default="runs/roads", help="folder that everything is written to")
    parser.add_argument("--nni", action="store_true", help="search in NNI, with its manager")
    parser.add_argument("--fashion-mnist", default=str(folders.FASHION_MNIST), help="folder of its four .gz files")
    parser.add_argument("--table", action="store_true", help="only print the table of the roads in --work")
    args = parse(parser, argv, {})
    unknown = [name for name in args.roads if name not in ROADS]
    if unknown:
        raise InputError(f"unknown road '{unknown[0]}'; choose from: {', '.join(ROADS)}")
    if args.smoke:
        with tempfile.TemporaryDirectory() as folder:
            return print_table([take_road("photographs", Path(folder), args)])
    work = Path(args.work)
    if args.table:
        taken = [load_json(path, "road") for name in ROADS if (path := work / f"{name}.json").exists()]
    else:
        taken = [take_road(name, work, args) for name in args.roads or ("photographs", "fashion")]
    print_table(taken)
    for road in taken:
        figures.check(road)


def print_table(taken: Sequence[dict[str, Any]]) -> None:
    """Print a row for each road."""
    print(cli.table(figures.table_rows(taken), figures.HEADER, as_is=True))


if __name__ == "__main__":
    cli.run(main)
