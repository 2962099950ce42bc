"""An argument parser whose errors are one line, with the nearest name that is known."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from spaces.errors import SHOWN, InputError, shown
from trials.common import near_runs


class _Show(argparse.Action):
    """Prints a text and ends the command."""

    def __init__(self, *args: Any, shown: Callable[[], str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.shown = shown

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(self.shown(), end="")
        sys.exit(0)


class Parser(argparse.ArgumentParser):
    """What the command line of every command is read with."""

    words: Sequence[str] = ()  # of the command line
    short = ""  # what --help prints; --help-all prints argparse's own help

    def lacks(self, positional: str | None, words: Sequence[str]) -> bool:
        """Whether the argument without a flag is not among the words."""
        [action] = [action for action in self._actions if action.dest == positional]
        before = action.nargs, action.required, action.default
        action.nargs, action.required, action.default = "?", False, None
        try:
            return getattr(self.parse_known_intermixed_args(list(words))[0], str(positional)) is None
        finally:
            action.nargs, action.required, action.default = before

    def add_common(self, options: Sequence[tuple[str, str]]) -> None:
        """Add the options of every command, and both kinds of help.

        Args:
            options: such as ("--config FILE", "YAML of options"); one without a value is a switch.
        """
        section = self.add_argument_group("of every command")
        for invocation, text in options:
            name, _, value = invocation.partition(" ")
            kind: dict[str, Any] = {"metavar": value} if value else {"action": "store_true"}
            section.add_argument(name, help=f"{text}.", **kind)
        for names, text, printed in (
            (("-h", "--help"), "Show the options that most people need.", lambda: self.short),
            (("--help-all",), "Show all options.", self.format_help),
        ):
            section.add_argument(*names, nargs=0, help=text, action=_Show, shown=printed, default=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        """One line, no usage block."""
        for word in self.words:  # a message shows what was given, which may be long
            message = message.replace(word, shown(word)) if len(word) > SHOWN else message
        beyond = "unrecognized arguments: "
        if message.startswith(beyond):
            flags = "--data folder --data-root" if "--data-root" in self._option_string_actions else "an option"
            message = (
                f"'{shown(message.removeprefix(beyond))}' belongs to no option; give it to {flags}, or leave it out"
            )
        needed = re.fullmatch(r"the following arguments are required: (--\S+)", message)
        if needed and self.words and not self.words[0].startswith("-"):
            value = near_runs.weights_of(self.words[0]) if needed[1] == "--weights" else self.words[0]
            message += f"; give {needed[1]} {shown(value)}"
        raise InputError(f"{message}; see: {self.prog} --help")

    def require_known(self, words: Sequence[str]) -> None:
        """Raises InputError: an option that is not known, with the nearest one that is; before anything else is missed."""
        flags = [known for action in self._actions for known in action.option_strings]
        unflagged = [action.dest for action in self._actions if not action.option_strings]
        for word in words:
            given = word.partition("=")[0]
            if word == "--":
                return
            if word.startswith("--") and " " not in word and given not in flags:
                names = {known.lstrip("-"): known for known in flags}  # the dashes, which all have, are no likeness
                close = difflib.get_close_matches(given[2:], names, n=1)
                hint = f"did you mean '{names[close[0]]}'? " if close else ""
                if given[2:].replace("-", "_") in unflagged:
                    hint = f"give {given[2:].upper()} without a flag; "
                raise InputError(f"unknown option '{shown(given)}'; {hint}see: {self.prog} --help")
