"""Read what a run directory holds, whichever of its steps have been done. Light: torch is not imported."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from spaces.arch_file import load_arch
from spaces.cost import CostTable
from spaces.files import read_jsonl
from trials.common import run_files
from trials.common.supernet_run import SupernetRun
from trials.evidence.floor import floor_of
from trials.evidence.gates import read_warnings
from trials.reporting.networks import TrainedNetwork, collect_networks
from trials.scoring.score_store import TOP_FILE, score_path
from trials.scoring.score_value import score_value

CERTIFICATE = "certificate.json"


@dataclasses.dataclass(frozen=True)
class RunContents:
    """What a run holds.

    Attributes:
        path: the run directory, as it was given.
        stored: config.json of the supernet: the options under "config", commit, versions, machine.
        table: costs of the space.
        log: lines of the supernet's training.
        learned: most_probable.json, what a differentiable strategy learned; None for other strategies.
        probabilities: the candidates' probabilities over time, for a differentiable strategy.
        summary: search.json; {} before a search.
        results: scored architectures in the order of the search, with their "generation".
        winner: the architecture in arc.json; {} where there is none yet.
        score: the winner's stored score on the supernet; {} where it has none.
        choice: top.json, how trials.retrain --top chose the winner; None where it did not.
        networks: all networks that were trained in the run.
        certificate: certificate.json; None before trials.certify.
        tradeoff: tradeoff.json, points of the frontier that were retrained; None before retrain --frontier.
        floor: floor.json; None where it was not measured.
        warnings: what the gates found, see `trials.evidence.gates.read_warnings`.
    """

    path: Path
    stored: dict[str, Any]
    table: CostTable
    log: list[dict[str, Any]]
    learned: dict[str, Any] | None
    probabilities: list[dict[str, Any]]
    summary: dict[str, Any]
    results: list[dict[str, Any]]
    winner: dict[str, Any]
    score: dict[str, Any]
    choice: dict[str, Any] | None
    networks: list[TrainedNetwork]
    certificate: dict[str, Any] | None
    tradeoff: dict[str, Any] | None
    floor: dict[str, Any] | None
    warnings: list[dict[str, Any]]

    @property
    def config(self) -> dict[str, Any]:
        """The options that the supernet was trained with."""
        return self.stored["config"]

    @property
    def score_by(self) -> str:
        """What the search maximised, see `score_value`."""
        return self.summary.get("score_by", "top1")

    def value(self, result: dict[str, Any]) -> float:
        """What the search maximised of one result, percent."""
        return score_value(result, self.score_by)

    @property
    def retrained(self) -> TrainedNetwork | None:
        """The winner, trained from scratch: in retrain/, else in another folder with this architecture; None where in none."""
        found = [
            network for network in self.networks if network.top1 and network.arch == self.winner and not network.start
        ]
        return min(found, key=lambda network: (network.place != "retrain", not network.finished), default=None)

    @property
    def certified(self) -> bool:
        """Whether the certificate is one of the winner, not of the winner of an earlier search."""
        return self.certificate is not None and self.certificate["winner"]["arch"] == self.winner


def collect_run(run: Path) -> RunContents:
    """Read a run directory of trials.supernet.

    Raises:
        InputError: there is no run, it is not trained to the end, or one of its files is damaged.
    """
    supernet_run = SupernetRun.open(run, trained=not (run / TOP_FILE).exists())
    table = supernet_run.table
    summary = _read(run / "search.json", "search summary") or {}
    results = []
    for entry in summary.get("history", []):
        result = run_files.read_score(score_path(run, entry["id"]))
        if result:
            results.append({**result, **entry})
    learned = _read(run / "most_probable.json", "learned architecture")
    winner: dict[str, Any] = {}
    if (run / "arc.json").exists():
        winner = load_arch(run / "arc.json", table.choices)
    elif results:
        score_by = summary.get("score_by", "top1")
        winner = max(results, key=lambda result: score_value(result, score_by))["arch"]
    elif learned:
        winner = learned["arch"]
    return RunContents(
        path=run,
        stored=run_files.read(run / "config.json", "run configuration"),
        table=table,
        log=_read_lines(run / "log.jsonl"),
        learned=learned,
        probabilities=_read_lines(run / "probabilities.jsonl"),
        summary=summary,
        results=results,
        winner=winner,
        score=next((result for result in results if result["arch"] == winner), {}),
        choice=_read(run / TOP_FILE, "choice of retrain --top"),
        networks=collect_networks(run),
        certificate=_read(run / CERTIFICATE, "certificate"),
        tradeoff=_read(run / "tradeoff.json", "trade-off"),
        floor=floor_of(run),
        warnings=read_warnings(run),
    )


def _read(path: Path, what: str) -> Any:
    """The content of a JSON file; None where there is none."""
    return run_files.read_if_there(path, what)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one JSON object per line; [] where there is none."""
    return read_jsonl(path) if path.exists() else []
