"""What the two training loops share: running means, log and loggers, the last checkpoint, the stop at bad numbers.

The order within a step matters. Losses are checked before anything is logged or saved, so no checkpoint holds weights that are
not finite. The checkpoint is written last, so a run that goes on from it has written all that comes before.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from spaces.errors import Stopped
from trials.common import checkpoint, run_dir
from trials.common.distributed import average, require_same_start
from trials.common.speeds import seconds_of
from trials.training.trainer import Trainer
from trials.watching.boards import Boards, grid
from trials.watching.subject import Subject
from trials.watching.tags import IMAGES, TAGS, tag_of

SHOWN = 16  # images of a training that loggers show
LOG_EVERY = 50  # steps between lines of the log; an epoch, where that is shorter


class Window:
    """Loss and top-1 since the last line of the log; the sums stay on the device, so that a GPU need not wait."""

    def __init__(self, device: torch.device) -> None:
        self.sums, self.steps = torch.zeros(2, device=device), 0
        self.timed, self.since = 0, time.perf_counter()  # steps of this process since a moment

    def add(self, loss: torch.Tensor, top1: torch.Tensor) -> None:
        """Count one step.

        Args:
            loss, top1: scalars on the device; top-1 from 0 to 1.
        """
        self.sums, self.steps = self.sums + torch.stack((loss, top1)), self.steps + 1
        self.timed += 1

    def means(self) -> tuple[float, float]:
        """Mean loss, and top-1 in percent, over the steps and all processes; the window is empty afterwards."""
        average([self.sums])
        loss, top1 = float(self.sums[0]) / self.steps, 100 * float(self.sums[1]) / self.steps
        self.sums, self.steps = torch.zeros_like(self.sums), 0
        return loss, top1

    def speed(self, size: int) -> float:
        """Images per second since the last call, with all that was done beside; a GPU has done them once `means` was asked.

        Args:
            size: images of a step, of all processes together.
        """
        now = time.perf_counter()
        speed = self.timed * size / (now - self.since)
        self.timed, self.since = 0, now
        return speed

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"window": self.sums, "window_steps": self.steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state()` returned."""
        self.sums, self.steps = state["window"].to(self.sums.device), state["window_steps"]


