"""Large images: every epoch decodes them anew, so a copy that is made once with smaller ones saves time; how much is measured."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from trials.common import cli
from trials.images.crops import side_for_copies
from trials.images.shrink import save_image, small_image
from trials.images.to_rgb import to_rgb

# short side of the median image from which on it is worth a word: times that of the copies, and in pixels; smaller ones decode fast
WORTH, LARGE = 1.5, 500
MEASURED = 6  # images that are decoded for it
SAMPLE_SEED = 0


class Gain(NamedTuple):
    """What shrinking saves: number of images that were decoded, seconds for each before and after, on one core with PIL."""

    images: int
    before: float
    after: float


def advised_side(sizes: np.ndarray, resolution: int) -> int:
    """The short side of copies that are worth making, pixels; 0 where the images are not so much larger.

    Args:
        sizes: heights and widths of the images in pixels, (n, 2).
        resolution: height and width of the images that the network sees, pixels.
    """
    side = side_for_copies(resolution)
    return side if len(sizes) and np.median(sizes.min(1)) >= max(LARGE, WORTH * side) else 0


def command(root: str, side: int, val_labels: str = "") -> str:
    """The command that makes the copy."""
    labels = ["--val-labels", val_labels] if val_labels else []
    path = root.rstrip("/") or root
    return cli.command("data", "shrink", path, "--side", side, "--out", f"{path}-{side}", *labels)


def measure(files: Sequence[str], sizes: np.ndarray, side: int) -> Gain | None:
    """Decode a few of the images that would be shrunk, and their copies, which are made in memory.

    Returns:
        None where none of them can be read.
    """
    large = np.flatnonzero(sizes.min(1) > side)
    before, after = [], []
    for number in np.random.default_rng(SAMPLE_SEED).permutation(large)[:MEASURED].tolist():
        copy = io.BytesIO()
        try:
            with open(files[number], "rb") as file:
                original = io.BytesIO(file.read())
            image, form, _ = small_image(files[number], side)
            save_image(image, copy, form)
            before.append(_seconds(original))
            after.append(_seconds(copy))
        except Exception:  # it went bad since it was looked at; training will name it
            continue
    return Gain(len(after), sum(before) / len(before), sum(after) / len(after)) if after else None


def _seconds(content: io.BytesIO) -> float:
    """How long an image takes to decode."""
    content.seek(0)
    began = time.perf_counter()
    with Image.open(content) as image:
        to_rgb(image)
    return time.perf_counter() - began


def print_advice(
    files: Sequence[str], sizes: np.ndarray, training: int, network: tuple[str, int], line: tuple[int, str]
) -> None:
    """Print that images are large, what that costs, and the command of the copy.

    Args:
        files: paths of the images.
        sizes: their heights and widths in pixels, (n, 2).
        training: number of training images.
        network: preset, and the side in pixels of what it sees.
        line: the side of the copies in pixels, and the command.
    """
    (preset, resolution), (side, typed) = network, line
    median = np.median(sizes.min(1))
    print(
        f"\nlarge images: a short side of {median:,.0f} pixels (median), and a network of preset {preset} looks at {resolution};"
    )
    print("every epoch decodes all of them anew")
    if gain := measure(files, sizes, side):
        saved = gain.before - gain.after
        print(
            f"  decoding takes {1000 * gain.before:,.1f} ms an image, {1000 * gain.after:,.1f} ms after shrinking "
            f"({gain.images} images, PIL, one core): an epoch of"
        )
        print(f"  {training:,} images saves {saved * training:,.1f} of {gain.before * training:,.1f} s of a core")
    print(f"  once: {typed}")
    print(
        f"  ({side} pixels: a training crop of half of the area then still has {resolution}; more for larger networks)"
    )
