"""Test images that are nearly equal to a training image: frames of a film, photographs in a burst, augmented copies.

A network that has seen one frame knows the next, so where a split puts them apart, accuracies on the test part are too good.
Both are compared as 16x16 pixels in colour, less the mean around each pixel, so that a common shape or light (a garment in the
middle, a bright sky) makes no two of them alike. N test images, M training images.
"""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from spaces.errors import shown
from trials.common import cli
from trials.images.background import Colour
from trials.images.image_list import PARTS, ImageList
from trials.images.inspect_file import require_innocence
from trials.images.to_rgb import to_rgb

SIDE = 16  # pixels of a thumbnail's side
AROUND = 9  # pixels of the side of the square whose mean is taken off
DRAFT = 8 * SIDE  # a JPEG is decoded no smaller than this, pixels
LEAST_CONTRAST = 1.0  # of 255: with less left, the standard deviation, there is nothing to compare
# A pair is nearly equal where its correlation is above SAME; or above ALIKE, with a distance less than NEARER times that of the
# eleventh nearest training image. docs/data.md has the measurement. It is worth a line from NOTABLE_SHARE of the test images on.
SAME, ALIKE, NEARER, OTHERS = 0.99, 0.8, 0.4, 10
NOTABLE_SHARE, NOTABLE_COUNT = 0.05, 3
LEAST_TRAINING = 2 * OTHERS  # fewer say nothing about how near is usual
STRETCHES = 20  # of neighbours in the order of names, where there are more: frames of one scene stand side by side
BLOCK = 256  # test images whose correlations are in memory at a time
SILENT = 2.0  # seconds before a progress bar is shown


class NearCopies(NamedTuple):
    """What was found.

    Attributes:
        near: test images that are nearly equal to a training image.
        other_class: how many of these are in another class than that one.
        test, training: how many were compared.
        of_test, of_training: how many there are.
        example: paths of the nearest pair, test image first, from the data folder; None where there is none.
    """

    near: int
    other_class: int
    test: int
    training: int
    of_test: int
    of_training: int
    example: tuple[str, str] | None

    @property
    def notable(self) -> bool:
        """Whether they are so many that the accuracy is doubtful."""
        return self.near >= max(NOTABLE_COUNT, NOTABLE_SHARE * self.test)

    @property
    def across(self) -> bool:
        """Whether most of them are in another class than what they are nearly equal to."""
        return 2 * self.other_class > self.near


class Thumbnails(NamedTuple):
    """What is compared of some images.

    Attributes:
        numbers: which images these are, (k,).
        looks: what `fine_structure` makes of each, float32 (k, D).
    """

    numbers: np.ndarray
    looks: np.ndarray


class Bounds(NamedTuple):
    """The most test and training images that are compared, and the most pixels of files that are decoded for it."""

    test: int
    training: int
    pixels: int


CHECK = Bounds(2000, 20_000, 10**10)  # of `data check`
RUN = Bounds(1000, 2000, 2 * 10**9)  # of a run, which is to start soon


def find_near_copies(
    images: ImageList,
    root: str | os.PathLike[str],
    background: Colour | None,
    workers: int,
    bounds: Bounds | None = None,
) -> tuple[NearCopies, Thumbnails]:
    """Compare the test images with the training images, those that score candidates among them.

    Args:
        images: the images, with their parts.
        root: the data folder.
        background: what transparent pixels are laid on; None: their transparency is dropped.
        workers: number of threads that decode.
        bounds: the most that is compared; None: CHECK.
    Returns:
        What was found, and what was compared, for other parts of the same images.
    """
    tested = images.parts == PARTS.index("test")
    test, training = _chosen(images, tested, bounds or CHECK)
    if not len(test) or len(training) < LEAST_TRAINING:
        nothing = Thumbnails(np.zeros(0, np.int64), np.zeros((0, SIDE * SIDE * 3), np.float32))
        return compare(images, nothing), nothing
    files, numbers = images.paths.under(str(root)), np.concatenate((test, training))
    looks = np.zeros((len(numbers), SIDE * SIDE * 3), np.float32)
    with (
        ThreadPoolExecutor(max(1, workers)) as pool,
        cli.progress(len(numbers), desc="compare images", unit="file", silent=SILENT) as bar,
    ):
        paths = (files[number] for number in numbers.tolist())
        for row, look in enumerate(pool.map(_look, paths, itertools.repeat(background))):
            looks[row] = look
            bar.update()
    looked = Thumbnails(numbers, looks)
    return compare(images, looked), looked


