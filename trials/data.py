"""Images for training, scoring and testing. Every data set offers the same four things:

    data.size(part)                                          number of images
    data.train_batches(part, batch, seed=, epoch=, start=, take=)
                                                             augmented and normalised; a pure function of its arguments
    data.eval_batches(part, batch)                           in order, without augmentation, uint8
    data.normalise(images)                                   uint8 to float

Parts: `train` and `score` are the training images, split class-balanced with a fixed seed; `all` is both; `test` is
read by retrain alone. `weights` and `arch` are `train`, split once more for differentiable strategies. Shapes: N batch, images (N, 3, R, R), R the resolution in pixels, labels (N,) int64.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from spaces.errors import InputError, unknown

SPLIT_SEED = 0  # of the split into parts; never the run's seed, or the parts of two runs would mix
TEST_FRACTION = 0.2  # of data sets that come without a test part
ARCH_FRACTION = 0.2  # of `train`, for the architecture parameters
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Augment:
    """Random changes of one image; each is drawn per image."""

    shift: float = 0.0  # at most this part of the width and height
    flip: bool = False  # left to right, half of the time
    rotate: float = 0.0  # at most this many degrees either way
    scale: float = 0.0  # at most this part larger or smaller
    padding: str = "reflection"  # what stands outside of the image (grid_sample's padding_mode)


# mean and standard deviation of a channel, as a part of 255, and the usual augmentation
STATISTICS = {
    "digits": ((0.305,) * 3, (0.376,) * 3),
    "fashion-mnist": ((0.286,) * 3, (0.353,) * 3),
    "cifar10": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
    "cifar100": ((0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
    "folder": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # ImageNet's
}
AUGMENT = {
    "digits": Augment(shift=0.125, rotate=10, scale=0.15, padding="border"),
    "fashion-mnist": Augment(shift=0.125, flip=True),
    "cifar10": Augment(shift=0.125, flip=True),
    "cifar100": Augment(shift=0.125, flip=True),
}


def normalise(images: torch.Tensor, name: str, *, spos: bool) -> torch.Tensor:
    """uint8 RGB images (N, 3, R, R) to float, channels last in memory.

    Args:
        name: of the data set; its images get mean 0 and standard deviation 1.
        spos: BGR, 0..255, not normalised, as the official SPOS weights expect.
    """
    images = images.to(torch.float32, memory_format=torch.channels_last)
    if spos:
        return images.flip(1).contiguous(memory_format=torch.channels_last)
    mean, std = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) * 255 for values in STATISTICS[name])
    return (images - mean) / std


class Data:
    """What all data sets share. A subclass knows how to read images."""

    def __init__(
        self, name: str, classes: Sequence[str], resolution: int, labels: np.ndarray, score: float, arch: float
    ) -> None:
        self.name = name
        self.classes = list(classes)
        self.resolution = resolution
        train, held = split(labels, score)
        self.parts = {"train": train, "score": held, "all": np.arange(len(labels))}
        weights, rest = split(labels[train], arch)
        self.parts |= {"weights": train[weights], "arch": train[rest]}
        self.spos = False  # the official SPOS preprocessing; set by load_data

    def size(self, part: str) -> int:
        """Number of images of a part."""
        return len(self.parts[part])

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 3, R, R) to what a network sees; see the function of this name."""
        return normalise(images, self.name, spos=self.spos)

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

    def eval_batches(self, part: str, batch: int, *, count: int | None = None) -> Iterator[Batch]:
        """uint8 images and labels: the whole part in order, or `count` images drawn with a fixed seed."""
        raise NotImplementedError

    def chosen(self, part: str, count: int | None) -> np.ndarray:
        """Image numbers for eval_batches."""
        indices = self.parts[part]
        if count is None or count >= len(indices):
            return indices
        return np.random.default_rng(SPLIT_SEED).permutation(indices)[:count]


