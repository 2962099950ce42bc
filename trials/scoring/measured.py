"""What supernets say of a candidate, and the mean of it, which is its score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from trials.networks.accuracy import Graded
from trials.scoring import noise


class Measured(NamedTuple):
    """What scoring one candidate gives."""

    top1_before: float  # percent, before recalibration, on the first batch of scoring images
    answers: Graded  # to all scoring images
    calibration_images: int


def mean_values(own: Sequence[Measured]) -> dict[str, Any]:
    """The score of a candidate by one or several supernets.

    Args:
        own: what each of them gives, on the same images.
    Returns:
        Values for `ScoreStore.record`: the means, the answers of each supernet, and its own top-1 and loss.
    """
    right = torch.stack([answers.right for _, answers, _ in own])  # (supernets, images, 2)
    supernets, images, _ = right.shape
    losses = [math.fsum(answers.losses.tolist()) for _, answers, _ in own]  # exactly rounded, whatever the order
    top1, top5 = (100 * int(hits) / (supernets * images) for hits in right.sum((0, 1)))
    each = [(100 * int(hits) / images, loss / images) for hits, loss in zip(right[:, :, 0].sum(1), losses, strict=True)]
    return {
        "top1": top1,
        "top5": top5,
        "loss": math.fsum(losses) / (supernets * images),
        "top1_before_recalibration": math.fsum(one.top1_before for one in own) / supernets,
        "right": noise.pack_answers(right[:, :, 0].numpy()),
        "calibration_images": own[0].calibration_images,
        "supernets": [{"top1": top1, "loss": loss} for top1, loss in each],
    }
