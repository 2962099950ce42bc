"""Show a run: a report in one self-contained HTML file, and a short table in the terminal.

    python -m trials.report runs/digits

Both answer what was found, whether it is better than chance, whether it can be trusted, and what to do next; docs/report.md
says how to read them. The report is made of what the other commands left in the run, at every stage of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from trials.common import cli
from trials.common.answers import answer
from trials.common.cli import option
from trials.common.commands import in_road
from trials.reporting.collect import collect_run
from trials.reporting.next_steps import write_experiment
from trials.reporting.summary import INDENT, summary_rows


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of trials.report."""

    positional: ClassVar[str] = "run"

    run: str = option(help="Run directory of trials.supernet")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    config = cli.parse(Config, argv, __doc__, "trials.report")
    run = Path(config.run)
    contents = collect_run(run)
    write_experiment(contents)
    rows = summary_rows(contents)
    print_summary(rows)

    # Torch, for the images, is imported when the table stands there.
    from trials.reporting import page

    report = page.write_report(run, contents)
    print(f"\nreport: {report}")
    more = [value for name, value in rows if name == "or"]
    summary = {name: " ".join(value.split()) for name, value in rows if name != "or"}
    return answer("report", run=run, report=report, summary=summary, more=more)


def print_summary(rows: Sequence[tuple[str, str]]) -> None:
    """Print the table, and below it the commands, each on one line to be copied, however long it is."""
    commands = [(name, value) for name, value in rows if name in ("next", "or") and not in_road()]  # it ends with that
    cells = [(name, value) for name, value in rows if name not in ("next", "or")]
    lines = [line for _, value in cells for line in value.split("\n")]
    mend = dict.fromkeys(line.strip() for line in lines if line.startswith(INDENT))
    shown = [(name, [line for line in value.split("\n") if not line.startswith(INDENT)]) for name, value in cells]
    print(cli.table([(name, "\n".join(kept)) for name, kept in shown], ("", ""), as_is=True))
    for name, command in [*(("what mends it", command) for command in mend), *commands]:
        print(f"{name}: {command}")


if __name__ == "__main__":
    cli.run(main)