class MemoryData(Data):
    """A data set that fits into memory: uint8 until used, augmented a batch at a time."""

    def __init__(self, name: str, resolution: int, score: float, arch: float, source: Source) -> None:
        self._read_test = source.read_test
        images, labels = source.read_train()
        super().__init__(name, source.classes, resolution, labels, score, arch)
        self._images = {"train": self._fit(images)}
        self._labels = {"train": torch.from_numpy(labels)}
        self.parts["test"] = np.arange(source.test_size)

    def _fit(self, images: np.ndarray) -> torch.Tensor:
        """(N, H, W) or (N, H, W, 3) uint8 to (N, 3, R, R) uint8."""
        tensor = torch.from_numpy(images)
        tensor = tensor[:, None].expand(-1, 3, -1, -1) if tensor.dim() == 3 else tensor.permute(0, 3, 1, 2)
        if tensor.shape[-2:] != (self.resolution, self.resolution):
            size = (self.resolution, self.resolution)
            tensor = F.interpolate(tensor.float(), size, mode="bilinear", antialias=True).round().to(torch.uint8)
        return tensor.contiguous()

    def _store(self, part: str) -> Batch:
        key = "test" if part == "test" else "train"
        if key not in self._images:
            images, labels = self._read_test()
            self._images[key], self._labels[key] = self._fit(images), torch.from_numpy(labels)
        return self._images[key], self._labels[key]

    def train_batches(
        self, part: str, batch: int, *, seed: int, epoch: int, start: int = 0, take: np.ndarray | None = None
    ) -> Iterator[Batch]:
        images, labels = self._store(part)
        take = np.arange(batch) if take is None else take
        for number, indices in enumerate(self.order(part, batch, seed, epoch)):
            if number >= start:
                generator = torch.Generator().manual_seed(
                    int(np.random.default_rng((seed, epoch, number)).integers(2**62))
                )
                here = indices[take]
                x = self.normalise(images[here])
                yield augment(x, AUGMENT[self.name], generator, take=torch.from_numpy(take), of=batch), labels[here]

    def eval_batches(self, part: str, batch: int, *, count: int | None = None) -> Iterator[Batch]:
        images, labels = self._store(part)
        for indices in torch.from_numpy(self.chosen(part, count)).split(batch):
            yield images[indices], labels[indices]


def augment(
    images: torch.Tensor,
    how: Augment,
    generator: torch.Generator,
    *,
    take: torch.Tensor | None = None,
    of: int | None = None,
) -> torch.Tensor:
    """Shift, flip, rotate and scale each image of a batch on its own. Shifts without rotation are whole pixels.

    Args:
        take, of: the images have these places in a batch of `of`, of which other processes have the rest.
    """
    n, _, height, width = images.shape

    def uniform(limit: float) -> torch.Tensor:
        drawn = (torch.rand(of or n, generator=generator) * 2 - 1) * limit
        return drawn if take is None else drawn[take]

    angle, zoom = uniform(math.radians(how.rotate)), 1 + uniform(how.scale)
    mirror = torch.where(uniform(1.0) < 0, -1.0, 1.0) if how.flip else torch.ones(n)
    dx, dy = uniform(how.shift * width).round() * 2 / width, uniform(how.shift * height).round() * 2 / height
    rows = (torch.cos(angle) * zoom * mirror, -torch.sin(angle) * zoom, dx)
    theta = torch.stack(
        (torch.stack(rows, 1), torch.stack((torch.sin(angle) * zoom * mirror, torch.cos(angle) * zoom, dy), 1)), 1
    )
    grid = F.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    changed = F.grid_sample(images, grid, mode="bilinear", padding_mode=how.padding, align_corners=False)
    return changed.contiguous(memory_format=torch.channels_last)


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
    folder = _existing(root, "fashion-mnist")
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
        folder = _existing(root, kind.lower())
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


def _existing(root: str, name: str) -> Path:
    if not root:
        raise InputError(f"--data {name} needs --data-root FOLDER: the folder that holds it, or is to hold it")
    if not Path(root).is_dir():
        raise InputError(f"data folder '{root}' does not exist; check --data-root, or make it to download into it")
    return Path(root)


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
DATA = (*MEMORY, "folder")


