"""The options that what stands beside the winner of a run takes from its training, so that they can be compared. Light: no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trials.common.run_dir import begun_with, load_run


def winners_config(config: Any) -> dict[str, Any] | None:
    """Read the options of RUN/retrain, whose recipe a baseline takes.

    Returns:
        None where there is no such run, where another --recipe is given, or where no baseline is trained from scratch.
    """
    if (
        not (config.baseline and config.supernet)
        or config.start
        or not (Path(config.supernet) / "retrain" / "config.json").exists()
    ):
        return None
    stored = load_run(Path(config.supernet) / "retrain", "retrain")
    return stored if config.recipe in (None, stored.get("recipe")) else None


def class_weights_of(config: Any) -> str | None:
    """What --class-weights is: given, or that of the winner for all that stands beside it, fine-tuned or not.

    It is no part of a recipe: it says which errors count. "none" is the same as None, and stays where the winner has others, or
    where a run that goes on was begun so.
    """
    given = config.class_weights
    if (options := begun_with(config, "retrain", config.out)) is not None:
        stored = options.get("class_weights")
        return stored if given in (None, "none") and stored in (None, "none") else given
    winners = winners_class_weights(config)
    return winners if given is None else given if given != "none" or winners else None


def winners_class_weights(config: Any) -> str | None:
    """The factors that RUN/retrain was trained with; None where it has none, or where nothing stands beside it."""
    if not (config.supernet and (config.baseline or config.start)):
        return None
    folder = Path(config.supernet) / "retrain"
    found = load_run(folder, "retrain").get("class_weights") if (folder / "config.json").exists() else None
    return None if found == "none" else found
