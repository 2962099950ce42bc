"""The best score of an experiment that plain nnictl runs: best.json in the experiment's folder, for --fixed-arc.

Our own tuners and trials.search leave architectures; NNI's own tuners know nothing of files, so the trial itself keeps it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from spaces.files import load_json, save_json
from trials.scoring.score_value import has_value, score_value

NAME = "best.json"


def experiment_folder() -> Path | None:
    """The folder of the experiment whose trial this process is, on this machine; None where it is no trial."""
    name = os.environ.get("NNI_EXP_ID", "")
    parents = Path(os.environ.get("NNI_SYS_DIR", "")).parents
    return next((folder for folder in parents if name and folder.name == name and folder.is_dir()), None)


def keep_best(folder: Path, result: Mapping[str, Any], score_by: str) -> None:
    """Write a score to FOLDER/best.json, if none that is as good stands there. Trials that end together take turns.

    Args:
        result: a record of the score store.
        score_by: what the experiment maximises.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        path, best = folder / NAME, None
        if path.exists():
            try:
                best = load_json(path, "best score of the experiment")
                best = best if has_value(best, score_by) and score_value(best, score_by) >= 0 else None
            except (InputError, AttributeError, KeyError, TypeError):  # damaged: this score takes its place
                best = None
        if best is None or score_value(result, score_by) > score_value(best, score_by):
            save_json(path, dict(result))
    finally:
        os.close(handle)
