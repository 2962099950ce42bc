"""The floor: what the same images give without deep learning. A network below it has not been trained enough.

Two answers are measured on the test part: always the most frequent class, and scikit-learn's random forest on the pixels of
small images. It takes seconds, and once for each data set: RUN/floor.json of the run that owns the images.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.files import load_json, save_json

if TYPE_CHECKING:
    from trials.images.dataset import Data

FILE = "floor.json"


def floor_of(run: Path, data: Data | None = None) -> dict[str, Any] | None:
    """The floor of the images of a run: read from RUN/floor.json, or measured and written there.

    Args:
        run: the run that owns the images: the supernet's, where there is one.
        data: the images; None only reads.
    Returns:
        What `measure_floor` returns; None where it is not measured yet and there is no `data`.
    """
    path = run / FILE
    floor = load_json(path, "floor") if path.exists() else None
    if data is None or (floor and floor["fingerprint"] == fingerprint(data)):
        return floor
    floor = measure_floor(data)
    save_json(path, floor)
    return floor


def floor_text(floor: dict[str, Any]) -> str:
    """The floor beside a test accuracy, such as `floor 93.0% [84.6, 97.0] (random forest on 16x16 pixels)`."""
    raise NotImplementedError


def measure_floor(data: Data) -> dict[str, Any]:
    """Measure the floor on the test part.

    Returns:
        {"majority": {"class", "top1", "interval": [low, high]}, "forest": {"top1", "interval", "train_images", "test_images",
        "pixels", "seconds"}, "top1": the better of both, "interval", "name": "random forest on 16x16 pixels" or
        "always 'cat'", "fingerprint": int}; accuracies in percent.
    """
    raise NotImplementedError


def fingerprint(data: Data) -> int:
    """A number of 32 bits that is equal for the same images at the same resolution in the same training and test parts."""
    raise NotImplementedError
