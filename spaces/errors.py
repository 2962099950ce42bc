"""The exceptions a user may see: commands print the message as a single line and exit with 1 or 3."""

from __future__ import annotations

import contextlib
import difflib
import os
import traceback
from collections.abc import Iterable, Iterator


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


@contextlib.contextmanager
def user_code(what: str, fix: str = "mend it there") -> Iterator[None]:
    """Turn an exception of a space of one's own into one line that names the place.

    Raises:
        InputError: in place of any other exception.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        library = (os.path.dirname(os.__file__), "<")  # Python's own modules, and with them site-packages
        place = next((f for f in reversed(frames) if not f.filename.startswith(library)), frames[-1])
        reason = " ".join(str(error).split())[:200] or "no message"
        raise InputError(
            f"{what} fails: {type(error).__name__}: {reason} ({os.path.relpath(place.filename)}, line {place.lineno}); {fix}"
        ) from error
