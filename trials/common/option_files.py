"""Options of commands in a YAML file: `supernet: {epochs: 60}`; what is typed wins over it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from spaces.errors import InputError, shown, unknown
from spaces.files import atomic, parse_yaml, read_text
from trials.common.commands import COMMANDS


@dataclasses.dataclass(frozen=True)
class Section:
    """What a command took from a file of options: the name of each option that was not typed, and its value there."""

    path: str
    command: str
    options: dict[str, Any]

    def is_meant(self, message: str) -> bool:
        """Whether an error is about one of the options: it begins with the option, or names it or a word with its value.

        What a space says of its sizes begins with "resolution of space spos is 3".
        """
        for name, value in self.options.items():
            flag = re.escape("--" + name.replace("_", "-"))
            if re.match(rf"(argument )?{flag}(?![\w-])", message):
                return True
            given = re.escape(str(value))
            if re.match(rf"{name} of space .* is {given}(?![\w.-])", message):
                return True
            if re.search(
                rf"{flag}[ =]'?{given}(?![\w.-])" + (f"|'{given}'" if isinstance(value, str) else ""), message
            ):
                return True
        return False


_taken: list[Section] = []  # by the command that runs


def forget() -> None:
    """Begin another command, which has taken nothing yet."""
    _taken.clear()


def with_file(message: str) -> str:
    """An error, with the file of options in front where the option that it is about stands there and was not typed."""
    for section in _taken:
        if shown(section.path) not in message and section.is_meant(message):
            return f"'{section.path}', {section.command}: {message}"
    return message


def split(words: Sequence[str], flag: str) -> tuple[str, list[str]]:
    """Take one option with its value out of a command line.

    Returns:
        Its value, "" where it is not given; the other words.
    Raises:
        InputError: it has no value.
    """
    value, kept, left = "", [], iter(words)
    for word in left:
        name, equals, after = word.partition("=")
        if name != flag:
            kept.append(word)
            continue
        value = after if equals else next(left, "")
        if not value or value.startswith("--"):
            raise InputError(f"{flag} needs a file; give one, such as {flag} run.yml")
    return value, kept


def with_options(
    path: str, command: str, words: Sequence[str], choices: Mapping[str, Sequence[str]], positional: str | None = None
) -> tuple[list[str], str | None]:
    """A command line with the options of a file in front, but for those that are typed.

    Args:
        command: whose section is read, such as "supernet"; a file without it adds nothing.
        words: what was typed.
        choices: for each field of the command the words that it may be; none where there are no such words.
        positional: the field that is given without a flag.
    Returns:
        The command line; the value of `positional` in the file, for where it is not typed.
    Raises:
        InputError: the file cannot be read, or a name or value in it cannot be an option.
    """
    section = read(path).get(command) or {}
    if not isinstance(section, dict):
        raise InputError(f"{command} in '{path}' is '{shown(section)}'; write its options below it, such as epochs: 60")
    given = {word.partition("=")[0].replace("--no-", "--") for word in words}
    added: list[str] = []
    first = None
    fields = {name.rstrip("_"): name for name in choices}
    taken = Section(path, command, {})
    _taken.append(taken)
    for key, value in section.items():
        name = str(key).replace("-", "_")
        if name not in fields:
            listed = f"python -m trials.{command} --help-all"
            raise InputError(
                f"'{path}', {command}: {unknown('option', key, [n.replace('_', '-') for n in fields], listed)}"
            )
        if not isinstance(value, bool | int | float | str):
            raise InputError(f"'{path}', {command}: {key} is '{shown(value)}'; give one number, word, true or false")
        if isinstance(value, bool) and "off" in choices[fields[name]]:  # YAML reads on and off as true and false
            value = "on" if value else "off"
        flag = "--" + name.replace("_", "-")
        if flag not in given:
            taken.options[name] = value
        if name == positional:
            first = str(value)
        elif flag not in given:
            added.append(
                flag.replace("--", "--no-") if value is False else flag if value is True else f"{flag}={value}"
            )
    return [*added, *words], first


def read(path: str) -> dict[str, Any]:
    """A file of options. Raises InputError: it cannot be read, or has sections of no command."""
    text = read_text(path, "file of options")
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise InputError(
            f"file of options '{path}' cannot be read ({shown(str(error))}); mend it, or leave it out"
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"file of options '{path}' holds no mapping; write supernet: and below it epochs: 60")
    for key in content:
        if key not in COMMANDS:
            raise InputError(
                f"file of options '{path}': {unknown('command', key, COMMANDS)}; options stand below their command"
            )
    return content


def save(path: str, command: str, options: Mapping[str, Any]) -> None:
    """Write the options of a command to a file, beside what other commands have in it.

    Raises:
        InputError: the file is none of options, or cannot be written.
    """
    content = read(path) if Path(path).exists() else {}
    content[command] = {name.replace("_", "-"): value for name, value in options.items()}
    try:
        with atomic(path) as temporary:
            temporary.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write --save-config '{path}' ({error.strerror}); name another file") from None
