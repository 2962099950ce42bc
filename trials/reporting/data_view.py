"""The images of a run, where they can be opened: how many are in each part, the names of the classes, the wrong answers."""

from __future__ import annotations

import base64
import dataclasses
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from spaces.errors import InputError, Stopped
from trials.common.checkpoint import load_checkpoint
from trials.images.dataset import Data
from trials.images.image_list import LIST
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.reporting.answers import Answers, hardest_images
from trials.reporting.collect import RunContents

MOST_IMAGES = 48  # of the sheet of wrong answers
SIDE = 96  # pixels of the longer side of an image in the page, at most
PARTS = (
    ("train", "to train the supernet"),
    ("score", "to score architectures"),
    ("all", "to train networks from scratch: both of these"),
    ("test", "to test them, once"),
)


@dataclass(frozen=True)
class WrongImage:
    """An image of the sheet: its picture as a data: address, what it is, what was answered, and by how many seeds."""

    source: str
    true: str
    said: str
    seeds: int


def open_images(contents: RunContents) -> tuple[Data | None, str]:
    """Open the images of a run.

    Returns:
        The images, and ""; or None and the reason.
    """
    run, config = contents.path, contents.config
    folder = contents.retrained.folder if contents.retrained else run
    listed = next((path for path in (run, folder) if (path / LIST).exists()), None)
    if config["data"] == "folder" and listed is None:
        return None, "the run has no list of its images"
    stored: dict[str, Any] = contents.retrained.config if contents.retrained else config  # the images may have moved
    options = DataOptions.of({**config, "data_root": stored.get("data_root") or config.get("data_root", "")})
    if config["data"] == "folder":  # a few images need neither a GPU nor processes
        options = dataclasses.replace(options, loader="torchvision", workers=0)
    try:
        data = load_data(
            options, contents.table.space["resolution"], score_fraction=config["score_fraction"], run=listed
        )
        data.check_files("test")
    except (InputError, Stopped, OSError) as error:
        return None, str(error)
    return data, ""


def class_names(contents: RunContents) -> list[str] | None:
    """The names of the classes, as the supernet's file holds them; None where that is damaged or of an old version.

    Raises:
        Stopped: the machine could not read it.
    """
    try:
        checkpoint = load_checkpoint(contents.path / "supernet.pt", "supernet", mmap=True)
    except Stopped:
        raise
    except InputError:
        return None
    preprocessing = checkpoint.get("preprocessing")
    names = preprocessing.get("classes") if isinstance(preprocessing, dict) else None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def wrong_images(answers: Answers, data: Data) -> list[WrongImage]:
    """The pictures of the images that most seeds get wrong, of all classes in turn, as a network sees them; at most MOST_IMAGES.

    Args:
        data: the images; only these are read.
    Returns:
        [] where the test part is not the one that was answered.
    """
    hardest = hardest_images(answers, MOST_IMAGES)
    if not hardest or data.size("test") != len(answers.labels):
        return []
    positions = np.array([position for position, *_ in hardest])
    order = np.argsort(positions)
    everything = data.parts["test"]
    data.parts["test"] = everything[positions[order]]
    try:
        batches = list(data.eval_batches("test", len(positions)))
    except (Stopped, OSError):
        return []
    finally:
        data.parts["test"] = everything
    images, labels = (torch.cat(parts).cpu().numpy() for parts in zip(*batches, strict=True))
    if not np.array_equal(labels, answers.labels[positions[order]]):
        return []
    back = np.argsort(order)
    return [
        WrongImage(data_address(images[back[number]]), true, said, seeds)
        for number, (_, seeds, true, said) in enumerate(hardest)
    ]


def data_address(image: np.ndarray) -> str:
    """An image (3, H, W), uint8, as a data: address: PNG where it is tiny, else JPEG of at most SIDE pixels."""
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.thumbnail((SIDE, SIDE))
    if (image == image[:1]).all():
        picture = picture.convert("L")
    kind = "PNG" if max(picture.size) <= 32 else "JPEG"
    file = io.BytesIO()
    picture.save(file, kind, **({"optimize": True} if kind == "PNG" else {"quality": 80}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def part_rows(data: Data) -> list[tuple[str, str]]:
    """How many images are in each part, and what for."""
    return [(what, f"{data.size(part):,}") for part, what in PARTS]
