"""What transparent pictures are laid on: the values of --background. Light to import."""

from __future__ import annotations

import re
from collections.abc import Sequence

from spaces.errors import InputError, shown

Colour = tuple[int, int, int]  # red, green, blue, 0..255
NAMED: dict[str, Colour] = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}
DEFAULT = "white"
DROP = "drop"  # transparency is dropped: what colours the file has below it shows, as in runs of older code
HEX = re.compile(r"#([0-9a-f]{3}|[0-9a-f]{6})")


def normal_form(text: str) -> str:
    """A value of --background as a run stores it: in small letters, a colour that has a name by its name.

    Raises:
        InputError: it is no colour.
    """
    value = text.strip().lower().replace("gray", "grey")
    if HEX.fullmatch(value):
        value = value if len(value) == 7 else "#" + "".join(2 * digit for digit in value[1:])  # as in CSS
        return next((name for name, colour in NAMED.items() if colour == _of_hex(value)), value)
    if value not in (*NAMED, DROP):
        raise InputError(
            f"--background '{shown(text)}' is no colour; give {', '.join(NAMED)}, one as '#RRGGBB' such as '#ff8000', or {DROP}"
        )
    return value


def colour_of(background: str | None) -> Colour | None:
    """The colour of a value in normal form; None where transparency is dropped, or there is nothing transparent."""
    if background in (None, DROP):
        return None
    return NAMED[background] if background in NAMED else _of_hex(background)


def laid_on(background: str) -> str:
    """What is done with transparent images, for people."""
    return "and their transparency is dropped" if background == DROP else f"and laid on {background}"


def in_hex(colour: Sequence[int]) -> str:
    """A colour as #rrggbb."""
    return "#" + bytes(colour).hex()


def _of_hex(text: str) -> Colour:
    """Red, green and blue of #rrggbb."""
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue
