"""Data sets that fit into memory: kept whole on the device as uint8, at their own size, augmented a batch at a time."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from spaces.errors import InputError
from trials.images.augment import Augment, augment
from trials.images.dataset import TEST_FRACTION, Batch, Data, split
from trials.images.options import existing

AUGMENT = {
    "digits": Augment(shift=0.125, rotate=10, scale=0.15, padding="border"),
    "fashion-mnist": Augment(shift=0.125, flip=True),
    "cifar10": Augment(shift=0.125, flip=True),
    "cifar100": Augment(shift=0.125, flip=True),
}


class MemoryData(Data):
    """A data set in memory."""

    def __init__(self, name: str, resolution: int, score_fraction: float, arch_fraction: float, source: Source) -> None:
        self._read_test = source.read_test
        images, labels = source.read_train()
        train, held = split(labels, score_fraction)
        parts = {"train": train, "score": held, "test": np.arange(source.test_size)}
        super().__init__(name, source.classes, resolution, labels, parts, arch_fraction)
        self._stores = {"train": self._store(images, labels)}

    def _store(self, images: np.ndarray, labels: np.ndarray) -> Batch:
        """(N, H, W) or (N, H, W, 3) to (N, 1, H, W) or (N, 3, H, W), with labels, on the device."""
        tensor = torch.from_numpy(images)
        tensor = tensor[:, None] if tensor.dim() == 3 else tensor.permute(0, 3, 1, 2).contiguous()
        return tensor.to(self.device), torch.from_numpy(labels).to(self.device)

    def to(self, device: torch.device) -> None:
        self.device = device
        self._stores = {key: (images.to(device), labels.to(device)) for key, (images, labels) in self._stores.items()}

    def _get(self, part: str, indices: np.ndarray) -> Batch:
        """uint8 (N, 3, R, R) and labels."""
        key = "test" if part == "test" else "train"
        if key not in self._stores:
            self._stores[key] = self._store(*self._read_test())
        images, labels = self._stores[key]
        numbers = torch.from_numpy(indices).to(self.device)
        chosen = images[numbers].expand(-1, 3, -1, -1)
        size = (self.resolution, self.resolution)
        if chosen.shape[2:] != size:
            chosen = F.interpolate(chosen.float(), size, mode="bilinear", antialias=True).round().to(torch.uint8)
        return chosen, labels[numbers]

    def train_batches(
        self, part: str, batch: int, *, seed: int, epoch: int, start: int = 0, take: np.ndarray | None = None
    ) -> Iterator[Batch]:
        places = np.arange(batch) if take is None else take
        order = self.order(part, batch, seed, epoch)

        def next_batch(number: int) -> Batch:
            images, labels = self._get(part, order[number][places])
            return self.prepare(images, (seed, epoch, number), places, batch), labels

        for number in range(start, len(order)):
            yield self.aside(partial(next_batch, number))

    def move(self, images: torch.Tensor, key: tuple[int, int, int], places: np.ndarray, batch: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(int(np.random.default_rng(key).integers(2**62)))
        return augment(images, AUGMENT[self.name], generator, take=torch.from_numpy(places), of=batch)

    def eval_batches(
        self, part: str, batch: int, *, count: int | None = None, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        numbers = self.chosen(part, count)[rank::world]
        for first in range(0, len(numbers), batch):
            yield self._get(part, numbers[first : first + batch])


@dataclass(frozen=True)
class Source:
    """Where an in-memory data set comes from: (images (N, H, W[, 3]) uint8, labels (N,) int64)."""

    classes: Sequence[str]
    read_train: Callable[[], tuple[np.ndarray, np.ndarray]]
    read_test: Callable[[], tuple[np.ndarray, np.ndarray]]
    test_size: int


def _digits(root: str) -> Source:
    """1,797 handwritten digits of 8x8 pixels, shipped with scikit-learn (UCI ML repository)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    train, test = split(labels, TEST_FRACTION)
    return Source(
        [str(digit) for digit in range(10)],
        lambda: (images[train], labels[train]),
        lambda: (images[test], labels[test]),
        len(test),
    )


FASHION = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def _fashion_mnist(root: str) -> Source:
    """Fashion-MNIST, arXiv:1708.07747: 60,000 + 10,000 grey images of 28x28. Reads the four .gz files in `root`."""
    folder = existing(root, "fashion-mnist")
    candidates = (folder, folder / "FashionMNIST" / "raw")
    found = [place for place in candidates if (place / "train-images-idx3-ubyte.gz").exists()]
    if not found:
        _download("FashionMNIST", folder)
        found = [candidates[1]]

    def read(prefix: str) -> tuple[np.ndarray, np.ndarray]:
        images = gzip.decompress((found[0] / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((found[0] / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())
        pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)  # after a header of four int32
        return pixels.copy(), np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)

    return Source(FASHION, lambda: read("train"), lambda: read("t10k"), 10_000)


def _cifar(kind: str) -> Callable[[str], Source]:
    def source(root: str) -> Source:
        """CIFAR-10 or CIFAR-100 through torchvision: 50,000 + 10,000 colour images of 32x32."""
        folder = existing(root, kind.lower())
        import torchvision

        dataset_class = getattr(torchvision.datasets, kind)

        def read(train: bool) -> tuple[np.ndarray, np.ndarray]:
            dataset = dataset_class(folder, train=train)
            return dataset.data, np.array(dataset.targets, dtype=np.int64)

        try:
            classes = dataset_class(folder, train=True).classes
        except RuntimeError:  # not there, or damaged
            classes = _download(kind, folder).classes
        return Source(classes, lambda: read(True), lambda: read(False), 10_000)

    return source


def _download(kind: str, folder: Path) -> Any:
    import torchvision

    try:
        return getattr(torchvision.datasets, kind)(folder, download=True)
    except Exception as error:  # whatever the network or the server answers
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"'{folder}' holds no {kind}, and downloading it failed ({reason}); put its files there"
        ) from None


MEMORY: dict[str, Callable[[str], Source]] = {
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
    "cifar10": _cifar("CIFAR10"),
    "cifar100": _cifar("CIFAR100"),
}
