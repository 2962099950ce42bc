"""How many images a network classifies correctly."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trials.common.cli import rank_and_world
from trials.common.distributed import average
from trials.images.dataset import Data


def correct(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Numbers of right answers in the first 1 and the first 5 guesses, int64 (2,)."""
    guesses = logits.topk(min(5, logits.shape[1]), dim=1).indices
    hits = guesses == labels[:, None]
    return torch.stack((hits[:, 0].sum(), hits.sum()))


def measure(fabric: Any, network: nn.Module, data: Data, part: str) -> tuple[int, int, int]:
    """Images of a part that the network knows in its first guess, in its first five, and all of them; of all processes."""
    rank, world = rank_and_world()
    training = network.training
    network.eval()
    hits = torch.zeros(3, dtype=torch.float64, device=fabric.device)
    with torch.no_grad(), fabric.autocast():
        for images, labels in data.eval_batches(part, 256, rank=rank, world=world):
            images, labels = fabric.to_device((data.normalise(images), labels))
            hits += torch.cat((correct(network(images).float(), labels), torch.tensor([len(labels)]).to(labels)))
    network.train(training)
    average([hits])
    first, five, size = (round(value) for value in (hits * world).tolist())
    return first, five, size
