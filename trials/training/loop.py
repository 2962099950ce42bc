"""What the two training loops share: running means, log and TensorBoard, the last checkpoint, the stop at bad numbers.

The order within a step matters. Losses are checked before anything is logged or saved, so no checkpoint holds weights that are
not finite. The checkpoint is written last, so a run that goes on from it has written all that comes before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from spaces.errors import Stopped
from trials.common import checkpoint, run_dir
from trials.common.distributed import average, require_same_start
from trials.training.trainer import Trainer

LOG_EVERY = 50  # steps between lines of the log; an epoch, where that is shorter


class Window:
    """Loss and top-1 since the last line of the log; the sums stay on the device, so that a GPU need not wait."""

    def __init__(self, device: torch.device) -> None:
        self.sums, self.steps = torch.zeros(2, device=device), 0

    def add(self, loss: torch.Tensor, top1: torch.Tensor) -> None:
        """Count one step.

        Args:
            loss, top1: scalars on the device; top-1 from 0 to 1.
        """
        self.sums, self.steps = self.sums + torch.stack((loss, top1)), self.steps + 1

    def means(self) -> tuple[float, float]:
        """Mean loss, and top-1 in percent, over the steps and all processes; the window is empty afterwards."""
        average([self.sums])
        loss, top1 = float(self.sums[0]) / self.steps, 100 * float(self.sums[1]) / self.steps
        self.sums, self.steps = torch.zeros_like(self.sums), 0
        return loss, top1

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"window": self.sums, "window_steps": self.steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state()` returned."""
        self.sums, self.steps = state["window"].to(self.sums.device), state["window_steps"]


class TrainingLog:
    """log.jsonl and TensorBoard of a run. Only the first process writes.

    Args:
        run: the folder of the run.
        first: the step that training goes on from; later entries of a killed run are dropped.
        writes: whether this is the process that writes.
    """

    def __init__(self, run: Path, *, first: int, steps_per_epoch: int, writes: bool) -> None:
        self.steps_per_epoch, self.writes = steps_per_epoch, writes
        if writes:
            from torch.utils.tensorboard import SummaryWriter

            self.lines = run_dir.Log(run / "log.jsonl", after_step=first or -1)
            self.board = SummaryWriter(str(run / "tensorboard"), purge_step=first + 1)

    def write(self, step: int, values: Mapping[str, float], **unplotted: Any) -> None:
        """Write a line of log.jsonl, and its values to TensorBoard; `unplotted` goes to the line alone.

        Raises:
            Stopped: the run was deleted or moved away.
        """
        if self.writes:
            self.lines.require_in_place()
            self.lines.write(step=step, epoch=step / self.steps_per_epoch, **unplotted, **values)
            self.plot(step, values)

    def plot(self, step: int, values: Mapping[str, float]) -> None:
        """Write values to TensorBoard."""
        if self.writes:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Bring to disk what TensorBoard still holds back. Raises Stopped: the run was deleted or moved away."""
        if self.writes:
            self.lines.require_in_place()
            self.board.flush()

    def close(self) -> None:
        """Close the files of TensorBoard."""
        if self.writes:
            self.board.close()


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


def stop_if_not_finite(
    trainer: Trainer, losses: Sequence[tuple[int, torch.Tensor]], checkpoint: LastCheckpoint
) -> None:
    """Stop if a loss, or a weight by now, is not finite. Every process sees the mean over all, so all of them stop.

    Args:
        losses: steps, from 0, and their losses since the last call. They are looked at together, so that a GPU need not wait
            at every step.
    Raises:
        Stopped: naming the first such step, what it trained, and the last good checkpoint.
    """
    values = torch.stack([loss for _, loss in losses])
    average([values])
    remedy = f"{checkpoint}; start again with a lower --lr, or with --clip-norm"
    for (step, _), value in zip(losses, values.tolist(), strict=True):
        if not math.isfinite(value):
            trained = trainer.describe_step(step)
            at = f"at step {step + 1:,}" + (f" on {trained}" if trained else "")
            raise Stopped(f"{trainer.prefix}the loss became {value} {at}; {remedy}")
    norm = torch.nn.utils.get_total_norm([parameter.detach() for parameter in trainer.parameters()])
    if not torch.isfinite(norm):
        step = losses[-1][0]
        trained = trainer.describe_step(step)
        after = f"after step {step + 1:,}" + (f", {trained}" if trained else "")
        raise Stopped(f"{trainer.prefix}the weights are no longer finite {after}; {remedy}")
