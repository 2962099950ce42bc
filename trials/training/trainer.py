"""What the trainers of a supernet and of a fixed network share: device, precision, optimiser, learning rate and state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trials.common.cli import rank_and_world
from trials.common.distributed import average_gradients, make_fabric, synchronise_batchnorm
from trials.images.dataset import Data
from trials.networks.recorder import RECORDED_PIXELS
from trials.training import optimizers, retrain_config, supernet_config
from trials.training.compilation import compile_layers
from trials.training.recorded_pass import RecordedPass

RECORDED_STEPS = 100  # the fewest steps of a run whose passes are recorded, which takes about a second


def classification_loss(
    logits: torch.Tensor, targets: torch.Tensor, *, label_smoothing: float, class_weights: torch.Tensor | None
) -> torch.Tensor:
    """The cross-entropy of a batch, a scalar.

    Args:
        logits: (N, classes).
        targets: class numbers (N,), or probabilities (N, classes).
        class_weights: factor of each class, (classes,). The mean is over the images, not over their weights, so that the loss of a
            batch is the mean of those of its shares, however these are cut.
    """
    if class_weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    return F.cross_entropy(
        logits, targets, weight=class_weights, label_smoothing=label_smoothing, reduction="sum"
    ) / len(targets)


class Trainer:
    """A network with its optimiser on the device it is trained on, in one process or several.

    Args:
        config: the options of the command.
        seed: of the fresh weights.
        part: the part of the images that the weights learn from, such as "train".
        make_network: makes the network; it is called once the seed is set.
        nesterov: whether SGD uses Nesterov momentum.
    Attributes:
        rank, world: the number of this process, from 0, and of all processes.
        fabric: the Lightning Fabric that places tensors and scales gradients.
        weights: all parameters of the network, in its order.
        network: the module itself; `model` is the same one in Fabric's wrapper, which sets the precision of a pass.
        steps_per_epoch, steps: batches of an epoch, and of the whole run.
        prefix: what messages begin with, such as "seed 0: ".
        loss_of: (logits (N, classes), labels (N,) or probabilities (N, classes)) -> the training loss, a scalar.
        recorded: the passes of a step, if they are recorded; see `record`.
    Raises:
        InputError: the part has not one whole batch, the processes find too few GPUs, or a BatchNorm cannot be synchronised.
    """

    prefix = ""
    schedule_options: Mapping[str, float] = {}  # further arguments of optimizers.learning_rate
    recorded: RecordedPass | None = None

    def __init__(
        self,
        config: supernet_config.Config | retrain_config.Config,
        data: Data,
        *,
        seed: int,
        part: str,
        make_network: Callable[[], nn.Module],
        nesterov: bool = False,
    ) -> None:
        self.config, self.data, self.part = config, data, part
        self.rank, self.world = rank_and_world()
        self.fabric = make_fabric(config.device, config.precision)
        data.to(self.fabric.device)
        torch.manual_seed(seed)
        self.network = make_network()
        synchronise_batchnorm(self.network)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = optimizers.make_optimizer(
            self.network,
            config.optimizer,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            decay_norm_and_bias=config.decay_norm_and_bias,
            nesterov=nesterov,
        )
        self.model, self.optimizer = self.fabric.setup(self.network, optimizer)
        self.model.train()
        self.weights = list(self.network.parameters())  # listing those of a supernet takes as long as its forward pass
        weights = data.class_weights(part).to(self.fabric.device) if config.class_weights == "balanced" else None
        self.loss_of = partial(classification_loss, label_smoothing=config.label_smoothing, class_weights=weights)
        self.steps_per_epoch = data.steps_per_epoch(part, config.batch_size)
        self.steps = config.epochs * self.steps_per_epoch

    def compile(self) -> None:
        """Compile BatchNorm with what follows it, if the options ask for it, which is said with what it took.

        It comes before `record`, which would not see the kernels otherwise.
        """
        config = self.config
        if config.compile != "on":
            return
        size = config.batch_size // self.world // getattr(config, "accumulate", 1)
        images = torch.Size((size, 3, self.data.resolution, self.data.resolution))
        seconds = compile_layers(self.network, self.model, self.fabric, images)
        print(
            f"{self.prefix}BatchNorm is compiled with what follows it, in {seconds:.0f} s; --compile off: not",
            flush=True,
        )

    def records(self) -> bool:
        """Whether the passes of a step are recorded as CUDA graphs, which is said."""
        config = self.config
        # 16-mixed scales the loss anew at every step
        if self.fabric.device.type != "cuda" or self.world > 1 or config.precision == "16-mixed":
            return False
        small = config.batch_size * self.data.resolution**2 <= RECORDED_PIXELS and self.steps >= RECORDED_STEPS
        records = config.cuda_graphs == "on" or (small and config.cuda_graphs == "auto")
        if records:
            print(f"{self.prefix}the passes of a step are recorded as CUDA graphs; --cuda-graphs off: not")
        return records

    def pieces(self) -> list[nn.Module]:
        """The network as a chain of modules, each of which is recorded by itself."""
        return [self.network]

    def record(self, fraction: float = 1.0) -> None:
        """Record the passes of a step from now on.

        Args:
            fraction: factor of the loss before the backward pass.
        """
        self.recorded = RecordedPass(self.pieces(), self.loss_of, self.fabric.device, self.fabric.autocast, fraction)

    def epochs_from(self, step: int) -> Iterator[tuple[int, int]]:
        """The epochs that begin, or go on, at a step: the number of each, and its first batch."""
        for epoch in range(step // self.steps_per_epoch, self.config.epochs):
            yield epoch, step % self.steps_per_epoch if epoch == step // self.steps_per_epoch else 0

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        config = self.config
        return optimizers.learning_rate(
            step,
            self.steps,
            peak=config.lr,
            schedule=config.schedule,
            warmup=config.warmup,
            **self.schedule_options,
        )

    def set_rate(self, step: int) -> None:
        """Give the optimiser the learning rate of a step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)

    def update_weights(self) -> None:
        """Average the gradients over all processes, clip them, move the weights, and drop the gradients.

        Gradients become None, not zero: candidates off the path are then neither decayed nor moved by momentum. (The
        unused part of a shared weight is moved: its gradient is zero, not absent.)
        """
        average_gradients(self.weights)
        if self.config.clip_norm:
            self.fabric.clip_gradients(
                self.model, self.optimizer, max_norm=self.config.clip_norm, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.optimizer.zero_grad()

    def parameters(self) -> list[nn.Parameter]:
        """All that is trained."""
        return self.weights

    def describe_step(self, step: int) -> str:
        """What a step trained, for an error; empty where there is nothing to say."""
        return ""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: tensors and JSON-able values."""
        return {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # in 16-mixed: the scale of the gradients
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state()` returned."""
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
