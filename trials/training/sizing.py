"""How a recipe is fitted to the number of training images: batch, epochs, rate, and what follows from them.

The recipes are of data sets with many images: on a few hundred, their batches leave one step an epoch, and nothing is learned.

  batch    the power of two nearest to a sixteenth of the training images, at least LEAST_BATCH, at most the recipe's
  epochs   the recipe's, or as many as it takes to show LEAST_SHOWN images in LEAST_STEPS steps or more, at most MOST_EPOCHS
  rate     in proportion to the batch (arXiv:1706.02677, Goyal et al.)

A recipe on data of its own size stays as it was published, to the last figure. What is given stays too, and the rest adapts to
it. docs/retraining.md has the measurements behind the constants. Pure functions of numbers; light to import.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

BATCHES = 16  # that an epoch has at least, about
LEAST_BATCH = 8  # below, BatchNorm's statistics of a batch are too noisy
# Images that are shown in all: with a rate in proportion to the batch, they and not the steps say how far the weights get.
LEAST_SHOWN = {"network": 38_400, "supernet": 51_200, "fine-tuning": 0}  # in a supernet, candidates share them
LEAST_STEPS = {"network": 1500, "supernet": 1000, "fine-tuning": 500}  # of fine-tuning: arXiv:1912.11370
MOST_EPOCHS = 300  # unless the recipe has more: the same images once more teach little then
SHORT_SHARE = 0.5  # of the usual steps; fewer are a short training
SIZED = ("epochs", "batch_size", "lr")  # what a recipe is fitted by
# FBNet's temperature falls by exp(-0.045) in each of 90 epochs (arXiv:1812.03443); with other numbers of epochs as far in all
TEMPERATURE_FALL = 0.045 * 90

PRESET_UNSET = "by the images: tiny, small, cifar or imagenet"
PRESETS = {"digits": "tiny", "fashion-mnist": "tiny", "cifar10": "cifar", "cifar100": "cifar"}
LARGE_SIDE = 128  # pixels of the short side from which on images are worth networks for 224x224
SMALL_SIDE = 64  # pixels of the short side from which on they are worth networks for 64 to 160
MANY_FOR_IMAGENET = 50_000  # images that are worth 224x224 and batches of 1,024
MANY_FOR_SMALL = 1000  # images that are worth networks of 20M to 150M MACs
MANY_FOR_CIFAR = 10_000  # images that are worth the hours of CIFAR's 600 epochs
FOR_CPU = "tiny"  # the preset that a CPU trains in minutes to hours; the others are made for a GPU
ASSUMED_RESOLUTION, ASSUMED_CLASSES = 128, 10  # of a budget, where no images are named
STEP = 32  # pixels; networks for 64 pixels and more shrink images 16 or 32 times


class Sizing(NamedTuple):
    """How a recipe was fitted.

    Attributes:
        values: option -> value, for those that were not given.
        sentence: what was chosen and why, in one line; "" where nothing of SIZED was left to choose.
    """

    values: dict[str, Any]
    sentence: str


def fit(
    name: str,
    recipe: Mapping[str, Any],
    given: Mapping[str, Any],
    images: int,
    *,
    kind: str,
    pieces: int = 1,
    beside: str = "",
) -> Sizing:
    """Fit a recipe to the number of training images.

    Args:
        name: of the recipe or preset, for the sentence.
        recipe: its options; `epochs`, `batch_size` and `lr` are read, and those of `follow_epochs` where it has them.
        given: options that the user gave, which stay; those that are None were not.
        images: of the part that the weights learn from.
        kind: what is trained, network or supernet, or fine-tuning.
        pieces: into which a batch must be divisible: processes times accumulation.
        beside: what other images there are, for the sentence.
    """
    given = {key: value for key, value in given.items() if value is not None}
    published = recipe["batch_size"]
    fitting = fitting_batch(images, published, pieces)
    batch = given.get("batch_size", fitting)
    per_epoch = max(1, images // batch)
    wanted = max(math.ceil(LEAST_SHOWN[kind] / batch), LEAST_STEPS[kind])
    enough = min(math.ceil(wanted / per_epoch), MOST_EPOCHS)
    epochs = given.get("epochs", max(recipe["epochs"], enough))
    lr = given.get("lr", scaled_rate(recipe["lr"], published, batch))
    values = {"epochs": epochs, "batch_size": batch, "lr": lr, **follow_epochs(recipe, epochs)}

    # what differs from the recipe has its reason in brackets
    notes = dict.fromkeys(given, " (given)")
    if batch != published:
        notes.setdefault("batch_size", _why_batch(images, published, pieces))
        notes.setdefault("lr", f" ({recipe['lr']:g} x {batch}/{published})")
    sentence = (
        f"recipe {name}, {images:,} training images{beside}: batch {batch:,}{notes.get('batch_size', '')}, {epochs:,} epochs"
        f" ({'given, ' * ('epochs' in given)}{epochs * per_epoch:,} steps), lr {lr:g}{notes.get('lr', '')}"
    )
    chosen = {key: value for key, value in values.items() if key not in given}
    return Sizing(chosen, sentence if chosen.keys() & set(SIZED) else "")


def images_beside(part: str, size: Callable[[str], int]) -> str:
    """What the training images outside a part are for, in brackets, so that what is said of several parts adds up.

    Args:
        part: that the weights learn from: train, weights, or all.
        size: the number of images in a part.
    """
    if part == "all":  # how many those are is up to the supernet, and this training may have another fraction
        return " (with those held out for scores)"
    score = f"{size('score'):,}"
    arch = f"{size('arch'):,} more for the architecture, " if part == "weights" else ""
    return f" ({arch}{score} more held out for scores)"


def _why_batch(images: int, most: int, pieces: int) -> str:
    """Why the batch of `fitting_batch` is not the recipe's; arguments as there."""
    whole, sixteenth, why = fitting_batch(images, most), images / BATCHES, []
    if whole != most:
        least = "all of so few" if images < LEAST_BATCH else "the least"
        why = [least if sixteenth < LEAST_BATCH else f"near a sixteenth, {sixteenth:.0f}"]
    if whole % pieces:
        why.append(f"divisible by {pieces}")
    return f" ({', '.join(why)})"


