"""JPEG files to read: crops of scikit-learn's two photographs, in the folders of ImageNet."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def make_tree(folder: Path, count: int, val: int | None = None) -> None:
    """ImageNet-shaped: train/ with `count` images, val/ with `val` images, or as many."""
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    generator = np.random.default_rng(0)
    numbers = {"train": count, "val": count if val is None else val}
    writers = ThreadPoolExecutor()
    written = []
    for split, images in numbers.items():
        for number in range(images):
            image = photographs[number % 2]
            height, width = int(generator.integers(300, 427)), int(generator.integers(300, 500))
            top, left = (
                int(generator.integers(0, image.height - height)),
                int(generator.integers(0, image.width - width)),
            )
            path = folder / split / f"class{number % 2}" / f"{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            crop = image.crop((left, top, left + width, top + height))
            written.append(writers.submit(crop.save, path, quality=90))
    for future in written:
        future.result()
    writers.shutdown()
