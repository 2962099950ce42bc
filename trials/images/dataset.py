"""What all data sets offer to training, scoring and testing; how they are split and normalised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from spaces.errors import InputError
from trials.images.augment import CUTOUT_DRAWS, JITTER_DRAWS, color_jitter, cutout, rand_augment

SPLIT_SEED = 0  # of the split into parts; never the run's seed, or the parts of two runs would mix
TEST_FRACTION = 0.2  # of data sets that come without a test part
ARCH_FRACTION = 0.2  # of `train`, for the architecture parameters
Batch = tuple[torch.Tensor, torch.Tensor]
# mean and standard deviation of a channel, as a part of 255
STATISTICS = {
    "digits": ((0.305,) * 3, (0.376,) * 3),
    "fashion-mnist": ((0.286,) * 3, (0.353,) * 3),
    "cifar10": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
    "cifar100": ((0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
    "folder": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # ImageNet's
}


def normalise(images: torch.Tensor, name: str, *, spos: bool) -> torch.Tensor:
    """RGB images (N, 3, R, R), 0..255, to what a network sees, channels last in memory.

    Args:
        name: of the data set; its images get mean 0 and standard deviation 1.
        spos: BGR, 0..255, not normalised, as the official SPOS weights expect.
    """
    if images.dtype == torch.uint8:
        images = images.contiguous(memory_format=torch.channels_last)  # four times less to move than afterwards
    images = images.to(torch.float32, memory_format=torch.channels_last, copy=True)
    if spos:
        return images.flip(1).contiguous(memory_format=torch.channels_last)
    n, channels, height, width = images.shape
    # rows of H x W x 3 numbers with a mean each: twice as fast on a CPU as means that are broadcast over 3 channels
    pixels = images.permute(0, 2, 3, 1).reshape(n, -1)
    mean, std = (torch.tensor(values, device=images.device) * 255 for values in STATISTICS[name])
    pixels.sub_(mean.repeat(height * width)).div_(std.repeat(height * width))
    return pixels.view(n, height, width, channels).permute(0, 3, 1, 2)


class Data:
    """What all data sets share. A subclass knows how to read images.

    Args:
        labels: of the images that parts number.
        parts: image numbers of train, score and test.
        arch_fraction: part of train that architecture parameters learn from.
    Attributes:
        short_side: of an image before the RxR pixels in its centre are cut out; None: the whole image is resized to RxR.
        color_jitter, cutout: augmentations; 0: none.
        randaugment: number of operations, and their magnitude; 0 operations: none.
        spos: the official SPOS preprocessing.
    """

    short_side: int | None = None

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        resolution: int,
        labels: np.ndarray,
        parts: dict[str, np.ndarray],
        arch_fraction: float,
    ) -> None:
        self.name = name
        self.classes = list(classes)
        self.resolution = resolution
        self.parts = parts | {"all": np.sort(np.concatenate((parts["train"], parts["score"])))}
        weights, rest = split(labels[parts["train"]], arch_fraction)
        self.parts |= {"weights": parts["train"][weights], "arch": parts["train"][rest]}
        self.device = torch.device("cpu")
        self._stream: torch.cuda.Stream | None = None
        self.spos = False
        self.color_jitter = 0.0
        self.cutout = 0
        self.randaugment = (0, 0)

    def size(self, part: str) -> int:
        """Number of images of a part."""
        return len(self.parts[part])

    def to(self, device: torch.device) -> None:
        """Have the batches on a device from now on."""
        raise NotImplementedError

    def aside(self, make: Callable[[], Batch]) -> Batch:
        """Make a batch; on a GPU in a stream of its own, so that it does not wait for the training steps in the queue."""
        if self.device.type != "cuda":
            return make()
        if self._stream is None:
            self._stream = torch.cuda.Stream(self.device)
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            batch = make()
        current.wait_stream(self._stream)
        for tensor in batch:
            tensor.record_stream(current)
        return batch

    def fingerprint(self) -> int:
        """The same for the same images in the same parts, 32 bits."""
        return 0

    def check_files(self, part: str) -> None:
        """Raises InputError: too many images of a part are gone since the run's list was made."""

    def save(self, run: Path) -> None:
        """Write into a run which images these are, where they could be others another time."""

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 3, R, R) to what a network sees; see the function of this name."""
        return normalise(images, self.name, spos=self.spos)

    def preprocessing(self) -> dict[str, object]:
        """What a network trained on these images expects; goes into its file."""
        mean, std = STATISTICS[self.name]
        about: dict[str, object] = {
            "resolution": self.resolution,
            "short_side": self.short_side,
            "classes": self.classes,
        }
        if self.spos:
            return about | {"channels": "BGR", "range": 255, "mean": [0.0] * 3, "std": [1.0] * 3, "resize": "opencv"}
        return about | {"channels": "RGB", "range": 1, "mean": list(mean), "std": list(std), "resize": "antialias"}

    def prepare(self, images: torch.Tensor, key: tuple[int, int, int], places: np.ndarray, batch: int) -> torch.Tensor:
        """uint8 images to training input, on the device.

        Args:
            key: seed, epoch and number of the batch; what is random depends on these alone.
            places: which places of a batch of `batch` images these are.
        """
        images = images.to(self.device, non_blocking=True)
        draws = np.random.default_rng((*key, 1)).random((batch, JITTER_DRAWS + CUTOUT_DRAWS))[places]
        if self.randaugment[0]:
            seeds = np.random.default_rng((*key, 3)).integers(2**62, size=batch)[places]
            images = rand_augment(images, *self.randaugment, seeds)
        if self.color_jitter:
            images = color_jitter(images, self.color_jitter, draws[:, :JITTER_DRAWS])
        images = self.move(self.normalise(images), key, places, batch)
        return cutout(images, self.cutout, draws[:, JITTER_DRAWS:]) if self.cutout else images

    def move(self, images: torch.Tensor, key: tuple[int, int, int], places: np.ndarray, batch: int) -> torch.Tensor:
        """Random shifts and the like, where decoding did not do it."""
        return images

    def steps_per_epoch(self, part: str, batch: int) -> int:
        """Whole batches in a part; the rest of an epoch is left out, because BatchNorm needs full batches.

        Raises:
            InputError: not even one.
        """
        steps = self.size(part) // batch
        if steps == 0:
            raise InputError(f"--batch-size {batch} exceeds the {self.size(part)} images of part '{part}'; lower it")
        return steps

    def order(self, part: str, batch: int, seed: int, epoch: int) -> np.ndarray:
        """Image numbers of an epoch, (steps, batch)."""
        shuffled = np.random.default_rng((seed, epoch)).permutation(self.parts[part])
        steps = self.steps_per_epoch(part, batch)
        return shuffled[: steps * batch].reshape(steps, batch)

    def train_batches(
        self, part: str, batch: int, *, seed: int, epoch: int, start: int = 0, take: np.ndarray | None = None
    ) -> Iterator[Batch]:
        """Batches of one epoch from number `start` on, augmented and normalised.

        Args:
            take: places in every batch that this process gets; None: all.
        """
        raise NotImplementedError

    def eval_batches(
        self, part: str, batch: int, *, count: int | None = None, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """uint8 images and labels: the whole part in order, or `count` images drawn with a fixed seed.

        Args:
            rank, world: this is process `rank` of `world`, which together read every image once.
        """
        raise NotImplementedError

    def chosen(self, part: str, count: int | None) -> np.ndarray:
        """Image numbers for eval_batches."""
        indices = self.parts[part]
        if count is None or count >= len(indices):
            return indices
        return np.random.default_rng(SPLIT_SEED).permutation(indices)[:count]


def split(labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut class-balanced with a fixed seed.

    Returns:
        Image numbers of the rest and of the cut part, each sorted; `fraction` of every class is cut, rounded.
    """
    draw = np.random.default_rng(SPLIT_SEED)
    held = np.zeros(len(labels), bool)
    by_class = np.argsort(labels, kind="stable")
    for members in np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1):
        held[draw.permutation(members)[: round(fraction * len(members))]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
