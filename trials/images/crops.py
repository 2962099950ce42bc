"""Which pixels of an image become a network's input, as numbers that every loader is given alike.

They follow from the sizes of the images, which the scan of the files found, so nothing is decoded to draw a crop, and a batch
is a function of (seed, epoch, number) however it is decoded. Shapes: N batch, R resolution in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

TRIES = 10  # random crops that may not fit before the centre is taken, as in torchvision's RandomResizedCrop
CROP_DRAWS = 2 * TRIES + 3  # random numbers that random_crops needs for an image
# Least part of an image's area in a training crop: that of Inception for large inputs; of images that a network sees small, as
# CIFAR's are (whose usual augmentation shifts and does not zoom), 8 % would be a few pixels. docs/data.md has a measurement.
LEAST_AREA, LEAST_AREA_SMALL, SMALL = 0.08, 0.5, 96


@dataclass(frozen=True)
class CropPlan:
    """What a loader does to make one batch.

    Of image `indices[i]` it takes `crop[i]`, resizes that to `size[i]`, takes the RxR pixels at `offset[i]`, and mirrors them
    where `mirror[i]` is true.

    Attributes:
        indices: image numbers, (N,).
        crop: top, left, height, width in pixels of the image, int (N, 4).
        size: height, width in pixels, int (N, 2).
        offset: top, left in pixels of the resized crop, int (N, 2).
        mirror: left to right, bool (N,).
        antialias: resize as PIL does; else as OpenCV's bilinear does, with the four nearest pixels.
    """

    indices: np.ndarray
    crop: np.ndarray
    size: np.ndarray
    offset: np.ndarray
    mirror: np.ndarray
    antialias: bool


def random_crops(
    indices: np.ndarray, sizes: np.ndarray, resolution: int, draws: np.ndarray, *, mirror: bool = True
) -> CropPlan:
    """Plan training images: a random part of each image's area, 3:4 to 4:3 in shape, mirrored half of the time.

    The part is 8 to 100 %, below a resolution of 96 pixels 50 to 100 %.

    Args:
        indices: image numbers, (N,).
        sizes: height and width of these images in pixels, (N, 2).
        draws: uniform random numbers in [0, 1), (N, CROP_DRAWS).
        mirror: whether any is mirrored; what is cropped is the same either way.
    Source: Inception's crop (arXiv:1409.4842) as torchvision's RandomResizedCrop draws it; the 50 % are ours.
    """
    height, width = sizes[:, :1].astype(np.float64), sizes[:, 1:].astype(np.float64)
    least = LEAST_AREA if resolution >= SMALL else LEAST_AREA_SMALL
    area = height * width * (least + (1 - least) * draws[:, :TRIES])
    ratio = np.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * draws[:, TRIES : 2 * TRIES])
    w, h = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first, rows = fits.argmax(1), np.arange(len(indices))
    w, h = w[rows, first], h[rows, first]
    height, width = height[:, 0], width[:, 0]
    none = ~fits.any(
        1
    )  # no crop fits, as happens with images longer than 4:3: take as much of the centre as is in shape
    w = np.where(none, np.minimum(width, np.rint(height * 4 / 3)), w)
    h = np.where(none, np.minimum(height, np.rint(width * 4 / 3)), h)
    free_y, free_x = height - h, width - w
    top = np.where(none, free_y // 2, np.floor(draws[:, -3] * (free_y + 1)))
    left = np.where(none, free_x // 2, np.floor(draws[:, -2] * (free_x + 1)))
    crop = np.stack((top, left, h, w), 1).astype(np.int32)
    size = np.full((len(indices), 2), resolution, np.int32)
    return CropPlan(indices, crop, size, np.zeros_like(size), (draws[:, -1] < 0.5) & mirror, True)


def short_side_of(resolution: int) -> int:
    """Pixels that the short side of an image is resized to, before the central RxR pixels are cut out for scoring."""
    return round(resolution * 256 / 224)


def side_for_copies(resolution: int) -> int:
    """Pixels of the short side that copies of large images need, so that a network of this resolution loses nothing much.

    1.3 times what the images that are scored are resized to: a training crop of half of the area, the mean, still has no fewer
    pixels than the network sees, and is not enlarged.
    """
    return 8 * math.ceil(1.3 * short_side_of(resolution) / 8)


def central_crops(indices: np.ndarray, sizes: np.ndarray, resolution: int, *, spos: bool) -> CropPlan:
    """Plan images to score: resize the short side to 256/224 of the resolution, then take the RxR pixels in the centre.

    Args:
        indices: image numbers, (N,).
        sizes: height and width of these images in pixels, (N, 2).
        spos: resize as the official SPOS code does with OpenCV: without antialiasing, and the length of the long side rounded,
            not cut off, to whole pixels.
    """
    short_side = short_side_of(resolution)
    height, width = sizes[:, 0].astype(np.int64), sizes[:, 1].astype(np.int64)
    short, long = np.minimum(height, width), np.maximum(height, width)
    long = (short_side / short * long + 0.5).astype(np.int64) if spos else short_side * long // short
    size = np.stack((np.where(height <= width, short_side, long), np.where(height <= width, long, short_side)), 1)
    offset = np.rint(
        (size - resolution) / 2
    )  # halves go to the even number, as in Python's round, which torchvision uses
    crop = np.zeros((len(indices), 4), np.int32)
    crop[:, 2:] = sizes
    mirror = np.zeros(len(indices), bool)
    return CropPlan(indices, crop, size.astype(np.int32), offset.astype(np.int32), mirror, not spos)
