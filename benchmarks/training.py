"""Speed of a supernet's training step: ours against NNI's RandomOneShot in NNI's Lightning evaluator.

    python -m benchmarks.training                          # 32x32, batch 32, one CPU thread
    python -m benchmarks.training --resolution 224         # 224x224, batch 16, one CPU thread
    python -m benchmarks.training --smoke                  # seconds; the figures say nothing

On a GPU, in bf16: make bench-gpu, whose part `supernet` takes turns with the same code.

Both train the SPOS space with 1,000 classes, one uniform path per step, on the same images: crops of scikit-learn's two
photographs, prepared beforehand. They take turns in one process: n steps of theirs, n of ours, and so on. Prints images/s,
and the median, the lowest and the highest of the rounds' ratios ours / theirs, by wall-clock and by processor time. The
latter says more on a shared machine.

Each is what its user gets: NNI's `ShuffleNetSpace` has its defaults, so its BatchNorm is affine (ours is not, as in the
paper), and its evaluator logs loss and accuracy; ours is `SupernetTrainer.step` of `trials.supernet`.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import logging
import math
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch

with warnings.catch_warnings():  # NNI 3.0 complains about every newer class in torch.nn
    warnings.simplefilter("ignore")
    import pytorch_lightning
    from nni.nas.evaluator.pytorch import Classification, DataLoader
    from nni.nas.hub.pytorch import ShuffleNetSpace
    from nni.nas.strategy import RandomOneShot

from torch import nn

from benchmarks.common import parse, photograph_crops, spread
from benchmarks.trainers import CLASSES, supernet_trainer
from trials.common import cli

LR, MOMENTUM, WEIGHT_DECAY, LABEL_SMOOTHING = 0.05, 0.9, 4e-5, 0.1

SMOKE = {"steps": 1, "rounds": 2, "warmup": 1, "batch_size": 4}

Batch = tuple[torch.Tensor, torch.Tensor]  # images (N, 3, R, R) and labels (N,)


@dataclass(frozen=True)
class Setting:
    """What is trained, and for how long."""

    resolution: int
    batch_size: int
    steps: int  # of each, per round
    rounds: int
    warmup: int  # steps of each before the first round
    device: str = "cpu"


class Slice(NamedTuple):
    """What one run of `steps` steps took."""

    wall: float  # seconds
    cpu: float  # processor seconds of all threads


class Stopwatch:
    """Measures slices on a device; on a GPU, from and to the end of all work that was begun."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"

    def start(self) -> None:
        """Begin a slice."""
        if self.cuda:
            torch.cuda.synchronize()
        self.began = time.perf_counter(), time.process_time()

    def stop(self) -> Slice:
        """End the slice."""
        if self.cuda:
            torch.cuda.synchronize()
        return Slice(time.perf_counter() - self.began[0], time.process_time() - self.began[1])


def prepare_batches(setting: Setting, count: int = 4) -> list[Batch]:
    """Random crops of two photographs, normalised, (N, 3, R, R) in memory order NCHW; labels are random."""
    generator = np.random.default_rng(0)
    batches = []
    for _ in range(count):
        crops = photograph_crops(generator, setting.batch_size, setting.resolution)
        images = torch.from_numpy(crops).permute(0, 3, 1, 2).float().div(255).sub(0.45).div(0.225)
        labels = torch.from_numpy(generator.integers(0, CLASSES, setting.batch_size))
        batches.append((images.contiguous().to(setting.device), labels.to(setting.device)))
    return batches


class Ours:
    """The training step of `trials.supernet`, without its files."""

    def __init__(self, batches: list[Batch], **options: Any) -> None:
        self.trainer = supernet_trainer(batches, LR, WEIGHT_DECAY, LABEL_SMOOTHING, **options)
        self.batches = self.trainer.data.batches  # type: ignore[attr-defined]
        self.step = 0
        self.loss, self.correct = torch.zeros(2, device=self.trainer.fabric.device)

    def train(self, steps: int) -> None:
        """Train for so many steps more."""
        for step in range(self.step, self.step + steps):
            loss, top1 = self.trainer.step(step, *self.batches[step % len(self.batches)])
            self.loss, self.correct = self.loss + loss, self.correct + top1
        self.step += steps


class Smoothed(nn.CrossEntropyLoss):
    """NNI's evaluator takes classes: it makes the loss itself, and the optimiser from a rate and a weight decay."""

    def __init__(self) -> None:
        super().__init__(label_smoothing=LABEL_SMOOTHING)