def fitting_batch(images: int, most: int, pieces: int = 1) -> int:
    """The batch for so many training images, at most that of the recipe.

    Args:
        images: of the part that the weights learn from.
        most: the batch of the recipe.
        pieces: into which it must be divisible.
    """
    part = max(LEAST_BATCH, images / BATCHES)
    batch = min(most, 2 ** round(math.log2(part)))  # the nearest power of two
    if images < batch:  # of so few, all that a batch can have
        batch = 2 ** int(math.log2(max(images, 1)))
    return pieces * max(1, batch // pieces)


def scaled_rate(lr: float, batch: int, other: int) -> float:
    """The rate for another batch, in proportion to the batch, to three figures; unchanged for the same batch."""
    return lr if other == batch else float(f"{lr * other / batch:.3g}")


def follow_epochs(recipe: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Options that count in epochs, for a run of so many; the recipe's own where it has as many.

    Returns:
        Of `arch_warmup`, `temperature_decay` and `decay_epochs` those that the recipe has.
    """
    follow = {key: recipe[key] for key in ("arch_warmup", "temperature_decay", "decay_epochs") if key in recipe}
    if epochs == recipe["epochs"]:
        return follow
    if "arch_warmup" in follow:
        follow["arch_warmup"] = round(recipe["arch_warmup"] * epochs / recipe["epochs"])
    if "temperature_decay" in follow:
        follow["temperature_decay"] = float(f"{TEMPERATURE_FALL / epochs:.3g}")
    if "decay_epochs" in follow and recipe["schedule"] == "exponential":
        follow["decay_epochs"] = recipe["decay_epochs"] * epochs / recipe["epochs"]
    return follow


def enough_steps(recipe: Mapping[str, Any], images: int, kind: str, batch: int | None = None) -> int:
    """Steps that a recipe takes where nothing is given.

    Args:
        recipe: with `epochs`, `batch_size` and `lr`.
        images: of the part that the weights learn from.
        kind: what is trained, network or supernet, or fine-tuning.
        batch: images of a step, where they are given.
    """
    chosen = {"batch_size": batch} | fit("", recipe, {"batch_size": batch}, images, kind=kind).values
    return int(chosen["epochs"] * max(1, images // chosen["batch_size"]))


def advice(recipe: Mapping[str, Any], chosen: Mapping[str, Any], images: int, kind: str) -> list[str]:
    """Say which options of a run are far from what the rule would choose.

    Args:
        recipe: with `epochs`, `batch_size` and `lr`.
        chosen: the same options of the run.
        images: of the part that the weights learn from.
        kind: what is trained, network or supernet, or fine-tuning.
    Returns:
        A line for each; [] where nothing is far off.
    """
    epochs, batch, lr = (chosen[name] for name in SIZED)
    found = []
    fitting = fitting_batch(images, recipe["batch_size"])
    if batch > 2 * max(fitting, images / BATCHES):
        found.append(f"--batch-size {fitting}: {batch:,} are a large part of {images:,} training images")
    per_epoch, enough = max(1, images // batch), enough_steps(recipe, images, kind, batch)
    if epochs * per_epoch < SHORT_SHARE * enough:
        found.append(f"--epochs {enough // per_epoch}: {epochs * per_epoch:,} steps, where {enough:,} are usual")
    usual = scaled_rate(recipe["lr"], recipe["batch_size"], batch)
    if not usual / 4 <= lr <= 4 * usual:
        found.append(f"--lr {usual:g}: {lr:g} is far from the recipe's in proportion to the batch")
    return found


def preset_of_folder(images: int, short_side: float) -> str:
    """The preset of a search space for a folder of images.

    Args:
        images: training images.
        short_side: median of their short sides, pixels.
    """
    if short_side >= LARGE_SIDE and images >= MANY_FOR_IMAGENET:
        return "imagenet"
    if short_side >= SMALL_SIDE and images >= MANY_FOR_SMALL:
        return "small"
    return "cifar" if images >= MANY_FOR_CIFAR else "tiny"


def resolution_of_folder(preset: str, short_side: float) -> int | None:
    """The resolution for a folder whose images are smaller than those of its preset; None: the preset's.

    Args:
        preset: by `preset_of_folder`.
        short_side: median of the short sides of the images, pixels.
    Returns:
        Pixels, of preset `small` alone: enlarged images cost as much as larger ones, and hold no more.
    """
    if preset != "small" or short_side >= LARGE_SIDE:
        return None
    return int(short_side) // STEP * STEP
