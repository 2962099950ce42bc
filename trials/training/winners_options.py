"""The options that what stands beside the winner of a run takes from its training, so that they can be compared. Light: no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trials.common import run_files
from trials.common.run_dir import begun, begun_with, load_run
from trials.training import recipes
from trials.training.frontier_options import point_folder


def winners_folder(config: Any) -> Path | None:
    """The run whose options are taken by what is trained to stand beside it; None where nothing stands beside a winner.

    The points of a frontier stand beside the winner of the last search, all others beside RUN/retrain.
    """
    if not config.supernet or not (config.baseline or config.start or config.frontier):
        return None
    supernet, folder = Path(config.supernet), Path(config.supernet) / "retrain"
    if config.frontier:
        folder = point_folder(supernet, run_files.read_if_there(supernet / "arc.json", "fixed arc", {}))
        if not begun(folder):  # all points have a configuration before the first is trained
            return None
    return folder if (folder / "config.json").exists() else None


def winners_config(config: Any) -> dict[str, Any] | None:
    """The options of the winner's training that are those of its rivals where nothing is given.

    A network that starts from the supernet's weights has a part of the epochs: see `recipes.shorter`.

    Returns:
        None where there is no such run, where another --recipe is given, where pretrained weights have a recipe of their own, or
        where a run goes on as it was begun.
    """
    folder = winners_folder(config)
    if folder is None or config.pretrained or begun_with(config, "retrain", config.out) is not None:
        return None
    stored = load_run(folder, "retrain")
    if config.recipe not in (None, stored.get("recipe")):
        return None
    return recipes.shorter(stored) if config.from_supernet and stored.get("epochs") else stored


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
    """The factors that the winner was trained with; None where it has none, or where nothing stands beside it."""
    folder = winners_folder(config)
    found = load_run(folder, "retrain").get("class_weights") if folder else None
    return None if found == "none" else found
