"""What a run of trials.supernet or trials.retrain would take: steps, memory and hours. It times a few steps, writes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from spaces.arch import activate_mixture
from spaces.cost import CostTable
from trials.images.dataset import Data
from trials.training import retrain_config, sizing, supernet_config
from trials.training.memory import GIB, saved_bytes, weight_bytes
from trials.training.retrain_trainer import NetworkTrainer
from trials.training.supernet_trainer import SupernetTrainer

if TYPE_CHECKING:
    from trials.training.retrain_plan import RetrainPlan

WARM_STEPS, TIMED_STEPS, MOST_TIMED = 2, 5, 60
# Steps are timed for at least as long: other work on the machine comes and goes within seconds, and a moment can be one without it
TIMED_SECONDS = 3.0


@dataclass(frozen=True)
class StepTimes:
    """What a few real steps took.

    Attributes:
        seconds: of each timed step, with the architecture steps that follow it.
        passes: forward and backward passes of the weights in all timed steps.
        activation_bytes: the most that one pass of a path keeps for its backward pass, in the steps before the timed ones.
    """

    seconds: list[float]
    passes: int
    activation_bytes: int


def estimate(trainer: SupernetTrainer, table: CostTable) -> list[tuple[str, str]]:
    """Run a few real steps and extrapolate.

    Args:
        table: the cost table of the space, which knows how many architectures there are.
    Returns:
        Rows of a table: name and value. Memory is that of this process: weights, gradients and optimiser state of the whole
        supernet, and what one pass of a path keeps for its backward pass; on a GPU also the peak that was measured.
    """
    config, device = trainer.config, trainer.fabric.device
    parameters = sum(p.numel() for p in trainer.supernet.parameters())
    times = time_steps(trainer)
    step_seconds = sum(times.seconds) / len(times.seconds)
    hours = supernet_hours(trainer, times)
    of_supernets = f" for {config.supernets} supernets" * (config.supernets > 1)
    memory = weight_bytes(parameters, config.optimizer, config.momentum) + times.activation_bytes
    paths = trainer.paths.paths_per_step() if trainer.paths else 1
    rows = [
        ("architectures", f"{table.architectures():.2e}"),
        ("parameters of the supernet", f"{parameters:,}"),
        (
            "passes per step of the weights",
            f"{paths} {'paths' if trainer.paths else 'mixture or path'} of {config.batch_size:,} images",
        ),
        ("steps", f"{trainer.steps:,} ({config.epochs} epochs of {trainer.steps_per_epoch:,})"),
        ("processes", f"{trainer.world}, {device.type}"),
        (
            "memory of a process, estimated",
            f"{memory / GIB:.2f} GiB ({times.activation_bytes / GIB:.2f} GiB of activations)",
        ),
        ("seconds per step", f"{step_seconds:.3f} (mean of {len(times.seconds)} steps)"),
        ("images per second", f"{config.batch_size / step_seconds:,.0f}"),
        ("hours expected", f"{hours * config.supernets:.2f}{of_supernets}, without evaluations"),
    ]
    if trainer.search is not None:
        rows.insert(4, ("architecture steps per epoch", f"{trainer.arch_steps_per_epoch:,}"))
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
        rows.insert(-3, ("GPU memory, measured peak", f"{peak / GIB:.2f} GiB"))
    return rows


def supernet_hours(trainer: SupernetTrainer, times: StepTimes) -> float:
    """Hours that a supernet trains, without evaluations; the passes of a step can differ from epoch to epoch."""
    per_epoch = trainer.steps_per_epoch
    passes = per_epoch * sum(len(trainer.paths_of_step(epoch * per_epoch)) for epoch in range(trainer.config.epochs))
    return sum(times.seconds) / times.passes * (passes + trainer.op_warmup.more_passes()) / 3600


def estimate_network(plan: RetrainPlan) -> list[tuple[str, str]]:
    """Train the network of a retraining for a few real steps and extrapolate.

    Returns:
        Rows of a table: name and value.
    """
    config = plan.config
    seconds, memory = time_network(config, plan.network, plan.data)
    steps, at_once = plan.images // config.batch_size, min(config.jobs, config.seeds)
    hours = seconds * steps * -(-config.seeds // at_once) / 3600
    per_epoch = steps // config.epochs
    return [
        ("MACs, params", f"{plan.macs:,}, {plan.params:,}"),
        ("steps of a seed", f"{steps:,} ({config.epochs} epochs of {per_epoch:,}), {config.batch_size:,} images each"),
        ("memory of a process, estimated", f"{memory / GIB:.2f} GiB"),
        ("seconds per step", f"{seconds:.3f} (mean of a few steps, one process alone)"),
        ("images per second", f"{config.batch_size / seconds:,.0f}"),
        ("hours expected", f"{hours:.2f} for {config.seeds} seeds, {at_once} at a time, without evaluations"),
    ]


def advise(
    config: supernet_config.Config | retrain_config.Config, recipe: Mapping[str, Any], images: int, kind: str
) -> str:
    """What a dry run advises about the options, in one or more lines.

    Args:
        config: the options, complete.
        recipe: that of the preset, or the one that was named.
        images: of the part that the weights learn from.
        kind: what is trained, network or supernet.
    """
    chosen = {name: getattr(config, name) for name in sizing.SIZED}
    found = sizing.advice(recipe, chosen, images, kind)
    return "\n".join(f"advice: {line}" for line in found) or "advice: batch, epochs and rate fit the number of images"


def time_steps(trainer: SupernetTrainer) -> StepTimes:
    """Take some of the last steps of a run: there every width is open, one path is run, and the architecture parameters learn.

    The first WARM_STEPS of them are not timed; where a run has no more than these, all are. See `_enough` for how many are.
    """
    count = min(WARM_STEPS + MOST_TIMED, max(1, trainer.steps - trainer.warm_steps))
    first = trainer.steps - count
    activation_bytes, passes, seconds = 0, 0, []
    batches = trainer.batches(first)
    began = time.perf_counter()
    for number, (images, labels, arch_batches) in enumerate(islice(batches, count)):
        if number < WARM_STEPS:
            activation_bytes = max(activation_bytes, measure_activations(trainer, first + number, images))
        if trainer.op_warmup.steps and not number:  # its first step runs all candidates of all blocks
            activation_bytes = max(activation_bytes, measure_activations(trainer, trainer.warm_steps, images))
        trainer.step(first + number, images, labels)
        for arch_number, (x, y) in enumerate(arch_batches):
            trainer.arch_step(first + number, arch_number, x, y)
        if trainer.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        if number >= WARM_STEPS or count <= WARM_STEPS:
            seconds.append(time.perf_counter() - began)
            passes += len(trainer.paths_of_step(first + number))
        if _enough(seconds):
            break
        began = time.perf_counter()
    batches.close()  # type: ignore[attr-defined]
    return StepTimes(seconds, passes, activation_bytes)


def _enough(seconds: Sequence[float]) -> bool:
    """Whether so many steps were timed: at least TIMED_STEPS, and TIMED_SECONDS long."""
    return len(seconds) >= TIMED_STEPS and sum(seconds) >= TIMED_SECONDS


def measure_activations(trainer: SupernetTrainer, step: int, images: torch.Tensor) -> int:
    """Bytes that one pass of the first path of a step keeps for its backward pass.

    Args:
        images: a batch (N, 3, R, R); its first micro-batch is run.
    """
    activate_mixture(trainer.supernet, trainer.paths_of_step(step)[0])
    micro_batch = images.chunk(trainer.config.accumulate)[0].to(trainer.fabric.device)
    return saved_bytes(trainer.model, trainer.supernet, micro_batch)


def time_network(config: retrain_config.Config, description: Mapping[str, Any], data: Data) -> tuple[float, int]:
    """Train a fixed network for a few real steps, on the device and by the recipe of a run; nothing is written.

    Args:
        config: the options of trials.retrain, complete (those of `plan_retraining`).
        description: a network description, see trials.networks.build.
    Returns:
        Seconds per step, their mean; bytes that one training needs, see trials.training.memory.
    """
    trainer = NetworkTrainer(config, description, 0, data)
    count = min(WARM_STEPS + MOST_TIMED, max(1, trainer.steps))
    seconds, activations, began = [], 0, time.perf_counter()
    batches = trainer.batches(0)
    for number, (images, labels) in enumerate(islice(batches, count)):
        if not number:
            activations = saved_bytes(trainer.model, trainer.network, images.to(trainer.fabric.device))
        trainer.step(number, images, labels)
        if trainer.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        if number >= WARM_STEPS or count <= WARM_STEPS:
            seconds.append(time.perf_counter() - began)
        if _enough(seconds):
            break
        began = time.perf_counter()  # making the next batch counts too
    batches.close()  # type: ignore[attr-defined]
    parameters = sum(p.numel() for p in trainer.network.parameters())
    return sum(seconds) / len(seconds), weight_bytes(parameters, config.optimizer, config.momentum) + activations
