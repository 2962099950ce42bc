"""Part `small`: small images, where a GPU waits for launches: supernet step, retraining and scoring."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.evaluation.candidates import random_weights
from benchmarks.gpu.kernels import add_kernel_table
from benchmarks.gpu.measure import Images, steady_speed, tree_timing
from benchmarks.gpu.results import Results, Row
from benchmarks.gpu.scale import Scale
from benchmarks.trainers import network_trainer, supernet_trainer_of
from spaces.spec import SpaceSpec
from strategies.sampling import uniform_path
from trials.images.dataset import Data
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.scoring import evaluate_config
from trials.scoring.batches import fitting_batch
from trials.scoring.precision import PRECISIONS
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.scorer import AUTO_PRECISION
from trials.scoring.self_check import relatives
from trials.scoring.shared_blocks import SharedBlocks
from trials.training.supernet_config import RECIPES

PART = "small"
CANDIDATES = 20
SCORING_BATCH = evaluate_config.Config(run="unused").batch_size


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
        with results.attempt(PART, f"scoring, {at}", 5) as begins:
            if begins:
                scoring(results, scale, preset, resolution, device)


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


def scoring(results: Results, scale: Scale, preset: str, resolution: int, device: torch.device) -> None:
    """A tree of relatives, in the default precision of the device, in batches of the default size and in those that fit."""
    precision = AUTO_PRECISION[device.type]
    chain = SpaceSpec("spos", preset, {"classes": 10, "resolution": resolution}).describe()
    weights = {name: tensor.to(device) for name, tensor in random_weights(chain, 0).items()}
    parts = SharedBlocks(chain, weights, PRECISIONS[precision], device)
    archs = relatives(chain.choices, min(CANDIDATES, scale.archs))
    number = scale.small_images
    title = f"scoring, {preset}, {resolution} px, {precision}"
    memory = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else 0
    first = None
    with PRECISIONS[precision].cudnn_flags():
        for size in dict.fromkeys(min(size, number) for size in (SCORING_BATCH, fitting_batch(resolution, memory))):
            images = Images(2 * number, resolution, size, device, 0)
            tree_timing(parts, archs, images, size, size)  # kernels are chosen, memory is taken
            timing, _, _ = tree_timing(parts, archs, images, number, number)
            rate = 60 * len(archs) / timing.total
            note = f"{number:,} + {number:,} images: calibration {timing.calibration:.2f} s, scoring {timing.scoring:.2f} s"
            what, peer = f"{title}, batches of {size:,}", f"{title}, batches of {min(SCORING_BATCH, number):,}"
            ratio = rate / first if first else None
            results.add(Row(PART, what, rate, "candidates/min", ratio=ratio, peer=peer if first else "", note=note))
            first = first or rate
            tree = PrefixTree(parts, archs)
            score = partial(score_batch, tree, images)
            score()
            add_kernel_table(results, f"{what}: a batch", score, device)


def score_batch(tree: PrefixTree, images: Images) -> None:
    """One batch through a tree."""
    for x in images.batches(0, images.batch_size):
        for _ in tree.logits(x):
            pass
