"""Which pixels of an image become a network's input, as numbers that every loader is given alike.

They follow from the sizes of the images, which the scan of the files found, so nothing is decoded to draw a crop, and a batch
is a function of (seed, epoch, number) however it is decoded. Shapes: N batch, R resolution in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trials.images.fit import CROP, PAD, SQUASH

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
        pads: crops may reach beyond their images, where the border is; some of the image is in each.
        exact: images are scored to their very edges, where DALI's antialiasing gives other values than PIL's; PIL does these.
    """

    indices: np.ndarray
    crop: np.ndarray
    size: np.ndarray
    offset: np.ndarray
    mirror: np.ndarray
    antialias: bool
    pads: bool = False
    exact: bool = False


def random_crops(
    indices: np.ndarray,
    sizes: np.ndarray,
    resolution: int,
    draws: np.ndarray,
    *,
    mirror: bool = True,
    fit: str = CROP,
) -> CropPlan:
    """Plan training images: a random part of each image's area, 3:4 to 4:3 in shape, mirrored half of the time.

    The part is 8 to 100 %, below a resolution of 96 pixels 50 to 100 %. With --fit squash and pad it is of the square that is made
    of the image first; with pad the middle of the crop lies on the image.

    Args:
        indices: image numbers, (N,).
        sizes: height and width of these images in pixels, (N, 2).
        draws: uniform random numbers in [0, 1), (N, CROP_DRAWS).
        mirror: whether any is mirrored; what is cropped is the same either way.
        fit: how an image becomes square, a value of --fit.
    Source: Inception's crop (arXiv:1409.4842) as torchvision's RandomResizedCrop draws it; the 50 % are ours.
    """
    height, width = np.split(squares(sizes, fit).astype(np.float64), 2, 1)
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
    # first and last row and column that a crop may begin at
    (low_y, low_x), (high_y, high_x) = (0, 0), (free_y, free_x)
    if fit == PAD:
        (above, before), (rows_there, columns_there) = margins(sizes, fit).T, sizes.T
        low_y, high_y = np.maximum(0, above - h // 2), np.minimum(free_y, above + rows_there - h + h // 2)
        low_x, high_x = np.maximum(0, before - w // 2), np.minimum(free_x, before + columns_there - w + w // 2)
    top = np.where(none, free_y // 2, low_y + np.floor(draws[:, -3] * (high_y - low_y + 1)))
    left = np.where(none, free_x // 2, low_x + np.floor(draws[:, -2] * (high_x - low_x + 1)))
    crop = on_images(np.stack((top, left, h, w), 1), sizes, fit)
    size = np.full((len(indices), 2), resolution, np.int32)
    return CropPlan(indices, crop, size, np.zeros_like(size), (draws[:, -1] < 0.5) & mirror, True, fit == PAD)


def squares(sizes: np.ndarray, fit: str) -> np.ndarray:
    """The sizes of what crops are taken of: of the images, or of the squares that are as large as their long sides.

    Args:
        sizes: heights and widths of images in pixels, (N, 2).
    Returns:
        Heights and widths in pixels, (N, 2).
    """
    return sizes if fit == CROP else np.repeat(sizes.max(1, keepdims=True), 2, 1)


def margins(sizes: np.ndarray, fit: str) -> np.ndarray:
    """Rows above an image and columns left of it in its square, whole pixels, (N, 2); 0 but for `pad`."""
    return (squares(sizes, fit) - sizes) // 2 if fit == PAD else np.zeros_like(sizes)


def on_images(crops: np.ndarray, sizes: np.ndarray, fit: str) -> np.ndarray:
    """Crops of the squares as crops of the images; with `pad` they may reach beyond these, where the border is.

    Args:
        crops: top, left, height and width in pixels of what `squares` has, (N, 4).
        sizes: heights and widths of the images in pixels, (N, 2).
    Returns:
        Top, left, height and width in whole pixels of the images, int32 (N, 4).
    """
    first, length = crops[:, :2], crops[:, 2:]
    if fit == PAD:
        first = first - margins(sizes, fit)
    elif fit == SQUASH:
        scale = sizes / squares(sizes, fit)
        last = np.rint((first + length) * scale)
        first = np.minimum(np.rint(first * scale), sizes - 1)
        length = np.maximum(last - first, 1)
    return np.concatenate((first, length), 1).astype(np.int32)


def losing_much(sizes: np.ndarray) -> int:
    """How many images lose more than a fifth of their area where the largest square of their centre is cut out.

    Args:
        sizes: heights and widths in pixels, (N, 2).
    """
    return int((5 * sizes.min(1) < 4 * sizes.max(1)).sum()) if len(sizes) else 0


def short_side_of(resolution: int) -> int:
    """Pixels that the short side of an image is resized to, before the central RxR pixels are cut out for scoring."""
    return round(resolution * 256 / 224)


def side_for_copies(resolution: int) -> int:
    """Pixels of the short side that copies of large images need, so that a network of this resolution loses nothing much.

    1.3 times what the images that are scored are resized to: a training crop of half of the area, the mean, still has no fewer
    pixels than the network sees, and is not enlarged.
    """
    return 8 * math.ceil(1.3 * short_side_of(resolution) / 8)


def central_crops(indices: np.ndarray, sizes: np.ndarray, resolution: int, *, spos: bool, fit: str = CROP) -> CropPlan:
    """Plan images to score: resize the short side to 256/224 of the resolution, then take the RxR pixels in the centre.

    With --fit squash and pad, resize all of the square that is made of the image to RxR.

    Args:
        indices: image numbers, (N,).
        sizes: height and width of these images in pixels, (N, 2).
        spos: resize as the official SPOS code does with OpenCV: without antialiasing, and the length of the long side rounded,
            not cut off, to whole pixels.
        fit: how an image becomes square, a value of --fit.
    """
    short_side = short_side_of(resolution)
    height, width = sizes[:, 0].astype(np.int64), sizes[:, 1].astype(np.int64)
    short, long = np.minimum(height, width), np.maximum(height, width)
    long = (short_side / short * long + 0.5).astype(np.int64) if spos else short_side * long // short
    size = np.stack((np.where(height <= width, short_side, long), np.where(height <= width, long, short_side)), 1)
    offset = np.rint(
        (size - resolution) / 2
    )  # halves go to the even number, as in Python's round, which torchvision uses
    if fit != CROP:
        size, offset = np.full_like(size, resolution), np.zeros_like(offset)
    whole = squares(sizes, fit)
    crop = on_images(np.concatenate((np.zeros_like(whole), whole), 1), sizes, fit)
    mirror = np.zeros(len(indices), bool)
    offset, exact = offset.astype(np.int32), fit != CROP and not spos
    return CropPlan(indices, crop, size.astype(np.int32), offset, mirror, not spos, fit == PAD, exact)
