"""Scores that a run keeps, one JSON file per architecture in RUN/search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spaces.arch import arch_id
from spaces.files import load_json


def stored_score(
    run: Path, arch: Mapping[str, Any], supernet: str, settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The score of an architecture that is kept in a run; None: there is none of this supernet and these settings.

    Args:
        supernet: hash of supernet.pt.
        settings: those of a score, as a dict.
    """
    path = run / "search" / f"{arch_id(arch)}.json"
    if not path.exists():
        return None
    result = load_json(path, "score")
    return result if (result["supernet"], result["settings"]) == (supernet, dict(settings)) else None
