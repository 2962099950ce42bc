"""The trainers of `trials.supernet` and `trials.retrain`, without their files, for measurements.

Shapes: N images of a batch, R resolution in pixels.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.evaluation.candidates import COSTS
from spaces.arch import Arch
from spaces.cost import CostTable
from spaces.files import CLONE
from spaces.spec import SpaceSpec
from strategies.feasible import FeasibleSpace
from trials.images.augment import Augmentation
from trials.images.dataset import Batch, Data
from trials.training import retrain_config, supernet_config
from trials.training.retrain_trainer import NetworkTrainer
from trials.training.supernet_plan import make_paths, plan_supernet
from trials.training.supernet_trainer import SupernetTrainer

CLASSES = 1000
EPOCHS = 1_000_000  # so many that the learning rate hardly falls


class PreparedData(Data):
    """Batches that were prepared beforehand, in the place of a data set.

    Args:
        batches: normalised images (N, 3, R, R) and labels (N,), on the device.
    """

    def __init__(self, batches: list[Batch]) -> None:
        images, _ = batches[0]
        labels = torch.cat([labels for _, labels in batches]).cpu().numpy()
        numbers = np.arange(len(labels))
        parts = {"train": numbers, "score": numbers[:0], "test": numbers[:0]}
        names = [str(number) for number in range(CLASSES)]
        resolution = images.shape[-1]
        super().__init__("folder", names, resolution, labels, parts, 0.0, spos=False, augmentation=Augmentation())
        self.batches = [(images.to(memory_format=torch.channels_last), labels) for images, labels in batches]

    def to(self, device: torch.device) -> None:
        """The batches are there already."""
        self.device = device


def supernet_trainer(
    batches: list[Batch], lr: float, weight_decay: float, label_smoothing: float, **options: Any
) -> SupernetTrainer:
    """The trainer of a SPOS supernet with uniform paths, on the device of its batches, in this device's own precision.

    Args:
        options: further ones of trials.supernet.
    """
    data = PreparedData(batches)
    config = supernet_config.Config(
        out="unused",
        data="digits",  # is not opened
        preset="imagenet",
        batch_size=len(batches[0][1]),
        epochs=EPOCHS,
        lr=lr,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        warm_start=0.0,
        eval_paths=0,
        device=batches[0][0].device.type,
        **options,
    )
    space = SpaceSpec("spos", "imagenet", {"classes": CLASSES, "resolution": data.resolution})
    table = CostTable.load(CLONE / COSTS)
    paths = make_paths(config, space.describe(), FeasibleSpace(table, config.limits(), None), data)
    return SupernetTrainer(config, data, space, table, paths)


def supernet_trainer_of(**options: Any) -> SupernetTrainer:
    """The trainer that `trials.supernet` makes of its options, without fixed paths."""
    plan = plan_supernet(supernet_config.Config(out="unused", eval_paths=0, **options))
    return SupernetTrainer(plan.config, plan.data, plan.space, plan.loss_table, plan.paths)


def network_trainer(data: Data, space: SpaceSpec, arch: Arch, batch_size: int, device: str) -> NetworkTrainer:
    """The trainer of one architecture from scratch, with the recipe of its space."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "arc.json"
        file.write_text(json.dumps(arch))
        config = retrain_config.Config(
            fixed_arc=str(file),
            out="unused",
            space=space.name,
            preset=space.preset,
            data="digits",  # is not opened
            batch_size=batch_size,
            epochs=EPOCHS,
            lr=0.05,
            device=device,
        )
    return NetworkTrainer(config, {"arch": arch, "space": space.plain()}, 0, data)
