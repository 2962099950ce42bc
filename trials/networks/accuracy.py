"""How many images a network classifies correctly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from trials.common.cli import rank_and_world
from trials.common.distributed import average
from trials.images.dataset import Data

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BATCH = 256  # images that are classified at once


def topk_hits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Count the images whose label is the first guess, and those whose label is among the first five.

    Args:
        logits: one number per class, (N, classes); with fewer than five classes all of them are guesses.
        labels: class numbers, (N,).
    Returns:
        Both counts, int64 (2,), on the device of the logits.
    """
    guesses = logits.topk(min(5, logits.shape[1]), dim=1).indices
    hits = guesses == labels[:, None]
    return torch.stack((hits[:, 0].sum(), hits.sum()))


def count_correct(fabric: Fabric, network: nn.Module, data: Data, part: str) -> tuple[int, int, int]:
    """Classify all images of a part, shared among the processes of torchrun.

    Args:
        network: scored in eval mode; its mode is as before afterwards.
    Returns:
        Images whose label is the first guess, images whose label is among the first five, all images; the sums of all processes.
    """
    rank, world = rank_and_world()
    training = network.training
    network.eval()
    counts = torch.zeros(3, dtype=torch.float64, device=fabric.device)
    with torch.no_grad(), fabric.autocast():
        for images, labels in data.eval_batches(part, BATCH, rank=rank, world=world):
            images, labels = fabric.to_device((data.normalise(images), labels))
            counts += torch.cat((topk_hits(network(images).float(), labels), torch.tensor([len(labels)]).to(labels)))
    network.train(training)
    average([counts])
    top1, top5, size = (round(value) for value in (counts * world).tolist())
    return top1, top5, size
