"""Image folders of real images to try the whole road on, the same files at every call.

photographs     354 images of 5 classes, none of them square by design: colour JPEG crops of scikit-learn's two photographs (crops of
                one photograph can overlap, so these two classes are easy), grey PNG crops of solar cells from elpv-dataset (mono and
                poly-crystalline, CC BY-NC-SA), and Fashion-MNIST's ankle boots, stretched, in both formats, grey and colour.
fashion         2,000 images of Fashion-MNIST (arXiv:1708.07747), 200 of each of its 10 classes, grey PNGs of 28x28.

Both are laid out as ROOT/CLASS/FILE, so the test part is the fifth that Onepath cuts.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from spaces.errors import InputError
from trials.images.memory import FASHION

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it
# class -> number of its images; all together 354
PHOTOGRAPHS = {"building": 80, "flower": 74, "cell mono": 70, "cell poly": 70, "ankle boot": 60}


def fashion_mnist(folder: Path = FASHION_MNIST) -> tuple[np.ndarray, np.ndarray]:
    """The training images of Fashion-MNIST, uint8 (60000, 28, 28), and their labels, uint8 (60000,).

    Raises:
        InputError: the files are not in `folder`.
    """
    images, labels = (folder / f"train-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    if not (images.exists() and labels.exists()):
        raise InputError(
            f"'{folder}' lacks {images.name} or {labels.name}; run: apt-get install -y dataset-fashion-mnist, or name their "
            "folder with --fashion-mnist"
        )
    pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    return pixels, np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8)


def solar_cells(kind: str) -> list[Path]:
    """The 300x300 grey images of elpv-dataset, of cells that are `mono` or `poly` crystalline.

    Raises:
        InputError: the package is not installed.
    """
    package = importlib.util.find_spec("elpv_dataset")
    if package is None or not package.submodule_search_locations:
        raise InputError("elpv-dataset is not installed; run: pip install elpv-dataset")
    folder = Path(package.submodule_search_locations[0]) / "data"
    with open(folder / "labels.csv") as file:
        rows = list(csv.reader(file, delimiter=" ", skipinitialspace=True))
    return [folder / row[0] for row in rows if row[2] == kind]


def crop(image: Image.Image, draw: np.random.Generator, smallest: int, largest: int) -> Image.Image:
    """A random part of an image, each side `smallest` to `largest` pixels long."""
    width, height = (int(side) for side in draw.integers(smallest, largest + 1, 2))
    left, top = int(draw.integers(0, image.width - width + 1)), int(draw.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def photographs(
    fashion: Path, counts: Mapping[str, int], draw: np.random.Generator
) -> Iterator[tuple[str, Image.Image, str]]:
    """The images of the folder `photographs`: class, image, and how the file's name ends.

    Args:
        counts: class -> number of images; a class that is not named has none, and its source is not read.
    """
    china, flower = (Image.fromarray(image) for image in load_sample_images().images)  # 427x640
    for name, photograph in (("building", china), ("flower", flower)):
        for _ in range(counts.get(name, 0)):
            yield name, crop(photograph, draw, 90, 300), "jpg"
    for kind in ("mono", "poly"):
        wanted = counts.get(f"cell {kind}", 0)
        files = solar_cells(kind) if wanted else []
        for number in draw.permutation(len(files))[:wanted]:
            yield f"cell {kind}", crop(Image.open(files[number]), draw, 240, 300), "png"
    if not counts.get("ankle boot"):
        return
    pixels, labels = fashion_mnist(fashion)
    boots = pixels[labels == FASHION.index("Ankle boot")]
    for place, number in enumerate(draw.permutation(len(boots))[: counts["ankle boot"]]):
        width, height = (int(side) for side in draw.integers(30, 91, 2))
        boot = Image.fromarray(boots[number]).resize((width, height), Image.Resampling.BICUBIC)
        yield "ankle boot", boot.convert("RGB") if place % 4 == 0 else boot, "jpg" if place % 2 else "png"


def make_photographs(folder: Path, fashion: Path = FASHION_MNIST, *, counts: Mapping[str, int] = PHOTOGRAPHS) -> None:
    """Write the 354 images of 5 classes to FOLDER/CLASS/, or as many of each as `counts` says.

    Raises:
        InputError: images to make them of are missing.
    """
    written = dict.fromkeys(PHOTOGRAPHS, 0)
    for name, image, end in photographs(fashion, counts, np.random.default_rng(0)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        image.save(folder / name / f"{written[name]:03d}.{end}", quality=90)  # which PNG does not have
        written[name] += 1


def make_fashion(folder: Path, fashion: Path = FASHION_MNIST, *, per_class: int = 200) -> None:
    """Write `per_class` images of each of the 10 classes to FOLDER/CLASS/. Raises InputError: Fashion-MNIST is missing."""
    pixels, labels = fashion_mnist(fashion)
    draw = np.random.default_rng(0)
    for label, name in enumerate(FASHION):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for place, number in enumerate(draw.permutation(np.flatnonzero(labels == label))[:per_class]):
            Image.fromarray(pixels[number]).save(folder / name / f"{place:03d}.png")
