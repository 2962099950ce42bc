"""How fast candidates of the SPOS space are scored on a GPU, in each precision. Never run on a GPU so far.

    python -m benchmarks.gpu                               # one GPU of at least 24 GB, 224 px
    python -m benchmarks.gpu --precisions bf16 --calibration 25600 --batch-size 512
    python -m benchmarks.gpu --device cpu --small          # the same code with tiny numbers, on a CPU, about a minute

The candidates are the 50 of generation 5 of `EvolutionTuner` with the paper's numbers, told the stand-in scores of
benchmarks/evaluation.py, in one tree of prefixes. The weights are random, and so are the images: coarse patches of colour
with noise, uint8, in the GPU's memory, normalised batch by batch. Per precision, with 2,560 and 25,600 calibration and 8,000
scoring images:

  - candidates per minute, and how many times faster that is than a few of the candidates one by one, the official way, in
    32 bits, from the same images (PyTorch's defaults, so convolutions may use TF32 on both sides)
  - images/s of the calibration pass and of the scoring pass: candidates times images, by wall-clock between synchronisations
  - the share of the memory-bound limit. The limits are arithmetic for an H100 (3.35 TB/s) and 16 bits: 72,000 forward passes
    a second with BatchNorm in train mode and 179,000 with BatchNorm folded, half of that with 32 bits; for another GPU in
    proportion to its bandwidth, where the driver tells it. What the tree shares is no forward pass: images/s are first
    multiplied by the bytes that the nodes of the tree write over those that the candidates would write one by one
  - hours of a whole search of 1,050 candidates: as long for each byte written in its trees as in generation 5

Then how far precisions are apart: the largest logit difference on the first scoring batch over the standard deviation, and
how many of the ten best candidates remain. There are no labels, so "best" means the candidate whose answers are most often
those that most of the candidates give in the first precision: it says whether a ranking moves, not how good anyone is. An untrained
network has nearly tied classes, so answers change more readily than in a trained one (benchmarks/calibration.py compares
precisions on a trained supernet).
Last, the ten most expensive kernels of one calibration batch and one scoring batch of the tree.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import spaces
from benchmarks.evaluation import (
    SCORES,
    all_costs,
    generations,
    make_judge,
    official_shuffle,
    one_by_one,
    random_weights,
    tally,
)
from spaces.arch import Arch
from spaces.chain import Chain
from spaces.errors import InputError, unknown
from trials.common import cli
from trials.common.distributed import use_cuda
from trials.images.dataset import normalise
from trials.scoring.prefix_tree import ARITHMETIC, Parts, PrefixTree

# forward passes of one image at 224 px per second, 16 bits, if an H100 only moved the bytes; arithmetic, not a measurement
H100_BYTES_PER_SECOND = 3.35e12
H100_CALIBRATION, H100_SCORING = 72_000, 179_000
SEARCH = 21  # generations of 50: 1,050 candidates
SMALL = {
    "resolution": 64,
    "archs": 4,
    "calibration": "32,64",
    "scoring": 32,
    "batch_size": 16,
    "one_by_one": 1,
}


@dataclass(frozen=True)
class Shares:
    """Bytes written by trees, in calibration and in scoring, of one image each."""

    alone: np.ndarray  # (2,) by the candidates one by one, with our forward
    tree: np.ndarray  # (2,) by the tree
    search: np.ndarray  # (2,) by all trees of a search

    @property
    def part(self) -> np.ndarray:
        return self.tree / self.alone


@dataclass(frozen=True)
class Timing:
    """Seconds for all candidates together."""

    build: float
    calibration: float
    scoring: float

    @property
    def total(self) -> float:
        return self.build + self.calibration + self.scoring


class Images:
    """Random uint8 images on the device, (number, 3, R, R)."""

    def __init__(self, number: int, resolution: int, batch_size: int, device: torch.device, seed: int) -> None:
        generator = torch.Generator(device).manual_seed(seed)
        self.batch_size = batch_size
        self.images = torch.empty(number, 3, resolution, resolution, dtype=torch.uint8, device=device)
        for chunk in self.images.split(batch_size):
            coarse = torch.rand(len(chunk), 3, 8, 8, device=device, generator=generator)
            patches = F.interpolate(coarse, (resolution, resolution), mode="bilinear")
            noise = torch.rand(chunk.shape, device=device, generator=generator)
            chunk.copy_((patches * 0.8 + noise * 0.2) * 255)

    def batches(self, first: int, number: int) -> Iterator[torch.Tensor]:
        """Whole normalised batches."""
        for start in range(first, first + number - self.batch_size + 1, self.batch_size):
            yield normalise(self.images[start : start + self.batch_size], "folder", spos=False)


def now(device: torch.device) -> float:
    """The time when all that was begun on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.no_grad()
