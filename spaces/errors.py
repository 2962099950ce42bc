"""The exceptions that a user may see, and helpers that word and check what the user gave.

Commands print the message of such an exception as a single line and exit with its `exit_code`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import reprlib
import traceback
from collections.abc import Iterable, Iterator
from typing import TypeGuard

LISTED, NEAREST = 12, 5  # names that a message lists; of more than these, the nearest
SHOWN = 200  # characters of a value that a message shows
# looks at the beginning of a value only: YAML's aliases can make one that is endless when it is written out
_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxlong, _short.maxother = 3, SHOWN, SHOWN, SHOWN
_short.maxdict = _short.maxlist = _short.maxtuple = _short.maxset = 40


class InputError(ValueError):
    """Something the user gave cannot be used. The message says what, the value, what is allowed, and the fix."""

    exit_code = 1


class Stopped(InputError):
    """Work that had begun cannot go on. What was done is kept; the message says why, and how to continue."""

    exit_code = 3


def shown(value: object) -> str:
    """A value as a message shows it: on one line, and not beyond 200 characters, however large it is."""
    if isinstance(value, str):
        text = value if len(value) <= SHOWN else value[:SHOWN] + "..."
    else:
        try:
            text = _short.repr(value)
        except ValueError:  # an integer of more digits than Python writes
            text = "a number of thousands of digits"
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def unknown(what: str, value: object, allowed: Iterable[object], see: str = "") -> str:
    """The message for a name that is not known, with the closest known one; of many, the nearest few.

    Args:
        what: the kind of name, such as "space".
        value: the name that was given.
        allowed: the known names.
        see: the command or page that lists all of them, where they are many.
    Returns:
        For example `unknown space 'spso'; did you mean 'spos'? choose from: fbnet, spos`.
    """
    names, given = [shown(str(name)) for name in allowed], shown(value)
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(given.lower(), lower, n=1)
    hint = f" did you mean '{lower[close[0]]}'?" if close else ""
    if len(names) <= LISTED:
        return f"unknown {what} '{given}';{hint} choose from: {', '.join(names)}"
    nearest = [lower[name] for name in difflib.get_close_matches(given.lower(), lower, n=NEAREST, cutoff=0)]
    return (
        f"unknown {what} '{given}';{hint} nearest of {len(names)}: {', '.join(nearest)}{f'; all: {see}' if see else ''}"
    )


def require_library(name: str, what: str, fix: str = "", *, package: str = "") -> None:
    """Refuse what needs a library that does not import, before other work begins.

    Args:
        name: of the library, as it is imported.
        what: what needs it, as the subject of the message.
        fix: what could be given instead.
        package: the name by which it is installed, where that is another.
    Raises:
        InputError: it is not installed, or fails while it is imported.
    """
    try:
        importlib.import_module(name)
    except Exception as error:  # a library built for another machine fails in ways of its own
        reason = shown(str(error).strip() or type(error).__name__)
        other = f", or {fix}" if fix else ""
        raise InputError(
            f"{what} needs {name}, which does not import here ({reason}); install it with: pip install {package or name}{other}"
        ) from None


def is_whole_number(value: object, least: int) -> TypeGuard[int]:
    """Whether `value` is an integer of at least `least`. True and False, which Python counts as integers, are not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@contextlib.contextmanager
def user_code(what: str, fix: str = "mend it there") -> Iterator[None]:
    """Turn any exception of code that a user wrote, such as a space of one's own, into one line with file and line.

    Args:
        what: what the code does, as the subject of the message.
        fix: the end of the message.
    Raises:
        InputError: in place of any other exception.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        library = (
            os.path.dirname(os.__file__),
            "<",
        )  # the standard library, site-packages below it, and "<frozen ...>"
        origin = next((f for f in reversed(frames) if not f.filename.startswith(library)), frames[-1])
        reason = shown(str(error)) or "no message"
        raise InputError(
            f"{what} fails: {type(error).__name__}: {reason} ({os.path.relpath(origin.filename)}, line {origin.lineno}); {fix}"
        ) from error
