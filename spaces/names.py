"""The names of the search spaces and of their presets. Light: a name that was mistyped is refused before torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spaces.errors import InputError, unknown
from spaces.preset import check_factor, check_flag, check_number

DEFAULT = "spos"  # where none is given
# name -> "module:function"; the function takes (preset, *, classes, resolution, ...) and returns a Chain
SPACES = {
    "fbnet": "spaces.fbnet:fbnet",
    "proxylessnas": "spaces.proxylessnas:proxylessnas",
    "single-path-nas": "spaces.single_path_nas:single_path_nas",
    "spos": "spaces.spos:spos",
}
# name -> the keys of PRESETS in its module, which imports torch
PRESETS = {
    "fbnet": ("imagenet", "small", "cifar", "tiny"),
    "proxylessnas": ("imagenet", "mobile", "cpu", "gpu", "mobile-14", "fairnas", "small", "cifar", "tiny"),
    "single-path-nas": ("imagenet", "small", "cifar", "tiny"),
    "spos": ("imagenet", "small", "cifar", "tiny"),
}
VARIANTS = ("block", "channel", "plus")  # of space spos


def check_variant(space: str, name: str, value: object) -> None:
    """Raises InputError: it is none of VARIANTS."""
    if value not in VARIANTS:
        raise InputError(unknown(f"{name} of space {space}:", value, VARIANTS))


# name -> its own options, the keywords of its function but for classes and resolution, each with the check of its value
Check = Callable[[str, str, object], None]
WIDTHS: dict[str, Check] = {"last_width": check_number, "width_mult": check_factor}
OPTIONS: dict[str, dict[str, Check]] = {
    "fbnet": {**WIDTHS, "bias": check_flag},
    "proxylessnas": WIDTHS,
    "single-path-nas": WIDTHS,
    "spos": {**WIDTHS, "variant": check_variant, "affine": check_flag},
}


def target_of(name: str) -> str:
    """Where a space is described, as module:function. Raises InputError: there is no space of this name."""
    target = name if ":" in name else SPACES.get(name)
    if target is None:
        raise InputError(f"{unknown('space', name, SPACES)}; or give module:function for a space of your own")
    return target


def check_names(
    name: str, preset: str | None = None, *, resolution: int | None = None, classes: int | None = None
) -> None:
    """Check what can be known of a space without its module; of a space of one's own that is nothing.

    Args:
        preset, resolution, classes: None where they are not given; the resolution in pixels.
    Raises:
        InputError: unknown space or preset, or a number that no space takes.
    """
    target_of(name)
    if name not in SPACES:
        return
    for option, value in (("resolution", resolution), ("classes", classes)):
        if value is not None:
            check_number(name, option, value)
    if preset is not None and preset not in PRESETS[name]:
        raise InputError(unknown(f"preset of space {name}:", preset, PRESETS[name]))


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Check the own options of a space without its module; of a space of one's own they are known there alone.

    Args:
        name: of a space.
        options: name -> value; None leaves the preset's.
    Raises:
        InputError: an option that the space has not, or a value that it never takes.
    """
    if name not in SPACES:
        return
    for option, value in options.items():
        check = OPTIONS[name].get(option)
        if check is None:
            raise InputError(unknown(f"option of space {name}:", option, OPTIONS[name]))
        if value is not None:
            check(name, option, value)
