"""The options of trials.certify."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from spaces.errors import InputError
from trials.common import cli
from trials.common.cli import option, reuse
from trials.common.machine import TRAINING, require_few
from trials.common.options import LimitOptions, TrainingDeviceOptions
from trials.images.options import DataOptions

RANDOM, SEEDS = 8, 2
MANY_RANDOM = 20  # with as many, beating all of them happens to one blind draw in 21
OF_RETRAIN = "that of RUN/retrain, else auto"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TrainingDeviceOptions):
    """Options of trials.certify."""

    positional: ClassVar[str] = "run"

    run: str = option(
        help="Run directory of trials.supernet, searched or with an architecture that was learned",
        brief="Run directory of trials.supernet, searched or learned",
    )
    random: int = option(
        None,
        "Random architectures to compare the winner with",
        unset=f"{RANDOM}, or those of the last certificate if more",
    )
    seeds: int = option(
        None, "Trainings of each network, with the seeds from 0 on", unset=f"those of RUN/retrain, at least {SEEDS}"
    )
    jobs: int = option(
        None, "Trainings at the same time, each in a process of its own", unset="one for each core on a CPU, 1 on a GPU"
    )
    dry_run: bool = option(False, "Time a few steps, say how many hours it would take, and write nothing")
    data_root: str = reuse(DataOptions, "data_root", unset="where the images were")
    latency_table: str = reuse(LimitOptions, "latency_table", unset="where the search read it")
    precision: str = reuse(TrainingDeviceOptions, "precision", default=None, unset=OF_RETRAIN)
    cuda_graphs: str = reuse(TrainingDeviceOptions, "cuda_graphs", default=None, unset=OF_RETRAIN)
    compile: str = reuse(TrainingDeviceOptions, "compile", default=None, unset=OF_RETRAIN)

    def __post_init__(self) -> None:
        for name in ("random", "seeds", "jobs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{cli.flag(name)} {value} is below 1; give a larger number")
        require_few("--jobs", self.jobs or 1, TRAINING)
