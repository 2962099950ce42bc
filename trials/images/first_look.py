"""What a run says of its images when it has looked at all of them, at its start."""

from __future__ import annotations

import numpy as np

from trials.images import large
from trials.images.background import laid_on
from trials.images.image_list import LEFT_OUT, ImageList, count_transparent, count_turned
from trials.images.options import DataOptions
from trials.images.walk import by_reason


def report(images: ImageList, notes: list[str], options: DataOptions, resolution: int) -> None:
    """Print what is not used, and what is done with images that are transparent, turned or large.

    Args:
        notes: what is doubtful about the folder.
        resolution: height and width of the images that a network sees, pixels.
    """
    _report_left_out(images, notes)
    if clear := count_transparent(images):
        print(f"note: {clear:,} images are transparent, {laid_on(str(options.background))}; another: --background")
    turned = count_turned(images)
    if turned and not options.exif_orientation:
        print(f"note: {turned:,} images have an EXIF orientation and are used as stored; --exif-orientation turns them")
    if side := large.advised_side(images.sizes, resolution):
        median = np.median(images.sizes.min(1))
        print(
            f"note: the images have a short side of {median:,.0f} pixels (median), the network looks at {resolution}, and every epoch "
            f"decodes all of them; a smaller copy, once: {large.command(options.data_root, side, options.val_labels)}"
        )


def _report_left_out(images: ImageList, notes: list[str]) -> None:
    """Print what is doubtful, how many images are not used, with the first of them, and what else is not, by suffix."""
    for note in notes:
        print(f"note: {note}")
    if images.left_out:
        path, reason = images.left_out[0]
        more = (
            f", and {len(images.left_out) - 1:,} more, which the run's {LEFT_OUT} lists"
            if len(images.left_out) > 1
            else ""
        )
        print(f"left out of {len(images.paths) + len(images.left_out):,} files: '{path}' {reason}{more}")
    if images.others:
        print(f"not read (the run's {LEFT_OUT} lists them): {by_reason(images.others)}")
