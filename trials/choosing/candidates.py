"""The architectures that short trainings choose among: the best of what a run has found, and random ones of the same cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spaces.arch import Arch
from spaces.errors import InputError
from trials.choosing.band import Band, band_of, random_archs
from trials.choosing.searched import Within, read_latency, read_limits
from trials.common import cli, run_files
from trials.common.supernet_run import SupernetRun
from trials.scoring.score_store import TOP_FILE, score_path
from trials.scoring.score_value import score_value, searched_by

DRAW_SEED = 23  # of the sequence of random candidates; the certificate's random architectures are of another


@dataclass(frozen=True)
class Found:
    """An architecture that comes into question.

    Attributes:
        source: where it is from: "search", "learned" or "random".
        score: its score in the search, see `ScoreStore.record`; None where it has none.
    """

    arch: Arch
    source: str
    score: dict[str, Any] | None


def find_candidates(run: SupernetRun, best: int, random: int) -> tuple[list[Found], Band | None]:
    """The best that a run has found, in their order, then random architectures of the winner's band of cost.

    Args:
        best: so many of the search's ranking; 1 of a run that learned an architecture.
        random: so many are drawn; none of them is one of the best.
    Returns:
        The candidates, and the band; None where none is drawn.
    Raises:
        InputError: the run has not found as many, or there is no band, or it holds fewer.
    """
    found = best_of(run, best) if best else []
    if not random:
        return found, None
    limits = read_limits(run)
    within = Within(run, limits, read_latency(run, limits, remedy="put it back"))
    band = band_of(within, _first_found(run))
    archs = random_archs(within, band, random, known=[one.arch for one in found], seed=DRAW_SEED)
    if len(archs) < random:
        raise InputError(
            f"--top-random {random}: only {len(archs)} other architectures have {band} within {limits}; give at most {len(archs)}, "
            "or search under a wider limit"
        )
    return found + [Found(arch, "random", None) for arch in archs], band


def best_of(run: SupernetRun, count: int) -> list[Found]:
    """The first of the ranking of a search, or the one architecture that was learned.

    Args:
        run: its search.json names the architectures within the limits.
    Raises:
        InputError: there was no search, or fewer architectures have a score.
    """
    path = run.path
    if not (path / "search.json").exists():
        learned = run_files.read_if_there(path / "most_probable.json", "learned architecture")
        if learned and count == 1:
            return [Found(learned["arch"], "learned", None)]
        if learned:
            remedy = cli.command("retrain", "--fixed-arc", path / "arc.json", "--supernet", path)
            raise InputError(
                f"--top {count}: '{path}' learned one architecture, and scored none; take it with: {remedy}, or set it beside "
                "random ones with: --top 1 --top-random 7"
            )
        raise InputError(
            f"--top {count}: no search of '{path}' has ended yet; search it with: {cli.command('search', path)}"
        )
    scores = [score for score in _ranked(path) if score.get("supernet") == run.hash]
    if count > len(scores):
        raise InputError(
            f"--top {count}: the search of '{path}' scored {len(scores):,} architectures; give at most {len(scores)}"
        )
    return [Found(score["arch"], "search", score) for score in scores[:count]]


def _ranked(run: Path) -> Iterator[dict[str, Any]]:
    """The scores of the last search, the best first, each read when it is asked for; in a search of an older version by the score
    alone.
    """
    summary = run_files.read(run / "search.json", "search summary")
    names = summary.get("ranking") or [entry["id"] for entry in summary["history"]]
    stored = (score for name in names if (score := run_files.read_score(score_path(run, name))))
    if "ranking" in summary:
        return stored
    score_by = searched_by(run)
    return iter(sorted(stored, key=lambda score: -score_value(score, score_by)))


def _first_found(run: SupernetRun) -> Arch | None:
    """The winner of the search, else what was learned, whatever arc.json holds by now; None where nothing was found."""
    first = next(_ranked(run.path), None) if (run.path / "search.json").exists() else None
    if first:
        return dict(first["arch"])
    learned = run_files.read_if_there(run.path / "most_probable.json", "learned architecture")
    return learned["arch"] if learned else None


def candidates_of(run: Path) -> list[Arch]:
    """The architectures that the winner of a run was chosen among by short trainings; [] where it was not."""
    choice = run_files.read_if_there(run / TOP_FILE, "choice of retrain --top", {"candidates": []})
    return [candidate["arch"] for candidate in choice["candidates"]]
