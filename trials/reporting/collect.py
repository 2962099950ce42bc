"""Read what a run directory holds, whichever of its steps have been done."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from spaces.cost import CostTable
from spaces.files import load_json
from trials.common.supernet_run import SupernetRun
from trials.reporting import baselines_table
from trials.scoring.score_store import score_path


@dataclasses.dataclass(frozen=True)
class RunContents:
    """What a run holds.

    Attributes:
        config: the options that the supernet was trained with.
        table: costs of the space.
        log: lines of the supernet's training.
        learned: most_probable.json, what a differentiable strategy learned; None for other strategies.
        probabilities: the candidates' probabilities over time, for a differentiable strategy.
        summary: search.json; {} before a search.
        results: scored architectures in the order of the search, with their "generation".
        best: the result with the highest top-1; {} before a search.
        retrained: retrain/result.json; None where the winner has not been retrained.
        networks: the winner and baselines that were trained like it; [] without baselines.
    """

    config: dict[str, Any]
    table: CostTable
    log: list[dict[str, Any]]
    learned: dict[str, Any] | None
    probabilities: list[dict[str, Any]]
    summary: dict[str, Any]
    results: list[dict[str, Any]]
    best: dict[str, Any]
    retrained: dict[str, Any] | None
    networks: list[baselines_table.Row]

    @property
    def winner(self) -> dict[str, Any]:
        """The architecture that the search found, or else the one that was learned; {} where there is neither."""
        return self.best["arch"] if self.best else self.learned["arch"] if self.learned else {}


def collect_run(run: Path) -> RunContents:
    """Read a run directory of trials.supernet.

    Raises:
        InputError: there is no run, or it is not trained to the end.
    """
    supernet_run = SupernetRun.open(run)
    summary = _read(run / "search.json", "search summary") or {}
    results = []
    for entry in summary.get("history", []):
        result = load_json(score_path(run, entry["id"]), "score")
        results.append({**result, **entry})
    contents = RunContents(
        config=supernet_run.config,
        table=supernet_run.table,
        log=_read_lines(run / "log.jsonl"),
        learned=_read(run / "most_probable.json", "learned architecture"),
        probabilities=_read_lines(run / "probabilities.jsonl"),
        summary=summary,
        results=results,
        best=max(results, key=lambda result: result["top1"]) if results else {},
        retrained=_read(run / "retrain" / "result.json", "retrain result"),
        networks=baselines_table.collect_networks(run) if (run / "baselines").is_dir() else [],
    )
    if contents.retrained and contents.retrained["arch"] != contents.winner:
        # What was retrained is the winner of an earlier search
        baselines = [row for row in contents.networks if not row.is_winner]
        contents = dataclasses.replace(contents, retrained=None, networks=baselines)
    return contents


def _read(path: Path, what: str) -> Any:
    """The content of a JSON file; None where there is none."""
    return load_json(path, what) if path.exists() else None


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one JSON object per line; [] where there is none."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
