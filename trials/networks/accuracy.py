"""What a network says about images, and how many of them it classifies correctly."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from trials.common.cli import rank_and_world
from trials.common.distributed import average
from trials.images.dataset import Data
from trials.networks.answers import Answers

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BATCH = 256  # images that are classified at once


class Graded(NamedTuple):
    """What logits are worth, image by image; with a dimension in front of `images` where there are several networks."""

    right: (
        torch.Tensor
    )  # bool (images, 2): whether the label is the first guess, and whether it is among the first five
    losses: torch.Tensor  # float32 (images,): cross-entropy, natural logarithm


def grade(logits: torch.Tensor, labels: torch.Tensor) -> Graded:
    """Compare one network's logits (N, classes), in 32 bits, with labels (N,); on the device of the logits."""
    return Graded(topk_right(logits, labels), F.cross_entropy(logits, labels, reduction="none"))


def topk_hits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Count the images whose label is the first guess, and those whose label is among the first five.

    Args:
        logits: one number per class, (N, classes); with fewer than five classes all of them are guesses.
        labels: class numbers, (N,).
    Returns:
        Both counts, int64 (2,), on the device of the logits.
    """
    return topk_right(logits, labels).sum(0)


def topk_right(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """For each image, whether its label is the first guess, and whether it is among the first five.

    Args:
        logits, labels: as for `topk_hits`.
    Returns:
        bool (N, 2), on the device of the logits.
    """
    hits = top_guesses(logits) == labels[:, None]
    return torch.stack((hits[:, 0], hits.any(1)), 1)


def top_guesses(logits: torch.Tensor) -> torch.Tensor:
    """The five classes with the largest logits, best first: int64 (N, 5), or (N, classes) of fewer than five classes."""
    return logits.topk(min(5, logits.shape[1]), dim=1).indices


def answer_images(fabric: Fabric, network: nn.Module, data: Data, part: str) -> tuple[Answers, int]:
    """Classify all images of a part, shared among the processes of torchrun.

    Args:
        network: asked in eval mode; its mode is as before afterwards.
    Returns:
        The answers, in the order of the part, and the number of images whose label is among the first five guesses; both of all
        processes together.
    """
    rank, world = rank_and_world()
    training = network.training
    network.eval()
    # a row per image of the part: its label and the first guess, both from 1 on, and whether the first five are right;
    # rows of images that cannot be read stay 0
    rows = torch.zeros(data.size(part), 3, dtype=torch.float64, device=fabric.device)
    mine, first = rows[rank::world], 0
    with torch.no_grad(), fabric.autocast():
        for images, labels in data.eval_batches(part, BATCH, rank=rank, world=world):
            images, labels = fabric.to_device((data.normalise(images), labels))
            guesses = top_guesses(network(images).float())
            among_five = (guesses == labels[:, None]).any(1)
            mine[first : first + len(labels)] = torch.stack((labels + 1, guesses[:, 0] + 1, among_five), 1).to(mine)
            first += len(labels)
    network.train(training)
    average([rows])
    table = np.rint((rows * world).cpu().numpy()).astype(np.int32)
    table = table[table[:, 0] > 0]
    return Answers(table[:, 0] - 1, table[:, 1] - 1), int(table[:, 2].sum())


def count_correct(fabric: Fabric, network: nn.Module, data: Data, part: str) -> tuple[int, int, int]:
    """Classify all images of a part; arguments as for `answer_images`.

    Returns:
        Images whose label is the first guess, images whose label is among the first five, all images; the sums of all processes.
    """
    answers, top5 = answer_images(fabric, network, data, part)
    return int(answers.right.sum()), top5, answers.size
