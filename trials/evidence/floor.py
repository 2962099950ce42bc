"""The floor: what the same images give without deep learning. A network below it has not been trained enough.

Two answers are measured on the test part: always the most frequent class, and scikit-learn's random forest on the pixels of
small images. It takes seconds, and once for each data set: RUN/floor.json of the run that owns the images.

docs/trust.md says why it is 16x16 pixels in colour; benchmarks/floor.py measures it.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from spaces.files import save_json
from trials.common import locks, run_files
from trials.evidence.classes import class_rows, figures
from trials.evidence.intervals import Interval, accuracy_interval, percent

if TYPE_CHECKING:
    from trials.images.dataset import Data

FILE = "floor.json"
PIXELS = 16  # the most, of height and width
TRAIN_IMAGES, TEST_IMAGES = 4000, 2000  # the most that are read
TREES, SEED = 200, 0
# A node of a tree holds a number for every class, and its split looks at all of them: with many classes fewer trees are
# grown, a few at a time.
CLASS_BYTES, CLASS_WORK = 256 * 2**20, 200 * 4000 * 20
BATCH = 256  # images that are decoded at a time


@overload
def floor_of(run: Path) -> dict[str, Any] | None: ...
@overload
def floor_of(run: Path, data: Data) -> dict[str, Any]: ...
def floor_of(run: Path, data: Data | None = None) -> dict[str, Any] | None:
    """The floor of the images of a run: read from RUN/floor.json, or measured and written there.

    Args:
        run: the run that owns the images: the supernet's, where there is one.
        data: the images; None only reads.
    Returns:
        What `measure_floor` returns; None where it is not measured yet and there is no `data`.
    """
    path = run / FILE
    if data is None:
        return run_files.read_if_there(path, "floor")
    with locks.waiting(run / f".{FILE}.lock"):  # of several processes, one measures and the others wait
        floor: dict[str, Any] = run_files.read_if_there(path, "floor", {})
        if floor.get("fingerprint") != fingerprint(data):
            floor = measure_floor(data)
            save_json(path, floor)
    return floor


def floor_text(floor: Mapping[str, Any]) -> str:
    """The floor as it stands beside a test accuracy: `floor 93.0% [84.6, 97.0] (random forest on 16x16 pixels)`."""
    return f"floor {percent(Interval(floor['top1'], *floor['interval']))} ({floor['name']})"


def balanced_text(floor: Mapping[str, Any]) -> str:
    """Its balanced accuracy in a line, which stands beside that of a network; "" where an older version did not measure it."""
    forest, majority = (floor.get(name, {}) for name in ("forest", "majority"))
    if "balanced" not in forest or "balanced" not in majority:
        return ""
    own = forest["balanced"]
    return (
        f"balanced accuracy without deep learning: {percent(Interval(own['accuracy'], *own['interval']))} (random forest), "
        f"{majority['balanced']:.2f}% (always '{majority['class']}')"
    )


def measure_floor(data: Data) -> dict[str, Any]:
    """Measure the floor on the test part.

    Returns:
        {"majority": {"class", "top1", "interval": [low, high], "balanced": accuracy}, "forest": {"top1", "interval", "balanced":
        {"accuracy", "interval"}, "train_images", "test_images", "pixels", "trees", "seconds"}, "top1": the better of both, "interval", "name": "random forest on 16x16 pixels" or
        "always 'cat'", "test_images": of the whole part, "fingerprint": int}; accuracies in percent.
    Raises:
        Stopped: too many images cannot be read.
    """
    training, test = data.class_counts("all"), data.class_counts("test")
    most = max(training, key=training.__getitem__)
    tested = [name for name, images in test.items() if images]
    alike = 100 * (most in tested) / len(tested)  # one class is always right, all others never
    majority = {"class": most, **_accuracy(test[most], sum(test.values())), "balanced": alike}
    forest = random_forest(data)
    name = f"random forest on {forest['pixels']}x{forest['pixels']} pixels"
    best, name = (forest, name) if forest["top1"] >= majority["top1"] else (majority, f"always '{most}'")
    return {
        "majority": majority,
        "forest": forest,
        **{"top1": best["top1"], "interval": best["interval"], "name": name},
        "test_images": sum(test.values()),
        "fingerprint": fingerprint(data),
    }


def fingerprint(data: Data) -> int:
    """A number of 32 bits that is equal for the same images at the same resolution in the same training and test parts."""
    sizes = [data.size(part) for part in ("all", "test")]
    return zlib.crc32(repr((data.name, data.fingerprint(), data.resolution, sizes, data.classes)).encode())


def random_forest(data: Data, *, pixels: int = PIXELS, grey: bool = False, seed: int = SEED) -> dict[str, Any]:
    """Train a random forest on a part of the images, and test it.

    Args:
        pixels: the most, of height and width.
        grey: the mean of the colours instead of them.
        seed: of the forest.
    Returns:
        "forest" of `measure_floor`.
    """
    from sklearn.ensemble import RandomForestClassifier

    began = time.perf_counter()
    images, labels = small_images(data, "all", TRAIN_IMAGES, pixels)
    test_images, test_labels = small_images(data, "test", TEST_IMAGES, pixels)
    height = images.shape[2]
    both = [images, test_images]
    if grey:
        both = [x.mean(1, keepdims=True) for x in both]
    elif all((x == x[:, :1]).all() for x in both):  # nothing has colours
        both = [x[:, :1] for x in both]
    images, test_images = (x.reshape(len(x), -1) for x in both)

    # where there are many classes, several small forests one after the other are one large forest
    classes = len(data.classes)
    trees = max(1, min(TREES, CLASS_WORK // (classes * len(labels))))
    at_once = max(1, min(trees, CLASS_BYTES // (8 * classes * 2 * len(labels))))
    votes = np.zeros((len(test_labels), classes))
    for first in range(0, trees, at_once):
        count = min(at_once, trees - first)
        forest = RandomForestClassifier(count, random_state=seed + first, n_jobs=-1).fit(images, labels)
        forest.n_jobs = 1  # several threads would add in any order, and ties be decided by rounding
        votes[:, forest.classes_] += count * forest.predict_proba(test_images)
    answers = votes.argmax(1)
    return {
        **_accuracy(int((answers == test_labels).sum()), len(test_labels)),
        **{"balanced": figures(class_rows(test_labels, answers[None], data.classes))["balanced"]},
        **{"train_images": len(labels), "test_images": len(test_labels)},
        **{"pixels": height, "trees": trees, "seconds": round(time.perf_counter() - began, 1)},
    }


def small_images(data: Data, part: str, count: int, pixels: int = PIXELS) -> tuple[np.ndarray, np.ndarray]:
    """Read images of a part, shrunk to at most P x P.

    Args:
        count: the most images; a larger part gives so many of its own, drawn with a fixed seed.
        pixels: P.
    Returns:
        uint8 pixels (N, 3, P, P), and class numbers (N,).
    """
    import torch
    from torch.nn.functional import interpolate

    images, labels = [], []
    for batch, numbers in data.eval_batches(part, BATCH, count=count):
        if batch.shape[-1] > pixels:
            shrunk = interpolate(batch.float(), (pixels, pixels), mode="bilinear", antialias=True)
            batch = shrunk.round().to(torch.uint8)
        images.append(batch.cpu().numpy())
        labels.append(numbers.cpu().numpy())
    return np.concatenate(images), np.concatenate(labels)


def _accuracy(correct: int, images: int) -> dict[str, Any]:
    """Top-1 in percent with its interval."""
    interval = accuracy_interval([correct], images)
    return {"top1": interval.value, "interval": [interval.low, interval.high]}
