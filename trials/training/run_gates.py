"""What the gates are told about the training of a supernet and of a network: before it, in its middle, at its end.

The numbers that a training is measured against are those of its recipe, fitted to the number of images (`sizing`); the command
that a warning gives is the one that was typed, with these numbers and another folder.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from spaces.files import read_jsonl
from trials.common import cli, typed
from trials.evidence import gates, image_gates
from trials.evidence.gates import LONGER, GateWarning
from trials.evidence.intervals import accuracy_interval
from trials.images.dataset import Data
from trials.training import retrain_config, sizing, supernet_config
from trials.training.image_warnings import Wanted, larger_test, look_at_images, look_command
from trials.training.retrain_result import seed_results
from trials.training.short_training import beside_the_floor
from trials.training.strategy_options import DIFFERENTIABLE

MOST_SCORE = 0.4  # the largest part of the training images that is worth scoring on
Found = list[GateWarning | None]
Again = Callable[[Mapping[str, object]], str]


def before_supernet(config: supernet_config.Config, data: Data) -> Found:
    """What is wrong with a supernet before its first step. Nothing is where it is imported."""
    if config.import_official:
        return []
    images = data.size(_parts_of_supernet(config)[0])
    steps = config.epochs * (images // config.batch_size)
    # the steps of a warm start train one path, not the supernet
    warm = config.warm_steps(steps)
    enough = sizing.enough_steps(config.recipe(), images, "supernet", config.batch_size)
    found = [
        gates.few_steps(
            steps - warm,
            round(enough * (1 - min(config.warm_start, 0.5))),
            config.batch_size,
            images,
            "",
            after=" after the warm start" if warm else "",
        ),
        *_batch_and_rate(config, config.recipe(), images),
    ]
    small = image_gates.small_test(data.class_counts("test"), look_command(config)) if data.name == "folder" else None

    differences = _supernet_differences(config, data) if any(found) else {}
    if config.warm_start > 0.5:
        differences["--warm-start"] = 0.3
    fraction = larger_test(config, data) if small else None
    wanted: list[Wanted] = [*((warning, differences) for warning in found), *look_at_images(config, data, "supernet")]
    wanted.append((small, {"--test-fraction": fraction} if fraction else {}))
    return _with_one_command(wanted, lambda changes: typed.again(config.out, changes))


def supernet_loss(config: supernet_config.Config, data: Data, folder: Path, *, whole: bool) -> GateWarning | None:
    """Whether the loss of a supernet falls, by its log. The warm start trains one path, and its losses are others.

    Args:
        folder: of its log.
        whole: whether the training is over.
    """
    steps = config.epochs * (data.size(_parts_of_supernet(config)[0]) // config.batch_size)
    last = steps // 2 if config.width_warmup else steps  # what narrow widths do to the loss says nothing
    command = typed.again(config.out, _supernet_differences(config, data) or {"--lr": _lower(config.lr)})
    return gates.flat_loss(_losses(folder, config.warm_steps(steps), last), command, whole=whole)


def after_supernet(config: supernet_config.Config, data: Data, folder: Path) -> Found:
    """What is wrong with a supernet that is trained to the end: its loss, and the balanced accuracy of its fixed paths.

    Args:
        folder: of its log.
    """
    differences = _supernet_differences(config, data)
    loss = supernet_loss(config, data, folder, whole=True)
    measured = [entry for entry in _log(folder) if "fixed_paths" in entry]
    known = measured[-1].get("fixed_paths_balanced") if measured else None  # not in the log of an older version
    near = known and gates.near_chance(known, "", flat=loss is not None)
    more = {"--score-fraction": min(MOST_SCORE, 2 * config.score_fraction)}
    wanted: list[Wanted] = [
        (loss, differences or {"--lr": _lower(config.lr)}),
        (
            near,
            more if near and near.gate == gates.FEW_SCORING else differences or {"--epochs": LONGER * config.epochs},
        ),
    ]
    return _with_one_command(wanted, lambda changes: typed.again(config.out, changes))


def before_retraining(config: retrain_config.Config, data: Data, again: Again | None = None) -> Found:
    """What is wrong with a retraining before its first step.

    Args:
        again: gives the command that trains anew with some options changed; None: that of this network alone.
    """
    again = again or partial(_retrain_again, config)
    fraction = larger_test(config, data)
    # a network is tested on the images of its supernet, so it is the supernet that needs others
    owner = config.supernet or config.out
    more = typed.again(owner, {"--test-fraction": fraction}) if fraction else look_command(config)
    said = [entry["command"] for entry in gates.read_warnings(Path(owner)) if entry["gate"] == image_gates.SMALL_TEST]
    small = image_gates.small_test(data.class_counts("test"), said[0] if said else more)
    wanted: list[Wanted] = [*look_at_images(config, data, "retrain"), (small, {})]
    if config.import_official:
        return _with_one_command(wanted, again)
    images = data.size(config.training_part)
    recipe = config.recipe_values()
    steps = config.epochs * (images // config.batch_size)
    enough = sizing.enough_steps(recipe, images, config.kind, config.batch_size)
    differences = _differences(config, _fit(recipe, config, images))
    found = [gates.few_steps(steps, enough, config.batch_size, images, ""), *_batch_and_rate(config, recipe, images)]
    wanted = [*((warning, differences) for warning in found), *wanted]
    return _with_one_command(wanted, again)


def network_loss(
    config: retrain_config.Config, data: Data, seed: int, *, whole: bool, again: Again | None = None
) -> GateWarning | None:
    """Whether the loss of a network falls, by the log of its seed.

    Args:
        whole: whether the training is over.
        again: as for `before_retraining`.
    """
    command = (again or partial(_retrain_again, config))(_loss_differences(config, data))
    return gates.flat_loss(_losses(Path(config.out) / f"seed{seed}"), command, whole=whole)


def after_retraining(
    config: retrain_config.Config, data: Data, floor: Mapping[str, Any], again: Again | None = None
) -> Found:
    """What is wrong with a network that is trained and tested with all its seeds: its loss, and its place at the floor.

    Args:
        floor: of these images, see `trials.evidence.floor`.
        again: as for `before_retraining`.
    """
    if config.import_official:
        return []
    again = again or partial(_retrain_again, config)
    results = seed_results(Path(config.out), config.seeds)
    accuracy = accuracy_interval([result["test_correct"] for result in results], results[0]["test_images"])
    losses = (network_loss(config, data, seed, whole=True, again=again) for seed in range(config.seeds))
    wanted = [
        (next(filter(None, losses), None), _loss_differences(config, data)),
        (beside_the_floor(config, data, accuracy, floor), longer_training(config, data)),
    ]
    return _with_one_command(wanted, again)


def longer_training(config: retrain_config.Config, data: Data) -> dict[str, object]:
    """Options of a network's training that is longer: those of the fitted recipe, or more epochs where these are its own."""
    fitted = _fit(config.recipe_values(), config, data.size(config.training_part))
    return _differences(config, fitted) or {"--epochs": LONGER * config.epochs}


