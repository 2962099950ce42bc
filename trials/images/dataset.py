"""What every data set offers to training, scoring and testing; how its images are split and normalised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from spaces.errors import InputError
from trials.images.augment import CUTOUT_DRAWS, JITTER_DRAWS, Augmentation, color_jitter, cutout, rand_augment
from trials.images.background import Colour
from trials.images.blank import Blank
from trials.images.fit import PAD, SQUASH, border_of
from trials.images.split import SPLIT_SEED, split

ARCH_FRACTION = 0.2  # fraction of `train` that architecture parameters learn from
Batch = tuple[torch.Tensor, torch.Tensor]  # images (N, 3, R, R), labels int64 (N,)
Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # of three channels: what is subtracted, what is divided by
Key = tuple[int, int, int]  # seed, epoch and number of a batch
# mean and standard deviation of red, green and blue, as fractions of 255
STATISTICS: dict[str, Statistics] = {
    "digits": ((0.305,) * 3, (0.376,) * 3),
    "fashion-mnist": ((0.286,) * 3, (0.353,) * 3),
    "cifar10": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
    "cifar100": ((0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
    "folder": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # ImageNet's
}


def normalise(images: torch.Tensor, name: str | Statistics, *, spos: bool) -> torch.Tensor:
    """Turn images as they are decoded into what a network sees.

    Args:
        images: RGB, 0..255, (N, 3, R, R), of any type.
        name: name of the data set, whose channels get mean 0 and standard deviation 1; or these two for each channel.
        spos: give BGR, 0..255, not normalised, as the official SPOS weights expect.
    Returns:
        A float32 copy, (N, 3, R, R), channels last in memory.
    """
    if images.dtype == torch.uint8:
        images = images.contiguous(memory_format=torch.channels_last)  # four times less to move than afterwards
    images = images.to(torch.float32, memory_format=torch.channels_last, copy=True)
    if spos:
        return images.flip(1).contiguous(memory_format=torch.channels_last)
    n, channels, height, width = images.shape
    # rows of H x W x 3 numbers with a mean each: twice as fast on a CPU as means that are broadcast over 3 channels
    pixels = images.permute(0, 2, 3, 1).reshape(n, -1)
    of_channels = STATISTICS[name] if isinstance(name, str) else name
    mean, std = (torch.tensor(values, device=images.device) * 255 for values in of_channels)
    pixels.sub_(mean.repeat(height * width)).div_(std.repeat(height * width))
    return pixels.view(n, height, width, channels).permute(0, 3, 1, 2)


class Data:
    """What all data sets share; a subclass knows how to read images.

    Args:
        name: as given to --data.
        classes: names of the classes.
        resolution: height and width of the images that a network sees, pixels.
        labels: class numbers of the images that `parts` numbers, (n,).
        parts: for train, score and test the numbers of its images.
        arch_fraction: fraction of train that architecture parameters learn from.
        groups: the group of each image, (n,), where whole groups are in one part; None: each is by itself.
        spos: prepare images as the official SPOS weights expect them.
        augmentation: random changes of the training images, beside those of `augment_geometry`.
    Attributes:
        parts: also all (train and score), weights and arch (train, split once more).
        short_side: pixels of an image's short side before the central RxR pixels are cut out; None: the whole image is resized
            to RxR.
        fit: how an image becomes square, a value of --fit.
        exif_orientation: whether images are turned as their EXIF orientation says.
        background: what transparent pixels are laid on; None: their transparency is dropped.
        blank: classes with images that are one single colour; None where the images were not looked at now.
        statistics: mean and standard deviation of the channels; those of the data set, unless a network expects others.
    """

    short_side: int | None = None
    fit: str = SQUASH
    exif_orientation = False
    background: Colour | None = None
    blank: Sequence[Blank] | None = None

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        resolution: int,
        labels: np.ndarray,
        parts: dict[str, np.ndarray],
        arch_fraction: float,
        *,
        spos: bool,
        augmentation: Augmentation,
        groups: np.ndarray | None = None,
    ) -> None:
        self.name = name
        self.classes = list(classes)
        self.resolution = resolution
        self._class_numbers = labels
        self.parts = parts | {"all": np.sort(np.concatenate((parts["train"], parts["score"])))}
        of_train = None if groups is None else groups[parts["train"]]
        weights, arch = split(labels[parts["train"]], arch_fraction, of_train)
        self.parts |= {"weights": parts["train"][weights], "arch": parts["train"][arch]}
        self.spos = spos
        self.statistics = STATISTICS[name]
        self.augmentation = augmentation
        self.device = torch.device("cpu")
        self._stream: torch.cuda.Stream | None = None

    def size(self, part: str) -> int:
        """Number of images in a part."""
        return len(self.parts[part])

    def class_counts(self, part: str) -> dict[str, int]:
        """Number of images of each class in a part, by the name of the class; no image is decoded for it."""
        counts = np.bincount(self._class_numbers[self.parts[part]], minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def class_weights(self, part: str) -> torch.Tensor:
        """What the loss of an image is multiplied by so that every class counts alike; 1 on average over the part.

        Returns:
            float32 (classes,): inverse to the number of images of each class; 1 for a class without images.
        """
        from sklearn.utils.class_weight import compute_class_weight

        labels, weights = self._class_numbers[self.parts[part]], np.ones(len(self.classes))
        there = np.unique(labels)
        weights[there] = compute_class_weight("balanced", classes=there, y=labels)
        return torch.from_numpy(weights).float()

    def to(self, device: torch.device) -> None:
        """Give batches on this device from now on."""
        raise NotImplementedError

    def on_side_stream(self, make: Callable[[], Batch]) -> Batch:
        """Make a batch; on a GPU in a stream of its own, so that it does not wait for the training steps in the queue.

        Args:
            make: makes the batch; what it starts on the GPU runs in that stream.
        Returns:
            The batch, which the current stream waits for.
        """
        if self.device.type != "cuda":
            return make()
        if self._stream is None:
            self._stream = torch.cuda.Stream(self.device)
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            batch = make()
        current.wait_stream(self._stream)
        for tensor in batch:
            if tensor.is_cuda:  # the torchvision loader gives images to score and to test on the CPU
                tensor.record_stream(current)
        return batch

    def fingerprint(self) -> int:
        """A number of 32 bits that is equal for the same images in the same parts; 0 where they cannot differ."""
        return 0

    def check_files(self, part: str) -> None:
        """Refuse a part of which too many images are gone, or have changed, since the run's list was made.

        Raises:
            InputError: more than can be left out.
        """

    def save(self, run: Path) -> None:
        """Write into a run which images these are, if they could be others another time."""

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Turn uint8 images (N, 3, R, R) into what a network sees, float32; see the function of this name."""
        return normalise(images, self.statistics, spos=self.spos)

    def pixels(self, images: torch.Tensor) -> np.ndarray:
        """What `normalise` did, undone, for people to look at: uint8 (N, R, R, 3), RGB, of what a network sees (N, 3, R, R)."""
        images = images.detach().to("cpu", torch.float32)
        if self.spos:
            images = images.flip(1)
        else:
            mean, std = (torch.tensor(values)[:, None, None] * 255 for values in self.statistics)
            images = images * std + mean
        return images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()

    def preprocessing(self) -> dict[str, object]:
        """What a network trained on these images expects of an image; stands in network.pt and supernet.pt."""
        mean, std = self.statistics
        expected: dict[str, object] = {
            "resolution": self.resolution,
            "short_side": self.short_side,
            "fit": self.fit,
            "classes": self.classes,
            "exif_orientation": self.exif_orientation,
            "background": list(self.background) if self.background else None,
        }
        if self.fit == PAD:
            expected["border"] = list(border_of(self.background))
        if self.spos:
            return expected | {"channels": "BGR", "range": 255, "mean": [0.0] * 3, "std": [1.0] * 3, "resize": "opencv"}
        return expected | {"channels": "RGB", "range": 1, "mean": list(mean), "std": list(std), "resize": "antialias"}

    def prepare(self, images: torch.Tensor, keys: Sequence[Key], positions: np.ndarray, batch: int) -> torch.Tensor:
        """Augment and normalise training images.

        Args:
            images: uint8, (N, 3, R, R), on any device, of one batch after the other.
            keys: for each of these batches seed, epoch and number; what is random depends on these alone.
            positions: where in the whole batch the images of each of them are.
            batch: number of images in the whole batch, which several processes may share.
        Returns:
            float32, (N, 3, R, R), on the device of the data set.
        """
        changes = self.augmentation
        images = images.to(self.device, non_blocking=True)
        draws = np.concatenate(
            [np.random.default_rng((*key, 1)).random((batch, JITTER_DRAWS + CUTOUT_DRAWS))[positions] for key in keys]
        )
        if changes.randaugment[0]:
            seeds = [np.random.default_rng((*key, 3)).integers(2**62, size=batch)[positions] for key in keys]
            images = rand_augment(images, *changes.randaugment, np.concatenate(seeds))
        if changes.color_jitter:
            images = color_jitter(images, changes.color_jitter, draws[:, :JITTER_DRAWS])
        images = self.augment_geometry(self.normalise(images), keys, positions, batch)
        return cutout(images, changes.cutout, draws[:, JITTER_DRAWS:]) if changes.cutout else images

    def augment_geometry(
        self, images: torch.Tensor, keys: Sequence[Key], positions: np.ndarray, batch: int
    ) -> torch.Tensor:
        """Shift, turn and mirror normalised images at random, unless decoding did so; arguments as for `prepare`."""
        return images

    def steps_per_epoch(self, part: str, batch: int) -> int:
        """Number of whole batches in a part; what is left of an epoch is not trained on, as BatchNorm needs full batches.

        Raises:
            InputError: the part holds not even one batch.
        """
        steps = self.size(part) // batch
        if steps == 0:
            raise InputError(f"--batch-size {batch} exceeds the {self.size(part)} images of part '{part}'; lower it")
        return steps

    def epoch_order(self, part: str, batch: int, seed: int, epoch: int) -> np.ndarray:
        """Shuffle a part for an epoch.

        Returns:
            Image numbers, (steps, batch).
        """
        shuffled = np.random.default_rng((seed, epoch)).permutation(self.parts[part])
        steps = self.steps_per_epoch(part, batch)
        return shuffled[: steps * batch].reshape(steps, batch)

    def train_batches(
        self, part: str, batch: int, *, seed: int, epoch: int, start: int = 0, take: np.ndarray | None = None
    ) -> Iterator[Batch]:
        """Read the batches of one epoch, augmented and normalised; a pure function of its arguments.

        Args:
            batch: images of a batch, of all processes together.
            start: number of the first batch, counted from the beginning of the epoch.
            take: positions in every batch that this process gets; None: all.
        Returns:
            float32 images (len(take), 3, R, R) and their labels, on the device of the data set, batch by batch.
        """
        raise NotImplementedError

    def eval_batches(
        self, part: str, batch: int, *, count: int | None = None, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Read a part in order, each image once, without augmentation.

        Args:
            batch: images of a batch; the last one may be smaller.
            count: read at most so many images, drawn with a fixed seed, in random order; None: all, in order.
            rank, world: this is process `rank` of `world`, which together read every image once.
        Returns:
            uint8 images (N, 3, R, R), on the device of the data set or, from the torchvision loader, on the CPU; their labels, on
            the device of the data set; batch by batch.
        """
        raise NotImplementedError

    def eval_indices(self, part: str, count: int | None) -> np.ndarray:
        """Numbers of the images that `eval_batches` reads in all processes together: of a whole part in order, else drawn.

        What is drawn is in random order also where `count` takes the whole part: an image folder is sorted by class, and
        batches of one or two classes are no basis for statistics.
        """
        indices = self.parts[part]
        return indices if count is None else np.random.default_rng(SPLIT_SEED).permutation(indices)[:count]
