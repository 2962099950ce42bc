"""Pieces of Python source: calls, values, imports, and the arguments that a layer of torch.nn was made with."""

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
LIBRARY = {"torch", *sys.stdlib_module_names}  # what a source may import


class Call:
    """A call to be written: its function, and its arguments with their names (None: positional)."""

    def __init__(self, name: str, arguments: Sequence[tuple[str | None, Any]], brackets: str = "()") -> None:
        self.name, self.arguments, self.brackets = name, arguments, brackets

    def flat(self) -> str:
        """In one line."""
        parts = (f"{key}={_flat(value)}" if key else _flat(value) for key, value in self.arguments)
        return f"{self.name}{self.brackets[0]}{', '.join(parts)}{self.brackets[1]}"

    def lines(self, indent: int, before: str = "", after: str = "") -> str:
        """In one line where it fits, else one line for each argument.

        Args:
            indent: spaces in front of its first line.
            before, after: text in front of it and behind it, in the same line.
        """
        space = " " * indent
        line = f"{space}{before}{self.flat()}{after}"
        if len(line) <= WIDTH or not self.arguments:
            return line
        inner = []
        for key, value in self.arguments:
            prefix = f"{key}=" if key else ""
            if isinstance(value, Call):
                inner.append(value.lines(indent + 4, prefix, ","))
            else:
                inner.append(f"{space}    {prefix}{value},")
        last = f"{space}{self.brackets[1]}{after}"
        return "\n".join((f"{space}{before}{self.name}{self.brackets[0]}", *inner, last))


def _flat(value: Any) -> str:
    return value.flat() if isinstance(value, Call) else str(value)


def of_torch(kind: type) -> bool:
    """Whether a class is nn.Module or a layer of torch.nn itself."""
    return kind is nn.Module or (issubclass(kind, nn.Module) and getattr(nn, kind.__name__, None) is kind)


def overrides(kind: type, base: type) -> Iterator[str]:
    """Methods between a class and its base that the base has too, but for its constructor and text."""
    for name in dir(base):
        text = name.startswith("__") and name not in ("__call__", "__getattr__", "__iter__", "__len__", "__getitem__")
        if (
            not text
            and name != "extra_repr"
            and inspect.getattr_static(kind, name) is not inspect.getattr_static(base, name)
        ):
            yield name


def overridden(kind: type, name: str) -> bool:
    """Whether a class has its own version of what a class of torch.nn below it has."""
    owner = next((base for base in kind.__mro__ if name in vars(base)), None)
    return owner is not None and not of_torch(owner)


def arguments_of(layer: nn.Module, kind: type[nn.Module], tidy: bool) -> Iterator[tuple[str | None, str]]:
    """Arguments that make a layer of torch.nn, but those that are the defaults; `tidy`: (3, 3) as 3."""
    for name, parameter in inspect.signature(kind).parameters.items():
        named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if not named or name in ("device", "dtype") or not hasattr(layer, name):
            continue
        value = getattr(layer, name)
        if isinstance(value, torch.Tensor) or (value is None and name == "bias"):
            value = value is not None
        if tidy and isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        default = parameter.default
        if default is parameter.empty:
            yield None, literal(value)
        elif value != default or type(value) is not type(default):
            yield name, literal(value)


def settings(layer: nn.Module) -> tuple[list[str], list[tuple[int, ...]], dict[str, Any]]:
    """What two equal layers have in common: names and shapes of weights, and all plain attributes."""
    state = layer.state_dict()
    plain = {key: value for key, value in vars(layer).items() if key != "training" and is_plain(value)}
    return list(state), [tuple(tensor.shape) for tensor in state.values()], plain


def is_plain(value: Any) -> bool:
    """Whether `repr` gives the value back."""
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(part) for key, part in value.items())
    if type(value) in (tuple, list, set):
        return all(map(is_plain, value))
    if type(value) is float:
        return value - value == 0  # neither infinite nor not a number
    return value is None or type(value) in (bool, int, float, str, torch.Size)


def literal(value: Any) -> str:
    """A plain value as source; texts in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def same(one: Any, other: Any) -> bool:
    """Whether two values of a name can be told apart."""
    return one is other or (is_plain(one) and is_plain(other) and one == other)


def globals_of(code: types.CodeType) -> Iterator[str]:
    """Global names that a function reads, those of its inner functions too."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"):
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from globals_of(constant)


def importable(name: str, value: Any) -> str:
    """The line that imports a name from torch or Python's library; empty: there is none."""
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


def docstring(kind: type) -> str:
    """A class's docstring, as source."""
    text = vars(kind).get("__doc__")
    if not text:
        return ""
    text = inspect.cleandoc(text).replace("\\", "\\\\").replace('"""', "'''")
    body = text if "\n" not in text else text + "\n"
    return textwrap.indent(f'"""{body}"""', "    ") + "\n\n"
