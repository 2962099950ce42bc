"""Plain text tables that fit a terminal."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

WIDTH = 120  # columns of the terminal that a table takes at most
PADDING = 2  # that tabulate gives a heading
LEAST_COLUMN = 8  # that the widest columns of a table are folded to at most


def table(rows: Sequence[Sequence[Any]], header: Sequence[str], *, as_is: bool = False, fold: bool = True) -> str:
    """A plain text table of at most WIDTH columns; numbers are set right-aligned, integers with thousands separators.

    Where it would be wider, the texts of its widest columns go on in the next line, and so do their headings.

    Args:
        as_is: leave the cells alone, but for that.
        fold: False for a file, which may be as wide as it is.
    """
    form: dict[str, Any] = {"tablefmt": "simple", "intfmt": ",", "floatfmt": ".2f", "disable_numparse": as_is}
    text = tabulate(rows, header, **form)
    if not fold or max(map(len, text.splitlines()), default=0) <= WIDTH:
        return text
    rule = next(line for line in text.splitlines() if line and not line.strip("- "))
    widths = [len(dashes) for dashes in rule.split()]
    room = WIDTH - 2 * (len(widths) - 1)
    columns = [[*map(str, cells)] for cells in zip(header, *rows, strict=True)]
    words = [max(map(len, [*itertools.chain.from_iterable(map(str.split, column)), ""])) for column in columns]
    # the widest give way first; a word is broken only where there is no room for whole ones
    for least in ([max(word + PADDING, LEAST_COLUMN) for word in words], [LEAST_COLUMN] * len(widths)):
        while sum(widths) > room and (wide := [n for n, width in enumerate(widths) if width > least[n]]):
            widths[max(wide, key=widths.__getitem__)] -= 1

    def folded(cell: Any, width: int) -> Any:
        if not isinstance(cell, str):
            return cell
        lines = (textwrap.wrap(line, width, break_on_hyphens=False) or [""] for line in cell.split("\n"))
        return "\n".join(itertools.chain.from_iterable(lines))

    cells = [[folded(cell, width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return tabulate(
        cells, [folded(name, max(1, width - PADDING)) for name, width in zip(header, widths, strict=True)], **form
    )
