"""How fast images come: our loaders against torchvision's ImageFolder with PIL, as the official SPOS code reads ImageNet.

    python -m benchmarks.data                        CPU: images/s of all loaders, training and scoring
    python -m benchmarks.data --device cuda --workers 16    decoding on the GPU against that many processes
    python -m benchmarks.data --step --device cuda   what part of a supernet step's time is waiting for images
    python -m benchmarks.data --listing 1300000      memory and time until the first batch of a folder as large as ImageNet

Images: JPEG crops of 300 to 500 pixels from scikit-learn's two photographs, made in a temporary folder (quality 90, about
as many bytes per pixel as ImageNet's). Loaders run in turn, whole epochs with their start-up, normalised float batches on
the device; medians and the median of the ratios of neighbouring runs. `jitter` adds SPOS's colour jitter of 0.4.
"""

from __future__ import annotations

import argparse
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import trials  # noqa: F401 (sets how OpenMP waits)
from trials.images.dataset import STATISTICS
from trials.images.load import load_data
from trials.images.options import DataOptions

BATCH, RESOLUTION = 64, 224


def make_tree(folder: Path, count: int) -> None:
    """ImageNet-shaped: train/ with `count` images, val/ with as many."""
    from sklearn.datasets import load_sample_images

    images = [Image.fromarray(image) for image in load_sample_images().images]
    draw = np.random.default_rng(0)
    for part in ("train", "val"):
        for number in range(count):
            image = images[number % 2]
            height, width = draw.integers(300, 427), draw.integers(300, 500)
            top, left = draw.integers(0, image.height - height), draw.integers(0, image.width - width)
            place = folder / part / f"class{number % 2}" / f"{number}.JPEG"
            place.parent.mkdir(parents=True, exist_ok=True)
            image.crop((left, top, left + width, top + height)).save(place, quality=90)


def peer(root: Path, part: str, jitter: float, workers: int, device: torch.device) -> int:
    """torchvision's ImageFolder, PIL transforms, DataLoader: the usual training script. Returns: images read."""
    from torchvision import datasets, transforms

    mean, std = STATISTICS["folder"]
    finish = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    if part == "train":
        change = [transforms.RandomResizedCrop(RESOLUTION), transforms.RandomHorizontalFlip()]
        change += [transforms.ColorJitter(jitter, jitter, jitter)] if jitter else []
    else:
        change = [transforms.Resize(256), transforms.CenterCrop(RESOLUTION)]
    data = datasets.ImageFolder(str(root / part), transforms.Compose(change + finish))
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=part == "train", num_workers=workers)
    return sum(len(images.to(device)) for images, _ in loader)


def ours(loader: str, root: Path, part: str, jitter: float, workers: int, device: torch.device, epoch: int) -> int:
    """One epoch of our data set. Returns: images read."""
    options = DataOptions(data="folder", data_root=str(root), loader=loader, workers=workers, color_jitter=jitter)
    data = load_data(options, RESOLUTION, score_fraction=0.01)
    data.to(device)
    if part == "train":
        return sum(len(images) for images, _ in data.train_batches("all", BATCH, seed=0, epoch=epoch))
    return sum(len(data.normalise(images.to(device))) for images, _ in data.eval_batches("test", BATCH))


def speed(read: Callable[[], int], device: torch.device) -> float:
    """Images per second."""
    began = time.perf_counter()
    count = read()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - began)


def loaders(root: Path, rounds: int, workers: int, device: torch.device) -> None:
    from trials.common import cli

    rows = []
    for part, jitter in (("train", 0.0), ("train", 0.4), ("val", 0.0)):
        found: dict[str, list[float]] = {"torchvision ImageFolder": [], "ours, torchvision": [], "ours, dali": []}
        for epoch in range(rounds):
            found["torchvision ImageFolder"].append(speed(partial(peer, root, part, jitter, workers, device), device))
            for loader in ("torchvision", "dali"):
                read = partial(ours, loader, root, part, jitter, workers, device, epoch)
                found[f"ours, {loader}"].append(speed(read, device))
        reference = found["torchvision ImageFolder"]
        for name, speeds in found.items():
            ratios = [a / b for a, b in zip(speeds, reference, strict=True)]
            what = part + (", jitter" if jitter else "")
            span = f"{min(ratios):.2f} to {max(ratios):.2f}"
            rows.append((what, name, f"{statistics.median(speeds):.0f}", f"{statistics.median(ratios):.2f}", span))
    header = ("part", "loader", "images/s", "ratio", f"single rounds (n = {rounds})")
    print(cli.table(rows, header, as_is=True))


