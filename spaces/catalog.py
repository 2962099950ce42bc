"""The search spaces: how each is described, its presets, its choices. Their names alone are in names.py."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spaces.chain import Chain
from spaces.errors import InputError, unknown, user_code
from spaces.names import SPACES, target_of
from spaces.preset import Preset, check_number

if TYPE_CHECKING:
    from nni.nas.nn.pytorch import ModelSpace

Option = int | float | str | bool | None


def describe(name: str, preset: str = "imagenet", **options: Option) -> Chain:
    """Describe a space, without building its supernet.

    Args:
        name: a key of SPACES, or `module:function` for a space of one's own.
        preset: a preset of the space.
        options: `classes`, `resolution`, and what else the space offers; None leaves the preset's value.
    Raises:
        InputError: unknown space, preset or option; a space of one's own that cannot be used.
    """
    function = _load(name)
    allowed = [option for option in inspect.signature(function).parameters if option != "preset"]
    for option, value in options.items():
        if option in ("classes", "resolution"):
            if option not in allowed:
                raise InputError(f"space {name} takes no '{option}'; give its function the keyword {option}=None")
            if value is not None:
                check_number(name, option, value)
        elif option not in allowed:
            raise InputError(unknown(f"option of space {name}:", option, allowed))
    with user_code(f"space {name} with preset '{preset}'"):
        chain = function(preset, **options)
    if not isinstance(chain, Chain):
        raise InputError(f"space {name} returned a {type(chain).__name__}; its function must return a Chain")
    for option in ("classes", "resolution"):
        actual, asked = getattr(chain, option), options.get(option)
        if asked is not None and actual != asked:
            raise InputError(
                f"space {name} made {option} {actual} where {asked} was asked for; pass it on to the Chain"
            )
        check_number(name, option, actual)
    own_options = {option: value for option, value in options.items() if option not in ("classes", "resolution")}
    return dataclasses.replace(chain, name=name, preset=preset, options=own_options)


def _load(name: str) -> Callable[..., Chain]:
    """Import the function that describes a space."""
    module_name, _, function_name = target_of(name).partition(":")
    if not all(word.isidentifier() for word in (*module_name.split("."), function_name)):
        raise InputError(f"space '{name}' is not of the form module:function; write for example docs.own_space:space")
    with user_code(f"space '{name}'", "module and function must be on the Python path and import without errors"):
        function = getattr(importlib.import_module(module_name), function_name)
    if not callable(function):
        raise InputError(f"space '{name}' is a {type(function).__name__}; name a function that returns a Chain")
    return function


def presets(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Every (preset, options) of a space for which experiments/spaces holds files.

    Args:
        name: a key of SPACES.
    """
    module = importlib.import_module(SPACES[name].partition(":")[0])
    variants: tuple[dict[str, Any], ...] = getattr(module, "VARIANTS", ({},))
    return [(preset, options) for options in variants for preset in module.PRESETS]


def macro_table(name: str, preset: str, resolution: int | None = None) -> Preset:
    """The macro table of a preset of a space, at a resolution; None: its own.

    Args:
        name: a key of SPACES.
    """
    table: Preset = importlib.import_module(SPACES[name].partition(":")[0]).PRESETS[preset]
    return table if resolution is None else dataclasses.replace(table, resolution=resolution)


def same_preset(name: str, one: str, other: str) -> bool:
    """Whether two presets of a space are two names for the same, as `mobile` and `imagenet` of proxylessnas."""
    known = importlib.import_module(SPACES[name].partition(":")[0]).PRESETS
    return known[one] == known[other]


def choices(space: Chain | ModelSpace) -> dict[str, list[Any]]:
    """The choices of a space: label -> candidates, in order.

    Args:
        space: a chain from `describe`, or a space from `spaces.build`.
    """
    return dict(getattr(space, "chain", space).choices)
