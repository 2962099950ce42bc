"""Macro tables of the spaces: named presets, how they are changed, and the check of numbers that change them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from spaces.errors import InputError, is_whole_number, shown, unknown

MINIMUM = {"classes": 2, "resolution": 8}  # smallest value of an option of a space; 1 for all that are not listed
MAXIMUM = {"resolution": 8192}  # largest; 1,000,000 for all that are not listed
WIDTH_MULT = (0.1, 4.0)  # least and largest; the channels of a space may need more than the least
DIVISOR = 8  # of channels whose number a width multiplier decides
# Preset `small` has ImageNet's strides, as the MobileNets published for 96 to 224 pixels do. 64 pixels would end as 2x2: of images
# smaller than this the stem keeps the size, so that 64 to 160 pixels end as 3x3 to 5x5 and cost about the same.
SMALL_STEM = 96

PresetType = TypeVar("PresetType", bound="Preset")


@dataclass(frozen=True)
class Preset:
    """Macro table of a space."""

    resolution: int  # height and width of an image, pixels
    classes: int
    stem: tuple[int, ...]  # channels after the first convolution and, where a fixed block follows it, after that
    stride: int  # of the first convolution
    stages: tuple[tuple[int, int, int], ...]  # out channels, blocks, stride of the first block
    last_width: int  # channels before the classifier
    keep_below: int = 0  # pixels; of images that are smaller, the first convolution keeps the size

    @property
    def stem_stride(self) -> int:
        """Stride of the first convolution at this resolution."""
        return 1 if self.resolution < self.keep_below else self.stride

    @property
    def last_map(self) -> int:
        """Height and width of what the last block gives, pixels."""
        return self.resolution // (self.stem_stride * math.prod(stride for _, _, stride in self.stages))

    def widened(self: PresetType, factor: float) -> PresetType:
        """The same table with other widths. The last width never falls, as in MobileNetV2 (arXiv:1801.04381, section 6.1)."""
        return replace(
            self,
            stem=tuple(scaled_channels(width, factor) for width in self.stem),
            stages=tuple((scaled_channels(width, factor), blocks, stride) for width, blocks, stride in self.stages),
            last_width=scaled_channels(self.last_width, max(1.0, factor)),
        )


def scaled_channels(channels: int, factor: float) -> int:
    """Channels times a factor, to the nearest multiple of 8, at most a tenth below; unchanged by 1.

    Source: github.com/tensorflow/models, slim/nets/mobilenet (`_make_divisible`); timm and torchvision round alike.
    """
    if factor == 1:
        return channels
    exact = channels * factor
    rounded = max(DIVISOR, int(exact + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded if rounded >= 0.9 * exact else rounded + DIVISOR


def choose_preset(
    space: str,
    presets: Mapping[str, PresetType],
    preset: str,
    changes: Mapping[str, int | None],
    *,
    width_mult: float | None = None,
    usable: Callable[[PresetType], bool] = lambda _: True,
) -> PresetType:
    """Look up a preset of a space, widen it, and replace some of its fields.

    Args:
        space: the space's name, for errors.
        presets: name -> macro table.
        changes: field -> a whole number; None leaves the preset's value.
        width_mult: factor on all channels but those before the classifier, which only grow; None: 1.
        usable: whether a widened table leaves every convolution channels; wider ones do where a narrower one does.
    Raises:
        InputError: unknown preset, or a change that is not a whole number or is too small.
    """
    if preset not in presets:
        raise InputError(unknown(f"preset of space {space}:", preset, presets))
    given = {name: value for name, value in changes.items() if value is not None}
    for name, value in given.items():
        check_number(space, name, value)
    plan = presets[preset]
    if width_mult is not None:
        plan = plan.widened(_checked_factor(f"{space} {preset}", plan, width_mult, usable))
    return replace(plan, **given)  # type: ignore[arg-type]


def check_factor(space: str, name: str, value: object) -> None:
    """Check that a width multiplier is a number within WIDTH_MULT; some presets cannot be made as narrow as its least.

    Raises:
        InputError: it is not.
    """
    least, most = WIDTH_MULT
    if not least <= _finite(space, name, value) <= most:
        raise InputError(f"{name} of space {space} is {shown(value)}; give {least:g} to {most:g}, such as 0.75")


def _finite(space: str, name: str, value: object) -> int | float:
    """A value that is a number. Raises InputError: it is none, or not finite."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (isinstance(value, float) and not math.isfinite(value))  # which fails for very long integers
    ):
        raise InputError(f"{name} of space {space} is {shown(value)}; give a number, such as 0.75")
    return value


def _checked_factor(space: str, plan: PresetType, value: object, usable: Callable[[PresetType], bool]) -> float:
    """A width multiplier that is a number within WIDTH_MULT, and that the table can be widened by.

    Raises:
        InputError: it is not; the message has the least one of two decimals that is.
    """
    least, most = WIDTH_MULT
    given = _finite(space, "width_mult", value)
    if not (least <= given <= most and usable(plan.widened(given))):
        factors = (percent / 100 for percent in range(round(100 * least), round(100 * most) + 1))
        fits = next(factor for factor in factors if usable(plan.widened(factor)))
        raise InputError(
            f"width_mult of space {space} is {shown(value)}; give {fits:g} to {most:g}, such as {max(fits, 0.75):g}"
        )
    return float(given)


def check_number(space: str, name: str, value: object) -> None:
    """Check that an option of a space is a whole number from its MINIMUM to its MAXIMUM.

    Raises:
        InputError: it is not.
    """
    least, most = MINIMUM.get(name, 1), MAXIMUM.get(name, 1_000_000)
    if not is_whole_number(value, least):
        raise InputError(f"{name} of space {space} is {shown(value)}; give a whole number, at least {least}")
    if value > most:
        raise InputError(f"{name} of space {space} is {shown(value)}; give a whole number, at most {most:,}")


def check_flag(space: str, name: str, value: object) -> None:
    """Check that an option of a space is True or False.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} of space {space} is {value!r}; give true or false")
