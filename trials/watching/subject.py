"""What is watched, and the points that are told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Point = tuple[int, Mapping[str, float], float | None]  # step, tag -> value, when it was measured


@dataclass(frozen=True)
class Subject:
    """What is watched.

    Attributes:
        folder: where its files go: tensorboard/, csv/, wandb/.
        store: where mlflow.db is, which several trainings share.
        name: what it is called among others, such as "digits/retrain/seed0".
        facts: its options, and what it is about.
        sub: folder below tensorboard/ and csv/ where another subject has these; "" for none.
    """

    folder: Path
    store: Path
    name: str
    facts: Mapping[str, Any]
    sub: str = ""
