"""How many images at a time suit the memory of a GPU. A batch size is part of a score, so it is told and never changed unasked."""

from __future__ import annotations

import functools
import sys

SMALLEST, LARGEST = 128, 2048  # the default of trials.evaluate; beyond it a GPU has enough to do at any resolution
SHARE = 0.25  # of the memory, for what one batch leaves in it while it walks a tree
BYTES_PER_PIXEL = (
    1000  # four times what SPOS takes at 224 px in 32 bits (3.2 GiB for 256 images); other spaces are wider
)


def fitting_batch(resolution: int, memory: float) -> int:
    """The largest power of two, from 128 to 2,048, that surely fits.

    Args:
        resolution: height and width of an image, pixels.
        memory: of the GPU, bytes.
    """
    images = int(SHARE * memory / (BYTES_PER_PIXEL * resolution**2))
    return max(SMALLEST, min(LARGEST, 1 << max(0, images.bit_length() - 1)))


@functools.cache
def say_small_batches(batch_size: int, resolution: int, memory: float) -> None:
    """Tell, once in a process, who scores in small batches on a large GPU."""
    fits = fitting_batch(resolution, memory)
    if batch_size < fits:
        print(
            f"batches of {batch_size:,} images at {resolution} px keep this GPU waiting for launches; --batch-size {fits} fits "
            f"into a quarter of its {memory / 2**30:.0f} GiB. Another batch size gives other scores: choose before a search",
            file=sys.stderr,
        )