def compare(images: ImageList, looked: Thumbnails) -> NearCopies:
    """Find the test images that are nearly equal to a training image, among those that were looked at; by their parts."""
    tested = images.parts == PARTS.index("test")
    total = int(tested.sum()), int((~tested).sum())
    is_test = tested[looked.numbers]
    test, training = looked.numbers[is_test], looked.numbers[~is_test]
    if not len(test) or len(training) < LEAST_TRAINING:
        return NearCopies(0, 0, 0, 0, *total, None)
    nearest, correlation, near = nearest_images(looked.looks[is_test], looked.looks[~is_test])
    same = images.labels[test] == images.labels[training[nearest]]
    example = None
    if near.any():
        first = int(np.argmax(np.where(near, correlation, -np.inf)))
        example = images.paths[int(test[first])], images.paths[int(training[nearest[first]])]
    return NearCopies(int(near.sum()), int((near & ~same).sum()), len(test), len(training), *total, example)


def nearest_images(test: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest training image of each test image, exactly, in blocks.

    Args:
        test, training: what `fine_structure` makes of images, float32 (N, D) and (M, D); M is above OTHERS.
    Returns:
        Its number, its correlation, and whether the two are nearly equal, (N,) each.
    """
    numbers, correlations, near = [], [], []
    for first in range(0, len(test), BLOCK):
        block = test[first : first + BLOCK] @ training.T
        nearest = block.argmax(1)
        best = block[np.arange(len(nearest)), nearest]
        usual = np.partition(block, -OTHERS - 1, axis=1)[:, -OTHERS - 1]
        # the squared distance of two of them is 2 - 2 * correlation
        much_nearer = (1 - best) < NEARER**2 * (1 - usual)
        numbers.append(nearest)
        correlations.append(best)
        near.append((best > SAME) | ((best > ALIKE) & much_nearer))
    return np.concatenate(numbers), np.concatenate(correlations), np.concatenate(near)


def fine_structure(pixels: np.ndarray) -> np.ndarray:
    """A thumbnail less the mean of the pixels around each, float32 (H * W * 3,), mean 0, length 1; all 0 where hardly any is left.

    Args:
        pixels: (H, W, 3), 0..255.
    """
    rim = AROUND // 2
    padded = np.pad(pixels.astype(np.float32), ((rim, rim), (rim, rim), (0, 0)), mode="edge")
    fine = (pixels - sliding_window_view(padded, (AROUND, AROUND), axis=(0, 1)).mean((-2, -1))).ravel()
    fine -= fine.mean()
    return fine / np.linalg.norm(fine) if fine.std() >= LEAST_CONTRAST else np.zeros_like(fine)


def near_copies_text(found: NearCopies) -> tuple[str, str]:
    """What was found in words: how many there are, with a pair, and why that matters."""
    sampled = (found.test, found.training) != (found.of_test, found.of_training)
    looked_at = f" ({found.test:,} of {found.of_test:,} were compared with {found.training:,} of {found.of_training:,} that train)"
    elsewhere = f"; {found.other_class:,} of them to one of another class" if found.other_class else ""
    why = "frames of one scene in both make accuracies too good"
    if found.across:
        why = "what is in two classes cannot be told; decide for one class"
    one, two = (shown(path) for path in found.example or ("", ""))
    return (
        f"{found.near:,} of {found.test:,} pictures that would test{looked_at * sampled} are nearly equal to one that trains (such as "
        f"'{one}' and '{two}'{elsewhere})"
    ), why


def _chosen(images: ImageList, tested: np.ndarray, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the test images and of the training images that are compared: all, or stretches in the order of names.

    Args:
        tested: whether an image is a test image, (n,).
    """
    count = len(tested)
    pixels = max(1.0, float(images.sizes.astype(np.int64).prod(1).mean())) if count else 1.0
    most = min(bounds.test + bounds.training, max(STRETCHES, int(bounds.pixels / pixels)))
    chosen = np.arange(count)
    if count > most:
        # by class, then by the name of the file, so that a scene in train/ and val/ stands together too
        order = np.array(sorted(range(count), key=lambda k: (images.labels[k], os.path.basename(images.paths[k]))))
        starts = np.linspace(0, count - most // STRETCHES, STRETCHES).astype(np.int64)
        chosen = np.unique(order[(starts[:, None] + np.arange(most // STRETCHES)).ravel()])
    test, training = chosen[tested[chosen]], chosen[~tested[chosen]]
    return _spread(test, bounds.test), _spread(training, bounds.training)


def _spread(numbers: np.ndarray, most: int) -> np.ndarray:
    """At most so many of these numbers, at even steps."""
    return numbers if len(numbers) <= most else numbers[np.linspace(0, len(numbers) - 1, most).astype(np.int64)]


def _look(path: str, background: Colour | None) -> np.ndarray:
    """What is compared of an image file, as `fine_structure` has it; all 0 where it cannot be read."""
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            if image.mode in ("RGB", "L"):
                image.draft(image.mode, (DRAFT, DRAFT))
            small = Image.fromarray(to_rgb(image, background=background)).resize((SIDE, SIDE), Image.Resampling.BOX)
    except Exception as error:  # it went bad since it was looked at; training will name it
        require_innocence(error, path)
        return np.zeros(SIDE * SIDE * 3, np.float32)
    return fine_structure(np.asarray(small))