class TrainingLog:
    """log.jsonl of a run, and its loggers. Only the first process writes. Used with `with`: what ends by an error is marked so.

    Args:
        run: the folder of the training.
        config: the options of the command.
        facts: what is trained, by name, beside the options; `command` among them.
        name: what it is called among others.
        store: the folder of MLflow's store, which several trainings share.
        writes: whether this is the process that writes.
    """

    def __init__(
        self, run: Path, config: Any, *, facts: Mapping[str, Any], name: str, store: Path | None = None, writes: bool
    ) -> None:
        self.writes, self.logger = writes, config.logger
        given = {key: value for key, value in dataclasses.asdict(config).items() if value not in (None, "")}
        self.subject = Subject(run, store or run, name, {**given, **facts})
        self.lines: run_dir.Log | None = None
        self.boards: Boards | None = None
        self.steps_per_epoch = 1

    def begin(self, first: int, steps_per_epoch: int) -> None:
        """Open the files.

        Args:
            first: the step that training goes on from; later entries of a killed run are dropped.
        Raises:
            InputError: a logger cannot begin.
        """
        self.steps_per_epoch = steps_per_epoch
        if self.writes:
            self.lines = run_dir.Log(self.subject.folder / "log.jsonl", after_step=first or -1)
            earlier = [(line["step"], _points(line), None) for line in self.lines.kept]
            self.boards = Boards(self.logger, self.subject, first, earlier)

    def earlier_seconds(self, size: int) -> float:
        """How long the steps took that were trained before the run was resumed, by their speeds in the log.

        Args:
            size: images of a step, of all processes together.
        """
        return seconds_of(self.lines.kept, size) if self.lines else 0.0

    def write(self, step: int, values: Mapping[str, float], **unplotted: Any) -> None:
        """Write a line of log.jsonl, and its values to the loggers; `unplotted` goes to the line alone.

        Raises:
            Stopped: the run was deleted or moved away.
        """
        if self.lines:
            self.lines.require_in_place()
            self.lines.write(step=step, epoch=step / self.steps_per_epoch, **unplotted, **values)
            self.plot(step, values)

    def plot(self, step: int, values: Mapping[str, float]) -> None:
        """Tell the loggers values, under their tags."""
        if self.boards:
            self.boards.scalars(step, {tag_of(name): value for name, value in values.items()})

    def finish(self, step: int, values: Mapping[str, float]) -> None:
        """Tell the loggers what came out in the end, which no later start of the run tells again."""
        if self.boards:
            self.boards.result(step, {tag_of(name): value for name, value in values.items()})

    def show(self, trainer: Trainer, images: torch.Tensor) -> None:
        """Show the loggers the first images of a step, as the network gets them, before any step is done.

        Args:
            images: (N, 3, R, R), normalised.
        """
        if self.boards:
            self.boards.image(IMAGES, 0, grid(trainer.data.pixels(images[:SHOWN]), columns=SHOWN // 2))

    def flush(self) -> None:
        """Bring to disk what loggers still hold back. Raises Stopped: the run was deleted or moved away."""
        if self.lines and self.boards:
            self.lines.require_in_place()
            self.boards.flush()

    def close(self, succeeded: bool = True) -> None:
        """Close the loggers."""
        if self.boards:
            self.boards.close(succeeded)
            self.boards = None

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(succeeded=kind is None)


def _points(line: Mapping[str, Any]) -> dict[str, float]:
    """What a line of log.jsonl told the loggers."""
    return {tag_of(key): value for key, value in line.items() if key in TAGS}


class LastCheckpoint:
    """checkpoints/last.pt of a run. Only the first process writes it; all read it.

    Args:
        run: the folder of the run.
    Attributes:
        step: the steps that were trained when it was written; 0 while there is none.
    """

    def __init__(self, run: Path) -> None:
        self.path, self.step = run / "checkpoints" / "last.pt", 0

    def resume(self, trainer: Trainer) -> dict[str, Any]:
        """Restore a trainer, if there is a checkpoint, and compare what all processes start from.

        Returns:
            The contents of the checkpoint; {} where there is none.
        Raises:
            InputError: it is damaged, or the processes see other images or checkpoints.
        """
        state: dict[str, Any] = {}
        if self.path.exists():
            state = checkpoint.load_checkpoint(self.path, "checkpoint", needs=("step",))
            with checkpoint.fitting("checkpoint", self.path):
                trainer.restore(state)
            self.step = state["step"]
            print(f"{trainer.prefix}resumed at step {self.step:,}")
        fingerprint, data_root = trainer.data.fingerprint(), trainer.config.data_root
        require_same_start(trainer.fabric.device, self.step, self.path, fingerprint, data_root)
        return state

    def save(self, trainer: Trainer, step: int, **loop_state: Any) -> None:
        """Replace the checkpoint.

        Args:
            step: steps that were trained.
            loop_state: what the loop itself needs to go on.
        """
        if trainer.rank == 0:
            run_dir.save_checkpoint(self.path, {**trainer.state(), "step": step, **loop_state})
        self.step = step

    def __str__(self) -> str:
        if not self.step:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is '{self.path}' (step {self.step:,})"


class Diverged(Stopped):
    """A loss or a weight of a training is not finite."""


def stop_if_not_finite(
    trainer: Trainer, losses: Sequence[tuple[int, torch.Tensor]], checkpoint: LastCheckpoint
) -> None:
    """Stop if a loss, or a weight by now, is not finite. Every process sees the mean over all, so all of them stop.

    Args:
        losses: steps, from 0, and their losses since the last call. They are looked at together, so that a GPU need not wait
            at every step.
    Raises:
        Diverged: naming the first such step, what it trained, and the last good checkpoint.
    """
    values = torch.stack([loss for _, loss in losses])
    average([values])
    remedy = f"{checkpoint}; start again with a lower --lr, or with --clip-norm"
    for (step, _), value in zip(losses, values.tolist(), strict=True):
        if not math.isfinite(value):
            trained = trainer.describe_step(step)
            at = f"at step {step + 1:,}" + (f" on {trained}" if trained else "")
            raise Diverged(f"{trainer.prefix}the loss became {value} {at}; {remedy}")
    norm = torch.nn.utils.get_total_norm([parameter.detach() for parameter in trainer.parameters()])
    if not torch.isfinite(norm):
        step = losses[-1][0]
        trained = trainer.describe_step(step)
        after = f"after step {step + 1:,}" + (f", {trained}" if trained else "")
        raise Diverged(f"{trainer.prefix}the weights are no longer finite {after}; {remedy}")
