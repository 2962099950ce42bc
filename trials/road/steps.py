"""The commands of the road, and the options that they are given: typed ones, and those of the file of options."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from trials.common import cli
from trials.common.commands import VERBS, config_module
from trials.common.fields import spelled
from trials.images.options import IN_MEMORY, KEPT_BY_RUNS
from trials.training.start_options import retrain_folder
from trials.training.strategy_options import DIFFERENTIABLE

# Options of trials.run that are passed on, and the steps that take them; what they may be is known there
PASSED = {
    **dict.fromkeys(("space", "space_options", "preset", "resolution", "supernets"), ("supernet",)),
    **dict.fromkeys(("epochs", "class_weights"), ("supernet", "retrain")),
    **dict.fromkeys(KEPT_BY_RUNS, ("data", "supernet")),
    "device": ("supernet", "retrain", "certify"),
    "max_trials": ("search",),
    "seeds": ("retrain", "certify"),
    "random": ("certify",),
    "jobs": ("retrain", "certify"),
}
SEARCHED = "window"  # the strategy of a supernet that is searched within a limit
SEEDS = 2  # of the winner: the noise of training is known from two on
# What trials.retrain does instead of training the winner from scratch, which is the road's
OTHER_TRAININGS = ("frontier", "top", "top-random", "baseline", "pretrained", "from-supernet", "import-official")

Step = tuple[list[str], Path | None]


def learns(config: Any) -> bool:
    """Whether a differentiable strategy learns the winner, so that nothing is searched."""
    return config.strategy in DIFFERENTIABLE


def steps(config: Any) -> list[Step]:
    """The commands of the road, without what is passed on.

    Args:
        config: the options of trials.run.
    Returns:
        Words of each command without `trials.`, and the file that is there when it need not be done again; None: it looks itself.
    """
    run, folder = Path(config.out), config.images not in IN_MEMORY
    data = ["--data", "folder", "--data-root", config.images] if folder else ["--data", config.images]
    limit = ["--strategy", config.strategy or SEARCHED, "--max-macs", config.max_macs] if config.max_macs else []
    search = ["search", str(run), "--resume"] + ["--in-process"] * config.in_process
    retrain = ["retrain", "--fixed-arc", str(run / "arc.json"), "--supernet", str(run), "--resume"]
    network = network_folder(config)
    road: list[Step] = [
        (["supernet", *data, *limit, "--out", str(run), "--resume"], None),  # refuses options that have changed
        *([] if learns(config) else [(search, run / "arc.json")]),
        (retrain, network / "result.json"),
        (["certify", str(run)], None),  # before the export, whose model card has its verdict
        (["export", "--weights", str(network)], network / "export" / "export.json"),
        (["report", str(run)], None),
    ]
    if folder:  # exits with 1 where files are left out, which the supernet does too, and says
        road.insert(0, (["data", "check", config.images, "--out", str(run / "check.png")], run / "check.png"))
    return road


def network_folder(config: Any) -> Path:
    """Where the winner is trained; before there is one, where it would be."""
    return retrain_folder(Path(config.out) / "arc.json", "")


def typed_for(step: str, config: Any) -> dict[str, Any]:
    """The options of trials.run that a step takes, by their names there."""
    given = {name: getattr(config, name) for name, takers in PASSED.items() if step in takers}
    return {name.replace("_", "-"): value for name, value in given.items() if value is not None}


def section_for(step: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The section of a step in the file of options."""
    section = given.get(step)
    if section is not None and not isinstance(section, dict):
        return {}  # the parser of the step refuses it
    options = {str(name).replace("_", "-"): value for name, value in (section or {}).items()}
    with contextlib.suppress(InputError):  # which the parser of the step says with the file's name
        return spelled(importlib.import_module(config_module(step)).Config, options)
    return options


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Options as they are typed."""
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def check(words: list[str], fixed: list[str], section: Mapping[str, Any], file: str) -> None:
    """Refuse options that a step would refuse, or that the road decides, before the first step.

    Args:
        words: of the step, with all options.
        fixed: those of them that the road decides.
        section: of the step in the file of options.
    Raises:
        InputError: an option that is not known, cannot have this value, is decided here, contradicts another, or needs a GPU
            where there is none.
    """
    step = words[0]
    module = importlib.import_module(config_module(step))
    start = 2 if step in VERBS else 1
    options, *_ = cli.read(module.Config, words[start:], None, f"trials.{step}")
    decided = {word for word in fixed if word.startswith("--")} - {"--resume"}
    positional = getattr(module.Config, "positional", None)
    for name in section:
        if (cli.flag(name) in decided and name != "in-process") or name.replace("-", "_") == positional:
            raise InputError(f"'{file}', {step}: {name} is decided by trials.run itself; leave it out there")
        if step == "retrain" and name in OTHER_TRAININGS:
            raise InputError(
                f"'{file}', retrain: {name} has no place in trials.run, which trains the winner; leave it out there, and give it "
                "to trials.retrain --supernet RUN afterwards"
            )
    if step == "retrain" and not (Path(options["supernet"]) / "config.json").exists():
        options["supernet"] = None  # it is still to come
    cli.require_gpu(module.Config(**options))
