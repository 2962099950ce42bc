"""Options that several commands have, in groups: each option is declared once, with one sentence and one owner.

A command's Config is made of these groups and of its own options; `cli.reuse` takes a single option of a group, or changes its
default. Groups of one room alone stand there: trials/images/options.py, trials/training/strategy_options.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from spaces.errors import InputError
from spaces.names import check_names, check_options
from trials.common import cli
from trials.common.cli import option

RECIPE = "that of the preset or recipe"  # what holds where an option that these decide is not given
FITTED = "the recipe's, fitted to the number of images"  # see trials/training/sizing.py


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpaceOptions:
    """Which search space; `spaces.catalog` describes it."""

    group: ClassVar[str] = "search space"

    space: str = option("spos", "Name of the search space, or module:function of one of your own")
    preset: str = option("imagenet", "Preset of the search space: its depth, widths, classes and resolution")
    space_options: str = option("", "Further options of the search space, such as variant=channel,last_width=512")
    resolution: int | None = option(None, "Height and width of an image in pixels", unset="the preset's")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpaceSizeOptions(SpaceOptions):
    """A search space without images, so that the number of classes has to be given too."""

    group: ClassVar[str] = "search space"

    classes: int | None = option(None, "Number of classes", unset="the preset's")


def check_space(options: SpaceOptions) -> None:
    """Check what can be known of a space before torch is imported; a preset that the images decide is still None.

    Raises:
        InputError: unknown space, preset or option of the space, or a value that no space takes.
    """
    classes = options.classes if isinstance(options, SpaceSizeOptions) else None
    check_names(options.space, options.preset, resolution=options.resolution, classes=classes)
    text = options.space_options
    check_own_options(options.space, cli.space_options(text), f"--space-options '{text}'")


def check_own_options(space: str, own: Mapping[str, Any], given: str) -> None:
    """Check the own options of a space.

    Args:
        own: name -> value.
        given: the option of the command that they were given by, which begins the message.
    Raises:
        InputError: they are not of this space, or have values that it never takes.
    """
    try:
        check_options(space, own)
    except InputError as error:
        raise InputError(f"{given}: {error}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """How weights are trained; `trials.training.optimizers` makes optimiser and schedule."""

    group: ClassVar[str] = "optimiser"

    epochs: int = option(None, "Passes over the training images", unset=FITTED)
    batch_size: int = option(None, "Images per step, of all processes together", unset=FITTED)
    optimizer: str = option(
        None,
        "Optimiser of the weights; rmsprop-tf is MnasNet's",
        choices=("sgd", "adam", "rmsprop", "rmsprop-tf"),
        unset=RECIPE,
    )
    lr: float = option(None, "Peak learning rate", unset="the recipe's, in proportion to --batch-size")
    momentum: float = option(None, "Momentum of SGD and RMSprop; beta1 of Adam", unset=RECIPE)
    weight_decay: float = option(None, "L2 penalty on convolutions and linear layers", unset=RECIPE)
    decay_norm_and_bias: bool = option(None, "Apply the weight decay to BatchNorm and biases too", unset=RECIPE)
    schedule: str = option(
        None,
        "Course of the learning rate after its warm-up",
        choices=("cosine", "linear", "step", "exponential"),
        unset=RECIPE,
    )
    warmup: float = option(None, "Part of the steps with a rising learning rate, 0 to below 1", unset=RECIPE)
    clip_norm: float = option(None, "Largest norm of the gradient; 0 means that it is not clipped", unset=RECIPE)
    label_smoothing: float = option(None, "Label smoothing of the training loss, 0 to below 1", unset=RECIPE)
    class_weights: str = option(
        None,
        "Factors of the training loss by class; balanced lets every class count alike, however many images it has",
        choices=("none", "balanced"),
        unset="none",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where a command computes; `trials.common.distributed` makes devices and processes."""

    group: ClassVar[str] = "device"

    device: str = option(
        "auto", "Where to compute; auto takes a GPU where there is one", choices=("auto", "cpu", "cuda")
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingDeviceOptions(DeviceOptions):
    """The device of a training run and its arithmetic."""

    group: ClassVar[str] = "device"

    precision: str = option(
        "auto",
        "Arithmetic of training; auto is bf16-mixed on a GPU and 32 bits on a CPU",
        choices=("auto", "32", "16-mixed", "bf16-mixed"),
    )
    cuda_graphs: str = option(
        "auto",
        "Record the passes of a step as CUDA graphs, which trains small networks several times as fast; auto does so on a GPU "
        "for small images, unless the run is short",
        choices=("auto", "on", "off"),
    )
    compile: str = option(
        "auto",
        "Compile BatchNorm with the activation, sum or concatenation that follows it, which takes a minute and a compiler; "
        "auto is off, as its gain on a GPU is not measured yet",
        choices=("auto", "on", "off"),
        brief="Compile BatchNorm with what follows it",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """Limits on the cost of an architecture; `strategies.limits.Limits` reads them."""

    group: ClassVar[str] = "limits"

    max_macs: str = option("", "Upper limit of the multiply-adds for one image, such as 330M")
    max_latency_ms: str = option("", "Upper limit of the latency in milliseconds, by --latency-table")
    latency_table: str = option("", "Latencies of the space on a device, a file written by trials.latency")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RangeOptions(LimitOptions):
    """Limits from both sides."""

    group: ClassVar[str] = "limits"

    min_macs: str = option("", "Lower limit of the multiply-adds for one image")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """How a training run is measured on its way, stopped and continued."""

    group: ClassVar[str] = "checkpoints"

    checkpoint_every: int = option(None, "Steps between checkpoints", unset="the preset's")
    eval_every: int = option(1, "Epochs between measurements on held-out images")
    resume: bool = option(False, "Continue the run in --out, or start it when there is none")
