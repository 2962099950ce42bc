"""What the training strategies of a supernet are worth, by the real commands, on one CPU thread.

    python -m benchmarks.strategies                                 # digits; about an hour
    python -m benchmarks.strategies --data fashion-mnist            # 200 training images of each class; Debian's dataset-fashion-mnist
    python -m benchmarks.strategies --part differentiable --space proxylessnas --max-macs 5M
    python -m benchmarks.strategies --dry-run                       # the commands that are still to be run
    python -m benchmarks.strategies --smoke                         # seconds; the figures say nothing

fairness: supernets are trained by uniform sampling and by strict fairness, after the same warm start: once with equally many
weight updates, once with equally many images that go through the network. Prints the accuracy of 50 fixed random paths on
held-out images.

differentiable: each strategy searches an architecture within --max-macs. These and random architectures within the same
limit are retrained in the same way. Prints test accuracies, and how many of the random ones each strategy beats.

Every run keeps its directory under --out, and none is made twice, so that a killed benchmark goes on where it was. The
commands run one after the other in this process.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # of the commands too

import argparse
import contextlib
import gzip
import importlib
import json
import platform
import random
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import spaces
from benchmarks.common import parse
from spaces.arch import Arch, arch_id, save_arch
from spaces.cost import CostTable, measure
from spaces.errors import InputError
from spaces.files import atomic, load_json
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from trials.common import cli
from trials.common.machine import processor_name
from trials.evidence.intervals import accuracy_interval
from trials.training.retrain_result import right_answers

FASHION = Path("/usr/share/datasets/fashion-mnist")
PER_CLASS = 200  # training images of Fashion-MNIST that are kept
DIFFERENTIABLE = ("softmax", "gumbel", "gates")
SMOKE = {
    "epochs": 1,
    "warm_epochs": 0,
    "seeds": 1,
    "paths": 2,
    "score_fraction": 0.7,  # few are left to train on
    "strategies": "gumbel",
    "search": "--arch-warmup 0 --eval-paths 0",
    "random": 2,
    "retrain_epochs": 1,
    "retrain_seeds": 1,
    "out": None,  # a temporary folder
}


class Runs:
    """Run directories in `folder`, named after the options of their commands; what is complete is not run again."""

    def __init__(self, folder: Path, common: str, dry: bool) -> None:
        self.folder, self.common, self.dry, self.planned = folder, common, dry, 0

    def run(self, module: str, result: str, name: str, options: str, unnamed: str = "") -> Path:
        """Run a command unless its directory has the file `result`. Returns the directory.

        Args:
            module: of the command, in trials/.
            name: how the directory's name begins.
            unnamed: options that do not show in the directory's name.
        Raises:
            InputError: the command failed.
        """
        run = self.folder / "-".join([name, *options.replace("--", "").split()])
        if (run / result).exists():
            return run
        words = f"{options} {unnamed} --device cpu --out {quote(run)} --resume"
        command = f"{sys.executable} -m trials.{module} {words}"
        self.planned += 1
        if self.dry:
            print(command)
            return run
        run.mkdir(parents=True, exist_ok=True)
        print(f"{time.strftime('%H:%M:%S')} {run}", file=sys.stderr, flush=True)
        try:
            with (
                open(run / "output.txt", "a") as output,
                contextlib.redirect_stdout(output),
                contextlib.redirect_stderr(output),
            ):
                importlib.import_module(f"trials.{module}").main(shlex.split(words))
        except InputError as error:
            raise InputError(f"'{command}' failed ({error}); see {run / 'output.txt'}") from None
        return run


def quote(path: Path) -> str:
    """A path as a word of a command line."""
    return shlex.quote(str(path))


def cut_fashion_mnist(source: Path, folder: Path) -> None:
    """Write Fashion-MNIST with the first PER_CLASS training images of each class; all test images stay."""
    kinds = ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz")
    names = [f"{part}-{kind}" for part in ("train", "t10k") for kind in kinds]
    if not all((source / name).exists() for name in names):
        raise InputError(
            f"'{source}' lacks Fashion-MNIST; apt-get install dataset-fashion-mnist, or give --fashion FOLDER"
        )
    if all((folder / name).exists() for name in names):
        return
    files = {name: gzip.decompress((source / name).read_bytes()) for name in names}
    images = np.frombuffer(files[names[0]], np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(files[names[1]], np.uint8, offset=8)
    kept = np.sort(np.concatenate([np.flatnonzero(labels == label)[:PER_CLASS] for label in range(10)]))
    files[names[0]] = np.array([2051, len(kept), 28, 28], ">i4").tobytes() + images[kept].tobytes()
    files[names[1]] = np.array([2049, len(kept)], ">i4").tobytes() + labels[kept].tobytes()
    for name, content in files.items():
        with atomic(folder / name) as temporary:
            temporary.write_bytes(gzip.compress(content))


def read_lines(run: Path, name: str) -> list[dict[str, Any]]:
    """The entries of a file of a run with one JSON object in each line."""
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def mean_and_deviation(values: Sequence[float]) -> str:
    """Mean and standard deviation, where there are several."""
    deviation = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def fairness(runs: Runs, args: argparse.Namespace, table: CostTable) -> None:
    """Train supernets by uniform sampling and by strict fairness, and print the accuracies of fixed paths."""
    fair_paths = max(len(candidates) for candidates in table.choices.values())  # that a strictly fair step trains
    epochs, warm = args.epochs, args.warm_epochs
    longer = warm + fair_paths * (epochs - warm)
    # (strategy, epochs, passes of an image through the network in an epoch) -> accuracies of the paths, for each seed
    accuracies: dict[tuple[str, int, int], list[list[float]]] = {
        ("uniform", epochs, 1): [],
        ("strict-fair", epochs, fair_paths): [],
        ("uniform", longer, 1): [],
    }
    for seed in range(args.seeds):
        for (strategy, length, _), of_seeds in accuracies.items():
            # the warm start is given as a part of the run, and is equally long in all three
            options = f"--strategy {strategy} --epochs {length} --warm-start {warm / length:.6g} --seed {seed}"
            watch = f"--eval-paths {args.paths} --eval-every {length}"
            run = runs.run("supernet", "supernet.pt", "fairness", options, f"{runs.common} {watch}")
            if not runs.dry:
                logged = [line["fixed_paths"] for line in read_lines(run, "log.jsonl") if "fixed_paths" in line]
                of_seeds.append(logged[-1])
    if runs.dry:
        return
    rows = []
    for (strategy, length, passes), of_seeds in accuracies.items():
        over_paths = [[function(paths) for paths in of_seeds] for function in (statistics.mean, min, statistics.stdev)]
        rows.append((strategy, length, warm + passes * (length - warm), *map(mean_and_deviation, over_paths)))
    header = ("strategy", "epochs", "passes", "mean %", "min %", "std over paths")
    print(f"\nfairness: {args.paths} fixed paths on held-out images, {warm} epochs of warm start in each run")
    print("passes: how often each image goes through the network; epochs: weight updates / steps per epoch")
    print(f"n = {args.seeds} seeds, mean +- standard deviation over seeds")
    print(cli.table(rows, header, as_is=True))


def differentiable(runs: Runs, args: argparse.Namespace, table: CostTable) -> None:
    """Retrain the architectures that the differentiable strategies find, and random ones, and print their accuracies."""
    # search
    warm = args.warm_epochs / args.epochs
    options = f"--max-macs {args.max_macs} --epochs {args.epochs} --warm-start {warm:.6g} {args.search}".strip()
    searches = {
        (strategy, seed): runs.run(
            "supernet", "arc.json", "search", f"--strategy {strategy} {options} --seed {seed}", runs.common
        )
        for strategy in args.strategies.split(",")
        for seed in range(args.search_seeds)
    }
    if runs.dry and runs.planned:
        print(f"then retrain {len(searches)} architectures that were found and {args.random} random ones")
        return

    # retrain what was found, and random architectures within the same limit
    supernet = next(iter(searches.values()))
    feasible, generator = FeasibleSpace(table, Limits.of({"max_macs": args.max_macs})), random.Random(0)
    random_archs: dict[str, Arch] = {}
    while len(random_archs) < args.random:
        arch = feasible.sample(generator)
        random_archs[arch_id(arch)] = arch

    def retrain(arch: Arch) -> Any:
        path = runs.folder / "architectures" / f"{arch_id(arch)}.json"
        save_arch(path, arch)
        options = f"--epochs {args.retrain_epochs} --seeds {args.retrain_seeds}"
        unnamed = f"--fixed-arc {quote(path)} --supernet {quote(supernet)}"
        run = runs.run("retrain", "result.json", f"retrain-{arch_id(arch)}", options, unnamed)
        return None if runs.dry else load_json(run / "result.json", "result")

    searched = {key: retrain(load_json(run / "arc.json", "architecture")) for key, run in searches.items()}
    at_random = [retrain(arch) for arch in random_archs.values()]
    if runs.dry:
        return

    # the tables
    means = [result["mean"] for result in at_random]
    low, median, high = np.percentile(means, (25, 50, 75))
    print(f"\ndifferentiable: {runs.common} {options}, retrained for {args.retrain_epochs} epochs")
    print(f"{len(means)} random architectures within {feasible.limits}, test top-1 % (n = {args.retrain_seeds} seeds):")
    print(
        f"median {median:.2f}, quartiles {low:.2f} and {high:.2f}, lowest {min(means):.2f}, highest {max(means):.2f}; "
        f"standard deviation over architectures {statistics.stdev(means):.2f}"
        + (f", over seeds {within(at_random + list(searched.values())):.2f}" if args.retrain_seeds > 1 else "")
    )
    rows = []
    for (strategy, seed), result in searched.items():
        most_probable = load_json(searches[strategy, seed] / "most_probable.json", "most probable architecture")
        probabilities = read_lines(searches[strategy, seed], "probabilities.jsonl")[-1]["probabilities"].values()
        beaten = sum(result["mean"] > mean for mean in means)
        each = ", ".join(f"{top1:.1f}" for top1 in result["test_top1"])
        accuracy = str(accuracy_interval(right_answers(result), result["test_images"]))
        row = (strategy, seed, accuracy, each, f"{beaten} of {len(means)}", f"{result['macs']:,}")
        rows.append(
            (*row, f"{most_probable['macs_without_limit']:,}", f"{statistics.mean(map(max, probabilities)):.2f}")
        )
    header = ("strategy", "seed", "top-1 %", "each seed", "beats", "MACs", "without limit", "largest p")
    print(cli.table(rows, header, as_is=True))
    print("largest p: the probability of a choice's most probable candidate, mean over choices")


def within(results: Sequence[dict[str, Any]]) -> float:
    """Standard deviation of one network, given its architecture: pooled over the architectures."""
    return statistics.mean(statistics.variance(result["test_top1"]) for result in results) ** 0.5


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is not complete yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("fairness", "differentiable", "both"), default="both")
    parser.add_argument("--data", choices=("digits", "fashion-mnist"), default="digits")
    parser.add_argument("--fashion", type=Path, default=FASHION, help="folder of the four files of Fashion-MNIST")
    parser.add_argument("--space", default="spos", help="search space; its preset is tiny")
    parser.add_argument("--epochs", type=int, default=20, help="of a supernet")
    parser.add_argument("--warm-epochs", type=int, default=6, help="of them, in the warm start")
    parser.add_argument("--score-fraction", type=float, default=0.25, help="of the training images, held out")
    parser.add_argument("--seeds", type=int, default=2, help="fairness: of supernets")
    parser.add_argument("--paths", type=int, default=50, help="fairness: fixed paths")
    parser.add_argument("--strategies", default=",".join(DIFFERENTIABLE), help="differentiable: which, with commas")
    parser.add_argument("--search-seeds", type=int, default=1, help="differentiable: searches of each strategy")
    parser.add_argument("--search", default="", help='differentiable: more options, such as --search="--arch-lr 0.2"')
    parser.add_argument("--max-macs", default="3.2M", help="differentiable: limit of the architectures")
    parser.add_argument("--random", type=int, default=20, help="differentiable: random architectures")
    parser.add_argument("--retrain-epochs", type=int, default=5, help="differentiable: of each network")
    parser.add_argument("--retrain-seeds", type=int, default=2, help="differentiable: networks of each architecture")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-strategies"), help="folder of all runs")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands that are left to run")
    args = parse(parser, argv, SMOKE)

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        common = f"--space {args.space} --preset tiny --data {args.data} --score-fraction {args.score_fraction}"
        if args.data == "fashion-mnist":
            root = folder / f"fashion-mnist-{PER_CLASS}"
            cut_fashion_mnist(args.fashion, root)
            common += f" --data-root {quote(root)}"
        table = measure(spaces.describe(args.space, "tiny", classes=10))
        runs = Runs(folder / args.data / args.space, common, args.dry_run)
        if not args.dry_run:
            print(
                f"{common}; one thread of {os.cpu_count()} x {processor_name()}; python {platform.python_version()}, "
                + ", ".join(f"{name} {version(name)}" for name in ("torch", "nni"))
            )
        if args.part != "differentiable":
            fairness(runs, args, table)
        if args.part != "fairness":
            differentiable(runs, args, table)


if __name__ == "__main__":
    cli.run(main, resumes=False)
