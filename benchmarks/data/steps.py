"""Which share of a supernet's training step waits for images."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from spaces.errors import InputError
from trials.common import cli
from trials.training.supernet_config import Config
from trials.training.supernet_plan import plan_supernet
from trials.training.supernet_trainer import SupernetTrainer

WARM_STEPS = 5  # steps that are not timed


def time_steps(root: Path, workers: int, device: torch.device, batch: int, steps: int) -> None:
    """Print which share of a supernet step (SPOS, 224x224) waits for images."""
    flags = [
        "--preset",
        "imagenet",
        "--data",
        "folder",
        "--data-root",
        str(root),
        "--loader",
        "dali",
        "--workers",
        str(workers),
    ]
    flags += ["--batch-size", str(batch), "--epochs", "1000", "--score-fraction", "0.01", "--eval-paths", "0"]
    config = cli.parse(Config, [*flags, "--device", device.type, "--out", "unused"], None, "trials.supernet")
    plan = plan_supernet(config)
    if steps + WARM_STEPS > plan.data.steps_per_epoch("train", batch):  # else the start of an epoch would count
        enough = int((steps + WARM_STEPS + 1) * batch * 1.02)
        raise InputError(f"--images are too few; give {enough} or more, so that all steps are of one epoch")
    trainer = SupernetTrainer(plan.config, plan.data, plan.space, plan.loss_table, plan.paths)
    batches = trainer.batches(0)
    waiting = working = 0.0
    for number in range(WARM_STEPS + steps):
        began = time.perf_counter()
        images, labels, _ = next(batches)
        arrived = time.perf_counter()
        trainer.step(number, images, labels)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= WARM_STEPS:
            waiting, working = waiting + arrived - began, working + time.perf_counter() - arrived
    share, rate = waiting / (waiting + working), steps * batch / (waiting + working)
    print(f"{steps} steps of {batch} images: {rate:.0f} images/s, {share:.1%} of the time waits for images")
