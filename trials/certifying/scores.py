"""The supernet's scores of the networks of a certificate. They are stored like all scores, and are no results of the search."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from spaces.errors import shown
from trials.certifying.controls import Network
from trials.common import cli, run_files
from trials.common.supernet_run import SupernetRun
from trials.scoring.evaluate_config import Config as EvaluateConfig
from trials.scoring.evaluate_config import Settings
from trials.scoring.score_store import ScoreStore, score_path
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


def score_networks(run: SupernetRun, networks: Sequence[Network], device: str) -> dict[str, dict[str, Any]]:
    """Score what has no score yet.

    Args:
        device: auto, cpu or cuda.
    Returns:
        Id of an architecture -> the record of its score, see `ScoreStore.record`. An architecture that could not be scored, for
        want of memory for example, is left out and said.
    """
    settings = search_settings(run)
    store = ScoreStore(run.path, run.hash, settings)
    stored = {network.id: store.read(network.arch) for network in networks}
    records = {name: record for name, record in stored.items() if record is not None}
    waiting = [network for network in networks if network.id not in records]
    if not waiting:
        return records
    scorer = Scorer(run.path, settings, device)
    names = {network.id: network.name for network in waiting}
    with cli.progress(len(waiting), desc="scores of the supernet", unit="arch") as bar:
        for arch, result in scorer.results([network.arch for network in waiting]):
            bar.update(1)
            name = store.path(arch).stem
            if isinstance(result, Exception):
                bar.write(f"{names[name]} has no score: {type(result).__name__}: {shown(str(result))}")
            else:
                records[name] = result
    return records
