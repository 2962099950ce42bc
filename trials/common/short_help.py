"""--help: the options that most people need, a line for each, on one screen. --help-all is argparse's own."""

from __future__ import annotations

import dataclasses
import re
import textwrap
import typing
from typing import Any

from trials.common.commands import as_typed
from trials.common.fields import default_text, flag, groups

COLUMNS, ROWS = 100, 40
TEXT = 30  # column at which sentences begin
EXAMPLES = 4
# where a sentence may end when it is too long for its line
ENDS = r"[;:] | \(|, (?:such as|as the|where|whose|which|each|at least|of the)\b"
OF_EVERY_COMMAND = (
    ("--config FILE", "YAML of options, under the names of commands; what is typed wins"),
    (
        "--save-config FILE",
        "Write the options that are given to such a file, then go on",
    ),
    ("--json", "Print the result as one JSON object, and everything else to stderr"),
)


def short_help(config: type, doc: str | None, usage: str) -> str:
    """The text.

    Args:
        config: the options; `often` of it names the fields that are shown, all where it has none.
        doc: the command's docstring, of which the first line and the first examples are shown.
        usage: the first line, without `usage: `.
    """
    often = getattr(config, "often", None)
    hints = typing.get_type_hints(config)
    examples = _examples(doc or "")
    title = textwrap.wrap((doc or "").strip().partition("\n")[0], COLUMNS)
    lines = [f"usage: {usage}", "", *title, "", *examples, *[""] * bool(examples)]
    hidden = 0
    for heading, fields in groups(config).items():
        shown = [field for field in fields if often is None or field.name in often]
        hidden += len(fields) - len(shown)
        if shown:
            positional = getattr(config, "positional", None)
            lines.append(f"{heading or 'options of this command'}:")
            lines += [_line(_invocation(field, hints[field.name], positional), *_texts(field)) for field in shown]
    lines += ["of every command:", *(_line(*row) for row in OF_EVERY_COMMAND)]
    more = f"Show {hidden} more options, and more about them" if hidden else "Show more about the options"
    return "\n".join([*lines, _line("--help-all", more)]) + "\n"


def _examples(doc: str) -> list[str]:
    """The first commands of a docstring that fit."""
    found = re.findall(r"^    (python -m trials.*)$", doc, re.MULTILINE)
    return [f"  {line}" for line in map(as_typed, found) if len(line) + 2 <= COLUMNS][:EXAMPLES]


def _invocation(field: dataclasses.Field[Any], hint: Any, positional: str | None) -> str:
    """An option and what stands for its value, such as `--max-macs MACS`."""
    if field.name == positional:
        return field.name.upper()
    kinds = {hint, *typing.get_args(hint)}
    if bool in kinds:
        return flag(field.name) if not field.default else flag("no_" + field.name)
    value = "N" if int in kinds else field.name.strip("_").rpartition("_")[2].upper()
    return f"{flag(field.name)} {value}"


def _texts(field: dataclasses.Field[Any]) -> list[str]:
    """What can be said about an option: with choices and default, without, in brief, the first part of it."""
    text, default = field.metadata["help"], default_text(field)
    choices = f": {', '.join(field.metadata['choices'])}" if field.metadata["choices"] else ""
    first = [text[: match.start()] for match in re.finditer(ENDS, text)][::-1]
    brief = [field.metadata["brief"]] if field.metadata["brief"] else []
    return [text + choices + default, *brief, text + choices, text + default, text, *first]


def _line(invocation: str, *texts: str) -> str:
    """An option and the first of the texts that fits."""
    left = max(TEXT, len(invocation) + 4)
    fitting = next((text for text in texts if left + len(text) <= COLUMNS), texts[-1])
    return f"  {invocation}".ljust(left) + fitting
