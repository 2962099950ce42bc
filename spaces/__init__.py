"""WHAT can be built: one file per paper. Light at import (no torch, no NNI), because NNI's tuners import it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from spaces.errors import InputError, unknown

if TYPE_CHECKING:
    from spaces.chain import Chain
    from spaces.model_space import ChainSpace

# name -> "module:function"; the function takes (preset, **options) and returns a Chain
SPACES = {"spos": "spaces.spos:spos"}


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
    return function(preset, **options)


def build(name: str, preset: str = "imagenet", **options: Any) -> ChainSpace:
    """Build a space as an NNI ModelSpace; arguments as for `describe`.

    Returns:
        A ModelSpace with `stem`, `blocks` (one LayerChoice per choice block) and `head`.
    """
    describe(name, preset, **options)  # a wrong name fails here, before the slow import
    from spaces.model_space import ChainSpace

    return ChainSpace(name, preset, options)


def choices(space: ChainSpace | Chain) -> dict[str, list]:
    """label -> candidates, in order."""
    return dict(getattr(space, "chain", space).choices)
