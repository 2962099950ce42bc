"""Lines that a terminal shows whole: prose is folded, and tables are made as narrow; commands stay on one line, to be copied."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

WIDTH = 120  # columns
LEAST_COLUMN = 16  # columns of a table's widest column, below which folding makes it no easier to read


def folded(text: str) -> str:
    """Prose in lines of at most WIDTH columns, but for longer words; what continues a line is set in by two columns more."""
    return "\n".join(
        textwrap.fill(
            line,
            WIDTH,
            subsequent_indent=re.match(r" *", line)[0] + "  ",  # type: ignore[index]
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.split("\n")
    )


def say(text: str) -> None:
    """Print prose, folded."""
    print(folded(text))


def refilled(text: str) -> str:
    """A docstring whose paragraphs are at most WIDTH columns wide. Lines that are set in, such as commands, stay as they are."""
    paragraphs = re.split(r"\n\s*\n", text.strip("\n"))
    return "\n\n".join(
        textwrap.fill(" ".join(paragraph.split()), WIDTH, break_long_words=False, break_on_hyphens=False)
        if max(map(len, paragraph.split("\n"))) > WIDTH and not re.search(r"^ ", paragraph, re.MULTILINE)
        else paragraph
        for paragraph in paragraphs
    )


def table(rows: Sequence[Sequence[Any]], header: Sequence[str], *, as_is: bool = False, fit: bool = False) -> str:
    """A plain text table; numbers are set right-aligned, integers with thousands separators.

    Args:
        as_is: leave cells alone.
        fit: fold the cells of the widest column at spaces where the table is above WIDTH columns.
    """
    form: dict[str, Any] = {"tablefmt": "simple", "intfmt": ",", "floatfmt": ".2f", "disable_numparse": as_is}
    text = tabulate(rows, header, **form)
    beyond = max(map(len, text.split("\n"))) - WIDTH
    if beyond <= 0 or not fit:
        return text
    columns = [len(rule) for rule in text.split("\n")[1].split()]
    widest = max(range(len(columns)), key=columns.__getitem__)
    most: list[int | None] = [None] * len(columns)
    most[widest] = max(LEAST_COLUMN, columns[widest] - beyond)
    return tabulate(
        rows,
        header,
        **form,
        maxcolwidths=most,
        maxheadercolwidths=most,
        break_long_words=False,
        break_on_hyphens=False,
    )
