"""Pieces of Python source for a written network: calls, values, imports, and the arguments of a layer of torch.nn.

An introduction. module_source.py writes a network as an expression such as

    nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())

and this module has what it needs for that, in four groups:

- `Call` holds such an expression as a tree, and lays it out in lines of at most WIDTH columns.
- `is_torch_layer`, `overridden_methods` and `overrides_torch` tell the classes of torch.nn from others.
- `constructor_arguments` finds the arguments of a layer from its attributes; `layer_state` is compared to see whether a
  layer made from them is the same.
- `is_plain`, `literal`, `import_line`, `global_names` and `docstring_source` are about values and names: which can be
  written down, and how.
"""

from __future__ import annotations

import dis
import inspect
import json
import sys
import textwrap
import types
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

WIDTH = 120  # columns of a line
LIBRARY = {"torch", *sys.stdlib_module_names}  # packages that a written file may import


class Call:
    """A call that is to be written.

    Args:
        name: of the function or class; "" for a bare list, tuple or dict.
        arguments: (keyword, value) pairs; the keyword is None for a positional argument. A value is source text, or
            another Call.
        brackets: the opening and the closing one.
    """

    def __init__(self, name: str, arguments: Sequence[tuple[str | None, Any]], brackets: Sequence[str] = "()") -> None:
        self.name, self.arguments, self.brackets = name, arguments, brackets

    def flat(self) -> str:
        """The call in one line."""
        arguments = (f"{key}={_flat(value)}" if key else _flat(value) for key, value in self.arguments)
        return f"{self.name}{self.brackets[0]}{', '.join(arguments)}{self.brackets[1]}"

    def wrapped(self, indent: int, before: str = "", after: str = "") -> str:
        """The call in one line where it fits into WIDTH, else in one line for each argument.

        Args:
            indent: spaces in front of the first line.
            before, after: text that stands right in front of the call and right behind it.
        """
        space = " " * indent
        line = f"{space}{before}{self.flat()}{after}"
        if len(line) <= WIDTH or not self.arguments:
            return line
        inner = []
        for key, value in self.arguments:
            prefix = f"{key}=" if key else ""
            if isinstance(value, Call):
                inner.append(value.wrapped(indent + 4, prefix, ","))
            else:
                inner.append(f"{space}    {prefix}{value},")
        last = f"{space}{self.brackets[1]}{after}"
        return "\n".join((f"{space}{before}{self.name}{self.brackets[0]}", *inner, last))


def _flat(value: str | Call) -> str:
    return value.flat() if isinstance(value, Call) else str(value)


# Classes


def is_torch_layer(kind: type) -> bool:
    """Whether a class is nn.Module or a layer of torch.nn itself, and not one derived from them elsewhere."""
    return kind is nn.Module or (issubclass(kind, nn.Module) and getattr(nn, kind.__name__, None) is kind)


def overridden_methods(kind: type, base: type) -> Iterator[str]:
    """Names of the methods and attributes of `base` that `kind` has another version of.

    The constructor and what only concerns the text of an object do not count: an object that differs in nothing else from
    one of `base` can be written as one of `base`.
    """
    for name in dir(base):
        special = name.startswith("__") and name not in (
            "__call__",
            "__getattr__",
            "__iter__",
            "__len__",
            "__getitem__",
        )
        if (
            not special
            and name != "extra_repr"
            and inspect.getattr_static(kind, name) is not inspect.getattr_static(base, name)
        ):
            yield name


def overrides_torch(kind: type, name: str) -> bool:
    """Whether the version of a method that objects of a class have was not written in torch.nn."""
    owner = next((base for base in kind.__mro__ if name in vars(base)), None)
    return owner is not None and not is_torch_layer(owner)


# Layers of torch.nn


def constructor_arguments(layer: nn.Module, kind: type[nn.Module], tidy: bool) -> Iterator[tuple[str | None, str]]:
    """Arguments that make a layer again, read from its attributes of the same names; defaults are left out.

    Args:
        kind: the class of torch.nn.
        tidy: write (3, 3) as 3.
    Returns:
        (keyword, source of the value); the keyword is None for an argument without a default.
    """
    for name, parameter in inspect.signature(kind).parameters.items():
        named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if not named or name in ("device", "dtype") or not hasattr(layer, name):
            continue
        value = getattr(layer, name)
        if isinstance(value, torch.Tensor) or (value is None and name == "bias"):
            value = value is not None  # the attribute `bias` is a tensor, the argument `bias` says whether there is one
        if tidy and isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        default = parameter.default
        if default is parameter.empty:
            yield None, literal(value)
        elif value != default or type(value) is not type(default):
            yield name, literal(value)


def layer_state(layer: nn.Module) -> tuple[list[str], list[tuple[int, ...]], dict[str, Any]]:
    """What two equal layers have in common: names of weights, their shapes, and all plain attributes."""
    weights = layer.state_dict()
    plain = {key: value for key, value in vars(layer).items() if key != "training" and is_plain(value)}
    return list(weights), [tuple(tensor.shape) for tensor in weights.values()], plain


# Values and names


def is_plain(value: Any) -> bool:
    """Whether `repr` of a value is source that gives the value back."""
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(entry) for key, entry in value.items())
    if type(value) in (tuple, list, set):
        return all(map(is_plain, value))
    if type(value) is float:
        return value - value == 0  # neither infinite nor not a number
    return value is None or type(value) in (bool, int, float, str, torch.Size)


def literal(value: object) -> str:
    """A plain value as source; texts in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def same_value(one: object, other: object) -> bool:
    """Whether two values that share a name are one object, or equal plain values."""
    return one is other or (is_plain(one) and is_plain(other) and one == other)


def global_names(code: types.CodeType) -> Iterator[str]:
    """Names of the globals that a function reads, with those of its inner functions; built-in names are among them."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"):
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from global_names(constant)


def import_line(name: str, value: object) -> str:
    """The line that makes `name` mean `value` by an import from torch or Python's library; "": there is none.

    For example `from torch.nn import functional as F`.
    """
    if isinstance(value, types.ModuleType):
        if value.__name__.split(".")[0] not in LIBRARY:
            return ""
        return f"import {value.__name__}" if value.__name__ == name else f"import {value.__name__} as {name}"
    original = str(getattr(value, "__name__", None) or getattr(value, "_name", None))
    for home in (str(getattr(value, "__module__", None)), "torch", "torch.nn", "torch.nn.functional"):
        known = home.split(".")[0] in LIBRARY - {"builtins"}
        if known and getattr(sys.modules.get(home), original, sys) is value:
            return f"from {home} import {original}" + ("" if original == name else f" as {name}")
    return ""


def docstring_source(kind: type) -> str:
    """A class's docstring as indented source; "" where it has none."""
    text = vars(kind).get("__doc__")
    if not text:
        return ""
    text = inspect.cleandoc(text).replace("\\", "\\\\").replace('"""', "'''")
    body = text if "\n" not in text else text + "\n"
    return textwrap.indent(f'"""{body}"""', "    ") + "\n\n"
