"""Time a few real steps of a road's supernet and of one network, and extrapolate to the hours of its steps.

    python -m trials.road.measure_hours WORDS    for trials.run; the words of the steps and the answer are JSON

A search is estimated by its passes, for its architectures are not known yet.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import random
import sys
from collections.abc import Sequence
from typing import Any

from spaces.errors import InputError, Stopped
from trials.certifying.certify_config import RANDOM, SEEDS
from trials.common import cli
from trials.common.commands import config_module
from trials.road.hours import Hours
from trials.scoring import evaluate_config
from trials.search_driver.experiment_file import PAPER, SEARCHES
from trials.training import retrain_config, supernet_config
from trials.training.dry_run import supernet_hours, time_network, time_steps
from trials.training.retrain_plan import describe_network
from trials.training.supernet_plan import plan_supernet
from trials.training.supernet_trainer import SupernetTrainer

FORWARD = 1 / 3  # of a training step's time that a pass without the way back takes


def measure(steps: Sequence[Sequence[str]]) -> list[Hours]:
    """Time a few steps of what is trained.

    Args:
        steps: the words of the commands of the road, as they are typed after `trials.`.
    Raises:
        InputError: something that a step would refuse.
    """
    given = {words[0]: _options(words) for words in steps if words[0] in ("supernet", "search", "retrain", "certify")}
    plan = plan_supernet(supernet_config.Config(**given["supernet"]))
    config, data = plan.config, plan.data
    trainer = SupernetTrainer(config, data, plan.space, plan.loss_table, plan.paths)
    times = time_steps(trainer)
    found = [Hours("supernet", supernet_hours(trainer, times), f"{config.epochs:,} epochs")]

    # a score recalibrates BatchNorm and counts right answers, in passes without the way back
    wanted = given["search"]["max_trials"] or SEARCHES.get(config.preset, PAPER)
    images = min(evaluate_config.Config.calibration_images, data.size("train")) + data.size("score")
    of_score = FORWARD * images / config.batch_size * sum(times.seconds) / times.passes
    found.append(Hours("search", wanted * of_score / 3600, f"{wanted:,} architectures"))

    # a network within the limits stands for the winner and for those beside it
    options = given["retrain"] | {name: getattr(config, name) for name in retrain_config.FROM_SUPERNET}
    network = retrain_config.Config(**options | {"supernet": None, "resume": False, "resolution": data.resolution})
    network, _ = network.fitted(data.size(network.training_part))
    described, *_ = describe_network(network, plan.feasible.sample(random.Random(0)), data)
    seconds, _ = time_network(network, described, data)
    each = seconds * data.steps_per_epoch(network.training_part, network.batch_size) * network.epochs / 3600
    training = f"{network.epochs:,} epochs, about {each:.2f} hours each"
    found.append(_trainings("retrain", network.seeds, each, network.jobs, training))
    own, seeds = given["certify"], max(given["certify"]["seeds"] or SEEDS, network.seeds)
    beside = (own["random"] or RANDOM) + 1  # and the cheapest architecture, which takes less
    return [*found, _trainings("certify", beside * seeds, each, own["jobs"] or network.jobs, training)]


def _trainings(step: str, number: int, each: float, jobs: int, what: str) -> Hours:
    """What trainings of networks take, at best where several run at a time."""
    at_once = min(jobs, number)
    some = f", {at_once} at a time where the machine has cores or memory for all" * (at_once > 1)
    return Hours(step, each * number / at_once, f"{number} training{'s' * (number != 1)} of {what}{some}")


def _options(words: Sequence[str]) -> dict[str, Any]:
    """The options of a step, by their names in its Config."""
    module = importlib.import_module(config_module(words[0]))
    return cli.read(module.Config, list(words[1:]), None, f"trials.{words[0]}")[0]


if __name__ == "__main__":
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # what the plans say, the steps say again
            answer: object = measure(json.loads(sys.argv[1]))
    except (InputError, Stopped) as error:
        answer = str(error)
    print(json.dumps(answer))
