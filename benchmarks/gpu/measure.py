"""Times on a device: of steps, and of scoring candidates in one tree of prefixes, and one by one in the official way.

Shapes: K candidates, N images of a batch, R resolution in pixels.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from benchmarks.evaluation.official_way import official_shuffle, one_by_one
from spaces.arch import Arch
from spaces.chain import Chain
from trials.images.dataset import normalise
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.recorded_blocks import RecordedBlocks
from trials.scoring.shared_blocks import SharedBlocks


@dataclass(frozen=True)
class Speed:
    """Images a second in several rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.rounds)

    def __str__(self) -> str:
        return f"n = {len(self.rounds)}, {min(self.rounds):,.0f} to {max(self.rounds):,.0f}"


def steady_speed(
    step: Callable[[], object], images: int, device: torch.device, *, warmup: int, steps: int, rounds: int
) -> Speed:
    """Images a second of a step that is repeated, from and to the end of all work that was begun.

    Args:
        images: of one step.
        warmup: steps before the first round, in which kernels are chosen and memory is taken.
        steps: of a round.
    """
    for _ in range(warmup):
        step()
    measured = []
    for _ in range(rounds):
        began = now(device)
        for _ in range(steps):
            step()
        measured.append(steps * images / (now(device) - began))
    return Speed(tuple(measured))


@dataclass(frozen=True)
class Timing:
    """Seconds for all candidates together."""

    build: float
    calibration: float
    scoring: float

    @property
    def total(self) -> float:
        """All three together."""
        return self.build + self.calibration + self.scoring


class Images:
    """Random uint8 images on the device, (number, 3, R, R): coarse patches of colour with noise."""

    def __init__(self, number: int, resolution: int, batch_size: int, device: torch.device, seed: int) -> None:
        generator = torch.Generator(device).manual_seed(seed)
        self.batch_size = batch_size
        self.images = torch.empty(number, 3, resolution, resolution, dtype=torch.uint8, device=device)
        for chunk in self.images.split(batch_size):
            coarse = torch.rand(len(chunk), 3, 8, 8, device=device, generator=generator)
            patches = F.interpolate(coarse, (resolution, resolution), mode="bilinear")
            noise = torch.rand(chunk.shape, device=device, generator=generator)
            chunk.copy_((patches * 0.8 + noise * 0.2) * 255)

    def batches(self, first: int, number: int, size: int = 0) -> Iterator[torch.Tensor]:
        """Normalised batches (N, 3, R, R) of `number` images from `first` on; what fills no batch is left out.

        Args:
            size: of a batch, if it is another one than usual.
        """
        size = size or self.batch_size
        for start in range(first, first + number - size + 1, size):
            yield normalise(self.images[start : start + size], "folder", spos=False)


class Batches:
    """Batches that are made anew for every candidate that goes through them, as by a data loader; nothing is kept."""

    def __init__(self, images: Images, first: int, number: int) -> None:
        self.images, self.first, self.number = images, first, number

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (x.contiguous() for x in self.images.batches(self.first, self.number))


def now(device: torch.device) -> float:
    """The time in seconds when all that was begun on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.no_grad()
def tree_timing(
    parts: SharedBlocks,
    archs: Sequence[Arch],
    images: Images,
    calibration: int,
    scoring: int,
    *,
    size: int = 0,
    recorded: RecordedBlocks | None = None,
) -> tuple[Timing, torch.Tensor, torch.Tensor]:
    """Score candidates in one tree.

    Args:
        calibration, scoring: numbers of images; the scoring images follow the calibration images.
        size: of a scoring batch, if it is another one than that of the images.
        recorded: what repeats the passes from recordings; None: they are launched.
    Returns:
        Times; logits (K, N, classes) of the first scoring batch, on the CPU; answers (K, images).
    """
    began = now(parts.device)
    tree = PrefixTree(parts, archs)
    built = now(parts.device)
    tree.calibrate(images.batches(0, calibration), recorded)
    calibrated = now(parts.device)
    first_logits: dict[int, torch.Tensor] = {}
    answers: list[list[torch.Tensor]] = [[] for _ in archs]  # for each candidate, of each batch
    for x in images.batches(calibration, scoring, size):
        for number, y in tree.logits(x, recorded=recorded):
            first_logits.setdefault(number, y)
            answers[number].append(y.argmax(1))
    scored = now(parts.device)
    timing = Timing(built - began, calibrated - built, scored - calibrated)
    logits = torch.stack([first_logits[number] for number in range(len(archs))]).cpu()
    return timing, logits, torch.stack([torch.cat(batches) for batches in answers]).cpu()


def official_seconds(
    chain: Chain,
    weights: dict[str, torch.Tensor],
    archs: Sequence[Arch],
    images: Images,
    calibration: int,
    scoring: int,
) -> float:
    """Seconds per candidate, one by one; a batch is made when it is needed, as in the tree."""
    device, size = images.images.device, images.batch_size
    with official_shuffle():
        one_by_one(chain, weights, archs[:1], Batches(images, 0, size), Batches(images, 0, size))  # kernels are chosen
        began = now(device)
        one_by_one(chain, weights, archs, Batches(images, 0, calibration), Batches(images, calibration, scoring))
        return (now(device) - began) / len(archs)
