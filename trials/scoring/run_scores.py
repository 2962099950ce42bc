"""The supernet's scores of some architectures of a run, as its search scored. They are stored like all scores, and are no results of
the search.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from spaces.arch import Arch, arch_id
from spaces.errors import shown
from trials.common import cli, run_files
from trials.common.supernet_run import SupernetRun
from trials.scoring.evaluate_config import Config as EvaluateConfig
from trials.scoring.evaluate_config import Settings
from trials.scoring.score_store import ScoreStore, score_path
from trials.scoring.score_value import has_value, searched_by
from trials.scoring.scorer import Scorer


def search_settings(run: SupernetRun) -> Settings:
    """How the search scored, or the defaults of trials.evaluate where there was none."""
    summary = run_files.read_if_there(run.path / "search.json", "search summary", {"history": []})
    for entry in summary["history"]:
        path = score_path(run.path, entry["id"])
        record = (run_files.read_score(path) if path.exists() else None) or {}
        if record.get("supernet") == run.hash:
            with contextlib.suppress(TypeError):  # settings of a newer version
                return Settings.of_stored(record.get("settings") or {})
    return Settings.of(EvaluateConfig(run=str(run.path)))


def stored_scores(run: SupernetRun, archs: list[Arch]) -> dict[str, dict[str, Any]]:
    """Those of the architectures that have a score by which the search goes: id -> its record, see `ScoreStore.record`."""
    store, score_by = ScoreStore(run.path, run.hash, search_settings(run)), searched_by(run.path)
    stored = {arch_id(arch): store.read(arch) for arch in archs}
    return {name: record for name, record in stored.items() if record is not None and has_value(record, score_by)}


def score_archs(run: SupernetRun, archs: Mapping[str, Arch], device: str) -> dict[str, dict[str, Any]]:
    """Score what has no score yet.

    Args:
        archs: name of an architecture in messages -> the architecture.
        device: auto, cpu or cuda.
    Returns:
        Id of an architecture -> the record of its score, see `ScoreStore.record`. An architecture that could not be scored, for
        want of memory for example, is left out and said.
    """
    records = stored_scores(run, list(archs.values()))
    names = {arch_id(arch): name for name, arch in archs.items()}
    waiting = [arch for arch in archs.values() if arch_id(arch) not in records]
    if not waiting:
        return records
    scorer = Scorer(run.path, search_settings(run), device)
    with cli.progress(len(waiting), desc="scores of the supernet", unit="arch") as bar:
        for arch, result in scorer.results(waiting):
            bar.update(1)
            name = arch_id(arch)
            if isinstance(result, Exception):
                bar.write(f"{names[name]} has no score: {type(result).__name__}: {shown(str(result))}")
            else:
                records[name] = result
    return records
