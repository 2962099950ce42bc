"""The images of all scores of a run: decoded once, kept as uint8 files in RUN/cache, the same for every candidate and process.

Processes map the files into memory, so all processes of a machine share one copy; on a GPU each has its own copy. One
process decodes the images while the others wait for it.

Shapes: n images, R resolution in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spaces.errors import InputError
from spaces.files import atomic
from trials.common import locks, run_files
from trials.common.supernet_run import SupernetRun
from trials.images.dataset import Batch
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.scoring.evaluate_config import Settings

GPU_SHARE = 0.5  # images that take more of a GPU's free memory than this stay in the machine's memory
DECODE_BATCH = 128  # images that are decoded at a time


@dataclass(frozen=True)
class FixedImages:
    """uint8 images, not yet normalised."""

    calibration: torch.Tensor  # (n, 3, R, R), recalibrate BatchNorm
    scoring: torch.Tensor  # (n, 3, R, R), give the score
    labels: torch.Tensor  # (n,), class numbers of the scoring images
    calibration_labels: torch.Tensor | None = None  # (n,), of the calibration images, for fine-tuning


def images_of_run(run: SupernetRun, settings: Settings, device: torch.device) -> FixedImages:
    """The images of all scores of a run, for a device.

    Raises:
        InputError: the data is gone, or it is other data, or the run's configuration contradicts what its supernet was trained on.
    """
    preprocessing, spos = run.checkpoint.get("preprocessing"), run.config["spos_preprocessing"]
    if preprocessing is not None and (preprocessing["channels"] == "BGR") != bool(spos):
        raise InputError(
            f"supernet '{run.supernet_file}' was trained on {preprocessing['channels']} images, and config.json of "
            f"its run says spos_preprocessing {spos}; restore the one that was changed"
        )
    return fixed_images(
        run.path,
        run.config,
        run.chain.resolution,
        run.chain.classes,
        calibration=settings.calibration_images,
        scoring=settings.scoring_images,
        finetune=settings.finetune_steps > 0,
        device=device,
    )


def cache_names(calibration: int, scoring: int, *, finetune: bool = False) -> list[str]:
    """Names of the files in RUN/cache that hold the images, in the order of the fields of `FixedImages`.

    Args:
        calibration, scoring: how many images were asked for.
        finetune: also that of the labels of the calibration images; older versions did not write it.
    """
    names = ["calibration", "images", "labels", *["calibration-labels"] * finetune]
    return [f"drawn-{name}-{calibration}-{scoring}.npy" for name in names]  # older versions read some in order


def fixed_images(
    run: Path,
    config: Mapping[str, Any],
    resolution: int,
    classes: int,
    *,
    calibration: int,
    scoring: int,
    finetune: bool = False,
    device: torch.device,
) -> FixedImages:
    """Load the images of a run; decode them first, if no process has done so before.

    Args:
        config: options that the run of trials.supernet was started with.
        resolution: R of the supernet.
        classes: number of classes that the supernet was trained on.
        calibration: how many images of the training part; as many as there are, if that is fewer.
        scoring: how many images of the scoring part; 0: all.
        finetune: whether the labels of the calibration images are needed, too.
        device: where they will be used; a GPU gets them only if they take less than GPU_SHARE of its free memory.
    Raises:
        InputError: the data is gone, or it is other data.
    """
    paths = [run / "cache" / name for name in cache_names(calibration, scoring, finetune=finetune)]
    if not all(path.exists() for path in paths):
        (run / "cache").mkdir(exist_ok=True)
        with locks.waiting(run / "cache" / ".lock"):
            if not all(path.exists() for path in paths):
                _decode(run, config, resolution, classes, (("train", calibration), ("score", scoring)), paths)
    arrays = [torch.from_numpy(run_files.read_array(path, "cached images", "c")) for path in paths]
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
    counts: tuple[tuple[str, int], ...],
    paths: list[Path],
) -> None:
    """Write the files of `fixed_images`.

    Args:
        counts: part of the data, and how many of its images (0: all); of the calibration, then of the scoring images.
        paths: files of the calibration images, of the scoring images, of their labels; and of the labels of the former.
    """
    data = load_data(DataOptions.of(config), resolution, score_fraction=config["score_fraction"], run=run)
    if len(data.classes) != classes:
        raise InputError(f"the data has {len(data.classes)} classes now, {classes} when the supernet was trained")
    labels = []
    for (part, count), path in zip(counts, paths[:2], strict=True):
        count = count or data.size(part)
        number = len(data.eval_indices(part, count))
        labels.append(save_images(path, data.eval_batches(part, DECODE_BATCH, count=count), number, resolution))
    for of_part, path in zip(reversed(labels), paths[2:], strict=False):
        with atomic(path) as temporary, open(temporary, "wb") as file:
            np.save(file, of_part.numpy())


def save_images(path: Path, batches: Iterator[Batch], count: int, resolution: int) -> torch.Tensor:
    """Write images to a .npy file, uint8 (n, 3, R, R), batch by batch, so that they need not fit in memory.

    Args:
        batches: images (N, 3, R, R) and labels (N,).
        count: the largest possible n. Fewer are written if image files became unreadable since the list was made.
    Returns:
        The labels of the written images, (n,).
    """
    labels: list[torch.Tensor] = []
    with atomic(path) as temporary:
        array = np.lib.format.open_memmap(temporary, "w+", np.uint8, (count, 3, resolution, resolution))
        written = 0
        for images, batch_labels in batches:
            array[written : written + len(images)] = images.cpu().numpy()
            written += len(images)
            labels.append(batch_labels.cpu())
        array.flush()
        if written < count:
            shorter = np.array(array[:written])
            with open(temporary, "wb") as file:
                np.save(file, shorter)
    return torch.cat(labels)
