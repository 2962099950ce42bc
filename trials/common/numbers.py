"""Numbers of a command line: what Python reads as one, and what numpy, torch and JSON take, are not the same."""

from __future__ import annotations

import argparse
import contextlib
import math

from spaces.errors import shown


def whole_number(text: str) -> int:
    """A whole number that numpy, torch and JSON take."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid int value: '{shown(text)}'") from None
    if abs(number) >= 2**63:
        raise argparse.ArgumentTypeError(f"{shown(text)} is out of range; give a number of at most 18 digits")
    return number


def finite_number(text: str) -> float:
    """A number; what float() takes besides, nan and inf, means nothing as an option."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid float value: '{shown(text)}'") from None
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a finite number; give one")
    return number


def plain_value(text: str) -> int | float | bool | str:
    """What a word of a command line stands for: a whole number, a number, true or false, else itself."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return {"true": True, "false": False}.get(text.lower(), text)
