"""One step of supernet training: paths or mixtures, gradients, optimisers; on one device or several.

Everything random in a step is a function of (seed, step), so all processes agree and a resumed run repeats nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from spaces.arch import Weights, activate_mixture, arch_id
from spaces.cost import CostTable
from spaces.elastic import squared_norms
from spaces.errors import InputError
from spaces.model_space import make_supernet
from spaces.spec import SpaceSpec
from strategies import arch_learner, cost_loss
from strategies import differentiable as nas
from strategies.sampling import Paths, step_generator
from trials.common.cli import rank_and_world
from trials.common.distributed import average, average_gradients, make_fabric, synchronise_bn
from trials.images.dataset import Batch, Data
from trials.training import optimizers
from trials.training.supernet_config import Config


class SupernetTrainer:
    """A supernet and all that its training needs.

    Args:
        config: of trials.supernet.
        space: with the classes and the resolution of the images.
        table: the costs that the loss of the architecture parameters sees.
        paths: those of a sampling strategy; None for a differentiable one.
    Attributes:
        search: the architecture parameters of a differentiable strategy; else None.
        steps, steps_per_epoch, arch_steps_per_epoch: weight steps of the run; batches of an epoch.
    """

    def __init__(self, config: Config, data: Data, space: SpaceSpec, table: CostTable, paths: Paths | None) -> None:
        self.config, self.data = config, data
        self.rank, self.world = rank_and_world()
        self.fabric = make_fabric(config.device, config.precision)
        data.to(self.fabric.device)
        torch.manual_seed(config.seed)
        self.supernet = make_supernet(space.build())
        synchronise_bn(self.supernet)
        self.supernet.to(memory_format=torch.channels_last)
        self.chain = self.supernet.chain
        optimizer = optimizers.make_optimizer(
            self.supernet,
            config.optimizer,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            decay_norm_and_bias=config.decay_norm_and_bias,
        )
        self.model, self.optimizer = self.fabric.setup(self.supernet, optimizer)
        learns = config.strategy in nas.SEARCHES
        self.part = "weights" if learns else "train"
        self.steps_per_epoch = data.steps_per_epoch(self.part, config.batch_size)
        self.arch_steps_per_epoch = data.steps_per_epoch("arch", config.batch_size) if learns else 0
        self.steps = config.epochs * self.steps_per_epoch
        self.warm_steps = config.warm_steps(self.steps)
        self.first_arch_epoch = config.first_arch_epoch(self.steps_per_epoch)
        self.paths = paths
        self.search: nas.SoftmaxSearch | None = None
        if learns:
            self._make_search(table)
        self.model.train()

    def _make_search(self, table: CostTable) -> None:
        config, choices = self.config, self.chain.choices
        if config.strategy == "gumbel":
            search: nas.SoftmaxSearch = nas.GumbelSearch(
                choices, config.temperature, config.temperature_decay, config.hard
            )
        elif config.strategy == "threshold":
            search = nas.ThresholdSearch(choices, partial(squared_norms, self.supernet))
        else:
            search = nas.SEARCHES[config.strategy](choices)
        self.search = search.to(self.fabric.device)
        # Not given to Fabric: its gradients come from autograd.grad, unscaled.
        optimizer = arch_learner.make_optimizer(
            self.search,
            config.strategy,
            config.arch_optimizer,
            lr=config.arch_lr,
            weight_decay=config.arch_weight_decay,
        )

        def loss_of(loss: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
            return cost_loss.cost_loss(
                config.cost_loss,
                loss,
                cost,
                alpha=config.cost_alpha,
                beta=config.cost_beta,
                weight=config.cost_weight,
                target=config.target(),
            )

        self.learner = arch_learner.ArchLearner(self.search, optimizer, table, loss_of, average)

    def batches(self, first: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[Batch]]]:
        """From step `first` on: images and labels for the weights, and the batches of the architecture step after it."""
        size, seed = self.config.batch_size, self.config.seed
        # each part of an accumulated batch is shared among the processes
        take = np.arange(size).reshape(self.config.accumulate, self.world, -1)[:, self.rank].ravel()
        for epoch in range(first // self.steps_per_epoch, self.config.epochs):
            start = first % self.steps_per_epoch if epoch == first // self.steps_per_epoch else 0
            weights = self.data.train_batches(self.part, size, seed=seed, epoch=epoch, start=start, take=take)
            learning = self.search is not None and epoch >= self.first_arch_epoch
            begin = start * self.arch_steps_per_epoch // self.steps_per_epoch
            arch: Iterator[Batch] = iter(())
            if learning:
                arch = self.data.train_batches("arch", size, seed=seed, epoch=epoch, start=begin, take=take)
            for number, (images, labels) in enumerate(weights, start):
                due = arch_learner.arch_steps(
                    number, self.steps_per_epoch, self.arch_steps_per_epoch if learning else 0
                )
                yield images, labels, [next(arch) for _ in due]

    def drawn(self, step: int) -> list[dict[str, Any]]:
        """What a step of the weights trains, one after the other."""
        if step < self.warm_steps:
            return [self.chain.warm_path]
        if self.search is not None:
            return [self.search.draw(self._generator("weights", step), step // self.steps_per_epoch, learn=False)]
        assert self.paths is not None
        return self.paths(step)

    def step(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of the weights.

        Args:
            images, labels: this process's part of the batch.
        Returns:
            Mean loss and top-1 (0 to 1) over the paths, of this process, on the device.
        """
        config = self.config
        images, labels = self.fabric.to_device((images, labels))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        torch.manual_seed(step_generator(config.seed, step).getrandbits(63) ^ self.rank)  # dropout
        if step == self.warm_steps and self.warm_steps:
            spread(self.supernet)
            self.optimizer.state.clear()  # momentum of weights that were replaced
        drawn = self.drawn(step)
        share = 1 / config.accumulate
        mean_loss, top1 = torch.zeros(2, device=self.fabric.device)
        for chosen in drawn:  # gradients of the paths add up, as in FairNAS: a candidate is trained as if it were alone
            activate_mixture(self.supernet, chosen)
            parts = zip(images.chunk(config.accumulate), labels.chunk(config.accumulate), strict=True)
            for number, (x, y) in enumerate(parts, 1):
                logits = self.model(x)
                loss = F.cross_entropy(logits, y, label_smoothing=config.label_smoothing)
                # what thresholds mix depends on the weights, and all parts share that piece of the graph
                shared = isinstance(self.search, nas.ThresholdSearch) and number < config.accumulate
                self.fabric.backward(loss * share, retain_graph=shared)
                mean_loss = mean_loss + loss.detach() * share / len(drawn)
                top1 = top1 + (logits.detach().argmax(1) == y).float().mean() * share / len(drawn)
                del logits, loss  # before the next part is computed
        average_gradients(self.supernet.parameters())
        if config.clip_norm:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
        self.optimizer.step()
        # To None: candidates off the path are neither decayed nor moved by momentum. (The unused part of a shared weight
        # is: its gradient is zero, not absent.)
        self.optimizer.zero_grad()
        return mean_loss, top1

    def arch_step(
        self, step: int, number: int, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[float, torch.Tensor]:
        """One step of the architecture parameters, the `number`-th after weight step `step`.

        Returns:
            The expected cost in millions of the table's units; the loss, on the device.
        """
        assert self.search is not None
        images, labels = self.fabric.to_device((images, labels))
        chosen = self.search.draw(self._generator(f"arch{number}", step), step // self.steps_per_epoch, learn=True)
        activate_mixture(self.supernet, chosen)
        parts = self.config.accumulate

        def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            with self.fabric.autocast():  # Fabric's own wrapper of the supernet refuses autograd.grad in 16 bits
                return F.cross_entropy(self.supernet(x), y, label_smoothing=self.config.label_smoothing)

        losses = (loss(x, y) for x, y in zip(images.chunk(parts), labels.chunk(parts), strict=True))
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)  # of fp16
        scale = scaler.get_scale() if scaler is not None else 1.0
        result = self.learner.step(chosen, losses, parts, scale)
        activate_mixture(self.supernet, self.chain.warm_path)  # lets go of the weights, and of the graph behind them
        return result

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        config = self.config
        return optimizers.learning_rate(
            step, self.steps, peak=config.lr, schedule=config.schedule, warmup=config.warmup
        )

    def probabilities(self) -> dict[str, list[float]]:
        """label -> how probable each candidate is, of a differentiable strategy."""
        assert self.search is not None
        return nas.as_lists(self.search.probabilities())

    def preferences(self) -> dict[str, list[float]]:
        """label -> what the export maximises the product of: the probabilities, but for thresholds."""
        assert self.search is not None
        return nas.as_lists(self.search.export_scores())

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds; tensors and JSON-able values."""
        state = {
            "model": self.supernet.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        if self.search is not None:
            state |= {"search": self.search.state_dict(), "search_optimizer": self.learner.optimizer.state_dict()}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        self.supernet.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self.search is not None:
            self.search.load_state_dict(state["search"])
            self.learner.optimizer.load_state_dict(state["search_optimizer"])

    def check(self, losses: list[tuple[int, torch.Tensor]], good: str) -> None:
        """Stop if a loss, or a weight by now, is not finite. Every process sees the mean over all, so all stop.

        Args:
            losses: steps and their losses since the last check; looked at together, so that a GPU need not wait.
            good: what to say of the last checkpoint.
        Raises:
            InputError: naming the first such step, its path and the checkpoint.
        """
        values = torch.stack([loss for _, loss in losses])
        average([values])
        remedy = f"{good}; start again with a lower --lr, or with --clip-norm"
        for (step, _), value in zip(losses, values.tolist(), strict=True):
            if not math.isfinite(value):
                raise InputError(f"the loss became {value} at step {step + 1:,} on {self._describe(step)}; {remedy}")
        learned = [] if self.search is None else list(self.search.parameters())
        norms = torch.nn.utils.get_total_norm([p.detach() for p in (*self.supernet.parameters(), *learned)])
        if not torch.isfinite(norms):
            step = losses[-1][0]
            raise InputError(
                f"the weights are no longer finite after step {step + 1:,}, {self._describe(step)}; {remedy}"
            )

    def _describe(self, step: int) -> str:
        names = []
        for chosen in self.drawn(step):
            if any(isinstance(value, Weights) for value in chosen.values()) or self.search is not None:
                return "what its architecture parameters chose"
            names.append(f"{arch_id(chosen)} ({', '.join(f'{label} {value}' for label, value in chosen.items())})")
        return f"path {names[0]}" if len(names) == 1 else f"one of the {len(names)} paths {'; '.join(names)}"

    def _generator(self, what: str, step: int) -> torch.Generator:
        """The same in every process."""
        seed = step_generator(self.config.seed, step).getrandbits(32)
        return torch.Generator().manual_seed(int.from_bytes(what.encode()) % 1_000_003 + seed)


def spread(supernet: Any) -> None:
    """End of a warm start: every candidate inherits the weights of the first one in its choice block.

    The sizes of an elastic block share their weights anyway.
    """
    for choice, block in zip(supernet.chain.blocks, supernet.blocks, strict=True):
        if choice.label is not None:
            for name in block.names[1:]:
                supernet.chain.inherit(block[name], block[block.names[0]])
