"""The training of one network with one seed, from scratch or from given weights, on one device or several.

Batches, augmentation, mixing and dropout of a step are functions of (seed, step) alone, so a resumed run repeats nothing, and
on a CPU ends with the very weights it would have had. Several processes of torchrun train as one does, as for supernets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

import spaces
from strategies.sampling import step_generator
from trials.common import cli
from trials.images.augment import mix_images
from trials.images.dataset import Batch, Data
from trials.images.load import load_data
from trials.training.ema import make_ema
from trials.training.initial_weights import expected_input, make_network
from trials.training.retrain_config import Config
from trials.training.trainer import Trainer


class NetworkTrainer(Trainer):
    """A fixed network and all that its training needs.

    Args:
        config: the options of trials.retrain.
        description: a network description, see trials.networks.build.
        seed: of weights, batches, augmentation and dropout.
    Attributes:
        ema: the moving average of the weights, if the options ask for one.
    """

    config: Config

    def __init__(self, config: Config, description: Mapping[str, Any], seed: int, data: Data) -> None:
        def make() -> nn.Module:
            network = make_network(config, description)
            if config.dropout is not None:
                set_dropout(network, config.dropout)
            return network

        super().__init__(
            config,
            data,
            seed=seed,
            part=config.training_part,
            make_network=make,
            nesterov=config.nesterov,
        )
        self.seed, self.prefix = seed, f"seed {seed}: "
        self.compile()
        self.ema = make_ema(self.network, config.ema) if config.ema else None
        if config.schedule == "exponential":
            self.schedule_options = {"gamma": config.decay_rate, "every": config.decay_epochs * self.steps_per_epoch}
        if self.records():
            self.record()

    @property
    def tested_network(self) -> nn.Module:
        """The network that is measured and saved: the moving average, where there is one."""
        return self.network if self.ema is None else self.ema.module

    def batches(self, first: int) -> Iterator[Batch]:
        """This process's share of each batch, from step `first` on: images (N, 3, R, R) and labels (N,)."""
        size = self.config.batch_size
        share = np.arange(size).reshape(self.world, -1)[self.rank]
        for epoch, start in self.epochs_from(first):
            yield from self.data.train_batches(self.part, size, seed=self.seed, epoch=epoch, start=start, take=share)

    def mixed(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The images of a step as the network gets them, and its targets: by mixup and CutMix, where the options ask for it."""
        config, classes = self.config, len(self.data.classes)
        if not (config.mixup or config.cutmix):
            return images, labels
        _, seed = self._seeds(step)
        return mix_images(images, labels, classes, mixup=config.mixup, cutmix=config.cutmix, seed=seed)

    def _seeds(self, step: int) -> tuple[int, int]:
        """The seeds of dropout and of mixing in a step."""
        generator = step_generator(self.seed, step)
        return generator.getrandbits(63), generator.getrandbits(63)

    def step(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One step.

        Args:
            step: its number, from 0.
            images, labels: this process's share of the batch, (N, 3, R, R) normalised and (N,).
        Returns:
            Loss and top-1 (0 to 1) of this process, on the device. Of mixed images, top-1 counts the label of the image
            that another was mixed into.
        """
        images, labels = self.fabric.to_device((images, labels))
        self.set_rate(step)
        dropout_seed, _ = self._seeds(step)
        images, targets = self.mixed(step, images, labels)
        torch.manual_seed(dropout_seed ^ self.rank)
        if self.recorded is not None:
            loss, top1 = self.recorded([None], images, targets, labels)
        else:
            logits = self.model(images)
            loss = self.loss_of(logits, targets)
            self.fabric.backward(loss)
            loss, top1 = loss.detach(), (logits.detach().argmax(1) == labels).float().mean()
        self.update_weights()
        if self.ema is not None:
            self.ema.update_parameters(self.network)
        return loss, top1

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {**super().state(), "ema": self.ema.state_dict() if self.ema is not None else {}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state()` returned."""
        super().restore(state)
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])


def set_dropout(network: nn.Module, p: float) -> None:
    """Set the probability of all dropout layers of a network; models of timm have a number instead, `drop_rate`."""
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = p
    if hasattr(network, "drop_rate"):
        network.drop_rate = p  # type: ignore[assignment]


def open_data(config: Config, *, listed: bool = True) -> Data:
    """The images, those of the search where there was one, with the preprocessing and augmentation of the run.

    Args:
        listed: whether a list of images in the run itself counts.
    Raises:
        InputError: they are missing or damaged, or the run's list of images does not fit them.
    """
    options, expects = cli.space_options(config.space_options), expected_input(config)
    resolution = config.resolution if config.baseline else None
    if resolution is None:
        resolution = spaces.describe(config.space, config.preset, resolution=config.resolution, **options).resolution
    return load_data(
        config,
        resolution,
        score_fraction=config.hold_out or 0.1,
        run=config.supernet or (config.out if listed else None),
        randaugment=(config.randaugment, config.randaugment_magnitude),
        statistics=(expects.mean, expects.std) if expects else None,
    )
