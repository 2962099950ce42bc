"""The options by which trials.retrain chooses an architecture among candidates that are trained briefly: --top, --top-random."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from spaces.errors import InputError
from trials.common import cli, run_files
from trials.common.cli import flag, option
from trials.common.run_dir import begun, load_run
from trials.training import recipes

TOP_FOLDER = "top"  # in the supernet's run: what --top trains, a run for each candidate
CHOICE_FILE = "choice.json"  # in TOP_FOLDER: the options of --top


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceOptions:
    """Among which candidates the architecture is chosen, and how long these are trained."""

    group: ClassVar[str] = "choice of the architecture"

    top: int = option(
        0,
        "In place of --fixed-arc: train the best so many architectures of the search of --supernet briefly, choose one by the "
        "images that gave the scores, and retrain this one",
        brief="Train so many of the best of a search briefly, and choose",
    )
    top_random: int = option(
        0,
        "Random architectures of the winner's cost among which --top chooses as well; alone, it needs no trained supernet",
        brief="Train so many random ones of the cost briefly, and choose",
    )
    top_epochs: int = option(None, "Epochs of each candidate of --top and --top-random", unset="a quarter of --epochs")

    @property
    def chooses(self) -> bool:
        """Whether the architecture is chosen among candidates."""
        return bool(self.top or self.top_random)


def take_from_choice(config: Any) -> None:
    """With --resume, what is not given is what the candidates were begun with.

    Candidates of versions without --top-epochs were trained for as many epochs as the winner.
    """
    folder = Path(str(config.supernet)) / TOP_FOLDER
    if not config.resume:
        return
    candidates = (path for path in sorted(folder.glob("*/")) if begun(path))
    older = stored | {"top_epochs": stored["epochs"]} if (stored := _config_of(next(candidates, None))) else {}
    stored = run_files.read_if_there(folder / CHOICE_FILE, "options of --top", {"config": older})["config"]
    for name in ("preset", "resolution", "recipe", "class_weights", "logger", "top_epochs", *recipes.OPTIONS):
        if getattr(config, name) is None:
            object.__setattr__(config, name, stored.get(name))


def _config_of(run: Path | None) -> dict[str, Any]:
    """The options of a candidate; {} without one."""
    return load_run(run, "retrain") if run else {}


def check_choice(config: Any, default_out: Callable[[Any], Path]) -> None:
    """Refuse what --top and --top-random cannot go with.

    Args:
        default_out: where the winner is trained.
    """
    given = " ".join(f"{flag(name)} {number}" for name in ("top", "top_random") if (number := getattr(config, name)))
    for name in ("fixed_arc", "baseline", "import_official"):
        if getattr(config, name) is not None:
            raise InputError(f"{given} chooses the architecture; leave {flag(name)} out")
    if config.supernet is None:
        raise InputError(f"{given} needs --supernet RUN, from whose search or space it chooses")
    if min(config.top, config.top_random) < 0 or config.top + config.top_random < 2:
        raise InputError(
            f"{given} leaves nothing to choose; give --top and --top-random 2 or more together, or --fixed-arc RUN/arc.json"
        )
    if config.out is not None and os.path.realpath(config.out) != os.path.realpath(default_out(config)):
        raise InputError(f"{given} writes into '{config.supernet}'; leave --out out")
    refuse_torchrun(given)


def refuse_torchrun(given: str) -> None:
    """Refuse several processes for an option that trains several networks. `given` is the option as it was given."""
    if cli.rank_and_world()[1] > 1:
        raise InputError(f"{given} under torchrun: it trains --jobs networks at a time; start it without torchrun")


def as_given(changed: Sequence[tuple[str, Any, Any]]) -> list[tuple[str, Any, Any]]:
    """Changed options of a candidate's training by the names that they are given by: several of them follow from --top-epochs."""
    named = {"--epochs": "--top-epochs", "--eval-every": "--top-epochs"}
    found = list(dict.fromkeys((named.get(flag, flag), was, value) for flag, was, value in changed))
    follows = "--decay-epochs" if any(flag == "--top-epochs" for flag, *_ in found) else ""
    return [entry for entry in found if entry[0] != follows]
