"""WHAT can be built: one file per paper. Light at import (no torch, no NNI), because NNI's tuners import it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import TYPE_CHECKING, Any

from spaces.errors import InputError, unknown

if TYPE_CHECKING:
    from spaces.chain import Chain
    from spaces.model_space import ChainSpace

# name -> "module:function"; the function takes (preset, *, classes, resolution, ...) and returns a Chain
SPACES = {
    "fbnet": "spaces.fbnet:fbnet",
    "proxylessnas": "spaces.proxylessnas:proxylessnas",
    "single-path-nas": "spaces.single_path_nas:single_path_nas",
    "spos": "spaces.spos:spos",
}


def describe(name: str, preset: str = "imagenet", **options: Any) -> Chain:
    """Describe a space, without building its supernet.

    Args:
        name: a key of SPACES, or `module:function` for a space of one's own.
        options: `classes`, `resolution`, and what else the space offers.
    Raises:
        InputError: unknown space, preset or option.
    """
    target = name if ":" in name else SPACES.get(name)
    if target is None:
        raise InputError(unknown("space", name, SPACES))
    module_name, _, function_name = target.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise InputError(f"cannot load space '{name}': {error}; give module:function on the Python path") from None
    allowed = [name for name in inspect.signature(function).parameters if name != "preset"]
    for option in options:
        if option not in allowed:
            raise InputError(unknown(f"option of space {name}:", option, allowed))
    chain = function(preset, **options)
    more = {name: value for name, value in options.items() if name not in ("classes", "resolution")}
    return dataclasses.replace(chain, options=more)


def build(name: str, preset: str = "imagenet", **options: Any) -> ChainSpace:
    """Build a space as an NNI ModelSpace; arguments as for `describe`.

    Returns:
        A ModelSpace with `stem`, `blocks` (one LayerChoice per choice block) and `head`.
    """
    describe(name, preset, **options)  # a wrong name fails here, before the slow import
    from spaces.model_space import ChainSpace

    return ChainSpace(name, preset, options)


def presets(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Every (preset, options) of a space that has files in experiments/spaces."""
    module = importlib.import_module(SPACES[name].partition(":")[0])
    variants: tuple[dict[str, Any], ...] = getattr(module, "VARIANTS", ({},))
    return [(preset, options) for options in variants for preset in module.PRESETS]


def same_preset(name: str, one: str, other: str) -> bool:
    """Whether two presets of a space are the same, as `mobile` and `imagenet` of proxylessnas."""
    known = importlib.import_module(SPACES[name].partition(":")[0]).PRESETS
    return known[one] == known[other]


def choices(space: ChainSpace | Chain) -> dict[str, list]:
    """label -> candidates, in order."""
    return dict(getattr(space, "chain", space).choices)
