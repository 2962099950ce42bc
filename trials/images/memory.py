"""Data sets that fit into memory: kept whole on the device as uint8, at their own size, augmented a batch at a time."""

from __future__ import annotations

import dataclasses
import gzip
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from spaces.errors import InputError
from spaces.files import require_file, unreadable
from trials.images.augment import Augmentation, Geometry, augment_geometry
from trials.images.dataset import Batch, Data, Key
from trials.images.options import DataOptions, require_data_folder
from trials.images.split import split

MOST_TOGETHER, BYTES_TOGETHER = 16, 64 << 20  # of the training batches that are prepared at once
GEOMETRY = {  # but for mirroring, which --mirror decides
    "digits": Geometry(shift=0.125, rotate=10, scale=0.15, padding="border"),
    "fashion-mnist": Geometry(shift=0.125),
    "cifar10": Geometry(shift=0.125),
    "cifar100": Geometry(shift=0.125),
}


@dataclass(frozen=True)
class Source:
    """Where an in-memory data set comes from.

    Attributes:
        classes: names of the classes.
        read_train, read_test: read images (n, H, W) or (n, H, W, 3), uint8, and labels (n,), int64.
        test_size: number of test images, known without reading them.
    """

    classes: Sequence[str]
    read_train: Callable[[], tuple[np.ndarray, np.ndarray]]
    read_test: Callable[[], tuple[np.ndarray, np.ndarray]]
    test_size: int


