"""Part `supernet`: the training step of SPOS, in turn with NNI's RandomOneShot, and one path of it trained alone."""

from __future__ import annotations

import itertools
import random
import statistics

import torch

from benchmarks.gpu.kernels import add_kernel_table
from benchmarks.gpu.limits import training_bound
from benchmarks.gpu.measure import steady_speed
from benchmarks.gpu.results import Results, Row
from benchmarks.gpu.scale import Scale
from benchmarks.trainers import CLASSES, PreparedData, network_trainer
from benchmarks.training import Batch, Ours, Setting, prepare_batches, run
from spaces.spec import SpaceSpec
from strategies.sampling import uniform_path

PART = "supernet"


def measure(results: Results, scale: Scale, device: torch.device) -> None:
    """Both batch sizes; first ours alone, so that nothing of NNI's can cost us the figure."""
    for batch in scale.batches:
        setting = Setting(scale.resolution, batch, scale.steps, scale.rounds, scale.warmup_theirs, device=device.type)
        batches = prepare_batches(setting, 2)
        with results.attempt(PART, f"supernet step, batch {batch}", 15) as begins:
            if begins:
                supernet(results, scale, setting, batches)
        with results.attempt(PART, f"one path alone, batch {batch}", 10) as begins:
            if begins:
                alone(results, scale, batches, device)
        del batches
        if device.type == "cuda":
            torch.cuda.empty_cache()


def supernet(results: Results, scale: Scale, setting: Setting, batches: list[Batch]) -> None:
    """Our step alone, its kernels, and in turn with NNI's."""
    device, what = torch.device(setting.device), f"supernet step, batch {setting.batch_size}"
    ours = Ours(batches)

    def step() -> None:
        ours.train(1)

    speed = steady_speed(step, setting.batch_size, device, warmup=scale.warmup, steps=scale.steps, rounds=scale.rounds)
    share = speed.median / training_bound(device, scale.resolution)
    results.add(Row(PART, what, speed.median, bound=share, note=f"{speed}{memory(device)}"))
    add_kernel_table(results, what, step, device)
    compare(results, setting, batches, ours)


def compare(results: Results, setting: Setting, batches: list[Batch], ours: Ours) -> None:
    """Steps of NNI's RandomOneShot in turn with ours."""
    what = f"NNI's RandomOneShot, batch {setting.batch_size}"
    with results.attempt(PART, what, 30) as begins:
        if begins:
            slices, theirs = run(setting, batches, ours)
            images = setting.steps * setting.batch_size
            ratios = [b.wall / a.wall for a, b in zip(slices, theirs, strict=True)]
            spread = f"n = {len(ratios)}, {min(ratios):.2f} to {max(ratios):.2f}"
            results.add(Row(PART, what, statistics.median(images / s.wall for s in theirs)))
            value = statistics.median(images / s.wall for s in slices)
            at = f"supernet step, batch {setting.batch_size}, in turn"
            results.add(Row(PART, at, value, ratio=statistics.median(ratios), peer="NNI's RandomOneShot", note=spread))


def alone(results: Results, scale: Scale, batches: list[Batch], device: torch.device) -> None:
    """A single path, trained from scratch as trials.retrain does: what a supernet step is, but for the choice of a path."""
    batch = len(batches[0][1])
    space = SpaceSpec("spos", "imagenet", {"classes": CLASSES, "resolution": scale.resolution})
    arch = uniform_path(space.describe().choices, random.Random(0))
    data = PreparedData(batches)
    trainer = network_trainer(data, space, arch, batch, device.type)
    numbers = itertools.count()

    def step() -> None:
        number = next(numbers)
        trainer.step(number, *data.batches[number % len(data.batches)])

    speed = steady_speed(step, batch, device, warmup=6, steps=scale.steps, rounds=scale.rounds)
    supernet = results.value(PART, f"supernet step, batch {batch}")
    ratio = speed.median / supernet if supernet else None
    bound = speed.median / training_bound(device, scale.resolution)
    what = f"one path alone, batch {batch}"
    results.add(Row(PART, what, speed.median, bound=bound, ratio=ratio, peer="supernet step", note=str(speed)))


def memory(device: torch.device) -> str:
    """The most GPU memory that was in use so far, for a note."""
    return f"; peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.type == "cuda" else ""
