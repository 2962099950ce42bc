"""Lines that a terminal shows whole: prose is folded; commands stay on one line, to be copied."""

from __future__ import annotations

import re
import textwrap

from trials.common.commands import as_typed, in_road
from trials.common.tables import WIDTH

COMMAND = ("python -m ", "torchrun ", "mkdir ", "mv ")  # how the lines of commands begin


def folded(text: str) -> str:
    """Prose in lines of at most WIDTH columns, but for longer words and lines of commands; what continues a line is set in by two columns more."""
    return "\n".join(
        line
        if line.lstrip().startswith(COMMAND)
        else textwrap.fill(
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


def say_next(command: str, why: str = "") -> None:
    """Print the command that comes next; nothing inside trials.run, which goes on by itself, or stops and says what to do."""
    if not in_road():
        print(f"next: {as_typed(command)}" + f"    # {why}" * bool(why))


def refilled(text: str) -> str:
    """A docstring whose paragraphs are at most WIDTH columns wide. Lines that are set in, such as commands, stay as they are."""
    paragraphs = re.split(r"\n\s*\n", text.strip("\n"))
    return "\n\n".join(
        textwrap.fill(" ".join(paragraph.split()), WIDTH, break_long_words=False, break_on_hyphens=False)
        if max(map(len, paragraph.split("\n"))) > WIDTH and not re.search(r"^ ", paragraph, re.MULTILINE)
        else paragraph
        for paragraph in paragraphs
    )


def short(text: str, width: int) -> str:
    """A text of at most `width` characters: of a longer one the middle gives way to an ellipsis."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]
