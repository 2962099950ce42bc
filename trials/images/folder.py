"""Image folders, ImageNet among them: parts without duplicates, read by DALI or torchvision.

Which images a run uses is decided once, at its start, and written to RUN/images.csv.gz: a resumed run, the search and the
retraining read that list, so that no image changes its part when files come, go or turn bad meanwhile.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spaces.errors import InputError, Stopped
from trials.images.augment import Augmentation
from trials.images.background import colour_of
from trials.images.blank import blank_classes
from trials.images.crops import CROP_DRAWS, CropPlan, central_crops, random_crops, short_side_of
from trials.images.dali_loader import DaliLoader
from trials.images.dataset import Batch, Data
from trials.images.first_look import report
from trials.images.fit import CROP
from trials.images.image_list import (
    LIST,
    PARTS,
    ImageList,
    load_list,
    notes_on_groups,
    save_list,
    turned_sizes,
    without_training_images,
)
from trials.images.inspect_file import PLAIN, TURNED
from trials.images.listing import Listing, find_images
from trials.images.near_copies import RUN, NearCopies
from trials.images.options import TEST_FRACTION, DataOptions, require_data_folder, which_files
from trials.images.propose_groups import Proposal, look_for_copies
from trials.images.scan import scan
from trials.images.selection import selector
from trials.images.torch_loader import TorchLoader

MAX_MISSING = 0.01  # fraction of the images of a score or a test that may turn bad during the run
MAX_BAD_IN_A_ROW = 8  # after so many unreadable images of a batch in a row, the disk is to blame


class FolderData(Data):
    """An image folder.

    Args:
        options: which folder, how it is read, and how its images are prepared.
        resolution: height and width of the images that a network sees, pixels.
        score_fraction: fraction of the training images that is held out to score candidates, unless the folder has a part for it.
        arch_fraction: fraction of the rest that architecture parameters learn from.
        run: the run that the images are for; if it has a list of its images already, these are used.
        augmentation: random changes of the training images, beside the random crop.
    Attributes:
        images: the list of images.
        sizes: heights and widths in pixels, (n, 2), of the images as they are decoded: turned by EXIF, or as stored.
        files: their paths.
        labels: their class numbers, int64 (n,).
    Raises:
        InputError: there is no such folder, or its images cannot be used.
    """

    def __init__(
        self,
        options: DataOptions,
        resolution: int,
        score_fraction: float,
        arch_fraction: float,
        run: Path | None,
        augmentation: Augmentation,
    ) -> None:
        root = require_data_folder(options.data_root, "folder")
        self.options = options
        self._look: Callable[[], tuple[NearCopies, Proposal | None]] | None = None
        if run is not None and (run / LIST).exists():
            self.images = load_list(run)
        else:
            listing = find_images(root, **which_files(options))
            if options.test_fraction != TEST_FRACTION and listing.splits.any():
                raise InputError(f"'{root}' has a test part of its own; leave --test-fraction out")
            scanned = scan(listing.paths.under(listing.root), options.workers)
            select = selector(options, listing, scanned, score_fraction)
            images = self.images = select(None)
            _check_usable(self.images, scanned.problems, listing, options)
            how = images.labels, images.classes, str(options.background)
            self.blank = blank_classes(images.flats, images.paths, *how)
            laid_on = colour_of(options.background)
            self._look = partial(look_for_copies, images, listing, select, laid_on, options.workers, RUN)
            report(self.images, [*listing.notes, *notes_on_groups(self.images)], options, resolution)
        images = self.images
        self.files = images.paths.under(root)
        self.labels = torch.from_numpy(images.labels)
        super().__init__(
            "folder",
            images.classes,
            resolution,
            images.labels,
            {name: np.flatnonzero(images.parts == number) for number, name in enumerate(PARTS)},
            arch_fraction,
            groups=images.groups.numbers if images.groups else None,
            spos=bool(options.spos_preprocessing),
            augmentation=augmentation,
        )
        self.fit = str(options.fit)
        self.short_side = short_side_of(resolution) if self.fit == CROP else None
        self.exif_orientation = bool(options.exif_orientation)
        self.background = colour_of(options.background)
        self.sizes = turned_sizes(images) if self.exif_orientation else images.sizes
        self._reported: set[str] = set()  # files that went bad during the run, with the reason
        self._loader: DaliLoader | TorchLoader | None = None

    def fingerprint(self) -> int:
        """A checksum of the paths of all images and of their parts."""
        return zlib.crc32(self.images.parts.tobytes(), self.images.paths.crc())

    def near_copies(self) -> tuple[NearCopies, Proposal | None] | None:
        """Test images that are nearly equal to a training image, among a bounded number of them, and what keeps them together.

        Returns:
            None where the parts were not cut now but read from the list of a run, or where this was asked before.
        """
        look, self._look = self._look, None  # which holds all that is known of the files
        return look() if look else None

    def check_files(self, part: str) -> None:
        """Refuse a part of which more than MAX_MISSING of the files are gone, or have another size than in the list.

        Raises:
            InputError: naming one of them.
        """
        indices = self.parts[part]
        gone = [self.files[i] for i in indices.tolist() if not _is_unchanged(self.files[i], int(self.images.nbytes[i]))]
        if len(gone) > max(1, MAX_MISSING * len(indices)):
            raise InputError(
                f"{len(gone):,} of {len(indices):,} images of part '{part}' are gone or changed since the run's list was made "
                f"('{gone[0]}'); at most {MAX_MISSING:.0%} may be; restore them"
            )

    def save(self, run: Path) -> None:
        """Write the list of images into a run that has none yet."""
        if not (run / LIST).exists():
            save_list(self.images, run)

    def to(self, device: torch.device) -> None:
        """Give batches on this device from now on; a new loader is made for it."""
        if device != self.device:
            self.device, self._loader = device, None

    def loader(self) -> DaliLoader | TorchLoader:
        """What decodes the images; made when it is first needed, because it starts threads."""
        if self._loader is None:
            workers, known = self.options.workers, (self.sizes, self.images.nbytes)
            turn, below = self.exif_orientation, self.background
            if self.options.loader == "dali":
                kinds = [kind if turn else kind.partition(TURNED)[0] for kind in self.images.kinds]
                plain = np.array([kind in PLAIN for kind in kinds])[self.images.kind_numbers]
                self._loader = DaliLoader(
                    self.files, *known, plain, self.resolution, workers, self.device, turn=turn, background=below
                )
            else:
                self._loader = TorchLoader(self.files, *known, self.resolution, workers, turn=turn, background=below)
        return self._loader

    def train_batches(
        self, part: str, batch: int, *, seed: int, epoch: int, start: int = 0, take: np.ndarray | None = None
    ) -> Iterator[Batch]:
        """Read the batches of one epoch; see Data. An unreadable image is replaced by another one of its batch."""
        positions = np.arange(batch) if take is None else take
        order = self.epoch_order(part, batch, seed, epoch)

        def plan(number: int, positions: np.ndarray) -> CropPlan:
            """Random crops of the images at some positions of a batch."""
            indices = order[number][positions]
            draws = np.random.default_rng((seed, epoch, number, 2)).random((batch, CROP_DRAWS))[positions]
            how: dict[str, Any] = {"mirror": self.augmentation.mirror, "fit": self.fit}
            return random_crops(indices, self.sizes[indices], self.resolution, draws, **how)

        numbers = range(start, len(order))
        decoded = iter(self.loader().read(plan(number, positions) for number in numbers))

        def make_batch(number: int) -> Batch:
            images, reasons = next(decoded)
            indices = order[number][positions]
            for k, reason in enumerate(reasons):
                if reason:
                    images[k], indices[k] = self._replacement(
                        reason, positions[k], order[number], partial(plan, number)
                    )
            return self.prepare(images, [(seed, epoch, number)], positions, batch), self.labels[indices].to(self.device)

        for number in numbers:
            yield self.on_side_stream(partial(make_batch, number))

    def eval_batches(
        self, part: str, batch: int, *, count: int | None = None, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Read a part in order; see Data. Unreadable images are left out, as long as they are few.

        Raises:
            Stopped: more than MAX_MISSING of the images cannot be read.
        """
        mine = self.eval_indices(part, count)[rank::world]
        batches = [mine[first : first + batch] for first in range(0, len(mine), batch)]
        decoded = iter(
            self.loader().read(
                central_crops(indices, self.sizes[indices], self.resolution, spos=self.spos, fit=self.fit)
                for indices in batches
            )
        )
        missing: list[str] = []  # reasons, with the paths

        def make_batch(indices: np.ndarray) -> Batch:
            images, reasons = next(decoded)
            missing.extend(filter(None, reasons))
            good = torch.tensor([not reason for reason in reasons])
            labels = self.labels[indices][good].to(self.device)
            return (images if good.all() else images[good.to(images.device)]), labels

        for indices in batches:
            images, labels = self.on_side_stream(partial(make_batch, indices))
            self._report_unreadable(missing)
            if len(missing) > max(1, MAX_MISSING * len(mine)):
                raise Stopped(
                    f"{len(missing):,} of {len(mine):,} images cannot be read any more ({missing[0]}); at most {MAX_MISSING:.0%} may "
                    "be missing; restore them"
                )
            if len(labels):
                yield images, labels

    def _replacement(
        self, reason: str, position: int, indices: np.ndarray, plan: Callable[[np.ndarray], CropPlan]
    ) -> tuple[torch.Tensor, int]:
        """Take the next image of a batch that can be read, whichever process has it, so that batches keep their size.

        Args:
            reason: why an image cannot be read, with its path.
            position: where in the whole batch that image is.
            indices: image numbers of the whole batch, (batch,).
            plan: makes the crop plan for some positions of the batch.
        Returns:
            uint8 image (3, R, R), on the device of the data set; its image number.
        Raises:
            Stopped: too many images in a row cannot be read.
        """
        self._report_unreadable([reason])
        for other in (position + np.arange(1, min(len(indices), MAX_BAD_IN_A_ROW))) % len(indices):
            images, (bad,) = self.loader().decode_batch(plan(np.array([other])))
            if not bad:
                return images[0].to(self.device), int(indices[other])
            self._report_unreadable([bad])
        raise Stopped(f"{MAX_BAD_IN_A_ROW} images one after the other cannot be read ({reason}); is the disk there?")

    def _report_unreadable(self, reasons: list[str]) -> None:
        """Say of each file, once, that it went bad during the run; a reason names its file."""
        for reason in reasons:
            if reason and reason not in self._reported:
                self._reported.add(reason)
                print(f"image left out, it cannot be read any more: {reason}", file=sys.stderr)


def _is_unchanged(path: str, nbytes: int) -> bool:
    """True if a file is there and has as many bytes as it had."""
    try:
        return os.path.getsize(path) == nbytes
    except OSError:
        return False


def _check_usable(images: ImageList, problems: dict[int, str], listing: Listing, options: DataOptions) -> None:
    """Refuse a folder that cannot be used.

    Args:
        problems: why a file of the listing cannot be used, by its number.
    Raises:
        InputError: there are bad files, and the options want none; a class has no images.
    """
    check = f"see: python -m trials.data check {options.data_root}"
    bad = [*((listing.paths[number], problems[number]) for number in sorted(problems)), *listing.left_out]
    if bad and options.bad_files == "fail":
        raise InputError(
            f"{len(bad)} bad files in '{options.data_root}', the first: '{bad[0][0]}' {bad[0][1]}; {check}"
        )
    if name := without_training_images(images):
        raise InputError(f"class '{name}' of '{options.data_root}' has no usable image to train on; {check}")
