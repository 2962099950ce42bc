"""Read what a run directory holds, whichever of its steps have been done."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import load_json
from trials.common import run_dir
from trials.reporting import baselines_table


@dataclasses.dataclass(frozen=True)
class Found:
    """What a run holds."""

    config: dict[str, Any]
    table: CostTable
    log: list[dict[str, Any]]  # of the supernet's training
    learned: dict[str, Any] | None  # most_probable.json
    probabilities: list[dict[str, Any]]  # over time, of a differentiable strategy
    summary: dict[str, Any]  # search.json; {} before a search
    results: list[dict[str, Any]]  # scored architectures in the order of the search, with "generation"
    best: dict[str, Any]  # of the results; {} before a search
    retrained: dict[str, Any] | None
    compared: list[baselines_table.Row]  # the winner and baselines; [] without baselines

    @property
    def winner(self) -> dict[str, Any]:
        """The architecture: the search's, or else the one that was learned."""
        return self.best["arch"] if self.best else self.learned["arch"] if self.learned else {}


def collect(run: Path) -> Found:
    """Read a run.

    Raises:
        InputError: no run there, or it is not trained to the end.
    """
    config = run_dir.load_run(run, "supernet")
    if not (run / "supernet.pt").exists():
        raise InputError(f"'{run}' is not trained to the end; run trials.supernet with --resume first")

    def lines(name: str) -> list[dict[str, Any]]:
        path = run / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def content(name: str, what: str) -> Any:
        return load_json(run / name, what) if (run / name).exists() else None

    summary = content("search.json", "search summary") or {}
    results = []
    for entry in summary.get("history", []):
        result = load_json(run / "search" / f"{entry['id']}.json", "score")
        results.append({**result, **entry})
    found = Found(
        config,
        CostTable.load(run / "cost_table.json"),
        lines("log.jsonl"),
        content("most_probable.json", "learned architecture"),
        lines("probabilities.jsonl"),
        summary,
        results,
        max(results, key=lambda result: result["top1"]) if results else {},
        content("retrain/result.json", "retrain result"),
        baselines_table.collect(run) if (run / "baselines").is_dir() else [],
    )
    if found.retrained and found.retrained["arch"] != found.winner:
        others = [row for row in found.compared if not row.found]
        found = dataclasses.replace(found, retrained=None, compared=others)  # of an earlier search
    return found
