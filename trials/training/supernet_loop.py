"""The loop that trains a supernet."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from spaces.arch import Arch
from strategies.arch_learner import Course
from strategies.feasible import FeasibleSpace
from trials.common import cli, run_dir
from trials.evidence.gates import keep_warnings
from trials.evidence.intervals import accuracy_interval
from trials.training.fixed_paths import FixedPaths
from trials.training.learned_arch import write_learned_arch
from trials.training.loop import LOG_EVERY, LastCheckpoint, TrainingLog, Window, stop_if_not_finite
from trials.training.run_gates import supernet_loss

FIXED_PATHS = " (architectures drawn once and always the same: does the supernet learn? a search recalibrates BatchNorm on more images)"

if TYPE_CHECKING:
    from trials.training.supernet_trainer import SupernetTrainer


def training_loop(
    trainer: SupernetTrainer, run: Path, folder: Path, feasible: FeasibleSpace, fixed_archs: Sequence[Arch]
) -> dict[str, torch.Tensor]:
    """The training loop, from the last checkpoint, if there is one.

    Args:
        trainer: takes the single steps.
        run: the folder of the run.
        folder: of log, checkpoints and boards; the run, but where it has several supernets.
        feasible: the part of the space within the limits.
        fixed_archs: the paths whose accuracy is followed.
    Returns:
        The state dict of the supernet, on the CPU; {} when it was stopped before the end.
    Raises:
        Stopped: a loss or weight is not finite.
        InputError: the processes see other images or checkpoints, or a logger cannot begin.
    """
    facts = {"command": "supernet", "network": "supernet"}
    name = (Path(run.resolve().name) / folder.relative_to(run)).as_posix()
    with TrainingLog(folder, trainer.config, facts=facts, name=name, store=run, writes=trainer.rank == 0) as log:
        return _loop(trainer, run, folder, feasible, fixed_archs, log)


def _loop(
    trainer: SupernetTrainer,
    run: Path,
    folder: Path,
    feasible: FeasibleSpace,
    fixed_archs: Sequence[Arch],
    log: TrainingLog,
) -> dict[str, torch.Tensor]:
    """`training_loop` with its log; arguments and result as there."""
    config, device, writes = trainer.config, trainer.fabric.device, trainer.rank == 0
    steps, per_epoch, size = trainer.steps, trainer.steps_per_epoch, config.batch_size
    stop = min(steps, config.stop_after or steps)
    print(_headline(trainer, feasible))

    # go on from the last checkpoint, if there is one
    checkpoint, window = LastCheckpoint(folder), Window(device)
    expected_costs: list[float] = []  # since the last line of the log
    course: Course | None = None  # after the last step of the architecture parameters
    state = checkpoint.resume(trainer)
    if state:
        window.restore(state["log"])
        expected_costs = state["log"]["costs"]
        course = Course(*state["log"]["course"]) if state["log"].get("course") else None
    first = checkpoint.step

    # the logs, the progress bar, and the losses that still have to be checked
    fixed_paths = FixedPaths(trainer.chain, fixed_archs, trainer.data, size, device) if writes and fixed_archs else None
    log.begin(first, per_epoch)
    earlier = log.earlier_seconds(size)
    probabilities = ProbabilityLog(trainer, run, log, first) if writes and trainer.search is not None else None
    bar = cli.progress(steps * size, desc="supernet", unit="img", initial=first * size)
    unchecked: list[tuple[int, torch.Tensor]] = []
    warm_steps, explained = config.warm_steps(steps), False  # explained: once per process, what fixed paths are
    if first < warm_steps:
        print(f"warm start: one path alone until step {warm_steps:,} of {steps:,}")
    opened = warm_steps + trainer.op_warmup.steps
    if trainer.op_warmup.steps and first < opened:
        print(
            f"op warm-up: blocks may run all their candidates at once, fewer and fewer of them until step {opened:,} of {steps:,}"
        )
    looked = 2 * first >= steps  # once, after half of the steps: does the loss fall?
    began = time.perf_counter()

    for step, (images, labels, arch_batches) in zip(range(first, stop), trainer.batches(first), strict=False):
        if step == 0:
            log.show(trainer, images)

        # one step of the weights, then those of the architecture parameters
        loss, top1 = trainer.step(step, images, labels)
        for number, batch in enumerate(arch_batches):
            course, arch_loss = trainer.arch_step(step, number, *batch)
            expected_costs.append(course.expected_cost)
            unchecked.append((step, arch_loss))
        unchecked.append((step, loss))
        window.add(loss, top1)
        bar.update(size)

        # what is due after this step; bad numbers stop the run before they are logged or saved
        done = step + 1
        saves = done % config.checkpoint_every == 0 or done == stop
        logs = done % min(LOG_EVERY, per_epoch) == 0 or done == stop
        if saves or logs:
            stop_if_not_finite(trainer, unchecked, checkpoint)
            unchecked.clear()

        # a line of the log
        if logs:
            mean, accuracy = window.means()
            values = {"loss": mean, "train_top1": accuracy}
            if expected_costs:
                values |= course._asdict() if course is not None else {}
                values["expected_cost"] = sum(expected_costs) / len(expected_costs)
                expected_costs.clear()
            log.write(done, {**values, "lr": trainer.rate(step), "images_per_second": window.speed(size)})
            bar.set_postfix_str(f"loss {mean:.3f}, top-1 {accuracy:.1f}%", refresh=False)
            if writes and not looked and 2 * done >= steps:
                looked = True
                keep_warnings(run, "supernet", [supernet_loss(config, trainer.data, folder, whole=False)], more=True)

        if done == warm_steps:
            bar.write(
                f"step {done:,}: the warm start ends; until now one path was trained, now all candidates begin with its weights"
            )

        # after an epoch: the accuracy of the fixed paths, and what the architecture parameters have learned
        if done % per_epoch == 0:
            if fixed_paths and (done % (per_epoch * config.eval_every) == 0 or done == steps):
                scores, balanced = fixed_paths.measure(trainer.result())
                mean = sum(scores) / len(scores)
                log.write(done, {"fixed_paths_top1": mean}, fixed_paths=scores, fixed_paths_balanced=balanced)
                shown = fixed_paths_text(scores, fixed_paths.images, fixed_paths.calibration_images)
                bar.write(
                    f"epoch {done // per_epoch}: {len(scores)} fixed paths{FIXED_PATHS * (not explained)} score {shown}"
                )
                explained = True
            if probabilities:
                probabilities.write(done)

        # the checkpoint comes last, so that a run that goes on from here has written all that comes before
        if saves:
            log.flush()
            checkpoint.save(
                trainer, done, log={**window.state(), "costs": expected_costs, "course": course and [*course]}
            )
    bar.close()

    if stop < steps:
        print(f"stopped after {stop:,} of {steps:,} steps; go on with --resume")
        return {}
    before = f", {earlier:.0f} of them before it was resumed" * bool(first)
    print(f"trained in {earlier + time.perf_counter() - began:.0f} s{before}")
    if writes and trainer.search is not None:
        write_learned_arch(trainer, run, feasible, course)
    return {name: tensor.cpu() for name, tensor in trainer.result().items()}


def fixed_paths_text(scores: Sequence[float], images: int, calibration: int) -> str:
    """The mean accuracy of fixed paths with its interval, the range, and the images that were used.

    Such as `41.3% [36.2, 46.6] (33.4 to 52.6; 359 scoring images, BatchNorm by 320)`.

    The paths answer the same images, so the interval is that of one path with this accuracy: more paths do not narrow it.

    Args:
        scores: percent, one for each path.
        images, calibration: numbers of images that give the scores, and that recalibrate BatchNorm.
    """
    mean = sum(scores) / len(scores)
    interval = accuracy_interval([round(mean * images / 100)], images)
    bounds = str(dataclasses.replace(interval, value=mean)).split(" ", 1)[1]
    return f"{mean:.1f}% {bounds} ({min(scores):.1f} to {max(scores):.1f}; {images:,} scoring images, BatchNorm by {calibration:,})"


class ProbabilityLog:
    """probabilities.jsonl, and curves of the loggers: how probable each candidate is, at the start and after each epoch.

    Args:
        first: the step that training goes on from; later lines of a killed run are dropped.
    """

    def __init__(self, trainer: SupernetTrainer, run: Path, log: TrainingLog, first: int) -> None:
        self.trainer, self.log = trainer, log
        self.lines = run_dir.Log(run / "probabilities.jsonl", after_step=first or -1)
        if not first:
            self.lines.write(step=0, probabilities=trainer.probabilities())

    def write(self, step: int) -> None:
        """Write what the probabilities are after so many steps."""
        probabilities = self.trainer.probabilities()
        self.lines.write(step=step, probabilities=probabilities)
        for label, row in probabilities.items():
            candidates = self.trainer.chain.choices[label]
            self.log.plot(step, {f"probability/{label}/{c}": p for c, p in zip(candidates, row, strict=True)})


def _headline(trainer: SupernetTrainer, feasible: FeasibleSpace) -> str:
    """What is about to be trained, on what, in one line."""
    config, data, world = trainer.config, trainer.data, trainer.world
    return (
        f"{config.space} {config.preset}: {feasible.table.architectures():.2e} architectures, {data.size('train'):,} training images, "
        f"{data.size('score'):,} scoring images, {trainer.steps:,} steps on {trainer.fabric.device}"
        + (f" x {world} processes" if world > 1 else "")
    )
