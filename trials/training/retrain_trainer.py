"""The training of one network from scratch with one seed, on one device or several, and its test.

Batches, augmentation, mixing and dropout of a step are functions of (seed, step) alone, so a resumed run repeats nothing, and
on a CPU ends with the very weights it would have had. Several processes of torchrun train as one does, as for supernets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import spaces
from spaces.errors import Stopped
from strategies.sampling import step_generator
from trials.common import cli
from trials.common.cli import rank_and_world
from trials.common.distributed import average, average_gradients, make_fabric, synchronise_bn
from trials.images.augment import mix_images
from trials.images.dataset import Batch, Data
from trials.images.load import load_data
from trials.networks import build
from trials.training import optimizers
from trials.training.ema import make_ema
from trials.training.retrain_config import Config


class Retraining:
    """A network and all that its training needs.

    Args:
        config: of trials.retrain.
        about: which network; see trials.networks.
        seed: of weights, batches, augmentation and dropout.
    Attributes:
        network: the one that is trained; `best_weights` is the one that is tested, an average where there is one.
        part: of the training images: all, or those that are not held out.
        steps, steps_per_epoch: of the run; of an epoch.
    """

    def __init__(self, config: Config, about: Mapping[str, Any], seed: int, data: Data) -> None:
        self.config, self.seed, self.data = config, seed, data
        self.rank, self.world = rank_and_world()
        self.fabric = make_fabric(config.device, config.precision)
        data.to(self.fabric.device)
        torch.manual_seed(seed)
        self.network = build.build_network(about)
        if config.dropout is not None:
            set_dropout(self.network, config.dropout)
        synchronise_bn(self.network)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = optimizers.make_optimizer(
            self.network,
            config.optimizer,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            decay_norm_and_bias=config.decay_norm_and_bias,
            nesterov=config.nesterov,
        )
        self.model, self.optimizer = self.fabric.setup(self.network, optimizer)
        self.ema = make_ema(self.network, config.ema) if config.ema else None
        self.part = "train" if config.hold_out else "all"
        self.steps_per_epoch = data.steps_per_epoch(self.part, config.batch_size)
        self.steps = config.epochs * self.steps_per_epoch
        self.model.train()

    @property
    def tested(self) -> nn.Module:
        """What is measured and saved."""
        return self.network if self.ema is None else self.ema.module

    def batches(self, first: int) -> Iterator[Batch]:
        """From step `first` on; this process's part of each."""
        size = self.config.batch_size
        take = np.arange(size).reshape(self.world, -1)[self.rank]
        for epoch in range(first // self.steps_per_epoch, self.config.epochs):
            start = first % self.steps_per_epoch if epoch == first // self.steps_per_epoch else 0
            yield from self.data.train_batches(self.part, size, seed=self.seed, epoch=epoch, start=start, take=take)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        config, more = self.config, {}
        if config.schedule == "exponential":
            more = {"gamma": config.decay_rate, "every": config.decay_epochs * self.steps_per_epoch}
        return optimizers.learning_rate(
            step, self.steps, peak=config.lr, schedule=config.schedule, warmup=config.warmup, **more
        )

    def step(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One step on this process's part of a batch, normalised images and labels.

        Returns:
            Loss, and top-1 as a part of 1 (of mixed images: with the label of the image that was mixed into), on the device.
        """
        config = self.config
        images, labels = self.fabric.to_device((images, labels))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        draws = step_generator(self.seed, step)
        dropout, mixing = draws.getrandbits(63), draws.getrandbits(63)
        targets = labels
        if config.mixup or config.cutmix:
            classes = len(self.data.classes)
            images, targets = mix_images(images, labels, classes, mixup=config.mixup, cutmix=config.cutmix, seed=mixing)
        torch.manual_seed(dropout ^ self.rank)
        logits = self.model(images)
        loss = F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
        self.fabric.backward(loss)
        average_gradients(self.network.parameters())
        if config.clip_norm:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update_parameters(self.network)
        return loss.detach(), (logits.detach().argmax(1) == labels).float().mean()

    def check(self, losses: list[tuple[int, torch.Tensor]], good: str) -> None:
        """Stop if a loss since the last check, or a weight by now, is not finite; in every process alike.

        Raises:
            Stopped: naming the step and the last good checkpoint, `good`.
        """
        values = torch.stack([loss for _, loss in losses])
        average([values])
        remedy = f"{good}; start again with a lower --lr, or with --clip-norm"
        for (step, _), value in zip(losses, values.tolist(), strict=True):
            if not math.isfinite(value):
                raise Stopped(f"seed {self.seed}: the loss became {value} at step {step + 1:,}; {remedy}")
        if not torch.isfinite(torch.nn.utils.get_total_norm([p.detach() for p in self.network.parameters()])):
            raise Stopped(
                f"seed {self.seed}: the weights are no longer finite after step {losses[-1][0] + 1:,}; {remedy}"
            )

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # of 16-mixed: the scale of the gradients
            "ema": self.ema.state_dict() if self.ema is not None else {},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state()`."""
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])


def set_dropout(network: nn.Module, p: float) -> None:
    """Set the probability of all dropout layers of a network; models of timm have a number instead, `drop_rate`."""
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = p
    if hasattr(network, "drop_rate"):
        network.drop_rate = p  # type: ignore[assignment]


def open_data(config: Config) -> Data:
    """The images, those of the search where there was one, with the preprocessing and augmentation of the run."""
    options = cli.space_options(config.space_options)
    resolution = spaces.describe(config.space, config.preset, resolution=config.resolution, **options).resolution
    return load_data(
        config,
        resolution,
        score_fraction=config.hold_out or 0.1,
        run=config.supernet or config.out,
        randaugment=(config.randaugment, config.randaugment_magnitude),
    )
