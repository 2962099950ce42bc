"""Time a few real steps of a road's supernet and of one network, from which the time of its steps follows.

    python -m trials.road.measure_hours WORDS    for trials.run; the words of the steps and the answer are JSON

A search is estimated by a few paths, for its architectures are not known yet.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

import psutil
import torch

from spaces.errors import InputError, Stopped
from trials.certifying.certify_config import RANDOM, SEEDS
from trials.certifying.jobs import default_jobs
from trials.common import cli
from trials.common.commands import config_module
from trials.common.threads import use_free_cores
from trials.road.hours import FORWARD, NNI_TRIAL, Rates, Work, answer
from trials.scoring import evaluate_config
from trials.search_driver.experiment_file import PAPER, SEARCHES
from trials.training import retrain_config, supernet_config
from trials.training.dry_run import supernet_hours, time_network, time_steps
from trials.training.fixed_paths import FixedPaths
from trials.training.retrain_plan import describe_network
from trials.training.supernet_plan import plan_supernet
from trials.training.supernet_trainer import SupernetTrainer

PATHS = 5  # architectures that are scored
# of the time of paths one by one, which a search takes: the architectures of a generation share their first blocks. Measured by
# seconds of the processor: 0.42 for each of 30 architectures of spos tiny, and 0.75 one by one
SHARED = 0.6
DRAWN = 20  # architectures within a limit, of which the most costly is timed


def measure(steps: Sequence[Sequence[str]]) -> tuple[Rates, Work]:
    """Time a few steps of what is trained.

    Args:
        steps: the words of the commands of the road, as they are typed after `trials.`.
    Raises:
        InputError: something that a step would refuse.
    """
    given = {words[0]: _options(words) for words in steps if words[0] in ("supernet", "search", "retrain", "certify")}
    plan = plan_supernet(supernet_config.Config(**given["supernet"]))
    start = time.time() - psutil.Process().create_time()  # imports and images, as each step has them
    use_free_cores(plan.config.out)
    slowed = max(1.0, start / time.process_time())
    config, data = plan.config, plan.data
    trainer = SupernetTrainer(config, data, plan.space, plan.loss_table, plan.paths)
    times = time_steps(trainer)

    # a few paths are scored as the supernet scores its fixed paths, and a search all of its own on more images
    archs = plan.fixed_archs or [plan.feasible.sample(random.Random(number)) for number in range(PATHS)]
    paths = FixedPaths(plan.chain, archs, data, config.batch_size, trainer.fabric.device)
    began = time.perf_counter()
    paths.measure(trainer.result())
    path = (time.perf_counter() - began) / len(archs)
    images = min(evaluate_config.Config.calibration_images, data.size("train")) + data.size("score")
    score = SHARED * path * images / (sum(map(len, paths.calibration)) + paths.images)

    # a network stands for the winner and for those beside it; these are near the limit, where there is one
    options = given["retrain"] | {name: getattr(config, name) for name in retrain_config.FROM_SUPERNET}
    network = retrain_config.Config(**options | {"supernet": None, "resume": False, "resolution": data.resolution})
    network, _ = network.fitted(data.size(network.training_part))
    drawn = [plan.feasible.sample(random.Random(number)) for number in range(DRAWN if config.max_macs else 1)]
    described, *_ = describe_network(network, max(drawn, key=plan.feasible.table.macs), data)
    own, search = given["certify"], given.get("search")  # what is learned is not searched
    seeds = max(own["seeds"] or SEEDS, network.seeds)
    jobs = own["jobs"] or default_jobs(own["device"], own["precision"] or "auto")
    threads, per_epoch, epochs = (
        torch.get_num_threads(),
        data.steps_per_epoch(network.training_part, network.batch_size),
        {},
    )
    for at_once in {jobs, network.jobs}:
        torch.set_num_threads(max(1, threads // at_once))  # as trials.training.parallel does
        epochs[at_once] = per_epoch * time_network(network, described, data)[0]

    rates = Rates(
        start=start,
        supernet_epoch=3600 * supernet_hours(trainer, times) / config.epochs,
        paths=config.eval_paths * math.ceil(config.epochs / config.eval_every),
        path=path,
        score=score,
        trial=NNI_TRIAL if search and not search["in_process"] else 0.0,
        retrain_epoch=epochs[network.jobs],
        network_epoch=epochs[jobs],
        test=FORWARD * epochs[jobs] / per_epoch / network.batch_size * data.size("test"),
        retrain_jobs=network.jobs,
        jobs=jobs,
        slowed=slowed,
    )
    wanted = (search["max_trials"] or SEARCHES.get(config.preset, PAPER)) if search else 0
    return rates, Work(config.epochs, wanted, network.epochs, seeds, own["random"] or RANDOM, config.supernets)


def _options(words: Sequence[str]) -> dict[str, Any]:
    """The options of a step, by their names in its Config."""
    module = importlib.import_module(config_module(words[0]))
    return cli.read(module.Config, list(words[1:]), None, f"trials.{words[0]}")[0]


if __name__ == "__main__":
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # what the plans say, the steps say again
            line = answer(*measure(json.loads(sys.argv[1])))
    except (InputError, Stopped) as error:
        line = json.dumps(str(error))
    print(line)