def _loss_differences(config: retrain_config.Config, data: Data) -> dict[str, object]:
    """Options of a network's training whose loss may fall: those of the fitted recipe, or a lower rate."""
    fitted = _fit(config.recipe_values(), config, data.size(config.training_part))
    return _differences(config, fitted) or {"--lr": _lower(config.lr)}


def _with_one_command(wanted: Sequence[Wanted], command: Callable[[Mapping[str, object]], str]) -> Found:
    """Give warnings of one run the one command that mends them all: two could not both be typed.

    Args:
        wanted: warnings, each with the options that mend it; one that has a command and no options keeps it.
        command: makes a command with such options.
    """
    changes = {option: value for warning, mending in wanted if warning for option, value in mending.items()}
    own = [bool(warning and warning.command and not mending) for warning, mending in wanted]
    line = command(changes) if any(warning and not kept for (warning, _), kept in zip(wanted, own, strict=True)) else ""
    given = " ".join(f"{option} {shlex.quote(str(value))}" for option, value in changes.items() if value is not None)
    return [
        warning if kept or not warning else dataclasses.replace(warning, command=line, options=given)
        for (warning, _), kept in zip(wanted, own, strict=True)
    ]


def _retrain_again(config: retrain_config.Config, changes: Mapping[str, object]) -> str:
    """The command that trains this network anew with some options changed; it is not chosen once more.

    A search's winner must be in RUN/retrain, or report and certificate would still look at the earlier one.
    """
    choice = dict.fromkeys(("--top", "--top-random", "--top-epochs", "--frontier"))
    network = {**choice, "--fixed-arc": config.fixed_arc} if config.fixed_arc else {}
    return typed.anew(config.out, {**network, **changes})


def _parts_of_supernet(config: supernet_config.Config) -> tuple[str, ...]:
    """The parts of the images that are learned from, that of the weights first."""
    return ("weights", "arch") if config.strategy in DIFFERENTIABLE else ("train",)


def _supernet_differences(config: supernet_config.Config, data: Data) -> dict[str, object]:
    """The options of a supernet that differ from the fitted recipe, as they must be given."""
    fitted = _fit(config.recipe(), config, min(data.size(part) for part in _parts_of_supernet(config)))
    return _differences(config, fitted)


def _fit(
    recipe: Mapping[str, Any], config: supernet_config.Config | retrain_config.Config, images: int
) -> dict[str, Any]:
    """Epochs, batch size and rate that a recipe takes for so many images where nothing is given."""
    pieces = cli.rank_and_world()[1] * getattr(config, "accumulate", 1)
    kind = "supernet" if isinstance(config, supernet_config.Config) else config.kind
    values = sizing.fit("", recipe, {}, images, kind=kind, pieces=pieces).values
    same_optimizer = config.optimizer == recipe.get("optimizer", "sgd")  # rates of two optimisers are not comparable
    return {name: values[name] for name in sizing.SIZED if name != "lr" or same_optimizer}


def _differences(
    config: supernet_config.Config | retrain_config.Config, fitted: Mapping[str, Any]
) -> dict[str, object]:
    """The options that differ from the fitted recipe, as they must be given; more epochs than it has are kept."""
    return {
        cli.flag(name): value
        for name, value in fitted.items()
        if getattr(config, name) != value and not (name == "epochs" and config.epochs > value)
    }


def _batch_and_rate(
    config: supernet_config.Config | retrain_config.Config, recipe: Mapping[str, Any], images: int
) -> Found:
    """What both trainings are asked about their batches; the command is still to come."""
    found: Found = [gates.large_batch(config.batch_size, images, "")]
    if config.optimizer == recipe.get("optimizer", "sgd"):
        found += [gates.rate_of_batch(config.lr, config.batch_size, recipe["lr"], recipe["batch_size"], "")]
    return found


def _lower(lr: float) -> float:
    """A third of a rate, to two figures."""
    return float(f"{lr / LONGER:.2g}")


def _log(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log.jsonl; [] where there is none."""
    path = run / "log.jsonl"
    return read_jsonl(path) if path.exists() else []


def _losses(run: Path, first: int = 0, last: float = math.inf) -> list[float]:
    """The losses in the log of the steps after `first`, up to `last`."""
    return [entry["loss"] for entry in _log(run) if "loss" in entry and first < entry["step"] <= last]
