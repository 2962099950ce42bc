"""What the parts have measured: rows and kernel tables in one JSON file, which is written anew after every row."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from spaces.files import atomic, save_json
from trials.common import cli

JSON, TABLE = "gpu.json", "gpu.txt"


@dataclass(frozen=True)
class Row:
    """One measurement, or why there is none."""

    part: str
    what: str
    value: float | None = None
    unit: str = "images/s"
    bound: float | None = None  # share of what the memory of this GPU allows
    ratio: float | None = None  # to the peer
    peer: str = ""
    note: str = ""


class Results:
    """The rows and kernel tables of all parts, in a folder.

    Args:
        folder: where the JSON file and the table are written.
        deadline: when the part that is running has to be done, in seconds of time.monotonic().
    """

    def __init__(self, folder: Path, deadline: float = float("inf")) -> None:
        self.folder, self.deadline = folder, deadline
        self.content: dict[str, Any] = {"rows": [], "kernels": {}}
        if (folder / JSON).exists():
            self.content = json.loads((folder / JSON).read_text())

    @property
    def left(self) -> float:
        """Seconds that are left to the part."""
        return self.deadline - time.monotonic()

    def about(self, **facts: Any) -> None:
        """Say what was measured where."""
        self.content |= facts
        self._write()

    def add(self, row: Row) -> None:
        """Keep a row, and show it."""
        self.content["rows"].append(dataclasses.asdict(row))
        print("  ".join(filter(None, cells(row))), flush=True)
        self._write()

    def add_kernels(self, title: str, summary: str, rows: Sequence[tuple[str, int, float, float]]) -> None:
        """Keep a kernel table: name, calls, milliseconds and share of the time of all kernels."""
        names = ("kernel", "calls", "ms", "share")
        table = [dict(zip(names, row, strict=True)) for row in rows]
        self.content["kernels"][title] = {"summary": summary, "kernels": table}
        self._write()

    def value(self, part: str, what: str) -> float | None:
        """The value of a row that was measured before; None where there is none."""
        found = [row["value"] for row in self.content["rows"] if (row["part"], row["what"]) == (part, what)]
        return found[-1] if found else None

    @contextmanager
    def attempt(self, part: str, what: str, seconds: float = 0.0) -> Iterator[bool]:
        """Within this context, an error becomes a row that says so, and what comes after goes on.

        Args:
            seconds: that it takes about; where fewer are left, the row says so.
        Yields:
            Whether to begin: there is time left.
        """
        if self.left < seconds:
            self.add(Row(part, what, note=f"not begun: it takes about {seconds:.0f} s, and {self.left:.0f} are left"))
            yield False
            return
        try:
            yield True
        except Exception as error:  # whatever a library, a driver or a compiler raises
            self.add(Row(part, what, note=reason(error)))

    def text(self) -> str:
        """Everything as text: the facts, the table of rows, and the kernel tables."""
        facts = ", ".join(f"{name} {value}" for name, value in self.content.items() if name not in ("rows", "kernels"))
        header = ("part", "what", "value", "unit", "of the bound", "ratio", "against", "note")
        rows = [cells(Row(**row)) for row in self.content["rows"]]
        parts = [facts, cli.table(rows, header, as_is=True, fold=False)]
        for title, found in self.content["kernels"].items():
            lines = [
                (row["kernel"], f"{row['calls']:,}", f"{row['ms']:.2f}", f"{row['share']:.1%}")
                for row in found["kernels"]
            ]
            parts.append(
                f"{title}: {found['summary']}\n\n{cli.table(lines, ('kernel', 'calls', 'ms', 'share'), as_is=True)}"
            )
        return "\n\n".join(parts) + "\n"

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        save_json(self.folder / JSON, self.content)
        with atomic(self.folder / TABLE) as temporary:
            temporary.write_text(self.text())


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table as text."""
    value = "" if row.value is None else f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:.3g}"
    bound = "" if row.bound is None else f"{row.bound:.1%}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    unit = "" if row.value is None else row.unit
    return row.part, row.what, value, unit, bound, ratio, row.peer, row.note


def reason(error: BaseException) -> str:
    """Why something failed, in one short line."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    lines = str(error).strip().splitlines() or ["no reason given"]
    return lines[0][:160] if isinstance(error, InputError) else f"{type(error).__name__}: {lines[0][:160]}"
