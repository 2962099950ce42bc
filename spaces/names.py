"""The names of the search spaces and of their presets. Light: a name that was mistyped is refused before torch is imported."""

from __future__ import annotations

from spaces.errors import InputError, unknown
from spaces.preset import check_number

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
