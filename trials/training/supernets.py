"""Several supernets in one run, of consecutive seeds, whose scores are averaged. A search ranks by their mean better than by one
(docs/evaluation.md).

RUN/supernet.pt holds all of them, and is there when the last is trained; what is trained before lies in RUN/supernets/. So
`--resume` goes on with the supernet that was interrupted, and adds further ones to a run that is complete.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from trials.common import run_dir
from trials.common.checkpoint import load_checkpoint, weights_in
from trials.training.supernet_plan import SupernetPlan, make_paths

if TYPE_CHECKING:
    import torch

    from trials.training.supernet_config import Config

FOLDER = "supernets"  # in the run
TRAINED = f"{FOLDER}/trained.pt"  # the first few, while others are still to be trained


def folder_of(run: Path, config: Config, number: int) -> Path:
    """Where log, checkpoints and boards of a supernet are: the run for the first, else RUN/supernets/seedK.

    Args:
        number: of the supernet, from 0 on.
    """
    return run / FOLDER / f"seed{config.seed + number}" if number else run


def trained_weights(run: Path) -> list[dict[str, torch.Tensor]]:
    """The state dicts of the supernets that are trained to the end, in the order of their seeds.

    Raises:
        InputError: their file is damaged.
    """
    # the first process may rename one to the other meanwhile
    for path in (run / TRAINED, run / "supernet.pt", run / TRAINED):
        if path.exists():
            return weights_in(load_checkpoint(path, "supernet", needs=("model",), mmap=True))
    return []


def reopen(run: Path) -> None:
    """Let a complete run be incomplete, as further supernets are wanted."""
    if (run / "supernet.pt").exists():
        (run / FOLDER).mkdir(exist_ok=True)
        os.replace(run / "supernet.pt", run / TRAINED)


def keep_weights(run: Path, plan: SupernetPlan, weights: list[dict[str, torch.Tensor]]) -> None:
    """Write what is trained: RUN/supernet.pt where that is all."""
    contents = {"space": plan.space.plain(), "seed": plan.config.seed, "preprocessing": plan.data.preprocessing()}
    more = {"more": weights[1:]} if weights[1:] else {}
    whole = len(weights) == plan.config.supernets
    run_dir.save_checkpoint(run / ("supernet.pt" if whole else TRAINED), {"model": weights[0], **more, **contents})
    if whole:
        (run / TRAINED).unlink(missing_ok=True)


def plan_of(plan: SupernetPlan, number: int) -> SupernetPlan:
    """What the training of one supernet consists of: the plan with its seed."""
    if not number:
        return plan
    config = dataclasses.replace(plan.config, seed=plan.config.seed + number)
    return dataclasses.replace(plan, config=config, paths=make_paths(config, plan.chain, plan.feasible, plan.data))
