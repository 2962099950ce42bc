"""The images of a search: decoded once, kept as uint8 files in the run, the same for every candidate and process.

Processes map the files, so they share one copy in memory; on a GPU each keeps its own copy there. One process decodes,
the others wait for it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spaces.errors import InputError
from spaces.files import atomic
from trials.images.dataset import Batch
from trials.images.load import load_data
from trials.images.options import DataOptions

GPU_SHARE = 0.5  # of a GPU's free memory; larger sets stay in the machine's memory


@dataclass(frozen=True)
class FixedImages:
    """uint8 images (n, 3, R, R) that recalibrate BatchNorm; images that give the score, with labels (n,)."""

    calibration: torch.Tensor
    images: torch.Tensor
    labels: torch.Tensor


def cache_names(calibration: int, scoring: int) -> list[str]:
    """Files in the run's cache/ that hold the images."""
    return [f"{name}-{calibration}-{scoring}.npy" for name in ("calibration", "images", "labels")]


def fixed_images(
    run: Path,
    config: Mapping[str, Any],
    resolution: int,
    classes: int,
    *,
    calibration: int,
    scoring: int,
    device: torch.device,
) -> FixedImages:
    """The images of a run, decoded if no process did it before.

    Args:
        config: of the run of trials.supernet.
        resolution, classes: of the supernet.
        calibration: number of images of the training part; as many as there are.
        scoring: of the scoring part; 0: all.
    Raises:
        InputError: the data is gone, or is another.
    """
    paths = [run / "cache" / name for name in cache_names(calibration, scoring)]
    if not all(path.exists() for path in paths):
        (run / "cache").mkdir(exist_ok=True)
        with open(run / "cache" / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not all(path.exists() for path in paths):
                _decode(run, config, resolution, classes, (("train", calibration), ("score", scoring)), paths)
    arrays = [torch.from_numpy(np.load(path, mmap_mode="c")) for path in paths]
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if sum(array.nbytes for array in arrays) < GPU_SHARE * free:
            arrays = [array.to(device) for array in arrays]
    return FixedImages(*arrays)


def _decode(
    run: Path,
    config: Mapping[str, Any],
    resolution: int,
    classes: int,
    wanted: tuple[tuple[str, int], ...],
    paths: list[Path],
) -> None:
    data = load_data(DataOptions.of(config), resolution, score_fraction=config["score_fraction"], run=run)
    if len(data.classes) != classes:
        raise InputError(f"the data has {len(data.classes)} classes now, {classes} when the supernet was trained")
    for (part, count), path in zip(wanted, paths[:2], strict=True):
        count = len(data.eval_indices(part, count or None))
        labels = save_images(path, data.eval_batches(part, 128, count=count), count, resolution)
    with atomic(paths[2]) as temporary, open(temporary, "wb") as file:
        np.save(file, labels.numpy())  # of the scoring images, which come last


def save_images(path: Path, batches: Iterator[Batch], count: int, resolution: int) -> torch.Tensor:
    """Write at most `count` uint8 images (n, 3, R, R) as a .npy file, batch by batch, so that they need not fit in memory.

    Returns:
        Their labels, (n,).
    """
    labels: list[torch.Tensor] = []
    with atomic(path) as temporary:
        array = np.lib.format.open_memmap(temporary, "w+", np.uint8, (count, 3, resolution, resolution))
        place = 0
        for images, numbers in batches:
            array[place : place + len(images)] = images.cpu().numpy()
            place += len(images)
            labels.append(numbers.cpu())
        array.flush()
        if place < count:  # files that went bad since the list was made
            read = np.array(array[:place])
            with open(temporary, "wb") as file:
                np.save(file, read)
    return torch.cat(labels)
