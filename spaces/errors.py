"""The exceptions a user may see: commands print the message as a single line and exit with 1 or 3."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used. The message says what, the value, what is allowed, and the fix."""

    exit_code = 1


class Stopped(InputError):
    """Work that had begun cannot go on. What was done is kept; the message says why, and how to continue."""

    exit_code = 3


def unknown(what: str, value: object, allowed: Iterable[object]) -> str:
    """A line for a name that is not known, with the closest known one.

    Returns:
        For example `unknown space 'spso'; did you mean 'spos'? choose from: fbnet, spos`.
    """
    names = [str(name) for name in allowed]
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f" did you mean '{close[0]}'?" if close else ""
    return f"unknown {what} '{value}';{hint} choose from: {', '.join(names)}"
