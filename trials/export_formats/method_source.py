"""The methods of a class as source, together with the functions, constants and imports that they use.

module_source.py copies a network's own classes into the exported file. A class's methods are copied as their author wrote
them. They use names of the file that they stand in, such as `F`, a helper function or a constant; `CodeCollector` follows
these names and copies what they mean too, so that the exported file needs torch alone.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
import types
from typing import Any

import torch
from torch import nn

from spaces.errors import InputError
from trials.export_formats.python_source import (
    LIBRARY,
    global_names,
    import_line,
    is_plain,
    is_torch_layer,
    overrides_torch,
    same_value,
)

# What these names mean in every exported file
KNOWN = {"torch": torch, "nn": nn, "F": torch.nn.functional}
# Names that module_file.py and module_source.py give to things in the file; nothing that is copied may have one of them
RESERVED = (
    "Network",
    "load",
    "preprocess",
    "PREPROCESSING",
    "CLASSES",
    "Part",
    "load_file",
    "Path",
    "OrderedDict",
)


def refusal(kind: type, reason: str) -> InputError:
    """The error about a class whose source cannot be written."""
    return InputError(
        f"format module: class {kind.__module__}.{kind.__qualname__} cannot be written as source: {reason}; "
        "change it, or leave module out of --formats"
    )


class CodeCollector:
    """Copies methods, and collects what they use.

    Attributes:
        imports: lines.
        helpers: sources of functions and constants, by name.
    """

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.helpers: dict[str, str] = {}
        self._globals: dict[str, Any] = dict(KNOWN)  # what every name of the exported file means
        self._class_names: dict[type, str] = {}

    def class_name(self, kind: type) -> tuple[str, bool]:
        """The name of a class in the exported file: its own, with a number behind it where that is taken.

        Returns:
            The name, and whether the class is new, so that its source has to be written.
        """
        if kind in self._class_names:
            return self._class_names[kind], False
        name, number = kind.__name__, 1
        while name in (*RESERVED, *self._globals, *self._class_names.values()):
            number += 1
            name = f"{kind.__name__}{number}"
        self._class_names[kind] = name
        return name, True

    def methods_of(self, kind: type[nn.Module]) -> tuple[set[str], list[str]]:
        """Everything in a class that its forward needs, directly or through other methods.

        Returns:
            Names of attributes of its objects (self.NAME), and sources of methods, indented.
        Raises:
            InputError: a method cannot be copied.
        """
        attributes: set[str] = set()
        methods: dict[str, str] = {}
        todo = ["forward"]
        while todo:
            name = todo.pop(0)
            member = inspect.getattr_static(kind, name, None)
            # the function inside a property, a static method or a class method
            function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
            in_torch = any(name in vars(base) for base in kind.__mro__ if is_torch_layer(base))
            if name in methods or (in_torch and not overrides_torch(kind, name)):
                continue
            if not isinstance(function, types.FunctionType):
                attributes.add(name)
                continue
            source, tree = self._copy_function(function, kind)
            methods[name] = textwrap.indent(source, "    ")
            self_name = next(iter(inspect.signature(function).parameters), "")
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == self_name:
                    todo.append(node.attr)
        return attributes, list(methods.values())

    def _copy_function(self, function: types.FunctionType, kind: type) -> tuple[str, ast.Module]:
        """Source and syntax tree of a function, after everything that it uses was collected.

        Args:
            kind: the class that needs it, for error messages.
        """
        plain = inspect.unwrap(function)  # without decorators
        try:
            source = textwrap.dedent(inspect.getsource(function))
        except (OSError, TypeError):
            raise refusal(kind, f"the source of '{function.__qualname__}' cannot be read") from None
        tree = ast.parse(source)
        if plain.__code__.co_freevars:  # variables of an enclosing function, which the exported file does not have
            name = plain.__code__.co_freevars[0]
            raise refusal(kind, f"'{function.__qualname__}' uses {'super()' if name == '__class__' else repr(name)}")

        # names in the body, then those in decorators and default values, then those in annotations
        needed = set(global_names(plain.__code__))
        definition = tree.body[0]
        assert isinstance(definition, ast.FunctionDef)
        outside = [*definition.decorator_list, *definition.args.defaults, *filter(None, definition.args.kw_defaults)]
        needed |= {node.id for expression in outside for node in ast.walk(expression) if isinstance(node, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                for name in modules:
                    if name.split(".")[0] not in LIBRARY:
                        raise refusal(kind, f"'{function.__qualname__}' imports '{name}'")
            elif isinstance(node, ast.Name) and import_line(node.id, plain.__globals__.get(node.id)):
                needed.add(node.id)
        for name in sorted(needed):
            if name in plain.__globals__:
                self._include(name, plain.__globals__[name], kind)
            elif not hasattr(builtins, name):
                raise refusal(kind, f"'{function.__qualname__}' uses '{name}', which its file does not have")
        return source, tree

    def _include(self, name: str, value: object, kind: type) -> None:
        """Let a name mean the same in the exported file as in the file of a class, by an import or by a copy.

        Args:
            kind: the class that needs it, for error messages.
        """
        if name in self._globals and same_value(self._globals[name], value):
            return
        line = import_line(name, value)
        taken = name in self._globals or name in RESERVED or name in self._class_names.values()
        if taken and line != "from collections import OrderedDict":  # the file imports this one itself
            raise refusal(kind, f"it uses '{name}', and that name means something else in the file; rename it")
        if isinstance(value, type) and issubclass(value, nn.Module) and not is_torch_layer(value):
            raise refusal(kind, f"it uses class '{name}' by its name")
        self._globals[name] = value
        if line:
            self.imports.add(line)
        elif isinstance(value, types.FunctionType):
            source, _ = self._copy_function(value, kind)
            self.helpers[name] = source
        elif is_plain(value):
            self.helpers[name] = f"{name} = {value!r}\n"
        else:
            raise refusal(kind, f"it uses '{name}', a {type(value).__name__} that cannot be written down")
