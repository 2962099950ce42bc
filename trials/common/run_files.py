"""The JSON files of a run, and the one way in which all of them are read; run_schemas.py says what each kind holds.

A file that is damaged, or holds something else, is one line that names it and what is wrong in it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import schema

from spaces.errors import InputError, shown
from spaces.files import RESTORE, load_json, require_file, unreadable
from trials.common.run_schemas import schemas

_logger = logging.getLogger(__name__)


def read(path: str | Path, kind: str) -> Any:
    """Read a file of a run.

    Args:
        kind: a key of `schemas`, which is its name in an error, too.
    Raises:
        InputError: the file is missing, cannot be read, is no JSON, or does not hold what this kind holds.
        Stopped: the machine could not read it.
    """
    content = load_json(path, kind)
    check(content, path, kind)
    if kind in ("run configuration", "options of --top"):
        _complete(content["config"])
    return content


def _complete(config: dict[str, Any]) -> None:
    """Write what older code did into its options, where a newer default does something else."""
    if config.get("data") == "folder":
        config.setdefault("background", "drop")  # transparency was dropped
        config.setdefault("fit", "crop")
    if "data" in config:
        config.setdefault("mirror", "off" if config["data"] == "digits" else "on")


def check(content: object, path: str | Path, kind: str) -> None:
    """Raises InputError: the content of a file is not what this kind holds."""
    try:
        schemas()[kind].validate(content)
    except schema.SchemaError as error:
        reason = shown(": ".join(str(line).rstrip(":") for line in error.autos if line))
        raise InputError(f"{kind} '{path}' is damaged or not such a file ({reason}); {RESTORE}") from None
    except RecursionError:
        raise InputError(f"{kind} '{path}' is nested too deeply; {RESTORE}") from None


def read_if_there(path: str | Path, kind: str, default: Any = None) -> Any:
    """As `read`; `default` where there is no such file."""
    return read(path, kind) if Path(path).exists() else default


def read_score(path: str | Path) -> dict[str, Any] | None:
    """A score file; None where it is damaged, which costs this score alone and is told of.

    Raises:
        Stopped: the machine could not read it.
    """
    try:
        score: dict[str, Any] = read(path, "score")
    except InputError as error:
        if error.exit_code != InputError.exit_code:
            raise
        _logger.warning("left out: %s", error)
        return None
    return score


def read_array(path: str | Path, what: str, mmap_mode: Literal["r", "c"]) -> np.ndarray:
    """A cached array of a run, mapped from its file.

    Raises:
        InputError: the file is missing, not ours to read, or damaged.
        Stopped: the machine could not read it.
    """
    try:
        array: np.ndarray = np.load(require_file(path, what), mmap_mode=mmap_mode, allow_pickle=False)
        if not array.ndim:
            raise ValueError
    except OSError as error:
        raise unreadable(what, path, error) from None
    except (ValueError, EOFError, AttributeError):  # no array; a file of several
        folder = Path(path).parent
        raise InputError(f"{what} '{path}' is damaged; move '{folder}' away, and it is made anew") from None
    return array