def score(
    parts: Parts, archs: Sequence[Arch], images: Images, calibration: int, scoring: int
) -> tuple[Timing, torch.Tensor, torch.Tensor]:
    """Score candidates in one tree.

    Returns:
        Times; logits (K, N, classes) of the first scoring batch, on the CPU; answers (K, images).
    """
    began = now(parts.device)
    tree = PrefixTree(parts, archs)
    built = now(parts.device)
    tree.calibrate(images.batches(0, calibration))
    calibrated = now(parts.device)
    logits: dict[int, torch.Tensor] = {}
    answers: list[list[torch.Tensor]] = [[] for _ in archs]
    for x in images.batches(calibration, scoring):
        for number, y in tree.logits(x):
            logits.setdefault(number, y)
            answers[number].append(y.argmax(1))
    scored = now(parts.device)
    timing = Timing(built - began, calibrated - built, scored - calibrated)
    first = torch.stack([logits[number] for number in range(len(archs))]).cpu()
    return timing, first, torch.stack([torch.cat(found) for found in answers]).cpu()


def official_seconds(
    chain: Chain,
    weights: dict[str, torch.Tensor],
    archs: Sequence[Arch],
    images: Images,
    calibration: int,
    scoring: int,
) -> float:
    """Seconds per candidate, one by one; a batch is made when it is needed, as in the tree."""

    class Batches:
        """Made anew for every candidate, like those of a data loader; nothing is kept."""

        def __init__(self, first: int, number: int) -> None:
            self.range = first, number

        def __iter__(self) -> Iterator[torch.Tensor]:
            return (x.contiguous() for x in images.batches(*self.range))

    device, size = images.images.device, images.batch_size
    with official_shuffle():
        one_by_one(chain, weights, archs[:1], Batches(0, size), Batches(0, size))  # kernels are chosen
        began = now(device)
        one_by_one(chain, weights, archs, Batches(0, calibration), Batches(calibration, scoring))
        return (now(device) - began) / len(archs)


def limits(device: torch.device, precision: str, resolution: int) -> tuple[np.ndarray, str]:
    """Memory-bound limits of the calibration and the scoring pass, forward passes a second; and whose they are."""
    found = np.array([H100_CALIBRATION, H100_SCORING]) * (224 / resolution) ** 2
    whose = "an H100"
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        clock, bus = (getattr(about, name, 0) for name in ("memory_clock_rate", "memory_bus_width"))
        if clock and bus:
            bandwidth = 2 * clock * 1000 * bus / 8  # kHz, two transfers a cycle, bits
            found *= bandwidth / H100_BYTES_PER_SECOND
            whose = f"this GPU ({bandwidth / 1e12:.2f} TB/s)"
    return found / (ARITHMETIC[precision].dtype.itemsize / 2), whose


def shares(archs: Sequence[Arch], bred: Sequence[Sequence[Arch]]) -> Shares:
    """Counted at 224 px; the parts hold at any resolution but for rounding."""
    chain = spaces.describe("spos", "imagenet")
    costs = all_costs(chain)
    alone, tree = tally(chain, costs, archs, len(archs))
    search = sum(tally(chain, costs, members, len(members))[1] for members in bred)
    return Shares(alone[5:7], tree[5:7], search[5:7])  # type: ignore[index]


