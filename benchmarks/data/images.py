"""JPEG files to read: crops of scikit-learn's two photographs, in the folders of ImageNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def make_tree(folder: Path, count: int) -> None:
    """ImageNet-shaped: train/ with `count` images, val/ with as many."""
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(count):
            image = photographs[number % 2]
            height, width = int(generator.integers(300, 427)), int(generator.integers(300, 500))
            top, left = (
                int(generator.integers(0, image.height - height)),
                int(generator.integers(0, image.width - width)),
            )
            path = folder / split / f"class{number % 2}" / f"{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.crop((left, top, left + width, top + height)).save(path, quality=90)
