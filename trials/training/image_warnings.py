"""What the gates are told about the images of a training, before its first step, and the options that mend it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from trials.common import cli
from trials.evidence import gates, image_gates
from trials.evidence.gates import GateWarning
from trials.images.dataset import Data
from trials.images.folder import FolderData
from trials.images.layout import HELD_OUT_NAMES, SPLIT_FOLDERS
from trials.images.options import LEAVE_OUT
from trials.training import retrain_config, supernet_config

Config = supernet_config.Config | retrain_config.Config
Wanted = tuple[GateWarning | None, Mapping[str, object]]  # a warning, and the options that mend it
MOST_TEST = 0.4  # the largest part of the images that is worth testing on
NOT_BLANK = {"--blank": LEAVE_OUT}  # what mends images that show nothing
BALANCED = {"--class-weights": "balanced"}  # what mends classes of unequal size


def look_at_images(config: Config, data: Data, name: str) -> list[Wanted]:
    """Classes of unequal size, images of one colour, and test images that are nearly equal to a training image.

    Images are looked at once: a run that goes on keeps what was said of them.

    Args:
        name: of the command whose warnings are kept.
    Returns:
        Each with the options that mend it, its command being still to come; without options it has its command.
    """
    return [_unequal(config, data), _blank(config, data, name), _near_copies(config, data, name)]


def _unequal(config: Config, data: Data) -> Wanted:
    """A class with most of the images, unless the loss makes up for it."""
    if config.class_weights == "balanced":
        return None, {}
    return image_gates.unequal_classes(data.class_counts("all"), ""), BALANCED


def _blank(config: Config, data: Data, name: str) -> Wanted:
    """Images of one single colour: another background where they are drawn in it, else they are better left out."""
    if data.blank is None:
        return _kept(config, image_gates.BLANK, name)
    ink, blank = sum(one.ink for one in data.blank), sum(one.images for one in data.blank)
    other = "black" if config.background == "grey" else "grey"  # on which they show
    return image_gates.blank_images(data.blank, ""), {"--background": other} if 2 * ink > blank else NOT_BLANK


def _near_copies(config: Config, data: Data, name: str) -> Wanted:
    """Test images that are nearly equal to a training image: an expression that keeps them together, where one was found."""
    found = data.near_copies() if isinstance(data, FolderData) else None
    if found is None:
        return _kept(config, image_gates.NEAR_COPIES, name)
    copies, proposal = found
    if proposal is None:
        return image_gates.near_copies(copies, look_command(config)), {}
    return image_gates.near_copies(copies, ""), {"--group-by": proposal.expression}


def _kept(config: Config, gate: str, name: str) -> Wanted:
    """What a command warned of when it looked at its images."""
    kept = [entry for entry in gates.warnings_from(Path(config.out), name) if entry["gate"] == gate]
    return (GateWarning(gate, kept[0]["text"], kept[0]["command"]) if kept else None), {}


def larger_test(config: Config, data: Data) -> float | None:
    """A --test-fraction that gives enough test images; None where more cannot be cut off, or are not needed."""
    images = data.size("all") + data.size("test")
    fraction = math.ceil(100 * image_gates.LEAST_TEST_IMAGES / images / 5) * 5 / 100  # in steps of 0.05
    possible = config.test_fraction < fraction <= MOST_TEST and not has_test_folder(data)
    return fraction if possible else None


def look_command(config: Config) -> str:
    """The command that shows the images of a run, where there must be more or others of them."""
    return cli.command("data", "check", config.data_root or "--help")


def has_test_folder(data: Data) -> bool:
    """Whether the test images of a folder have a folder of their own, such as val/, beside that of the training images.

    A class may be called so, too, and train/ may stand alone.
    """
    if not isinstance(data, FolderData) or not data.size("test"):
        return False
    folders = data.images.paths[int(data.parts["train"][0])].split("/")[:-1]
    tests = [data.images.paths[number].split("/")[:-1] for number in data.parts["test"].tolist()]

    def is_own(depth: int) -> bool:
        """Whether the folders at a depth say so: train/ and val/ in the same folder."""
        return all(
            found[:depth] == folders[:depth] and found[depth : depth + 1] and found[depth].lower() in HELD_OUT_NAMES
            for found in tests
        )

    return any(is_own(depth) for depth, name in enumerate(folders) if name.lower() in SPLIT_FOLDERS["train"])
