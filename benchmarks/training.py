"""Speed of a supernet's training step: ours against NNI's RandomOneShot in NNI's Lightning evaluator.

    python -m benchmarks.training                          # 32x32, batch 32, one CPU thread
    python -m benchmarks.training --resolution 224         # 224x224, batch 16, one CPU thread
    python -m benchmarks.training --cuda                   # 224x224, bf16, batches 256 and 1024; never run so far
    python -m benchmarks.training --smoke                  # seconds; the figures say nothing

Both train the SPOS space with 1,000 classes, one uniform path per step, on the same images: crops of scikit-learn's two
photographs, prepared beforehand. They take turns in one process: n steps of theirs, n of ours, and so on. Prints images/s,
and the median, the lowest and the highest of the rounds' ratios ours / theirs, by wall-clock and by processor time. The
latter says more on a shared machine.

Each is what its user gets: NNI's `ShuffleNetSpace` has its defaults, so its BatchNorm is affine (ours is not, as in the
paper), and its evaluator logs loss and accuracy; our step adds them up, as `trials.supernet` does.
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
import torch.nn.functional as F

with warnings.catch_warnings():  # NNI 3.0 complains about every newer class in torch.nn
    warnings.simplefilter("ignore")
    import pytorch_lightning
    from nni.nas.evaluator.pytorch import Classification, DataLoader
    from nni.nas.hub.pytorch import ShuffleNetSpace
    from nni.nas.strategy import RandomOneShot

from torch import nn

import spaces
from benchmarks.common import parse, photograph_crops, spread
from spaces.arch import activate
from spaces.model_space import make_supernet
from strategies.sampling import step_generator, uniform
from trials.common import cli
from trials.training.optimizers import make_optimizer

CLASSES = 1000
LR, MOMENTUM, WEIGHT_DECAY, LABEL_SMOOTHING = 0.05, 0.9, 4e-5, 0.1

# A training step of SPOS at 224 px moves its 9.34M convolution outputs per image (18.7 MB in bf16) about seven and a half
# times: at the 3.35 TB/s of one H100, no more than 24,000 images/s. Arithmetic, not a measurement.
H100_BOUND = 24_000

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
    peak_bytes: int  # of GPU memory, above what was in use before: both networks and the images; 0 on a CPU


class Stopwatch:
    """Measures slices on a device; on a GPU, from and to the end of all work that was begun."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"

    def start(self) -> None:
        """Begin a slice."""
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.in_use = torch.cuda.memory_allocated()
        self.began = time.perf_counter(), time.process_time()

    def stop(self) -> Slice:
        """End the slice."""
        if self.cuda:
            torch.cuda.synchronize()
        wall, cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
        return Slice(wall, cpu, torch.cuda.max_memory_allocated() - self.in_use if self.cuda else 0)


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

    def __init__(self, setting: Setting, batches: list[Batch]) -> None:
        self.device = setting.device
        space = spaces.build("spos", "imagenet", resolution=setting.resolution, classes=CLASSES)
        self.choices = spaces.choices(space)
        self.supernet = make_supernet(space).to(setting.device, memory_format=torch.channels_last).train()
        self.optimizer = make_optimizer(
            self.supernet, "sgd", lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, decay_norm_and_bias=False
        )
        self.batches = [(images.to(memory_format=torch.channels_last), labels) for images, labels in batches]
        self.step = 0
        self.loss, self.correct = torch.zeros(2, device=setting.device)

    def train(self, steps: int) -> None:
        """Train for so many steps more."""
        for step in range(self.step, self.step + steps):
            images, labels = self.batches[step % len(self.batches)]
            torch.manual_seed(step_generator(0, step).getrandbits(63))  # dropout
            activate(self.supernet, uniform(self.choices, 0, step)[0])
            with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
                logits = self.supernet(images)
                loss = F.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.loss = self.loss + loss.detach()
            self.correct = self.correct + (logits.detach().argmax(1) == labels).float().mean()
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


def run(setting: Setting) -> tuple[list[Slice], list[Slice]]:
    """Train both in turn.

    Returns:
        Our slices and theirs, one per round.
    """
    torch.manual_seed(0)
    batches = prepare_batches(setting)
    ours = Ours(setting, batches)
    turns = TakeTurns(setting, ours)
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
    assert ours.step == steps
    return turns.ours, turns.theirs


def report(setting: Setting, ours: list[Slice], theirs: list[Slice]) -> None:
    """Print speeds and ratios."""
    cuda = setting.device == "cuda"
    where = torch.cuda.get_device_name() + ", bf16" if cuda else f"one thread of {os.cpu_count()} CPUs, float32"
    print(
        f"spos imagenet, {setting.resolution}x{setting.resolution}, batch {setting.batch_size}, {where}; "
        f"torch {torch.__version__}, nni {version('nni')}, lightning {version('pytorch-lightning')}; "
        f"n = {setting.rounds} rounds of {setting.steps} steps each, after {setting.warmup} for warm-up"
    )
    images = setting.steps * setting.batch_size
    for title, slices in (("Onepath", ours), ("NNI RandomOneShot", theirs)):
        wall, cpu = (statistics.median(images / s[clock] for s in slices) for clock in (0, 1))
        line = f"{title:18} {wall:8,.1f} images/s by wall-clock, {cpu:8,.1f} by processor time"
        if cuda:
            peak = max(s.peak_bytes for s in slices) / 2**30
            line += (
                f"; peak {peak:.1f} GiB besides weights and images; {wall / H100_BOUND:.0%} of {H100_BOUND:,} images/s"
            )
        print(line)
    for clock, title in enumerate(("by wall-clock", "by processor time")):
        ratios = [b[clock] / a[clock] for a, b in zip(ours, theirs, strict=True)]
        print(f"ratio {title:17} {spread(ratios)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Train and print, for each size of images and batches."""
    warnings.simplefilter("ignore")
    for name in ("nni", "pytorch_lightning", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, choices=(32, 224), default=32, help="height and width of an image")
    parser.add_argument("--batch-size", type=int, help="images in a batch (default: 32, and 16 at 224x224)")
    parser.add_argument("--steps", type=int, help="steps of each per round")
    parser.add_argument("--warmup", type=int, help="steps of each before the first round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cuda", action="store_true", help="224x224 in bf16 on a GPU, batches 256 and 1024")
    args = parse(parser, argv, SMOKE)
    if args.cuda and not torch.cuda.is_available():
        parser.error("--cuda needs a GPU, and torch sees none")

    if args.cuda:
        sizes = [(224, 256), (224, 1024)]
    else:
        torch.set_num_threads(1)
        sizes = [(args.resolution, args.batch_size or (32 if args.resolution == 32 else 16))]
    steps = args.steps or (20 if args.cuda or args.resolution == 32 else 5)
    # A round of warm-up, but not fewer than 8 steps, after which a candidate has been trained with probability 0.9:
    # its first step is slower, because buffers of the optimiser and kernels are made.
    warmup = args.warmup or max(steps, 8)
    for resolution, batch_size in sizes:
        setting = Setting(resolution, batch_size, steps, args.rounds, warmup, "cuda" if args.cuda else "cpu")
        report(setting, *run(setting))


if __name__ == "__main__":
    cli.run(main, resumes=False)