class MomentumSGD(torch.optim.SGD):
    """SGD with the momentum of the paper."""

    def __init__(self, parameters: Iterator[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, lr=lr, momentum=MOMENTUM, weight_decay=weight_decay)


class TakeTurns(pytorch_lightning.Callback):
    """Times NNI's steps inside Lightning's loop, and after every `steps` of them runs and times as many of ours.

    A slice of theirs begins with its first batch at hand and ends after its last optimiser step.
    """

    def __init__(self, setting: Setting, ours: Ours) -> None:
        self.setting = setting
        self.step_ours = ours.train
        self.watch = Stopwatch(setting.device)
        self.theirs: list[Slice] = []
        self.ours: list[Slice] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        done = batch_idx - self.setting.warmup
        if done >= 0 and done % self.setting.steps == 0:
            self.watch.start()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        done = batch_idx + 1 - self.setting.warmup
        if done == 0:
            self.step_ours(self.setting.warmup)
        elif done > 0 and done % self.setting.steps == 0:
            self.theirs.append(self.watch.stop())
            self.watch.start()
            self.step_ours(self.setting.steps)
            self.ours.append(self.watch.stop())


def run(setting: Setting, batches: list[Batch], ours: Ours) -> tuple[list[Slice], list[Slice]]:
    """Train both in turn.

    Returns:
        Our slices and theirs, one per round.
    """
    began, turns = ours.step, TakeTurns(setting, ours)
    steps = setting.warmup + setting.rounds * setting.steps
    evaluator = Classification(
        criterion=Smoothed,
        learning_rate=LR,
        weight_decay=WEIGHT_DECAY,
        optimizer=MomentumSGD,
        train_dataloaders=DataLoader([batches[i % len(batches)] for i in range(steps)], batch_size=None),
        val_dataloaders=DataLoader(batches[:1], batch_size=None),  # required by RandomOneShot, and never used
        num_classes=CLASSES,
        max_epochs=1,
        limit_val_batches=0,
        accelerator="gpu" if setting.device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if setting.device == "cuda" else "32-true",
        callbacks=[turns],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    # what NasExperiment does with a one-shot strategy, without its files
    strategy = RandomOneShot()
    supernet = strategy.mutate_model(ShuffleNetSpace(num_labels=CLASSES))
    evaluator = strategy.mutate_evaluator(evaluator)
    evaluator.evaluate(supernet)
    losses = float(ours.loss) / ours.step, float(evaluator.trainer.callback_metrics["train_loss"])
    assert all(map(math.isfinite, losses)), f"training diverged: {losses}"
    assert len(turns.ours) == len(turns.theirs) == setting.rounds
    assert ours.step - began == steps
    return turns.ours, turns.theirs


def report(setting: Setting, ours: list[Slice], theirs: list[Slice]) -> None:
    """Print speeds and ratios."""
    print(
        f"spos imagenet, {setting.resolution}x{setting.resolution}, batch {setting.batch_size}, one thread of "
        f"{os.cpu_count()} CPUs, float32; torch {torch.__version__}, nni {version('nni')}, lightning "
        f"{version('pytorch-lightning')}; n = {setting.rounds} rounds of {setting.steps} steps each, after {setting.warmup} "
        "for warm-up"
    )
    images = setting.steps * setting.batch_size
    for title, slices in (("Onepath", ours), ("NNI RandomOneShot", theirs)):
        wall, cpu = (statistics.median(images / s[clock] for s in slices) for clock in (0, 1))
        print(f"{title:18} {wall:8,.1f} images/s by wall-clock, {cpu:8,.1f} by processor time")
    for clock, title in enumerate(("by wall-clock", "by processor time")):
        ratios = [b[clock] / a[clock] for a, b in zip(ours, theirs, strict=True)]
        print(f"ratio {title:17} {spread(ratios)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Train and print."""
    warnings.simplefilter("ignore")
    for name in ("nni", "pytorch_lightning", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, choices=(32, 224), default=32, help="height and width of an image")
    parser.add_argument("--batch-size", type=int, help="images in a batch (default: 32, and 16 at 224x224)")
    parser.add_argument("--steps", type=int, help="steps of each per round")
    parser.add_argument("--warmup", type=int, help="steps of each before the first round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parse(parser, argv, SMOKE)
    torch.set_num_threads(1)
    size = args.batch_size or (32 if args.resolution == 32 else 16)
    steps = args.steps or (20 if args.resolution == 32 else 5)
    # A round of warm-up, but not fewer than 8 steps, after which a candidate has been trained with probability 0.9:
    # its first step is slower, because buffers of the optimiser and kernels are made.
    warmup = args.warmup or max(steps, 8)
    setting = Setting(args.resolution, size, steps, args.rounds, warmup)
    batches = prepare_batches(setting)
    report(setting, *run(setting, batches, Ours(batches)))


if __name__ == "__main__":
    cli.run(main)