def step(root: Path, workers: int, device: torch.device, batch: int, steps: int) -> None:
    """Share of a supernet step (SPOS, 224x224) that waits for images."""
    from trials import supernet
    from trials.training import supernet_config, supernet_plan
    from trials.training.supernet_trainer import SupernetTrainer

    flags = ["--data", "folder", "--data-root", str(root), "--loader", "dali", "--workers", str(workers)]
    flags += ["--batch-size", str(batch), "--epochs", "1000", "--device", device.type, "--out", "unused"]
    config = supernet.cli.parse(supernet_config.Config, flags, None, "trials.supernet")
    import spaces
    from spaces.cost import measure
    from spaces.spec import SpaceSpec
    from strategies.feasible import FeasibleSpace

    data = load_data(config, RESOLUTION, score_fraction=0.01)
    options = {"classes": len(data.classes), "resolution": RESOLUTION}
    chain = spaces.describe("spos", "imagenet", **options)
    table = measure(chain)
    paths = supernet_plan.make_paths(config, chain, FeasibleSpace(table, config.limits()), data)
    if steps + 5 > data.steps_per_epoch("train", batch):  # else the start of an epoch counts more than it does
        raise SystemExit(f"give --images {int((steps + 6) * batch * 1.02)} or more, so that all steps are of one epoch")
    trainer = SupernetTrainer(config, data, SpaceSpec("spos", "imagenet", options), table, paths)
    batches = trainer.batches(0)
    waiting = working = 0.0
    for number in range(steps + 5):
        began = time.perf_counter()
        images, labels, _ = next(batches)
        here = time.perf_counter()
        trainer.step(number, images, labels)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 5:
            waiting, working = waiting + here - began, working + time.perf_counter() - here
    share, rate = waiting / (waiting + working), steps * batch / (waiting + working)
    print(f"{steps} steps of {batch} images: {rate:.0f} images/s, {share:.1%} of the time waits for images")


def listing(folder: Path, count: int) -> None:
    """A tree of hard links; the scan is given as done before, with a digest of its own for each link."""
    from trials.images.inspect_file import inspect_image
    from trials.images.scan import COLUMNS, TABLE

    make_tree(folder / "few", 60)
    few = sorted((folder / "few").rglob("*.JPEG"))  # a file can have 65,000 links
    known = [inspect_image(str(path)) for path in few]
    stamps = [(path.stat().st_size, path.stat().st_mtime_ns) for path in few]
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    (folder / "cache" / "onepath").mkdir(parents=True)
    print(f"making {count:,} links", flush=True)
    with sqlite3.connect(folder / "cache" / "onepath" / "scan.sqlite") as cache:
        cache.execute(f"CREATE TABLE {TABLE} ({COLUMNS})")
        for label in range(1000):
            place = folder / "tree" / f"n{label:08d}"
            place.mkdir(parents=True)
            rows = []
            for number in range(label, count, 1000):
                path = place / f"n{label:08d}_{number}.JPEG"
                os.link(few[number % len(few)], path)
                rows.append((os.fsencode(path), *stamps[number % len(few)], *known[number % len(few)][:-1], number))
            cache.executemany(f"INSERT INTO {TABLE} VALUES ({','.join('?' * 9)})", rows)
    for loader in ("dali", "torchvision"):
        for again in (False, True):
            subprocess.run(
                [sys.executable, "-m", "benchmarks.data", "--start", str(folder), loader, str(again)], check=True
            )


def start(folder: Path, loader: str, again: bool) -> None:
    """In a process of its own: time and memory until the first training batch and the first scoring batch."""
    began = time.perf_counter()
    options = DataOptions(data="folder", data_root=str(folder / "tree"), loader=loader, workers=2)
    run = folder / loader
    data = load_data(options, RESOLUTION, score_fraction=0.1, run=run)
    opened = time.perf_counter() - began
    next(data.train_batches("train", BATCH, seed=0, epoch=0))
    next(data.eval_batches("score", BATCH))
    whole = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    run.mkdir(exist_ok=True)
    data.save(run)
    what = "list of the run" if again else "scan done before"
    total = sum(data.size(part) for part in ("all", "test"))
    print(
        f"{loader}, {what}: {total:,} images, opened in {opened:.1f} s, first batches after {whole:.1f} s, peak memory "
        f"{peak:.2f} GiB, of the largest worker {child:.2f} GiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1200, help="in training and in scoring")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--step", action="store_true")
    parser.add_argument("--batch-size", type=int, default=256, help="of --step")
    parser.add_argument("--steps", type=int, default=50, help="of --step")
    parser.add_argument("--listing", type=int, default=0)
    parser.add_argument("--start", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    device = torch.device(given.device)
    if given.start:
        start(Path(given.start[0]), given.start[1], given.start[2] == "True")
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        if given.listing:
            listing(root, given.listing)
            return
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        make_tree(root / "images", given.images)
        if given.step:
            step(root / "images", given.workers, device, given.batch_size, given.steps)
        else:
            loaders(root / "images", given.rounds, given.workers, device)


if __name__ == "__main__":
    main()
