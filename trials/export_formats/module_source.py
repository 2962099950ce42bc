"""Readable Python source of any network: torch.nn layers as calls, other classes with the methods they were written with.

An introduction. A network is a tree of modules, and `SourceWriter.expression` writes each module in one of three ways:

- A layer of torch.nn becomes a call, `nn.Conv2d(3, 16, 3, bias=False)`. Its arguments are read from its attributes; then
  the call is run once, to see that the layer it makes is the same.
- A container becomes a call around its children, `nn.Sequential(nn.Conv2d(...), nn.ReLU())`.
- An object of any other class becomes a call that names its children and settings, `Residual(branch=nn.Conv2d(...),
  scale=0.5)`. The class itself is copied into the file once: `forward`, and the methods that it uses. Its constructor is
  not copied, because it may need anything (a space, a choice, a configuration); the base class `Part`, in PART_SOURCE,
  takes the children and settings instead. method_source.py copies the methods and what they use.

`SourceWriter.network_class` writes the root, with one statement for each child and a comment above it.

The source needs torch alone. Children keep their names, so the weights have the names that they have in the network. What
cannot be written down, such as a method that uses an object of another module, is refused with a line that names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from trials.export_formats.method_source import CodeCollector, refusal
from trials.export_formats.python_source import (
    Call,
    constructor_arguments,
    docstring_source,
    is_plain,
    is_torch_layer,
    layer_state,
    literal,
    overridden_methods,
)

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))  # what every module has, such as `training`
PART_SOURCE = '''class Part(nn.Module):
    """What the classes below share: children and settings are given by name."""
    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)
'''


class SourceWriter:
    """Writes modules as expressions, and collects what these expressions need in their file.

    Attributes:
        imports: lines.
        helpers: sources of functions and constants, by name.
        classes: sources, in the order in which they are needed.
    """

    def __init__(self) -> None:
        self._code = CodeCollector()
        self.imports = self._code.imports
        self.helpers = self._code.helpers
        self.classes: list[str] = []

    def expression(self, module: nn.Module) -> Call:
        """The call that makes a module of this structure.

        Raises:
            InputError: it cannot be written.
        """
        kind = type(module)
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            raise refusal(kind, "an object of it has hooks or a forward of its own")
        torch_class: type[nn.Module] = next(base for base in kind.__mro__ if is_torch_layer(base))
        if torch_class is not kind and any(overridden_methods(kind, torch_class)):
            return self._custom(module, torch_class)
        if issubclass(torch_class, CONTAINERS):
            return self._container(module, torch_class)
        if torch_class is nn.Module or module._modules:
            raise refusal(kind, "a module without a forward, or one of torch's that holds others")
        return self._layer(module, torch_class, f"nn.{torch_class.__name__}")

    def network_class(self, module: nn.Module, comments: dict[str, str], doc: str) -> str:
        """Source of `class Network`, whose constructor takes nothing.

        Args:
            module: the root of a network.
            comments: a line for above a child, by the child's name; a child of a ModuleList is named "blocks.3".
            doc: docstring of the class.
        """
        attributes, methods = self._code.methods_of(type(module))
        lines = []
        for name, value in self._arguments(module, attributes):
            lines += [f"        # {comments[name]}"] if name in comments else []
            child = module._modules.get(name)
            if type(child) is nn.ModuleList:
                lines.append(f"        self.{name} = nn.ModuleList()")
                for number, block in child.named_children():
                    block_name = f"{name}.{number}"
                    lines += [f"        # {comments[block_name]}"] if block_name in comments else []
                    lines.append(self.expression(block).wrapped(8, f"self.{name}.append(", ")"))
            elif isinstance(value, Call):
                lines.append(value.wrapped(8, f"self.{name} = "))
            else:
                lines.append(f"        self.{name} = {value}")
        head = f'class Network(nn.Module):\n    """{doc}"""\n\n    def __init__(self):\n        super().__init__()\n'
        return head + "\n".join(lines) + "\n\n" + "\n".join(methods)

    def _layer(self, layer: nn.Module, torch_class: type[nn.Module], name: str) -> Call:
        """The call that makes a layer of torch.nn, first with tidy arguments, then with exact ones.

        Args:
            name: of the function in the call; that of a copied class where the layer is an object of one.
        """
        for tidy in (True, False):
            arguments = list(constructor_arguments(layer, torch_class, tidy))
            try:
                with torch.device("meta"):  # without memory for the weights
                    made = eval(Call(f"nn.{torch_class.__name__}", arguments).flat(), {"nn": nn, "torch": torch})
            except Exception:  # a layer may raise anything at arguments that are not its own
                continue
            if layer_state(made) == layer_state(layer):
                return Call(name, arguments)
        raise refusal(type(layer), f"{layer} cannot be made again from what it shows")

    def _container(self, module: nn.Module, torch_class: type[nn.Module]) -> Call:
        """The call that makes a container: children without names where they are numbered, else in an OrderedDict."""
        children = {name: self.expression(child) for name, child in module._modules.items() if child is not None}
        name = f"nn.{torch_class.__name__}"
        if list(children) == [str(number) for number in range(len(children))]:
            inner = [(None, child) for child in children.values()]
            return Call(name, inner) if torch_class is nn.Sequential else Call(name, [(None, Call("", inner, "[]"))])
        if all(child.isidentifier() for child in children):
            named = Call("OrderedDict", list(children.items()))
        else:
            pairs = [(None, Call("", [(None, repr(key)), (None, child)])) for key, child in children.items()]
            named = Call("OrderedDict", [(None, Call("", pairs, "[]"))])
        self.imports.add("from collections import OrderedDict")
        return Call(name, [(None, named)])

    def _custom(self, module: nn.Module, torch_class: type[nn.Module]) -> Call:
        """The call that makes an object of a class that is not torch's; the class is copied into the file, once.

        Args:
            torch_class: the class of torch.nn that it is derived from.
        """
        kind = type(module)
        attributes, methods = self._code.methods_of(kind)
        name, new = self._code.class_name(kind)
        if new:
            bases = "Part" if torch_class is nn.Module else f"nn.{torch_class.__name__}"
            if issubclass(torch_class, CONTAINERS):
                bases = f"Part, {bases}"
            doc = docstring_source(kind)
            origin = f"# as in {kind.__module__}.{kind.__qualname__}\n"
            self.classes.append(f"{origin}class {name}({bases}):\n{doc}" + "\n".join(methods))
        if torch_class is nn.Module or issubclass(torch_class, CONTAINERS):
            arguments = list(self._arguments(module, attributes))
            if all(key.isidentifier() for key, _ in arguments):
                return Call(name, arguments)
            pairs = Call("", [(None, Call(f"{key!r}: ", [(None, value)])) for key, value in arguments], "{}")
            return Call(name, [(None, Call("**", [(None, pairs)]))])
        # a layer of torch.nn with another forward: torch's constructor has to set everything that this forward reads
        for attribute in attributes - {*vars(module), *module._parameters, *module._buffers}:
            if not hasattr(torch_class, attribute):
                raise refusal(kind, f"nn.{torch_class.__name__} has no '{attribute}'")
        return self._layer(module, torch_class, name)

    def _arguments(self, module: nn.Module, attributes: set[str]) -> Iterator[tuple[str, Any]]:
        """Parameters, buffers, children and settings of a module, by name; values are source text or calls.

        Args:
            attributes: the settings that its methods read.
        """
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
        settings = attributes - {*module._parameters, *module._buffers, *module._modules} - MODULE_ATTRIBUTES
        for name in sorted(settings):
            value = getattr(module, name)
            if not is_plain(value):
                raise refusal(
                    kind, f"'self.{name}' is a {type(value).__name__}; numbers, texts and lists of them can be"
                )
            yield name, literal(value)
