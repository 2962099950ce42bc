"""One step of supernet training: paths or mixtures, their gradients, and the architecture parameters.

Everything random in a step is a function of (seed, step), so all processes agree and a resumed run repeats nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from spaces.arch import Mixture, Weights, activate_mixture, arch_id
from spaces.cost import CostTable
from spaces.elastic import squared_norms
from spaces.model_space import ChainSpace, inherit_from_warm_path, make_supernet
from spaces.spec import SpaceSpec
from strategies import arch_learner, cost_loss
from strategies import differentiable as nas
from strategies.cost_control import CostControl
from strategies.sampling import OpWarmup, Paths, step_generator
from trials.common.distributed import average
from trials.images.dataset import Batch, Data
from trials.training.ema import SupernetEma
from trials.training.supernet_config import Config
from trials.training.trainer import Trainer


class SupernetTrainer(Trainer):
    """A supernet and all that its training needs.

    Args:
        config: the options of trials.supernet.
        space: the space, with the classes and the resolution of the images.
        table: the costs that the loss of the architecture parameters sees.
        paths: the paths of a sampling strategy; None for a differentiable one.
    Attributes:
        supernet: the network, with one path or a mixture active.
        ema: the moving average of the weights, if the options ask for one.
        search: the architecture parameters of a differentiable strategy; else None.
        space: as given.
        arch_steps_per_epoch: batches that the architecture parameters learn from in an epoch, in all passes.
        warm_steps: the first steps, which train one path alone.
        op_warmup: of the steps after them, in which all candidates of a block may run at once.
        first_arch_epoch: the epoch from which on the architecture parameters learn.
    """

    config: Config

    def __init__(self, config: Config, data: Data, space: SpaceSpec, table: CostTable, paths: Paths | None) -> None:
        learns = config.strategy in nas.SEARCHES
        super().__init__(
            config,
            data,
            seed=config.seed,
            part="weights" if learns else "train",
            make_network=lambda: make_supernet(space.build()),
        )
        self.supernet = cast(ChainSpace, self.network)
        self.chain = self.supernet.chain
        self.space = space
        self.arch_steps_per_epoch = (
            data.steps_per_epoch("arch", config.batch_size) * config.arch_passes if learns else 0
        )
        self.ema = SupernetEma(self.supernet, config.ema) if config.ema else None
        self.warm_steps, opening = config.warm_steps(self.steps), config.opening_steps(self.steps)
        self.op_warmup = OpWarmup(self.chain.operations, config.seed, self.warm_steps, opening)
        self.first_arch_epoch = config.first_arch_epoch(self.steps_per_epoch)
        self.paths = paths
        self.search: nas.SoftmaxSearch | None = None
        if learns:
            self._make_search(table)
        activate_mixture(self.supernet, self.chain.warm_path)  # the kernels of a path are those of all
        self.compile()
        if self.records():
            self.record(1 / config.accumulate)

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
        # Fabric does not know this optimiser: its gradients come from autograd.grad, unscaled.
        optimizer = arch_learner.make_optimizer(
            self.search,
            config.strategy,
            config.arch_optimizer,
            lr=config.arch_lr,
            weight_decay=config.arch_weight_decay,
        )
        loss_of = partial(
            cost_loss.cost_loss,
            config.cost_loss,
            alpha=config.cost_alpha,
            beta=config.cost_beta,
            weight=config.cost_weight,
            target=config.target(),
        )
        control = None
        if config.cost_loss == "limit":
            epochs = config.epochs - self.first_arch_epoch
            control = CostControl(config.target(), epochs * self.arch_steps_per_epoch)
        self.learner = arch_learner.ArchLearner(self.search, optimizer, table, loss_of, average, control)

    def batches(self, first: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[Batch]]]:
        """What each step needs, from step `first` on.

        Yields:
            Images (N, 3, R, R) and labels (N,) for the weights, this process's share of the batch; and the batches of the
            architecture steps that follow.
        """
        size, seed = self.config.batch_size, self.config.seed
        # each micro-batch is shared among the processes
        share = np.arange(size).reshape(self.config.accumulate, self.world, -1)[:, self.rank].ravel()
        for epoch, start in self.epochs_from(first):
            weight_batches = self.data.train_batches(self.part, size, seed=seed, epoch=epoch, start=start, take=share)
            arch_steps = self.arch_steps_per_epoch if epoch >= self.first_arch_epoch else 0
            arch_batches = self._arch_batches(epoch, start * arch_steps // self.steps_per_epoch, share)
            for number, (images, labels) in enumerate(weight_batches, start):
                due = arch_learner.arch_steps(number, self.steps_per_epoch, arch_steps)
                yield images, labels, [next(arch_batches) for _ in due]

    def _arch_batches(self, epoch: int, start: int, share: np.ndarray) -> Iterator[Batch]:
        """The batches of the architecture parameters in an epoch, from number `start` on, pass after pass."""
        passes, size = self.config.arch_passes, self.config.batch_size
        of_a_pass = max(1, self.arch_steps_per_epoch // passes)
        for number in range(start // of_a_pass, passes):
            first = start % of_a_pass if number == start // of_a_pass else 0
            yield from self.data.train_batches(
                "arch", size, seed=self.config.seed, epoch=epoch * passes + number, start=first, take=share
            )

    def paths_of_step(self, step: int) -> Sequence[Mixture]:
        """The paths or mixtures that a step of the weights trains, one after the other."""
        if step < self.warm_steps:
            return [self.chain.warm_path]
        if self.search is not None:
            path = self.search.draw(self._generator("weights", step), step // self.steps_per_epoch, learn=False)
            return [self.op_warmup(path, step)]
        return [self.op_warmup(path, step) for path in cast(Paths, self.paths)(step)]

    def step(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of the weights.

        Args:
            step: its number, from 0.
            images, labels: this process's share of the batch, (N, 3, R, R) normalised and (N,).
        Returns:
            Mean loss and top-1 (0 to 1) over the paths, of this process, on the device.
        """
        config, device = self.config, self.fabric.device
        images, labels = self.fabric.to_device((images, labels))
        self.set_rate(step)
        torch.manual_seed(step_generator(config.seed, step).getrandbits(63) ^ self.rank)  # for dropout
        if step == self.warm_steps and self.warm_steps:
            inherit_from_warm_path(self.supernet)
            self.optimizer.state.clear()  # the momentum is that of weights that were replaced
            if self.ema is not None:
                self.ema.restart()
        paths, fraction = self.paths_of_step(step), 1 / config.accumulate
        mean_loss, top1 = torch.zeros(2, device=device)
        for path in paths:  # gradients of the paths add up, as in FairNAS: a candidate is trained as if it were alone
            activate_mixture(self.supernet, path)
            keys = self._keys(path) if self.recorded is not None else None
            for number, (x, y) in enumerate(self._micro_batches(images, labels), 1):
                if self.recorded is not None and keys is not None:
                    loss, hits = self.recorded(keys, x, y, y)
                else:
                    # what thresholds mix depends on the weights, and all micro-batches share that piece of the graph
                    shared = isinstance(self.search, nas.ThresholdSearch) and number < config.accumulate
                    loss, hits = self._pass(x, y, fraction, retain_graph=shared)
                mean_loss = mean_loss + loss * fraction / len(paths)
                top1 = top1 + hits * fraction / len(paths)
        self.update_weights()
        if self.ema is not None:
            self.ema.update()
        return mean_loss, top1

    def pieces(self) -> list[nn.Module]:
        """Stem, choice blocks and head."""
        return [self.supernet.stem, *self.supernet.blocks, self.supernet.head]

    def _keys(self, path: Mixture) -> list[tuple[Any, ...]] | None:
        """What is active in each of `pieces`, as `RecordedPass` wants to know it; None where candidates are mixed."""
        if any(isinstance(value, Weights) for value in path.values()):
            return None
        return [(), *(tuple(path[label] for label in block.choices) for block in self.chain.blocks), ()]

    def _pass(
        self, x: torch.Tensor, y: torch.Tensor, fraction: float, *, retain_graph: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The passes of a micro-batch with what is active.

        Args:
            x, y: images (N, 3, R, R), normalised, and labels (N,).
            fraction: factor of the loss before the backward pass.
        Returns:
            Loss, and top-1 from 0 to 1, on the device. All else is free again.
        """
        logits = self.model(x)
        loss = self.loss_of(logits, y)
        self.fabric.backward(loss * fraction, retain_graph=retain_graph)
        return loss.detach(), (logits.detach().argmax(1) == y).float().mean()

    def arch_step(
        self, step: int, number: int, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[arch_learner.Course, torch.Tensor]:
        """One step of the architecture parameters, the `number`-th after weight step `step`.

        Args:
            images, labels: this process's share of the batch, (N, 3, R, R) normalised and (N,).
        Returns:
            Where they stand; the loss, on the device.
        """
        assert self.search is not None
        images, labels = self.fabric.to_device((images, labels))
        mixture = self.search.draw(self._generator(f"arch{number}", step), step // self.steps_per_epoch, learn=True)
        activate_mixture(self.supernet, mixture)

        def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            with self.fabric.autocast():  # Fabric's own wrapper of the supernet refuses autograd.grad in 16 bits
                return self.loss_of(self.supernet(x), y)

        losses = (loss(x, y) for x, y in self._micro_batches(images, labels))
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)  # 16-mixed alone has one
        scale = scaler.get_scale() if scaler is not None else 1.0
        result = self.learner.step(mixture, losses, self.config.accumulate, scale)
        activate_mixture(self.supernet, self.chain.warm_path)  # lets go of the mixture, and of the graph behind it
        return result

    def _micro_batches(self, images: torch.Tensor, labels: torch.Tensor) -> Iterator[Batch]:
        """A batch in the equal pieces whose gradients are accumulated."""
        count = self.config.accumulate
        return zip(images.chunk(count), labels.chunk(count), strict=True)

    def probabilities(self) -> dict[str, list[float]]:
        """How probable a differentiable strategy holds each candidate, by label."""
        assert self.search is not None
        return nas.as_lists(self.search.probabilities())

    def export_scores(self) -> dict[str, list[float]]:
        """Scores of the candidates by label; the export picks the path with the largest product.

        They are the probabilities, but for thresholds.
        """
        assert self.search is not None
        return nas.as_lists(self.search.export_scores())

    def result(self) -> dict[str, torch.Tensor]:
        """State dict of what the training comes to: the supernet, or its moving average."""
        return self.supernet.state_dict() if self.ema is None else self.ema.weights()

    def parameters(self) -> list[nn.Parameter]:
        """The weights of the supernet, and the architecture parameters."""
        return super().parameters() + ([] if self.search is None else list(self.search.parameters()))

    def describe_step(self, step: int) -> str:
        """The path or paths that a step trained, for an error."""
        names = []
        for path in self.paths_of_step(step):
            if any(isinstance(value, Weights) for value in path.values()) or self.search is not None:
                return "a mixture of candidates"
            names.append(f"{arch_id(path)} ({', '.join(f'{label} {value}' for label, value in path.items())})")
        return f"path {names[0]}" if len(names) == 1 else f"one of the {len(names)} paths {'; '.join(names)}"

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: tensors and JSON-able values."""
        state = super().state()
        if self.ema is not None:
            state |= {"ema": self.ema.state()}
        if self.search is not None:
            state |= {"search": self.search.state_dict(), "search_optimizer": self.learner.optimizer.state_dict()}
            if self.learner.control is not None:
                state["cost_control"] = self.learner.control.state()
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state()` returned."""
        super().restore(state)
        if self.ema is not None:
            self.ema.restore(state["ema"])
        if self.search is not None:
            self.search.load_state_dict(state["search"])
            self.learner.optimizer.load_state_dict(state["search_optimizer"])
            if self.learner.control is not None:
                self.learner.control.restore(state["cost_control"])

    def _generator(self, purpose: str, step: int) -> torch.Generator:
        """The generator of what a step draws for one purpose; the same in every process."""
        seed = step_generator(self.config.seed, step).getrandbits(32)
        return torch.Generator().manual_seed(int.from_bytes(purpose.encode()) % 1_000_003 + seed)