class MemoryData(Data):
    """A data set in memory. The test images are read when they are first asked for.

    Args:
        options: which data set, where it is, and how its images are prepared.
        resolution: height and width of the images that a network sees, pixels.
        score_fraction: fraction of the training images that is held out to score candidates.
        arch_fraction: fraction of the rest that architecture parameters learn from.
        augmentation: random changes of the training images, beside those of GEOMETRY.
    Raises:
        InputError: the files of the data set are missing and cannot be downloaded.
    """

    def __init__(
        self,
        options: DataOptions,
        resolution: int,
        score_fraction: float,
        arch_fraction: float,
        augmentation: Augmentation,
    ) -> None:
        source = SOURCES[options.data](options)
        self._read_test = source.read_test
        images, labels = source.read_train()
        train, score = split(labels, score_fraction)
        parts = {"train": train, "score": score, "test": np.arange(source.test_size)}
        super().__init__(
            options.data,
            source.classes,
            resolution,
            labels,
            parts,
            arch_fraction,
            spos=bool(options.spos_preprocessing),
            augmentation=augmentation,
        )
        self._stores = {"train": self._store(images, labels)}

    def _store(self, images: np.ndarray, labels: np.ndarray) -> Batch:
        """Put images (n, H, W) or (n, H, W, 3) on the device as (n, 1, H, W) or (n, 3, H, W), with their labels."""
        tensor = torch.from_numpy(images)
        tensor = tensor[:, None] if tensor.dim() == 3 else tensor.permute(0, 3, 1, 2).contiguous()
        return tensor.to(self.device), torch.from_numpy(labels).to(self.device)

    def class_counts(self, part: str) -> dict[str, int]:
        """Number of images of each class in a part; see Data."""
        if part != "test":
            return super().class_counts(part)
        self._get(part, self.parts[part][:0])  # reads them
        labels = self._stores["test"][1]
        return dict(zip(self.classes, torch.bincount(labels, minlength=len(self.classes)).tolist(), strict=True))

    def to(self, device: torch.device) -> None:
        """Move all images to this device, and give batches there from now on."""
        self.device = device
        self._stores = {key: (images.to(device), labels.to(device)) for key, (images, labels) in self._stores.items()}

    def _get(self, part: str, indices: np.ndarray) -> Batch:
        """uint8 images (N, 3, R, R), and their labels."""
        key = "test" if part == "test" else "train"
        if key not in self._stores:
            self._stores[key] = self._store(*self._read_test())
        images, labels = self._stores[key]
        numbers = torch.from_numpy(indices).to(self.device)
        batch = images[numbers].expand(-1, 3, -1, -1)
        size = (self.resolution, self.resolution)
        if batch.shape[2:] != size:
            batch = F.interpolate(batch.float(), size, mode="bilinear", antialias=True).round().to(torch.uint8)
        return batch, labels[numbers]

    def train_batches(
        self, part: str, batch: int, *, seed: int, epoch: int, start: int = 0, take: np.ndarray | None = None
    ) -> Iterator[Batch]:
        """Take the batches of one epoch from memory; see Data."""
        positions = np.arange(batch) if take is None else take
        order = self.epoch_order(part, batch, seed, epoch)

        # a GPU prepares several batches at once, in as many kernels as one
        bytes_each = len(positions) * 3 * self.resolution**2 * 4
        together = 1 if self.device.type == "cpu" else max(1, min(MOST_TOGETHER, BYTES_TOGETHER // bytes_each))

        def make_batches(first: int) -> Batch:
            numbers = range(first, min(first + together, len(order)))
            images, labels = self._get(part, order[numbers.start : numbers.stop, positions].ravel())
            return self.prepare(images, [(seed, epoch, number) for number in numbers], positions, batch), labels

        for first in range(start, len(order), together):
            images, labels = self.on_side_stream(partial(make_batches, first))
            yield from zip(images.split(len(positions)), labels.split(len(positions)), strict=True)

    def augment_geometry(
        self, images: torch.Tensor, keys: Sequence[Key], positions: np.ndarray, batch: int
    ) -> torch.Tensor:
        """Shift, turn and mirror normalised images as GEOMETRY and --mirror allow; arguments as for `prepare`."""
        seeds = [int(np.random.default_rng(key).integers(2**62)) for key in keys]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        limits = dataclasses.replace(GEOMETRY[self.name], flip=self.augmentation.mirror)
        return augment_geometry(images, limits, generators, positions=torch.from_numpy(positions), batch=batch)

    def eval_batches(
        self, part: str, batch: int, *, count: int | None = None, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Take a part from memory in order; see Data."""
        indices = self.eval_indices(part, count)[rank::world]
        for first in range(0, len(indices), batch):
            yield self._get(part, indices[first : first + batch])


def _digits(options: DataOptions) -> Source:
    """1,797 handwritten digits of 8x8 pixels, which come with scikit-learn (UCI ML repository)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    train, test = split(labels, options.test_fraction)
    return Source(
        [str(digit) for digit in range(10)],
        lambda: (images[train], labels[train]),
        lambda: (images[test], labels[test]),
        len(test),
    )


FASHION = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def _fashion_mnist(options: DataOptions) -> Source:
    """Fashion-MNIST, arXiv:1708.07747: 60,000 + 10,000 grey images of 28x28. Reads its four .gz files."""
    folder = require_data_folder(options.data_root, "fashion-mnist")
    as_downloaded = folder / "FashionMNIST" / "raw"
    files = next((f for f in (folder, as_downloaded) if (f / "train-images-idx3-ubyte.gz").exists()), None)
    if files is None:
        _download("FashionMNIST", folder)
        files = as_downloaded

    def read(prefix: str) -> tuple[np.ndarray, np.ndarray]:
        images = _read_idx(files / f"{prefix}-images-idx3-ubyte.gz", (28, 28))
        labels = _read_idx(files / f"{prefix}-labels-idx1-ubyte.gz", ())
        if len(images) != len(labels):
            raise InputError(
                f"'{files}' has {len(images):,} {prefix} images and {len(labels):,} labels; take both from one source"
            )
        return images, labels.astype(np.int64)

    return Source(FASHION, lambda: read("train"), lambda: read("t10k"), 10_000)


def _read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The values of a file of Fashion-MNIST, uint8 (n, *shape), with n as its header says: a cut file has fewer images.

    Raises:
        InputError: it is missing or damaged.
    """
    require_file(path, "data file")
    try:
        with gzip.open(path) as file:
            content = file.read()
        header = 4 * (2 + len(shape))  # int32: the kind of file, n, and the shape
        number = int.from_bytes(content[4:8])
        if not content.startswith(bytes((0, 0, 8, 1 + len(shape)))) or not number:  # 8: of uint8
            raise ValueError("it does not begin as such a file does")
        if len(content) != header + number * math.prod(shape):
            raise ValueError(f"{len(content):,} bytes, not {header + number * math.prod(shape):,}")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:
            raise unreadable("data file", path, error) from None
        raise InputError(f"data file '{path}' is damaged ({error}); take it from its source again") from None
    return np.frombuffer(content, np.uint8, offset=header).reshape(number, *shape).copy()


def _cifar(kind: str) -> Callable[[DataOptions], Source]:
    """CIFAR-10 or CIFAR-100 through torchvision: 50,000 + 10,000 colour images of 32x32.

    Args:
        kind: name of torchvision's class, CIFAR10 or CIFAR100.
    Returns:
        A function from the options to the data set.
    """

    def open_source(options: DataOptions) -> Source:
        folder = require_data_folder(options.data_root, kind.lower())
        import torchvision

        dataset_class = getattr(torchvision.datasets, kind)

        def read(train: bool) -> tuple[np.ndarray, np.ndarray]:
            dataset = dataset_class(folder, train=train)
            return dataset.data, np.array(dataset.targets, dtype=np.int64)

        try:
            classes = dataset_class(folder, train=True).classes
        except RuntimeError:  # the files are missing or damaged
            classes = _download(kind, folder).classes
        return Source(classes, lambda: read(True), lambda: read(False), 10_000)

    return open_source


def _download(kind: str, folder: Path) -> Any:
    """Download a data set; returns torchvision's data set of the training images.

    Raises:
        InputError: it cannot be downloaded.
    """
    import torchvision

    try:
        return getattr(torchvision.datasets, kind)(folder, download=True)
    except Exception as error:  # whatever the network or the server answers
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"'{folder}' holds no {kind}, and downloading it failed ({reason}); put its files there"
        ) from None


# names that --data takes -> what opens the data set below --data-root
SOURCES: dict[str, Callable[[DataOptions], Source]] = {
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
    "cifar10": _cifar("CIFAR10"),
    "cifar100": _cifar("CIFAR100"),
}