class FolderData(Data):
    """Any image folder: one subfolder per class, or `train/` and `val/` (or `test/`) which hold those."""

    def __init__(self, root: str, resolution: int, score: float, arch: float, workers: int) -> None:
        folder = _existing(root, "folder")
        self.workers = workers
        train_root = folder / "train" if (folder / "train").is_dir() else folder
        test_roots = [folder / name for name in ("val", "test") if (folder / name).is_dir()]
        files, classes = _listing(train_root)
        if train_root != folder and test_roots:
            test_files, test_classes = _listing(test_roots[0])
            if test_classes != classes:
                odd = sorted(set(classes) ^ set(test_classes))[0]
                raise InputError(
                    f"'{train_root}' and '{test_roots[0]}' differ in class '{odd}'; give both the same classes"
                )
            test = np.arange(len(files), len(files) + len(test_files))
            labels = np.array([label for _, label in files])
            numbers = np.arange(len(files))
            files += test_files
        else:
            labels = np.array([label for _, label in files])
            numbers, test = split(labels, TEST_FRACTION)
            labels = labels[numbers]
        self.files = files
        super().__init__("folder", classes, resolution, labels, score, arch)
        self.parts = {part: numbers[indices] for part, indices in self.parts.items()} | {"test": test}

    def _loader(self, batches: list[list[tuple[int, int]]]) -> Iterator[Batch]:
        loader = DataLoader(
            _Files(self.files, self.resolution, antialias=not self.spos),
            batch_sampler=batches,
            num_workers=self.workers,
            collate_fn=_stack,
        )
        try:
            yield from loader
        except InputError as error:  # a worker's exception arrives with its traceback as text
            raise InputError(str(error).strip().splitlines()[-1].removeprefix("spaces.errors.InputError: ")) from None

    def train_batches(
        self, part: str, batch: int, *, seed: int, epoch: int, start: int = 0, take: np.ndarray | None = None
    ) -> Iterator[Batch]:
        order = self.order(part, batch, seed, epoch)[start:]
        order = order if take is None else order[:, take]
        # the seed of each image's augmentation, so that it does not depend on the number of workers
        seeds = np.random.default_rng((seed, epoch)).integers(1, 2**62, size=len(self.files))
        for images, labels in self._loader([[(int(i), int(seeds[i])) for i in row] for row in order]):
            yield self.normalise(images), labels

    def eval_batches(self, part: str, batch: int, *, count: int | None = None) -> Iterator[Batch]:
        indices = self.chosen(part, count)
        yield from self._loader(
            [[(int(i), 0) for i in indices[first : first + batch]] for first in range(0, len(indices), batch)]
        )


class _Files(torch.utils.data.Dataset):
    """(number, seed) -> (uint8 image (3, R, R), label); seed 0 is the evaluation view."""

    def __init__(self, files: list[tuple[str, int]], resolution: int, *, antialias: bool) -> None:
        from torchvision.transforms import v2

        self.files = files
        self.train = v2.Compose([v2.RandomResizedCrop(resolution, antialias=antialias), v2.RandomHorizontalFlip()])
        short_side = round(resolution * 256 / 224)
        self.eval = v2.Compose([v2.Resize(short_side, antialias=antialias), v2.CenterCrop(resolution)])

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int]:
        from PIL import Image
        from torchvision.transforms.v2 import functional as V

        number, seed = key
        path, label = self.files[number]
        try:
            with Image.open(path) as image:
                pixels = V.pil_to_tensor(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"image '{path}' cannot be read ({error}); remove or replace it") from None
        if not seed:
            return self.eval(pixels), label
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.train(pixels), label


def _stack(items: list[tuple[torch.Tensor, int]]) -> Batch:
    return torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])


def _listing(folder: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """Image files with labels, and class names, in alphabetic order."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

    try:
        classes, numbers = find_classes(folder)
        return make_dataset(str(folder), numbers, extensions=IMG_EXTENSIONS), classes
    except FileNotFoundError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"'{folder}' is no image folder ({reason}); give each class a subfolder of images") from None


def split(labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut class-balanced with a fixed seed.

    Returns:
        Image numbers of the rest and of the cut part, each sorted; `fraction` of every class is cut, rounded.
    """
    draw = np.random.default_rng(SPLIT_SEED)
    cut = []
    for label in np.unique(labels):
        members = draw.permutation(np.flatnonzero(labels == label))
        cut.append(members[: round(fraction * len(members))])
    held = np.sort(np.concatenate([*cut, []])).astype(np.int64)
    return np.setdiff1d(np.arange(len(labels)), held), held


def load_data(
    name: str,
    root: str,
    resolution: int,
    *,
    score_fraction: float,
    arch_fraction: float = ARCH_FRACTION,
    workers: int = 0,
    spos: bool = False,
) -> Data:
    """Open a data set.

    Args:
        name: one of DATA.
        root: folder of the data set; not needed for digits.
        score_fraction: part of the training images that is held out from supernet training to score candidates.
        arch_fraction: part of the rest that architecture parameters learn from, where a strategy has any.
        spos: images as the official SPOS weights expect them: BGR, 0..255, resized without antialiasing like OpenCV.
    Raises:
        InputError: unknown name, missing folder, nothing in it.
    """
    if name not in DATA:
        raise InputError(unknown("data set", name, DATA))
    for flag, fraction in (("--score-fraction", score_fraction), ("--arch-fraction", arch_fraction)):
        if not 0 < fraction < 1:
            raise InputError(f"{flag} {fraction} is out of range; give a number between 0 and 1")
    data: Data
    if name == "folder":
        data = FolderData(root, resolution, score_fraction, arch_fraction, workers)
    else:
        data = MemoryData(name, resolution, score_fraction, arch_fraction, MEMORY[name](root))
    data.spos = spos
    return data
