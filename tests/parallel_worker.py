"""Two steps of both trainers in float64, alone or as one of several processes of torchrun; see test_parallel.py.

torchrun --nproc-per-node 2 -m tests.parallel_worker CASES.json FOLDER
"""

import json
import sys

import torch

import spaces
from spaces.cost import measure
from spaces.spec import SpaceSpec
from strategies.feasible import FeasibleSpace
from trials import retrain
from trials.common import cli
from trials.common.distributed import average
from trials.images.load import load_data
from trials.networks import accuracy
from trials.training import retrain_plan, retrain_trainer, supernet_config, supernet_plan
from trials.training.supernet_trainer import SupernetTrainer


def main() -> None:
    cases, folder = sys.argv[1:]
    torch.set_default_dtype(torch.float64)  # rounding is amplified many times by an untrained network
    with open(cases) as file:
        for name, options in json.load(file).items():
            (retrain_one if name.startswith("retrain") else run)(options, f"{folder}/{name}.pt")


def run(flags: list[str], out: str) -> None:
    config = cli.parse(supernet_config.Config, flags, None, "trials.supernet")
    data = load_data(config, 32, score_fraction=config.score_fraction, arch_fraction=config.arch_fraction)
    config, _ = config.fitted(data.size("train"))
    options = {"classes": len(data.classes), "resolution": 32}
    about = {"name": config.space, "preset": config.preset, "options": options}
    table = measure(spaces.describe(config.space, config.preset))
    paths = supernet_plan.make_paths(
        config, spaces.describe(config.space, config.preset), FeasibleSpace(table, config.limits()), data
    )
    trainer = SupernetTrainer(config, data, SpaceSpec.read(about), table, paths)
    for layer in trainer.supernet.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0  # every process draws its own
    losses, costs = [], []
    for step, (images, labels, arch) in zip(range(2), trainer.batches(0), strict=False):
        losses.append(trainer.step(step, images.double(), labels)[0])
        costs += [trainer.arch_step(step, number, x.double(), y)[0].expected_cost for number, (x, y) in enumerate(arch)]
    mean = torch.stack(losses)
    average([mean])
    if trainer.rank == 0:
        state = trainer.state()
        torch.save({"model": state["model"], "search": state.get("search", {}), "losses": mean, "costs": costs}, out)


def retrain_one(flags: list[str], out: str) -> None:
    config = cli.parse(retrain.Config, flags, None, "trials.retrain")
    data = retrain_trainer.open_data(config)
    config, _ = config.fitted(data.size("all"))
    arch = None if config.baseline else retrain_plan.read_arch(config)
    network, _, _ = retrain_plan.describe_network(config, arch, data)
    trainer = retrain_trainer.NetworkTrainer(config, network, 0, data)
    losses = []
    for step, (images, labels) in zip(range(2), trainer.batches(0), strict=False):
        losses.append(trainer.step(step, images.double(), labels)[0])
    mean = torch.stack(losses)
    average([mean])
    counts = accuracy.count_correct(trainer.fabric, trainer.tested_network.float(), data, "test")
    if trainer.rank == 0:
        model = {name: tensor.double() for name, tensor in trainer.tested_network.state_dict().items()}
        torch.save({"model": model, "search": {}, "losses": mean, "counts": counts}, out)


if __name__ == "__main__":
    main()
