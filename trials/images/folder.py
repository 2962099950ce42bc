"""Image folders, ImageNet among them: files that were looked at first, parts without duplicates, DALI or torchvision.

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

from spaces.errors import InputError
from trials.images.crops import DRAWS, Views, central_views, random_views, short_side_of
from trials.images.dali_loader import DaliLoader
from trials.images.dataset import Batch, Data
from trials.images.image_list import LEFT_OUT, LIST, PARTS, Images, choose, load, save
from trials.images.inspect_file import PLAIN
from trials.images.listing import Listing, find_images
from trials.images.options import DataOptions, existing
from trials.images.scan import scan
from trials.images.torch_loader import TorchLoader

MISSING = 0.01  # part of the images of a score or test that may turn bad during the run
IN_A_ROW = 8  # bad images of a batch, after which it is not the images that are bad


class FolderData(Data):
    """An image folder.

    Args:
        run: a run whose images these are, if it has its list already.
    """

    def __init__(
        self, options: DataOptions, resolution: int, score_fraction: float, arch_fraction: float, run: Path | None
    ) -> None:
        root = existing(options.data_root, "folder")
        self.options = options
        if run is not None and (run / LIST).exists():
            self.images = load(run)
        else:
            listing = find_images(
                root, val_labels=options.val_labels, classes=options.classes, per_class=options.per_class
            )
            found = scan(listing.paths.under(listing.root), options.workers)
            self.images = choose(listing, found, score_fraction)
            _tell(self.images, found.problems, listing, options)
        images = self.images
        self.files = images.paths.under(root)
        self.labels = torch.from_numpy(images.labels)
        parts = {name: np.flatnonzero(images.parts == number) for number, name in enumerate(PARTS)}
        super().__init__("folder", images.classes, resolution, images.labels, parts, arch_fraction)
        self.short_side = short_side_of(resolution)
        self._named: set[str] = set()
        self._loader: Any = None

    def fingerprint(self) -> int:
        return zlib.crc32(self.images.parts.tobytes(), self.images.paths.crc())

    def check_files(self, part: str) -> None:
        numbers = self.parts[part]
        gone = [self.files[i] for i in numbers.tolist() if not _is_there(self.files[i], int(self.images.nbytes[i]))]
        if len(gone) > max(1, MISSING * len(numbers)):
            raise InputError(
                f"{len(gone):,} of {len(numbers):,} images of part '{part}' are gone or changed since the run's list was made "
                f"('{gone[0]}'); at most {MISSING:.0%} may be; restore them"
            )

    def save(self, run: Path) -> None:
        if not (run / LIST).exists():
            save(self.images, run)

    def to(self, device: torch.device) -> None:
        if device != self.device:
            self.device, self._loader = device, None

    def loader(self) -> Any:
        """What decodes the images; made when it is first needed, because it starts threads."""
        if self._loader is None:
            workers, known = self.options.workers, (self.images.sizes, self.images.nbytes)
            if self.options.loader == "dali":
                plain = np.array([kind in PLAIN for kind in self.images.kinds])[self.images.kind_numbers]
                self._loader = DaliLoader(self.files, *known, plain, self.resolution, workers, self.device)
            else:
                self._loader = TorchLoader(self.files, *known, self.resolution, workers)
        return self._loader

    def train_batches(
        self, part: str, batch: int, *, seed: int, epoch: int, start: int = 0, take: np.ndarray | None = None
    ) -> Iterator[Batch]:
        places = np.arange(batch) if take is None else take
        order = self.order(part, batch, seed, epoch)

        def views(number: int, places: np.ndarray) -> Views:
            files = order[number][places]
            draws = np.random.default_rng((seed, epoch, number, 2)).random((batch, DRAWS))[places]
            return random_views(files, self.images.sizes[files], self.resolution, draws)

        numbers = range(start, len(order))
        decoded = iter(self.loader().read(views(number, places) for number in numbers))

        def next_batch(number: int) -> Batch:
            images, reasons = next(decoded)
            files = order[number][places]
            for k, reason in enumerate(reasons):
                if reason:
                    images[k], files[k] = self._instead(reason, places[k], order[number], partial(views, number))
            return self.prepare(images, (seed, epoch, number), places, batch), self.labels[files].to(self.device)

        for number in numbers:
            yield self.aside(partial(next_batch, number))

    def eval_batches(
        self, part: str, batch: int, *, count: int | None = None, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        chosen = self.chosen(part, count)[rank::world]
        batches = [chosen[first : first + batch] for first in range(0, len(chosen), batch)]
        decoded = iter(
            self.loader().read(
                central_views(files, self.images.sizes[files], self.resolution, spos=self.spos) for files in batches
            )
        )
        missing: list[str] = []

        def next_batch(files: np.ndarray) -> Batch:
            images, reasons = next(decoded)
            missing.extend(filter(None, reasons))
            good = torch.tensor([not reason for reason in reasons])
            labels = self.labels[files][good].to(self.device)
            return (images if good.all() else images[good.to(images.device)]), labels

        for files in batches:
            images, labels = self.aside(partial(next_batch, files))
            self._name(missing)
            if len(missing) > max(1, MISSING * len(chosen)):
                raise InputError(
                    f"{len(missing):,} of {len(chosen):,} images cannot be read any more ({missing[0]}); at most {MISSING:.0%} may "
                    "be missing; restore them"
                )
            if len(labels):
                yield images, labels

    def _instead(
        self, reason: str, place: int, files: np.ndarray, views: Callable[[np.ndarray], Views]
    ) -> tuple[torch.Tensor, int]:
        """The next image of a batch that can be read, whichever process has it, so that batches keep their size.

        Args:
            place: of the image that cannot be read, in the whole batch.
            files, views: of the whole batch; what is to be done with the images at some places.
        Returns:
            uint8 image (3, R, R), its number.
        """
        self._name([reason])
        for other in (place + np.arange(1, min(len(files), IN_A_ROW))) % len(files):
            images, (bad,) = self.loader().one_by_one(views(np.array([other])))
            if not bad:
                return images[0].to(self.device), int(files[other])
            self._name([bad])
        raise InputError(f"{IN_A_ROW} images one after the other cannot be read ({reason}); is the disk there?")

    def _name(self, reasons: list[str]) -> None:
        """Say once of each file that it went bad during the run."""
        for reason in reasons:
            if reason and reason not in self._named:
                self._named.add(reason)
                print(f"image left out, it cannot be read any more: {reason}", file=sys.stderr)


def _is_there(path: str, nbytes: int) -> bool:
    try:
        return os.path.getsize(path) == nbytes
    except OSError:
        return False


def _tell(images: Images, problems: dict[int, str], listing: Listing, options: DataOptions) -> None:
    """Say what was left out; refuse what cannot be used.

    Raises:
        InputError: bad files where they are to be fatal; a class without images.
    """
    check = f"see: python -m trials.data check {options.data_root}"
    if problems and options.bad_files == "fail":
        first = min(problems)
        raise InputError(
            f"{len(problems)} bad files in '{options.data_root}', the first: '{listing.paths[first]}' {problems[first]}; {check}"
        )
    counts = np.bincount(images.labels, minlength=len(images.classes))
    if not counts.all():
        name = images.classes[int(np.argmin(counts))]
        raise InputError(f"class '{name}' of '{options.data_root}' has no usable image; {check}")
    if images.left_out:
        path, reason = images.left_out[0]
        more = (
            f", and {len(images.left_out) - 1:,} more, which the run's {LEFT_OUT} lists"
            if len(images.left_out) > 1
            else ""
        )
        print(f"left out of {len(images.paths) + len(images.left_out):,} files: '{path}' {reason}{more}")
