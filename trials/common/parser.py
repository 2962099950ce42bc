"""An argument parser whose errors are one line, with the nearest name that is known."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import NoReturn

from spaces.errors import SHOWN, InputError, shown


class Parser(argparse.ArgumentParser):
    """What the command line of every command is read with."""

    words: Sequence[str] = ()  # of the command line

    def error(self, message: str) -> NoReturn:
        """One line, no usage block."""
        for word in self.words:  # a message shows what was given, which may be long
            message = message.replace(word, shown(word)) if len(word) > SHOWN else message
        raise InputError(f"{message}; see: {self.prog} --help")

    def require_known(self, words: Sequence[str]) -> None:
        """Raises InputError: an option that is not known, with the nearest one that is; before anything else is missed."""
        flags = [known for action in self._actions for known in action.option_strings]
        for word in words:
            given = word.partition("=")[0]
            if word == "--":
                return
            if word.startswith("--") and " " not in word and given not in flags:
                close = difflib.get_close_matches(given, flags, n=1)
                hint = f"did you mean '{close[0]}'? " if close else ""
                raise InputError(f"unknown option '{shown(given)}'; {hint}see: {self.prog} --help")
