"""A first look at an image folder, before anything is decided: how many training images, and how large.

Files of a folder that is not very large are looked at as for the training itself, which keeps what it finds in the cache, so that no
time is lost and the number is that of the run. Of a larger one the sizes of some are read from the headers of their files.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

import numpy as np
from PIL import Image

from trials.images.heic import teach_pillow
from trials.images.image_list import PARTS
from trials.images.layout import SPLITS_ON_DISK
from trials.images.listing import find_images
from trials.images.options import DataOptions, require_data_folder, which_files
from trials.images.scan import scan
from trials.images.selection import selector

teach_pillow()

ALL = 20_000  # files; of more, whose decoding takes minutes, the number of images is about that of the files
LOOKED_AT = 200  # images whose size is read, of these
SURVEY_SEED = 0
SCORE_FRACTION = 0.1  # of the training images; what it is changes no number here


class Survey(NamedTuple):
    """What a first look at a folder found.

    Attributes:
        images: training images, those that score candidates among them.
        exact: whether files that are bad or there twice are taken off; without, the number is about that.
        short_side: median of their short sides in pixels; 0 where none can be read.
        classes: how many there are.
    """

    images: int
    exact: bool
    short_side: float
    classes: int

    @property
    def text(self) -> str:
        """The number of images, for people."""
        return f"{'' if self.exact else 'about '}{self.images:,} images"


def survey_folder(options: DataOptions) -> Survey:
    """Count the training images of a folder, and read the sizes of some from the headers of their files.

    Raises:
        InputError: there is no such folder, or it is no image folder.
    """
    root = require_data_folder(options.data_root, "folder")
    listing = find_images(root, **which_files(options))
    if len(listing.paths) <= ALL:
        scanned = scan(listing.paths.under(listing.root), options.workers)
        images = selector(options, listing, scanned, SCORE_FRACTION)(None)
        training = images.parts != PARTS.index("test")
        sides = images.sizes.min(1)
        return Survey(int(training.sum()), True, float(np.median(sides)) if len(sides) else 0.0, len(listing.classes))
    train = np.flatnonzero(listing.splits == SPLITS_ON_DISK.index("train"))
    number = len(train) if len(train) < len(listing.splits) else round(len(train) * (1 - options.test_fraction))
    short_sides = []
    for place in np.random.default_rng(SURVEY_SEED).permutation(train)[:LOOKED_AT].tolist():
        try:
            with Image.open(listing.root / listing.paths[place]) as image:
                short_sides.append(min(image.size))
        except Exception:  # whatever a damaged file leads PIL to; the scan reports it
            continue
    return Survey(number, False, statistics.median(short_sides) if short_sides else 0.0, len(listing.classes))
