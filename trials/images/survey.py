"""A first look at an image folder, before anything is decided: how many training images, and how large. No file is decoded."""

from __future__ import annotations

import statistics
from typing import NamedTuple

import numpy as np
from PIL import Image

from trials.images.heic import teach_pillow
from trials.images.layout import SPLITS_ON_DISK
from trials.images.listing import find_images
from trials.images.options import DataOptions, require_data_folder, which_files

teach_pillow()

LOOKED_AT = 200  # images whose size is read
SURVEY_SEED = 0


class Survey(NamedTuple):
    """What a first look at a folder found.

    Attributes:
        images: training images, those that score candidates among them; about, as bad files are not known yet.
        short_side: median of their short sides in pixels; 0 where none can be read.
        classes: how many there are.
    """

    images: int
    short_side: float
    classes: int


def survey_folder(options: DataOptions) -> Survey:
    """Count the training images of a folder, and read the sizes of some from the headers of their files.

    Raises:
        InputError: there is no such folder, or it is no image folder.
    """
    root = require_data_folder(options.data_root, "folder")
    listing = find_images(root, **which_files(options))
    train = np.flatnonzero(listing.splits == SPLITS_ON_DISK.index("train"))
    images = len(train) if len(train) < len(listing.splits) else round(len(train) * (1 - options.test_fraction))
    sides = []
    for number in np.random.default_rng(SURVEY_SEED).permutation(train)[:LOOKED_AT].tolist():
        try:
            with Image.open(listing.root / listing.paths[number]) as image:
                sides.append(min(image.size))
        except Exception:  # whatever a damaged file leads PIL to; the scan reports it
            continue
    return Survey(images, statistics.median(sides) if sides else 0.0, len(listing.classes))
