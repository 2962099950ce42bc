"""The option --logger: where curves and pictures go beside log.jsonl, and what is refused before work starts."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any, ClassVar

from spaces.errors import InputError, require_library, shown, unknown
from trials.common.cli import option

LOGGERS = ("tensorboard", "wandb", "mlflow", "csv", "none")
OFFLINE = ("offline", "dryrun", "disabled", "shared")  # values of WANDB_MODE that need no account here


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggerOptions:
    """Where curves and pictures of a run go; `trials.watching.boards` opens them."""

    group: ClassVar[str] = "watching"

    logger: str = option(
        None,
        "Where curves and pictures go beside the files of the run: tensorboard, wandb (Weights & Biases), mlflow, csv, several with "
        "commas, or none",
        unset="tensorboard",
    )


def decide_loggers(config: Any) -> None:
    """For the __post_init__ of a Config: put the default where nothing was given, and check what was.

    Raises:
        InputError: an unknown logger, a package that is not installed, or an account that is missing.
    """
    if config.logger is None:
        object.__setattr__(config, "logger", LOGGERS[0])
    for name in loggers(config.logger):
        if name == "wandb":
            _require_wandb()
        elif name == "mlflow":
            _require_mlflow()


def loggers(text: str) -> tuple[str, ...]:
    """The loggers that --logger names; () for none.

    Raises:
        InputError: one is unknown or named twice, or none stands beside others.
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in LOGGERS:
            raise InputError(f"--logger '{shown(text)}': {unknown('logger', name, LOGGERS)}")
    if len(set(names)) < len(names):
        raise InputError(f"--logger '{shown(text)}' names a logger twice; name each once")
    if "none" in names and len(names) > 1:
        raise InputError(f"--logger '{shown(text)}': none goes with no other; give none, or the others")
    return () if names == ("none",) else names


def _require_wandb() -> None:
    """Refuse --logger wandb without the package, or without an account where it would send."""
    require_library("wandb", "--logger wandb", "give another --logger")
    import wandb

    mode = os.environ.get("WANDB_MODE") or wandb.setup().settings.mode
    if mode not in OFFLINE and not os.environ.get("WANDB_API_KEY") and not _has_wandb_account():
        raise InputError(
            "--logger wandb knows no account here; log in with: wandb login, or set WANDB_MODE=offline, which writes into the run"
        )


@functools.cache
def _has_wandb_account() -> bool:
    """Whether somebody has logged in on this machine."""
    import wandb

    try:
        return bool(wandb.login(prompt=False))  # looks for a key and sends nothing
    except Exception:  # older versions ask, and raise where there is no terminal
        return False


def _require_mlflow() -> None:
    """Refuse --logger mlflow without the package, or without its store of files where no server is named."""
    require_library("mlflow", "--logger mlflow", "give another --logger")
    if not os.environ.get("MLFLOW_TRACKING_URI"):  # mlflow-skinny can only send to a server
        require_library(
            "sqlalchemy", "--logger mlflow", "name a server with MLFLOW_TRACKING_URI=http://HOST:5000", package="mlflow"
        )
