"""Show a run: a report in one self-contained HTML file, and a short table in the terminal.

    python -m trials.report runs/digits

Both answer what was found, whether it is better than chance, whether it can be trusted, and what to do next; docs/report.md
says how to read them. The report is made of what the other commands left in the run, at every stage of it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

from trials.common import cli
from trials.common.cli import option
from trials.reporting.collect import collect_run
from trials.reporting.next_steps import write_experiment
from trials.reporting.summary import summary_rows


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of trials.report."""

    positional: ClassVar[str] = "run"

    run: str = option(help="Run directory of trials.supernet")


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__, "trials.report")
    run = Path(config.run)
    contents = collect_run(run)
    write_experiment(contents)
    print(cli.table(summary_rows(contents), ("", ""), as_is=True))

    # Torch, for the images, is imported when the table stands there.
    from trials.reporting import page

    print(f"\nreport: {page.write_report(run, contents)}")


if __name__ == "__main__":
    cli.run(main)
