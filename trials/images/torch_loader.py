"""Read images with PIL and torchvision: the loader that runs everywhere, and that every other one must agree with."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from spaces.errors import Stopped
from trials.images.background import Colour
from trials.images.crops import CropPlan
from trials.images.fit import border_of
from trials.images.inspect_file import require_innocence
from trials.images.to_rgb import to_rgb

# one image of a CropPlan: path; height, width and bytes of its file; crop; size; offset; mirror; antialias
Row = tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], bool, bool]
Decoded = tuple[torch.Tensor, list[str]]  # images, uint8 (N, 3, R, R); for each one "" or why it could not be read


def decode(path: str, *, turn: bool = False, background: Colour | None = None) -> torch.Tensor:
    """Decode an image file, as `to_rgb` says.

    Args:
        turn: apply EXIF's orientation; torchvision and the official SPOS code do not.
        background: what transparent pixels are laid on; None: their transparency is dropped.

    Returns:
        RGB, uint8, (3, H, W).
    Raises:
        OSError, ValueError, SyntaxError: the file is missing, truncated, no image, or has no known white.
    """
    # a file that PIL opens itself it maps, and then scrambles a grey TIFF that has an orientation (Pillow 13.0)
    with open(path, "rb") as file, Image.open(file) as image:
        pixels = to_rgb(image, turn=turn, background=background)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def cut_out(pixels: torch.Tensor, crop: Sequence[int], border: Colour) -> torch.Tensor:
    """A part of an image, uint8 (3, H, W), with a border where it reaches beyond the image.

    Args:
        crop: top, left, height and width, pixels; top and left may be below 0.
    """
    top, left, height, width = crop
    part = pixels[:, max(0, top) : top + height, max(0, left) : left + width]
    if part.shape[1:] == (height, width):
        return part
    whole = torch.tensor(border, dtype=torch.uint8).view(3, 1, 1).repeat(1, height, width)
    below, right = max(0, -top), max(0, -left)
    whole[:, below : below + part.shape[1], right : right + part.shape[2]] = part
    return whole


def check_bytes(now: int, then: int) -> None:
    """Refuse a file whose size, now and when the run's list was made, differs.

    Raises:
        ValueError: naming both sizes, in bytes.
    """
    if now != then:
        raise ValueError(f"it has {now:,} bytes, and had {then:,} at the start of the run")


def plan_rows(files: Sequence[str], sizes: np.ndarray, nbytes: np.ndarray, plan: CropPlan) -> list[Row]:
    """Take a plan apart into its images; arguments as for TorchLoader."""
    known = np.column_stack((sizes[plan.indices], nbytes[plan.indices]))
    columns = (known.tolist(), plan.crop.tolist(), plan.size.tolist(), plan.offset.tolist())
    return [
        (files[index], tuple(known), tuple(crop), tuple(size), tuple(offset), bool(mirror), plan.antialias)
        for index, known, crop, size, offset, mirror in zip(plan.indices, *columns, plan.mirror, strict=True)
    ]


class _Images(Dataset):
    """Decodes rows; an image that cannot be read is black, and comes with the reason."""

    def __init__(self, resolution: int, turn: bool, background: Colour | None) -> None:
        self.resolution, self.turn, self.background = resolution, turn, background

    def __getitem__(self, row: Row) -> tuple[torch.Tensor, str]:
        from torchvision.transforms.v2 import functional as V

        path, (*shape, nbytes), crop, size, offset, mirror, antialias = row
        try:
            check_bytes(os.path.getsize(path), nbytes)
            pixels = decode(path, turn=self.turn, background=self.background)
            if list(pixels.shape[1:]) != shape:
                raise ValueError("it is another file than at the start of the run")
        except Exception as error:  # whatever a damaged file leads PIL to
            reason = f"'{path}': {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            try:
                require_innocence(error, path)
            except Stopped as stopped:
                reason = _Failure(stopped)
            return torch.zeros(3, self.resolution, self.resolution, dtype=torch.uint8), reason
        pixels = cut_out(pixels, crop, border_of(self.background))
        pixels = V.resize(pixels, list(size), antialias=antialias)
        pixels = pixels[:, offset[0] : offset[0] + self.resolution, offset[1] : offset[1] + self.resolution]
        return (pixels.flip(2) if mirror else pixels), ""


class _Failure(str):
    """Message of an error of the program, which a worker process hands to the process that it works for."""


def _collate(items: list[tuple[torch.Tensor, str]]) -> Decoded:
    return torch.stack([pixels for pixels, _ in items]), [reason for _, reason in items]


class TorchLoader:
    """Decodes the images of crop plans in worker processes.

    Args:
        files: paths of the images, by image number.
        sizes, nbytes: heights and widths in pixels, (n, 2), and sizes of the files in bytes, (n,), when the run's list was made;
            a file that differs from them is not read.
        resolution: height and width of the decoded images, pixels.
        workers: number of processes; 0: decode in this one.
        turn: apply EXIF's orientation; the sizes are those of turned images then.
        background: what transparent pixels are laid on, and the colour of borders; None: their transparency is dropped, and borders
            are black.
    """

    def __init__(
        self,
        files: Sequence[str],
        sizes: np.ndarray,
        nbytes: np.ndarray,
        resolution: int,
        workers: int,
        *,
        turn: bool = False,
        background: Colour | None = None,
    ) -> None:
        self.files, self.sizes, self.nbytes, self.workers = files, sizes, nbytes, workers
        self.images = _Images(resolution, turn, background)

    def read(self, plans: Iterable[CropPlan]) -> Iterator[Decoded]:
        """Decode one batch for each plan, in order, on the CPU."""
        batches = (plan_rows(self.files, self.sizes, self.nbytes, plan) for plan in plans)
        loader = DataLoader(self.images, batch_sampler=batches, num_workers=self.workers, collate_fn=_collate)
        yield from map(_checked, loader)

    def read_in_threads(self, plans: Iterable[CropPlan], threads: ThreadPoolExecutor) -> Iterator[Decoded]:
        """As `read`, in threads of this process, which stay ahead by a batch."""
        ahead: deque[Iterator[tuple[torch.Tensor, str]]] = deque()
        for plan in plans:
            rows = plan_rows(self.files, self.sizes, self.nbytes, plan)
            ahead.append(threads.map(self.images.__getitem__, rows))
            if len(ahead) > 1:
                yield _checked(_collate(list(ahead.popleft())))
        for items in ahead:
            yield _checked(_collate(list(items)))

    def decode_batch(self, plan: CropPlan) -> Decoded:
        """Decode one batch in this process, on the CPU."""
        return _checked(_collate([self.images[row] for row in plan_rows(self.files, self.sizes, self.nbytes, plan)]))


def _checked(decoded: Decoded) -> Decoded:
    """A batch as it is. Raises Stopped: not a file but the program failed at one of its images."""
    for reason in decoded[1]:
        if isinstance(reason, _Failure):
            raise Stopped(reason)
    return decoded
