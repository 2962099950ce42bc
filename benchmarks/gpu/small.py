"""Part `small`: small images, where a GPU waits for launches: supernet step and retraining."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

import torch

from benchmarks.gpu.kernels import add_kernel_table
from benchmarks.gpu.measure import steady_speed
from benchmarks.gpu.results import Results, Row
from benchmarks.gpu.scale import Scale
from benchmarks.trainers import network_trainer, supernet_trainer_of
from spaces.spec import SpaceSpec
from strategies.sampling import uniform_path
from trials.images.dataset import Data
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.training.supernet_config import RECIPES

PART = "small"


def measure(results: Results, scale: Scale, device: torch.device) -> None:
    """Each preset, with the digits at its resolution, augmented as always."""
    for preset, resolution in scale.small:
        batch = RECIPES[preset]["batch_size"]
        at = f"{preset}, {resolution} px"
        for what, measure_one in (("supernet step", supernet_step), ("retraining", retraining)):
            title = f"{what}, {at}, batch {batch}"
            with results.attempt(PART, title, 5) as begins:
                if begins:
                    step = measure_one(preset, resolution, batch, device)
                    speed = steady_speed(
                        step, batch, device, warmup=scale.small_warmup, steps=scale.small_steps, rounds=scale.rounds
                    )
                    steps = f"{1000 * batch / speed.median:.1f} ms a step; {speed}"
                    results.add(Row(PART, title, speed.median, note=steps))
                    add_kernel_table(results, title, step, device)


def supernet_step(preset: str, resolution: int, batch: int, device: torch.device) -> Callable[[], object]:
    """The next step of a supernet, with its images."""
    size = {"preset": preset, "resolution": resolution, "batch_size": batch, "epochs": 100_000}
    trainer = supernet_trainer_of(**size, data="digits", warm_start=0.0, device=device.type)
    return stepper(((images, labels) for images, labels, _ in trainer.batches(0)), trainer.step)


def retraining(preset: str, resolution: int, batch: int, device: torch.device) -> Callable[[], object]:
    """The next step of one network from scratch, with its images."""
    data = digits(resolution)
    space = SpaceSpec("spos", preset, {"classes": len(data.classes), "resolution": resolution})
    arch = uniform_path(space.describe().choices, random.Random(0))
    trainer = network_trainer(data, space, arch, batch, device.type)
    return stepper(trainer.batches(0), trainer.step)


def stepper(
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]], step: Callable[[int, torch.Tensor, torch.Tensor], object]
) -> Callable[[], object]:
    """A function that takes the next step with the next batch."""
    numbers = itertools.count()
    return lambda: step(next(numbers), *next(batches))


def digits(resolution: int) -> Data:
    """The digits of scikit-learn at a resolution."""
    return load_data(DataOptions(data="digits"), resolution, score_fraction=0.1)