def agreement(answers: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
    """(K,) how many answers of each candidate are those of most candidates."""
    return (answers == most).sum(1)


def best(scores: torch.Tensor, number: int = 10) -> set[int]:
    return set(scores.argsort(descending=True, stable=True)[:number].tolist())


def kernels(parts: Parts, archs: Sequence[Arch], images: Images) -> str:
    """Tables of the ten most expensive kernels of a calibration and a scoring batch."""
    cuda = parts.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    tree = PrefixTree(parts, archs)
    size, tables = images.batch_size, []

    def calibrate() -> None:
        tree.calibrate(images.batches(0, size))

    def scoring() -> None:
        for x in images.batches(0, size):
            for _ in tree.logits(x):
                pass

    for title, run in (("calibration", calibrate), ("scoring", scoring)):
        run()
        with profile(activities=activities) as profiled:
            run()
            now(parts.device)
        events = [e for e in profiled.key_averages() if not cuda or e.device_type == DeviceType.CUDA]
        spent = {id(e): (e.self_device_time_total if cuda else e.self_cpu_time_total) / 1000 for e in events}
        total = sum(spent.values())
        events.sort(key=lambda event: -spent[id(event)])
        rows = [(e.key[:80], f"{e.count:,}", f"{spent[id(e)]:.1f}", f"{spent[id(e)] / total:.1%}") for e in events[:10]]
        tables.append(cli.table(rows, (f"one {title} batch: kernel", "calls", "ms", "of all"), as_is=True))
    return "\n\n".join(tables)


def benchmark(given: argparse.Namespace, device: torch.device) -> None:
    chain = spaces.describe("spos", "imagenet", resolution=given.resolution)
    bred = generations(SEARCH, make_judge(given), given.seed)
    archs = bred[5][: given.archs]
    weights = {name: tensor.to(device) for name, tensor in random_weights(chain, given.seed).items()}
    counted = shares(archs, bred)
    counts = sorted(int(number) for number in given.calibration.split(","))
    images = Images(counts[-1] + given.scoring, given.resolution, given.batch_size, device, given.seed)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    print(
        f"{name}, torch {torch.__version__}; spos imagenet at {given.resolution} px, {len(archs)} candidates of generation 5 "
        f"(stand-in '{given.scores}', seed {given.seed}), batches of {given.batch_size}; n = 1",
        flush=True,
    )
    few = archs[:: max(1, len(archs) // given.one_by_one)][: given.one_by_one]
    alone = {n: official_seconds(chain, weights, few, images, n, given.scoring) for n in counts}
    rows, found = [], {}
    whose = ""
    for precision in given.precisions.split(","):
        parts = Parts(chain, weights, ARITHMETIC[precision], device)
        score(parts, archs, images, given.batch_size, given.batch_size)  # kernels are chosen, memory is taken
        bounds, whose = limits(device, precision, given.resolution)
        for number in counts:
            timing, *answers = score(parts, archs, images, number, given.scoring)
            found[precision] = answers  # of the most calibration images in the end
            passes = ((number, timing.calibration), (given.scoring, timing.scoring))
            rates = [len(archs) * (used // given.batch_size * given.batch_size) / spent for used, spent in passes]
            reached = np.array(rates) * counted.part / bounds
            growth = counted.search / counted.tree  # a search's trees over this one
            hours = float(np.dot(growth, (timing.calibration, timing.scoring))) / 3600
            rows.append(
                (
                    precision,
                    f"{number:,}",
                    f"{60 * len(archs) / timing.total:.1f}",
                    f"{alone[number] / (timing.total / len(archs)):.1f}",
                    *(f"{rate:,.0f} ({part:.1%})" for rate, part in zip(rates, reached, strict=True)),
                    f"{hours:.2f}",
                )
            )
    header = (
        *("precision", "calibration", "candidates/min", "times one by one", "calibration images/s (of limit)"),
        *("scoring images/s (of limit)", "hours of a search"),
    )
    print(cli.table(rows, header, as_is=True))
    seconds = ", ".join(f"{spent:.2f} s with {n:,}" for n, spent in alone.items())
    print(
        f"\none by one, 32 bits: {seconds} calibration images per candidate (n = {len(few)} candidates); {given.scoring:,} scoring "
        f"images; limits of {whose}; the tree writes {counted.part[0]:.2f} of the bytes in calibration and "
        f"{counted.part[1]:.2f} in scoring"
    )
    first, *others = found
    reference, answers = found[first]
    most = answers.mode(0).values
    rows = []
    for precision in others:
        logits, given_answers = found[precision]
        kept = len(best(agreement(answers, most)) & best(agreement(given_answers, most)))
        same = (answers == given_answers).float().mean()
        difference = float((logits - reference).abs().max() / reference.std())
        rows.append((precision, f"{difference:.2g}", f"{float(same):.2%}", f"{kept} of {min(10, len(archs))}"))
    if rows:
        header = (f"against {first}", "largest logit difference / std", "same answers", "of the ten best")
        print("\n" + cli.table(rows, header, as_is=True))
    if device.type == "cuda":
        print(f"\nmost GPU memory in use: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB, images included")
    print(f"\nprecision {given.profile}:\n")
    print(kernels(Parts(chain, weights, ARITHMETIC[given.profile], device), archs, images))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny numbers, for a CPU")
    parser.add_argument(
        "--precisions", default="32,bf16,16", help="with commas; the first is what others are compared with"
    )
    parser.add_argument("--profile", choices=list(ARITHMETIC), default="bf16", help="precision of the kernels' tables")
    parser.add_argument("--calibration", default="2560,25600", help="numbers of images, with commas")
    parser.add_argument("--scoring", type=int, default=8000, help="images")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--archs", type=int, default=50, help="candidates, at most 50")
    parser.add_argument("--one-by-one", type=int, default=3, help="candidates that are scored the official way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scores", choices=SCORES, default="additive", help="stand-in for scores that the tuner is told"
    )
    parser.add_argument("--run", help="scores from this run of trials.supernet instead")
    given = parser.parse_args(argv)
    for name, value in SMALL.items() if given.small else ():
        if getattr(given, name) == parser.get_default(name):
            setattr(given, name, value)
    for precision in given.precisions.split(","):
        if precision not in ARITHMETIC:
            raise InputError(unknown("precision", precision, ARITHMETIC))
    numbers = given.calibration.split(",")
    if not all(number.isdecimal() and int(number) >= given.batch_size >= 1 for number in numbers):
        raise InputError(
            f"--calibration '{given.calibration}': give numbers of at least --batch-size {given.batch_size}"
        )
    for name, least in (
        ("scoring", given.batch_size),
        ("archs", 1),
        ("one_by_one", 1),
        ("resolution", 32),
        ("seed", 0),
    ):
        if getattr(given, name) < least:
            raise InputError(f"--{name.replace('_', '-')} {getattr(given, name)} is too small; give at least {least}")
    device = torch.device("cuda" if use_cuda(given.device) else "cpu")
    if device.type == "cpu" and not given.small:
        raise InputError("--device cpu would take days; add --small")
    logging.getLogger("nni").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            benchmark(given, device)
        except torch.OutOfMemoryError:
            raise InputError(f"--batch-size {given.batch_size} needs more memory than the GPU has; lower it") from None


if __name__ == "__main__":
    cli.run(main)
