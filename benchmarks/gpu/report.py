"""The tables of the benchmark: speed in each precision, how far precisions are apart, and the most expensive kernels.

Shapes: K candidates, N images of a batch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import spaces
from benchmarks.evaluation.candidates import generations, make_score_function, random_weights
from benchmarks.gpu.limits import Written, bytes_written, memory_bound
from benchmarks.gpu.measure import Images, Timing, now, official_seconds, tree_timing
from spaces.arch import Arch
from trials.common import cli
from trials.scoring.precision import PRECISIONS
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.shared_blocks import SharedBlocks

SEARCH = 21  # generations of 50: 1,050 candidates
BEST = 10  # candidates that a precision should keep


@dataclass(frozen=True)
class Output:
    """What the candidates say in one precision."""

    logits: torch.Tensor  # (K, N, classes) of the first scoring batch
    answers: torch.Tensor  # (K, scoring images)


def benchmark(args: argparse.Namespace, device: torch.device) -> None:
    """Measure and print everything."""
    # candidates, weights and images
    chain = spaces.describe("spos", "imagenet", resolution=args.resolution)
    bred = generations(SEARCH, make_score_function(args), args.seed)
    archs = bred[5][: args.archs]
    weights = {name: tensor.to(device) for name, tensor in random_weights(chain, args.seed).items()}
    written = bytes_written(archs, bred)
    counts = sorted(int(number) for number in args.calibration.split(","))
    images = Images(counts[-1] + args.scoring, args.resolution, args.batch_size, device, args.seed)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    print(
        f"{name}, torch {torch.__version__}; spos imagenet at {args.resolution} px, {len(archs)} candidates of generation 5 "
        f"(stand-in '{args.scores}', seed {args.seed}), batches of {args.batch_size}; n = 1",
        flush=True,
    )

    # one by one, a few of the candidates
    few = archs[:: max(1, len(archs) // args.one_by_one)][: args.one_by_one]
    alone = {count: official_seconds(chain, weights, few, images, count, args.scoring) for count in counts}

    # in a tree, in each precision
    rows = []
    outputs: dict[str, Output] = {}  # with the most calibration images
    gpu = ""
    for precision in args.precisions.split(","):
        parts = SharedBlocks(chain, weights, PRECISIONS[precision], device)
        tree_timing(parts, archs, images, args.batch_size, args.batch_size)  # kernels are chosen, memory is taken
        bounds, gpu = memory_bound(device, precision, args.resolution)
        for count in counts:
            timing, logits, answers = tree_timing(parts, archs, images, count, args.scoring)
            outputs[precision] = Output(logits, answers)
            speed = speed_cells(timing, len(archs), (count, args.scoring), args.batch_size, bounds, written)
            faster = alone[count] / (timing.total / len(archs))
            rows.append((precision, f"{count:,}", f"{60 * len(archs) / timing.total:.1f}", f"{faster:.1f}", *speed))
    header = (
        *("precision", "calibration", "candidates/min", "times one by one", "calibration images/s (of limit)"),
        *("scoring images/s (of limit)", "hours of a search"),
    )
    print(cli.table(rows, header, as_is=True))
    seconds = ", ".join(f"{spent:.2f} s with {count:,}" for count, spent in alone.items())
    print(
        f"\none by one, 32 bits: {seconds} calibration images per candidate (n = {len(few)} candidates); {args.scoring:,} scoring "
        f"images; limits of {gpu}; the tree writes {written.share[0]:.2f} of the bytes in calibration and "
        f"{written.share[1]:.2f} in scoring"
    )

    # how far the precisions are apart, memory, and kernels
    differences = precision_table(outputs)
    if differences:
        print("\n" + differences)
    if device.type == "cuda":
        print(f"\nmost GPU memory in use: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB, images included")
    print(f"\nprecision {args.profile}:\n")
    print(kernels(SharedBlocks(chain, weights, PRECISIONS[args.profile], device), archs, images))


def speed_cells(
    timing: Timing, candidates: int, images: tuple[int, int], batch_size: int, bounds: np.ndarray, written: Written
) -> tuple[str, ...]:
    """Images/s of the calibration and the scoring pass with their shares of the limit, and hours of a search.

    Args:
        images: of the calibration and of the scoring pass.
        bounds: forward passes a second in either, (2,).
    """
    seconds = np.array([timing.calibration, timing.scoring])
    used = np.array(images) // batch_size * batch_size  # whole batches
    rates = candidates * used / seconds
    shares = rates * written.share / bounds
    hours = float(np.dot(written.search / written.tree, seconds)) / 3600  # as long for each byte as in this tree
    return (*(f"{rate:,.0f} ({share:.1%})" for rate, share in zip(rates, shares, strict=True)), f"{hours:.2f}")


def precision_table(outputs: dict[str, Output]) -> str:
    """How far the precisions are from the first one; empty where there is no other."""
    first, *others = outputs
    reference = outputs[first]
    most = reference.answers.mode(0).values  # what most of the candidates answer
    rows = []
    for precision in others:
        output = outputs[precision]
        kept = len(best(agreement(reference.answers, most)) & best(agreement(output.answers, most)))
        same = (reference.answers == output.answers).float().mean()
        difference = float((output.logits - reference.logits).abs().max() / reference.logits.std())
        candidates = len(reference.answers)
        rows.append((precision, f"{difference:.2g}", f"{float(same):.2%}", f"{kept} of {min(BEST, candidates)}"))
    if not rows:
        return ""
    header = (f"against {first}", "largest logit difference / std", "same answers", "of the ten best")
    return cli.table(rows, header, as_is=True)


def agreement(answers: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
    """How many answers (K, images) of each candidate are those of most candidates (images,); (K,)."""
    return (answers == most).sum(1)


def best(scores: torch.Tensor) -> set[int]:
    """The candidates with the highest scores (K,)."""
    return set(scores.argsort(descending=True, stable=True)[:BEST].tolist())


def kernels(parts: SharedBlocks, archs: Sequence[Arch], images: Images) -> str:
    """Tables of the ten most expensive kernels of a calibration and a scoring batch."""
    cuda = parts.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    tree = PrefixTree(parts, archs)
    size, tables = images.batch_size, []

    def calibrate() -> None:
        tree.calibrate(images.batches(0, size))

    def score() -> None:
        for x in images.batches(0, size):
            for _ in tree.logits(x):
                pass

    for title, run in (("calibration", calibrate), ("scoring", score)):
        run()  # warm-up
        with profile(activities=activities) as profiled:
            run()
            now(parts.device)
        events = [event for event in profiled.key_averages() if not cuda or event.device_type == DeviceType.CUDA]
        milliseconds = {
            id(event): (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1000 for event in events
        }
        total = sum(milliseconds.values())
        events.sort(key=lambda event: -milliseconds[id(event)])
        rows = []
        for event in events[:10]:
            spent = milliseconds[id(event)]
            rows.append((event.key[:80], f"{event.count:,}", f"{spent:.1f}", f"{spent / total:.1%}"))
        tables.append(cli.table(rows, (f"one {title} batch: kernel", "calls", "ms", "of all"), as_is=True))
    return "\n\n".join(tables)
