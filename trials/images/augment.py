"""Random changes of a batch of images, on the device where the batch is. Shapes: N batch, images (N, 3, R, R)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue in a pixel's grey: ITU-R BT.601, as in PIL
JITTER_DRAWS = 6  # random numbers that color_jitter needs for an image
CUTOUT_DRAWS = 2  # random numbers that cutout needs for an image


@dataclass(frozen=True)
class Augmentation:
    """Random changes of the training images of a run, which its options choose.

    Attributes:
        mirror: left to right, half of the time; data sets do it where they crop or shift.
        color_jitter: strength of `color_jitter`; 0: none.
        cutout: side of the square that `cutout` sets to 0, pixels; 0: none.
        randaugment: number of operations of `rand_augment`, and their magnitude; 0 operations: none.
    """

    mirror: bool = True
    color_jitter: float = 0.0
    cutout: int = 0
    randaugment: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Geometry:
    """How far a data set's images may be moved and distorted without becoming others; drawn for each image on its own.

    Attributes:
        shift: largest shift either way, as a fraction of width and height.
        flip: mirror left to right, half of the time.
        rotate: largest rotation either way, degrees.
        scale: largest zoom in or out, as a fraction of 1.
        padding: what fills the pixels from outside the image, a `padding_mode` of torch's grid_sample.
    """

    shift: float = 0.0
    flip: bool = False
    rotate: float = 0.0
    scale: float = 0.0
    padding: str = "reflection"


def augment_geometry(
    images: torch.Tensor,
    limits: Geometry,
    generators: Sequence[torch.Generator],
    *,
    positions: torch.Tensor | None = None,
    batch: int | None = None,
) -> torch.Tensor:
    """Shift, flip, rotate and scale each image of a batch on its own. Shifts without rotation are whole pixels.

    Args:
        images: float, (N, 3, R, R), of one batch after the other, all of one size.
        generators: of the draws, one for each batch.
        positions: where in their whole batch the images of each batch are, if other processes have the rest of it.
        batch: number of images in the whole batch; given with `positions`.
    Returns:
        Changed copies of the images, channels last in memory.
    """
    n, _, height, width = images.shape

    def uniform(limit: float) -> torch.Tensor:
        draws = [torch.rand(batch or n // len(generators), generator=generator) for generator in generators]
        return (torch.cat(draws if positions is None else [values[positions] for values in draws]) * 2 - 1) * limit

    angle, zoom = uniform(math.radians(limits.rotate)), 1 + uniform(limits.scale)
    mirror = torch.where(uniform(1.0) < 0, -1.0, 1.0) if limits.flip else torch.ones(n)
    dx, dy = uniform(limits.shift * width).round() * 2 / width, uniform(limits.shift * height).round() * 2 / height
    row_x = torch.stack((torch.cos(angle) * zoom * mirror, -torch.sin(angle) * zoom, dx), 1)
    row_y = torch.stack((torch.sin(angle) * zoom * mirror, torch.cos(angle) * zoom, dy), 1)
    theta = torch.stack((row_x, row_y), 1)
    grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    changed = F.grid_sample(images, grid, mode="bilinear", padding_mode=limits.padding, align_corners=False)
    return changed.contiguous(memory_format=torch.channels_last)


def color_jitter(images: torch.Tensor, strength: float, draws: np.ndarray) -> torch.Tensor:
    """Multiply brightness, contrast and saturation by 1 - strength to 1 + strength, in a random order for each image.

    Each of the three is a linear map of a pixel's colour (contrast also needs the mean grey of the image), so all three are
    one matrix per image. Deviation from PIL and torchvision: values are cut off to 0..255 once, at the end, and not rounded.

    Args:
        images: RGB, 0..255, (N, 3, R, R).
        draws: uniform random numbers in [0, 1), (N, JITTER_DRAWS).
    Returns:
        Changed copies of the images, float32, 0..255.
    """
    n = len(images)
    factors = (1 + strength * (2 * torch.from_numpy(draws[:, :3]).float() - 1)).to(images.device)
    order = torch.from_numpy(draws[:, 3:].argsort(1)).to(images.device)
    pixels = images.float().flatten(2)
    grey = torch.tensor(GREY, device=images.device, dtype=torch.float32)
    one = torch.eye(3, device=images.device, dtype=torch.float32)
    mean = pixels.mean(2, keepdim=True)
    matrix, offset = one.expand(n, 3, 3), torch.zeros_like(mean)
    for turn in range(3):
        # which of the three changes comes now: 0 brightness, 1 contrast, 2 saturation
        change, factor = order[:, turn], factors.gather(1, order[:, turn : turn + 1])[:, :, None]
        saturate = factor * one + (1 - factor) * grey.expand(3, 3)
        step = torch.where((change == 2)[:, None, None], saturate, factor * one)
        level = (grey @ (matrix @ mean + offset)).view(n, 1, 1)  # mean grey of the image so far
        shift = torch.where((change == 1)[:, None, None], (1 - factor) * level, torch.zeros_like(level))
        matrix, offset = step @ matrix, step @ offset + shift
    return torch.baddbmm(offset, matrix, pixels).clamp_(0, 255).view_as(images)


def cutout(images: torch.Tensor, side: int, draws: np.ndarray) -> torch.Tensor:
    """Set a square of each normalised image to 0, in place; its centre may be any pixel.

    Args:
        images: (N, 3, H, W).
        side: height and width of the square, pixels.
        draws: uniform random numbers in [0, 1), (N, CUTOUT_DRAWS).
    Returns:
        The images themselves.
    Source: arXiv:1708.04552.
    """
    height, width = images.shape[2:]
    corner = np.floor(draws * (height, width)).astype(np.int64) - side // 2
    top, left = torch.from_numpy(corner).to(images.device).unbind(1)
    y, x = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    rows = (y >= top[:, None]) & (y < top[:, None] + side)
    columns = (x >= left[:, None]) & (x < left[:, None] + side)
    return images.masked_fill_((rows[:, None, :, None] & columns[:, None, None, :]), 0)


def rand_augment(images: torch.Tensor, operations: int, magnitude: int, seeds: np.ndarray) -> torch.Tensor:
    """Apply RandAugment to each image on its own, as torchvision does (nearest neighbour, black outside).

    Args:
        images: uint8, (N, 3, R, R).
        operations: how many operations change an image, one after the other.
        magnitude: strength of each operation, 0 to 30.
        seeds: one seed per image, (N,); the changes of an image depend on its own seed alone.
    Returns:
        Changed copies of the images, uint8.
    Source: arXiv:1909.13719.
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
    """Mix each image, and its label, with the one before it in the batch, by mixup or by CutMix.

    Where both are asked for, one of them is drawn for the whole batch, each half of the time.

    Args:
        images: (N, 3, R, R), normalised.
        labels: class numbers, (N,).
        mixup, cutmix: parameter of the Beta distribution that the share of either image is drawn from; 0: not this way.
        seed: what is drawn depends on it alone.
    Returns:
        Mixed images, (N, 3, R, R); labels as probabilities, (N, classes).
    Source: arXiv:1710.09412 (mixup), arXiv:1905.04899 (CutMix).
    """
    from torchvision.transforms.v2 import CutMix, MixUp

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        use_mixup = bool(mixup) and (not cutmix or torch.rand(()).item() < 0.5)
        transform = MixUp(alpha=mixup, num_classes=classes) if use_mixup else CutMix(alpha=cutmix, num_classes=classes)
        return transform(images, labels)
