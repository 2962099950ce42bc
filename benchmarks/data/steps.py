"""Which share of a supernet's training step waits for images."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from spaces.errors import InputError
from trials.training.supernet_config import Config
from trials.training.supernet_plan import plan_supernet
from trials.training.supernet_trainer import SupernetTrainer

WARM_STEPS = 14  # steps that are not timed: kernels are chosen for nearly all candidates


def time_steps(
    root: Path, loader: str, workers: int, device: torch.device, batch: int, steps: int, warm: int, resolution: int
) -> tuple[float, float]:
    """Time supernet steps (SPOS) with their images.

    Args:
        loader: dali or torchvision.
        warm: steps that are not timed.
    Returns:
        Images a second, and the share of the time that waits for images.
    """
    config = Config(
        out="unused",
        preset="imagenet",
        resolution=resolution,
        data="folder",
        data_root=str(root),
        loader=loader,
        workers=workers,
        batch_size=batch,
        epochs=1000,
        score_fraction=0.01,
        eval_paths=0,
        device=device.type,
    )
    plan = plan_supernet(config)
    if steps + warm > plan.data.steps_per_epoch("train", batch):  # else the start of an epoch would count
        enough = int((steps + warm + 1) * batch * 1.02)
        raise InputError(f"--images are too few; give {enough} or more, so that all steps are of one epoch")
    trainer = SupernetTrainer(plan.config, plan.data, plan.space, plan.loss_table, plan.paths)
    batches = trainer.batches(0)
    waiting = working = 0.0
    for number in range(warm + steps):
        began = time.perf_counter()
        images, labels, _ = next(batches)
        arrived = time.perf_counter()
        trainer.step(number, images, labels)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= warm:
            waiting, working = waiting + arrived - began, working + time.perf_counter() - arrived
    return steps * batch / (waiting + working), waiting / (waiting + working)
