"""Options as fields of frozen dataclasses: declared, taken again, put into groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

REQUIRED = dataclasses.MISSING  # the default of an option that must be given


def option(
    default: Any = REQUIRED,
    help: str = "",
    choices: Sequence[str] = (),
    *,
    unset: str = "",
    brief: str = "",
    spelling: Callable[[str], str] | None = None,
) -> Any:
    """A dataclass field that is a command-line option.

    Args:
        default: what holds where it is not given; REQUIRED: it must be given.
        help: one sentence, without its full stop.
        unset: what holds in place of a `default` of None, for --help.
        brief: a shorter sentence for the one line of --help, where `help` is too long and its first part does not do.
        spelling: makes one of all spellings of a value, so that values can be compared; it raises InputError for what is none.
    """
    metadata = {"help": help, "choices": tuple(choices), "unset": unset, "brief": brief, "spelling": spelling}
    return dataclasses.field(default=default, metadata=metadata)


def reuse(group: type, name: str, **changes: Any) -> Any:
    """The option `name` of a group of options, for a Config that takes it alone or changes its default.

    Args:
        changes: of `default`, `help`, `choices`, `unset`, `brief`, `spelling`; what is not named stays as the group declares it.
    """
    field = {field.name: field for field in dataclasses.fields(group)}[name]
    shared = {key: field.metadata[key] for key in ("help", "choices", "unset", "brief", "spelling")}
    shared = option(**{"default": field.default, **shared, **changes})
    shared.metadata = {**shared.metadata, "group": getattr(group, "group", "")}
    return shared


def spelled(config: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a Config, by their names with _ or -, each value in its one spelling.

    Raises:
        InputError: a value is none of its option.
    """
    spellings = {field.name: field.metadata["spelling"] for field in dataclasses.fields(config)}
    kept = dict(options)
    for name, value in options.items():
        spelling = spellings.get(name.replace("-", "_"))
        if spelling and isinstance(value, str):
            kept[name] = spelling(value)
    return kept


def groups(config: type) -> dict[str, list[dataclasses.Field[Any]]]:
    """The options of a command under their headings; those of the command itself stand first, under "".

    An option belongs to the group that declares it, also where a Config changes its default.
    """
    sections: dict[str, list[dataclasses.Field[Any]]] = {"": []}
    for owner in config.__mro__:
        if "group" in vars(owner):
            sections[vars(owner)["group"]] = []
    for field in dataclasses.fields(config):
        owner = next(owner for owner in config.__mro__ if field.name in vars(owner).get("__annotations__", {}))
        heading = field.metadata.get("group", vars(owner).get("group", ""))
        sections.setdefault(heading, []).append(field)
    return {heading: fields for heading, fields in sections.items() if fields}


def flag(name: str) -> str:
    """The option of a field: `max_macs` is --max-macs, and `for_`, a word of Python's, is --for."""
    return "--" + name.rstrip("_").replace("_", "-")


def default_text(field: dataclasses.Field[Any]) -> str:
    """What holds where an option is not given, in brackets; "" where that is nothing."""
    if field.metadata["unset"]:
        return f" (default: {field.metadata['unset']})"
    return f" (default {field.default})" if field.default not in (None, "", False, REQUIRED) else ""


def sentence(field: dataclasses.Field[Any]) -> str:
    """The help of an option: a whole sentence that ends with what holds where it is not given."""
    return f"{field.metadata['help']}{default_text(field)}."
