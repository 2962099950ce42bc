"""Which share of a supernet's training step waits for images."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks.trainers import supernet_trainer_of
from spaces.errors import InputError

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
    trainer = supernet_trainer_of(
        preset="imagenet",
        resolution=resolution,
        data="folder",
        data_root=str(root),
        loader=loader,
        workers=workers,
        batch_size=batch,
        epochs=1000,
        score_fraction=0.01,
        device=device.type,
    )
    if steps + warm > trainer.steps_per_epoch:  # else the start of an epoch would count
        enough = int((steps + warm + 1) * batch * 1.02)
        raise InputError(f"--images are too few; give {enough} or more, so that all steps are of one epoch")
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
