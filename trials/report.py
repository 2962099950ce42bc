"""Show a run: tables and pictures in one self-contained HTML file, and a short table in the terminal.

    python -m trials.report runs/digits

Reads what the other commands left in the run: the supernet's log, what a differentiable strategy learned
(probabilities.jsonl, most_probable.json), search.json and search/*.json, retrain/result.json, baselines/*/result.json.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from trials.common import cli
from trials.common.cli import option
from trials.reporting.collect import collect_run
from trials.reporting.page import summary_rows, write_report


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of trials.report."""

    run: str = option(help="Run directory of trials.supernet")


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__, "trials.report", positional="run")
    run = Path(config.run)
    contents = collect_run(run)
    print(cli.table(summary_rows(contents), ("", ""), as_is=True))
    print(f"\nreport: {write_report(run, contents)}")


if __name__ == "__main__":
    cli.run(main)
