"""Name files that something is to be said of: how many there are for each reason, and the first few of them."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from trials.common import cli
from trials.common.tables import WIDTH

LIST_LENGTH = 10  # files that are named, and reasons


def print_files(title: str, files: list[tuple[str, str]]) -> None:
    """Print how many files there are for each reason, and the first few of them.

    Args:
        files: path and reason; what follows the first quotation mark of a reason differs from file to file.
    """
    if not files:
        return
    kinds = Counter(reason.split(" '")[0] for _, reason in files)
    print(f"\n{title}: {len(files):,}")
    for kind, count in kinds.most_common(LIST_LENGTH):
        paths = [f"'{path}'{reason.removeprefix(kind)}" for path, reason in files if reason.split(" '")[0] == kind]
        shown = min(count, max(1, LIST_LENGTH // len(kinds)))
        more = f" and {count - shown:,} more" if count > shown else ""
        print_list(f"  {kind} ({count:,})", paths[:shown], more)
    if rest := kinds.most_common()[LIST_LENGTH:]:
        print(f"  ... and {sum(count for _, count in rest):,} more, for {len(rest):,} other reasons")


def print_list(head: str, parts: Sequence[str], more: str = "") -> None:
    """Print `head: part, part more` in one line; in a line for each part where that is too long, cut in the middle where one is."""
    line = f"{head}: {', '.join(parts)}{more}"
    if len(line) <= WIDTH:
        print(line)
        return
    indent = " " * (len(head) - len(head.lstrip()) + 2)
    print(cli.short(head, WIDTH - 1) + ":")
    for part in [*parts, *([more.strip()] if more else [])]:
        print(indent + cli.short(part, WIDTH - len(indent)))


def print_two(head: str, one: str, two: str) -> None:
    """Print `head: one; two`, in three lines where one is too long."""
    line = f"{head}: {one}; {two}"
    print(line if len(line) <= WIDTH else f"{head}:\n  {cli.short(one, WIDTH - 2)}\n  {cli.short(two, WIDTH - 2)}")


def print_facts(rows: Sequence[tuple[str, str]], title: str) -> None:
    """Print a table of names and values that is no wider than WIDTH; a long value takes several lines."""
    left = min(WIDTH // 2, max(len(name) for name, _ in rows))
    fitting = [(cli.short(name, left), textwrap.fill(value, WIDTH - left - 2)) for name, value in rows]
    print(cli.table(fitting, (cli.short(title, left), ""), as_is=True))
