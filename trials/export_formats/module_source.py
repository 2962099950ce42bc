"""Readable Python source of any network: torch.nn layers as calls, other classes with the methods they were written with.

The source needs torch alone. Children keep their names, so the weights' names are those of the network. What cannot be
written down, such as a method that uses an object of another module, is refused with a line that names it.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from spaces.errors import InputError
from trials.export_formats.python_source import (
    LIBRARY,
    Call,
    arguments_of,
    docstring,
    globals_of,
    importable,
    is_plain,
    literal,
    of_torch,
    overridden,
    overrides,
    same,
    settings,
)

BASE = "Part"
OURS = (
    "Network",
    "load",
    "preprocess",
    "PREPROCESSING",
    "CLASSES",
    BASE,
    "load_file",
    "Path",
    "OrderedDict",
)  # names in the file
KNOWN = {"torch": torch, "nn": nn, "F": torch.nn.functional}
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
OWN_ATTRIBUTES = frozenset(vars(nn.Module()))
PART = '''class Part(nn.Module):
    """What the classes below share: children and settings are given by name."""
    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)
'''


class Writer:
    """Collects what a network's source needs, while `expression` writes its modules.

    Attributes:
        imports: lines.
        helpers: sources of functions and constants, by name.
        classes: sources, in the order in which they are needed.
    """

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.helpers: dict[str, str] = {}
        self.classes: list[str] = []
        self._values: dict[str, Any] = dict(KNOWN)
        self._names: dict[type, str] = {}

    def expression(self, module: nn.Module) -> Call:
        """The call that makes a module of this structure.

        Raises:
            InputError: it cannot be written.
        """
        kind = type(module)
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            raise refusal(kind, "an object of it has hooks or a forward of its own")
        plain: type[nn.Module] = next(base for base in kind.__mro__ if of_torch(base))  # type: ignore[assignment]
        if plain is not kind and any(overrides(kind, plain)):
            return self._custom(module, plain)
        if issubclass(plain, CONTAINERS):
            return self._container(module, plain)
        if plain is nn.Module or module._modules:
            raise refusal(kind, "a module without a forward, or one of torch's that holds others")
        return self._layer(module, plain, f"nn.{plain.__name__}")

    def network(self, module: nn.Module, comments: dict[str, str], doc: str) -> str:
        """Source of `class Network`, which takes nothing.

        Args:
            module: the root of a network.
            comments: child -> a line before it; a child of a ModuleList is named "blocks.3".
            doc: docstring of the class.
        """
        attributes, methods = self._inside(type(module))
        lines = []
        for name, value in self._parts(module, attributes):
            lines += [f"        # {comments[name]}"] if name in comments else []
            child = module._modules.get(name)
            if type(child) is nn.ModuleList:
                lines.append(f"        self.{name} = nn.ModuleList()")
                for number, part in child.named_children():
                    where = f"{name}.{number}"
                    lines += [f"        # {comments[where]}"] if where in comments else []
                    lines.append(self.expression(part).lines(8, f"self.{name}.append(", ")"))
            elif isinstance(value, Call):
                lines.append(value.lines(8, f"self.{name} = "))
            else:
                lines.append(f"        self.{name} = {value}")
        head = f'class Network(nn.Module):\n    """{doc}"""\n\n    def __init__(self):\n        super().__init__()\n'
        return head + "\n".join(lines) + "\n\n" + "\n".join(methods)

    def _layer(self, layer: nn.Module, kind: type[nn.Module], name: str) -> Call:
        """A layer of torch.nn from its attributes; made once from what is written, to see that it is the same."""
        short, exact = ([*arguments_of(layer, kind, tidy)] for tidy in (True, False))
        for arguments in (short, exact):
            try:
                with torch.device("meta"):
                    made = eval(Call(f"nn.{kind.__name__}", arguments).flat(), {"nn": nn, "torch": torch})
            except Exception:  # whatever a layer says to arguments that are not its own
                continue
            if settings(made) == settings(layer):
                return Call(name, arguments)
        raise refusal(type(layer), f"{layer} cannot be made again from what it shows")

    def _container(self, module: nn.Module, kind: type[nn.Module]) -> Call:
        children = {name: self.expression(child) for name, child in module._modules.items() if child is not None}
        name = f"nn.{kind.__name__}"
        if list(children) == [str(number) for number in range(len(children))]:
            inner = [(None, child) for child in children.values()]
            return Call(name, inner) if kind is nn.Sequential else Call(name, [(None, Call("", inner, "[]"))])
        if all(child.isidentifier() for child in children):
            named = Call("OrderedDict", list(children.items()))
        else:
            pairs = [(None, Call("", [(None, repr(key)), (None, child)])) for key, child in children.items()]
            named = Call("OrderedDict", [(None, Call("", pairs, "[]"))])
        self.imports.add("from collections import OrderedDict")
        return Call(name, [(None, named)])

    def _custom(self, module: nn.Module, plain: type[nn.Module]) -> Call:
        """An object of a class that is not torch's; the class goes into the source, once."""
        kind = type(module)
        attributes, methods = self._inside(kind)
        if kind not in self._names:
            name, number = kind.__name__, 1
            while name in (*OURS, *self._values, *self._names.values()):
                number += 1
                name = f"{kind.__name__}{number}"
            self._names[kind] = name
            bases = {nn.Module: BASE}.get(plain, f"nn.{plain.__name__}")
            if issubclass(plain, CONTAINERS):
                bases = f"{BASE}, {bases}"
            doc = docstring(kind)
            origin = f"# as in {kind.__module__}.{kind.__qualname__}\n"
            self.classes.append(f"{origin}class {name}({bases}):\n{doc}" + "\n".join(methods))
        if plain is nn.Module or issubclass(plain, CONTAINERS):
            parts = [*self._parts(module, attributes)]
            if all(key.isidentifier() for key, _ in parts):
                return Call(self._names[kind], parts)
            pairs = Call("", [(None, Call(f"{key!r}: ", [(None, part)])) for key, part in parts], "{}")
            return Call(self._names[kind], [(None, Call("**", [(None, pairs)]))])
        for name in attributes - {*vars(module), *module._parameters, *module._buffers}:
            if not hasattr(plain, name):
                raise refusal(kind, f"nn.{plain.__name__} has no '{name}'")
        return self._layer(module, plain, self._names[kind])

    def _parts(self, module: nn.Module, attributes: set[str]) -> Iterator[tuple[str, Any]]:
        """Parameters, buffers, children and settings of a module, as they are written."""
        kind = type(module)
        for name, parameter in module._parameters.items():
            if parameter is not None:
                yield name, f"nn.Parameter(torch.empty({tuple(parameter.shape)}))"
            elif name in attributes:
                yield name, "None"
        for name, buffer in module._buffers.items():
            if name in module._non_persistent_buffers_set:
                raise refusal(kind, f"buffer '{name}' is not among its weights (persistent=False)")
            if buffer is not None:
                yield name, f"torch.empty({tuple(buffer.shape)}, dtype={buffer.dtype})"
            elif name in attributes:
                yield name, "None"
        for name, child in module._modules.items():
            yield name, "None" if child is None else self.expression(child)
        for name in sorted(attributes - {*module._parameters, *module._buffers, *module._modules} - OWN_ATTRIBUTES):
            value = getattr(module, name)
            if not is_plain(value):
                raise refusal(
                    kind, f"'self.{name}' is a {type(value).__name__}; numbers, texts and lists of them can be"
                )
            yield name, literal(value)

    def _inside(self, kind: type[nn.Module]) -> tuple[set[str], list[str]]:
        """What the forward of a class needs: attributes of its objects, and sources of its methods."""
        attributes: set[str] = set()
        methods: dict[str, str] = {}
        todo = ["forward"]
        while todo:
            name = todo.pop(0)
            found = inspect.getattr_static(kind, name, None)
            function = getattr(found, "fget", None) or getattr(found, "__func__", None) or found
            inherited = any(name in vars(base) for base in kind.__mro__ if of_torch(base))
            if name in methods or (inherited and not overridden(kind, name)):
                continue
            if not isinstance(function, types.FunctionType):
                attributes.add(name)
                continue
            source, tree = self._read(function, kind)
            methods[name] = textwrap.indent(source, "    ")
            first = next(iter(inspect.signature(function).parameters), "")
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == first:
                    todo.append(node.attr)
        return attributes, list(methods.values())

    def _read(self, function: types.FunctionType, kind: type) -> tuple[str, ast.Module]:
        """Source of a function, after what it refers to was brought along."""
        plain = inspect.unwrap(function)
        try:
            source = textwrap.dedent(inspect.getsource(function))
        except (OSError, TypeError):
            raise refusal(kind, f"the source of '{function.__qualname__}' cannot be read") from None
        tree = ast.parse(source)
        if plain.__code__.co_freevars:
            name = plain.__code__.co_freevars[0]
            raise refusal(kind, f"'{function.__qualname__}' uses {'super()' if name == '__class__' else repr(name)}")
        needed = set(globals_of(plain.__code__))
        definition = tree.body[0]
        assert isinstance(definition, ast.FunctionDef)
        outside = [*definition.decorator_list, *definition.args.defaults, *filter(None, definition.args.kw_defaults)]
        needed |= {node.id for part in outside for node in ast.walk(part) if isinstance(node, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                wanted = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                for name in wanted:
                    if name.split(".")[0] not in LIBRARY:
                        raise refusal(kind, f"'{function.__qualname__}' imports '{name}'")
            elif isinstance(node, ast.Name) and importable(node.id, plain.__globals__.get(node.id)):
                needed.add(node.id)  # of an annotation
        for name in sorted(needed):
            if name in plain.__globals__:
                self._bring(name, plain.__globals__[name], kind)
            elif not hasattr(builtins, name):
                raise refusal(kind, f"'{function.__qualname__}' uses '{name}', which its file does not have")
        return source, tree

    def _bring(self, name: str, value: Any, kind: type) -> None:
        """Have a name of a class's file in the source."""
        if name in self._values and same(self._values[name], value):
            return
        known = importable(name, value) == "from collections import OrderedDict"
        if not known and (name in self._values or name in OURS or name in self._names.values()):
            raise refusal(kind, f"it uses '{name}', and that name means something else in the file; rename it")
        if isinstance(value, type) and issubclass(value, nn.Module) and not of_torch(value):
            raise refusal(kind, f"it uses class '{name}' by its name")
        line = importable(name, value)
        self._values[name] = value
        if line:
            self.imports.add(line)
        elif isinstance(value, types.FunctionType):
            source, _ = self._read(value, kind)
            self.helpers[name] = source
        elif is_plain(value):
            self.helpers[name] = f"{name} = {value!r}\n"
        else:
            raise refusal(kind, f"it uses '{name}', a {type(value).__name__} that cannot be written down")


def refusal(kind: type, reason: str) -> InputError:
    """The error about a class whose source cannot be written."""
    return InputError(
        f"format module: class {kind.__module__}.{kind.__qualname__} cannot be written as source: {reason}; "
        "change it, or leave module out of --formats"
    )
