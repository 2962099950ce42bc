"""Plain text tables that fit a terminal."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

WIDTH = 120  # columns of the terminal that a table takes at most
LEAST_COLUMN = 8  # that the widest columns of a table are folded to at most


def table(rows: Sequence[Sequence[Any]], header: Sequence[str], *, as_is: bool = False) -> str:
    """A plain text table of at most WIDTH columns; numbers are set right-aligned, integers with thousands separators.

    Where it would be wider, the texts of its widest columns go on in the next line, and so do their headings.

    Args:
        as_is: leave the cells alone, but for that.
    """
    form: dict[str, Any] = {"tablefmt": "simple", "intfmt": ",", "floatfmt": ".2f", "disable_numparse": as_is}
    text = tabulate(rows, header, **form)
    if max(map(len, text.splitlines()), default=0) <= WIDTH:
        return text
    rule = next(line for line in text.splitlines() if line and not line.strip("- "))
    widths = [len(dashes) for dashes in rule.split()]
    most = max(widths)
    while sum(min(width, most) for width in widths) > WIDTH - 2 * (len(widths) - 1) and most > LEAST_COLUMN:
        most -= 1

    def folded(cell: Any) -> Any:
        if not isinstance(cell, str):
            return cell
        lines = (textwrap.wrap(line, most, break_on_hyphens=False) or [""] for line in cell.split("\n"))
        return "\n".join(itertools.chain.from_iterable(lines))

    return tabulate([[folded(cell) for cell in row] for row in rows], [folded(name) for name in header], **form)
