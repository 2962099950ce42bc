"""Images through PIL and torchvision: what runs everywhere, and what any decoder here must agree with."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from trials.images.crops import Views

# One image of Views: path, its height, width and bytes, crop, size, offset, mirror, antialias.
Row = tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], bool, bool]
Decoded = tuple[torch.Tensor, list[str]]  # uint8 (N, 3, R, R); for each image "" or why it could not be read


def decode(path: str) -> torch.Tensor:
    """An image file as uint8 RGB, (3, H, W); grey, CMYK, palettes and 16 bits are converted, transparency is dropped.

    EXIF's orientation is not applied, as in torchvision and in the official SPOS code.

    Raises:
        OSError, ValueError, SyntaxError: it is missing, truncated, or no image.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PIL: large images, odd metadata; the scan lists what matters
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # 16 bits; PIL's own conversion cuts off what is above 255
                grey = (np.asarray(image, np.float64).clip(0, 65535) / 257).round().astype(np.uint8)
                pixels = np.stack([grey] * 3)
            else:
                pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return torch.from_numpy(np.array(pixels))


def check_bytes(now: int, then: int) -> None:
    """Raises ValueError: a file has not as many bytes as it had."""
    if now != then:
        raise ValueError(f"it has {now:,} bytes, and had {then:,} at the start of the run")


def rows(files: Sequence[str], sizes: np.ndarray, nbytes: np.ndarray, views: Views) -> list[Row]:
    """Views, image by image."""
    known = np.column_stack((sizes[views.files], nbytes[views.files]))
    parts = (known.tolist(), views.crop.tolist(), views.size.tolist(), views.offset.tolist())
    return [
        (files[number], tuple(known), tuple(crop), tuple(size), tuple(offset), bool(mirror), views.antialias)
        for number, known, crop, size, offset, mirror in zip(views.files, *parts, views.mirror, strict=True)
    ]


class _Images(Dataset):
    def __init__(self, resolution: int) -> None:
        self.resolution = resolution

    def __getitem__(self, row: Row) -> tuple[torch.Tensor, str]:
        from torchvision.transforms.v2 import functional as V

        path, (*shape, nbytes), (top, left, height, width), size, offset, mirror, antialias = row
        try:
            check_bytes(os.path.getsize(path), nbytes)
            pixels = decode(path)
            if list(pixels.shape[1:]) != shape:
                raise ValueError("it is another file than at the start of the run")
        except Exception as error:  # whatever a damaged file leads PIL to
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            return torch.zeros(3, self.resolution, self.resolution, dtype=torch.uint8), f"'{path}': {reason}"
        pixels = V.resize(pixels[:, top : top + height, left : left + width], list(size), antialias=antialias)
        pixels = pixels[:, offset[0] : offset[0] + self.resolution, offset[1] : offset[1] + self.resolution]
        return (pixels.flip(2) if mirror else pixels), ""


def _stack(items: list[tuple[torch.Tensor, str]]) -> Decoded:
    return torch.stack([pixels for pixels, _ in items]), [reason for _, reason in items]


class TorchLoader:
    """Decodes views in worker processes.

    Args:
        files: paths of the images that views number.
        sizes, nbytes: their heights and widths, (n, 2), and sizes in bytes, (n,), by which a file is known again.
        workers: processes; 0: in this one.
    """

    def __init__(
        self, files: Sequence[str], sizes: np.ndarray, nbytes: np.ndarray, resolution: int, workers: int
    ) -> None:
        self.files, self.sizes, self.nbytes, self.workers = files, sizes, nbytes, workers
        self.images = _Images(resolution)

    def read(self, plan: Iterable[Views]) -> Iterator[Decoded]:
        """The batches of a plan, in order."""
        batches = (rows(self.files, self.sizes, self.nbytes, views) for views in plan)
        yield from DataLoader(self.images, batch_sampler=batches, num_workers=self.workers, collate_fn=_stack)

    def one_by_one(self, views: Views) -> Decoded:
        """One batch, in this process."""
        return _stack([self.images[row] for row in rows(self.files, self.sizes, self.nbytes, views)])
