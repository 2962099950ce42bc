"""Random changes of a batch of images, on the device where the batch is. Shapes: N batch, images (N, 3, R, R)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

GREY = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as in PIL
JITTER_DRAWS = 6  # random numbers that an image needs
CUTOUT_DRAWS = 2


@dataclass(frozen=True)
class Augment:
    """Random changes of one image; each is drawn per image."""

    shift: float = 0.0  # at most this part of the width and height
    flip: bool = False  # left to right, half of the time
    rotate: float = 0.0  # at most this many degrees either way
    scale: float = 0.0  # at most this part larger or smaller
    padding: str = "reflection"  # what stands outside of the image (grid_sample's padding_mode)


def augment(
    images: torch.Tensor,
    how: Augment,
    generator: torch.Generator,
    *,
    take: torch.Tensor | None = None,
    of: int | None = None,
) -> torch.Tensor:
    """Shift, flip, rotate and scale each image of a batch on its own. Shifts without rotation are whole pixels.

    Args:
        take, of: the images have these places in a batch of `of`, of which other processes have the rest.
    """
    n, _, height, width = images.shape

    def uniform(limit: float) -> torch.Tensor:
        drawn = (torch.rand(of or n, generator=generator) * 2 - 1) * limit
        return drawn if take is None else drawn[take]

    angle, zoom = uniform(math.radians(how.rotate)), 1 + uniform(how.scale)
    mirror = torch.where(uniform(1.0) < 0, -1.0, 1.0) if how.flip else torch.ones(n)
    dx, dy = uniform(how.shift * width).round() * 2 / width, uniform(how.shift * height).round() * 2 / height
    rows = (torch.cos(angle) * zoom * mirror, -torch.sin(angle) * zoom, dx)
    theta = torch.stack(
        (torch.stack(rows, 1), torch.stack((torch.sin(angle) * zoom * mirror, torch.cos(angle) * zoom, dy), 1)), 1
    )
    grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    changed = F.grid_sample(images, grid, mode="bilinear", padding_mode=how.padding, align_corners=False)
    return changed.contiguous(memory_format=torch.channels_last)


def color_jitter(images: torch.Tensor, strength: float, draws: np.ndarray) -> torch.Tensor:
    """Brightness, contrast and saturation times 1 - strength to 1 + strength, in a random order.

    Each of the three is a linear map of a pixel's colour (contrast also needs the mean grey of the image), so all three are
    one matrix per image. Deviation from PIL and torchvision: values are cut off to 0..255 once, at the end, and not rounded.

    Args:
        images: RGB, 0..255.
        draws: uniform random numbers in [0, 1), (N, JITTER_DRAWS).
    Returns:
        float32, 0..255.
    """
    n = len(images)
    factors = (1 + strength * (2 * torch.from_numpy(draws[:, :3]).float() - 1)).to(images.device)
    order = torch.from_numpy(draws[:, 3:].argsort(1)).to(images.device)
    pixels = images.float().flatten(2)
    grey = torch.tensor(GREY, device=images.device, dtype=torch.float32)
    one = torch.eye(3, device=images.device, dtype=torch.float32)
    mean = pixels.mean(2, keepdim=True)
    matrix, offset = one.expand(n, 3, 3), torch.zeros_like(mean)
    for place in range(3):
        what, factor = order[:, place], factors.gather(1, order[:, place : place + 1])[:, :, None]
        saturate = factor * one + (1 - factor) * grey.expand(3, 3)
        step = torch.where((what == 2)[:, None, None], saturate, factor * one)
        level = (grey @ (matrix @ mean + offset)).view(n, 1, 1)  # mean grey of the image so far
        shift = torch.where((what == 1)[:, None, None], (1 - factor) * level, torch.zeros_like(level))
        matrix, offset = step @ matrix, step @ offset + shift
    return torch.baddbmm(offset, matrix, pixels).clamp_(0, 255).view_as(images)


def cutout(images: torch.Tensor, side: int, draws: np.ndarray) -> torch.Tensor:
    """Set a square of each normalised image to 0, in place; its centre may be any pixel (arXiv:1708.04552).

    Args:
        side: pixels.
        draws: uniform random numbers in [0, 1), (N, CUTOUT_DRAWS).
    """
    height, width = images.shape[2:]
    corner = np.floor(draws * (height, width)).astype(np.int64) - side // 2
    top, left = torch.from_numpy(corner).to(images.device).unbind(1)
    y, x = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    rows = (y >= top[:, None]) & (y < top[:, None] + side)
    columns = (x >= left[:, None]) & (x < left[:, None] + side)
    return images.masked_fill_((rows[:, None, :, None] & columns[:, None, None, :]), 0)


def rand_augment(images: torch.Tensor, operations: int, magnitude: int, seeds: np.ndarray) -> torch.Tensor:
    """RandAugment of each image on its own, as in torchvision (nearest neighbour, black outside; arXiv:1909.13719).

    Args:
        images: uint8, (N, 3, R, R).
        operations: one after the other, of an image.
        magnitude: 0 to 30, of each.
        seeds: what is drawn for an image depends on its own alone, (N,).
    """
    from torchvision.transforms.v2 import RandAugment

    transform = RandAugment(operations, magnitude)
    changed = []
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the generator of the process
        for image, seed in zip(images, seeds.tolist(), strict=True):
            torch.default_generator.manual_seed(seed)
            changed.append(transform(image))
    return torch.stack(changed)


def mix_images(
    images: torch.Tensor, labels: torch.Tensor, classes: int, *, mixup: float, cutmix: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each image, and its label, with the one before it in the batch; of both ways one is drawn for the batch.

    Args:
        images: (N, 3, R, R), normalised.
        mixup, cutmix: of the Beta distribution that the share is drawn from (arXiv:1710.09412, 1905.04899); 0: not this way.
    Returns:
        Images; labels as probabilities, (N, classes).
    """
    from torchvision.transforms.v2 import CutMix, MixUp

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        first = bool(mixup) and (not cutmix or torch.rand(()).item() < 0.5)
        transform = MixUp(alpha=mixup, num_classes=classes) if first else CutMix(alpha=cutmix, num_classes=classes)
        return transform(images, labels)
