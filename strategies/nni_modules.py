"""The Lightning modules behind the NNI one-shot strategies of nni_oneshot.py: what a training step does.

A `batch` is whatever the evaluator's data loader yields; it is only passed on to the evaluator's own module.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from functools import partial
from typing import Any, Protocol

import torch

from spaces.arch import Arch, Mixture, activate_mixture
from spaces.cost import CostTable, measure
from spaces.elastic import squared_norms
from spaces.errors import InputError
from strategies import arch_learner, cost_loss
from strategies import differentiable as nas
from strategies.most_probable import most_probable
from strategies.sampling import Paths, PathSampler, step_generator, uniform_path

with warnings.catch_warnings():  # NNI 3.0 complains about every newer class in torch.nn
    warnings.simplefilter("ignore")
    import nni.nas.strategy  # must come first: else NNI's own strategies silently fail to import # noqa: F401
    from nni.nas.evaluator.pytorch import LightningModule
    from nni.nas.nn.pytorch import ModelSpace
    from nni.nas.oneshot.pytorch.base_lightning import BaseOneShotLightningModule


class Loader(Sized, Iterable[Any], Protocol):
    """A data loader with a length."""


def space_choices(model: ModelSpace) -> dict[str, list[Any]]:
    """The choices of any NNI space: label -> candidates, in order."""
    return {label: list(mutable.values) for label, mutable in model.simplify().items()}


def space_costs(model: ModelSpace, table: CostTable | None) -> CostTable:
    """The cost table of a space: the given one, or for one of Onepath's spaces a table that is counted now.

    Raises:
        TypeError: no table is given, and the space is none of Onepath's.
    """
    if table is None and not hasattr(model, "chain"):
        raise TypeError("limits and cost losses need the costs of the space; give table=CostTable.additive(...)")
    return table if table is not None else measure(model)


class OneShotModule(BaseOneShotLightningModule):
    """Base of both modules: it counts steps, and validates on one path.

    Args:
        training_module: the evaluator's Lightning module.
        seed: seed of all random decisions.
        clip_norm: largest norm of the weights' gradient; None: not clipped.
    Attributes:
        steps_taken: steps so far, a scalar; a buffer, so that a checkpoint holds it for a resume.
    """

    steps_taken: torch.Tensor

    def __init__(self, training_module: LightningModule, seed: int, clip_norm: float | None) -> None:
        super().__init__(training_module)
        self.seed, self.clip_norm = seed, clip_norm
        self.register_buffer("steps_taken", torch.zeros((), dtype=torch.long))

    def loss(self, batch: Any, batch_idx: int) -> tuple[torch.Tensor, Any]:
        """The loss of a batch on the active path, a scalar, and all that the evaluator's module returned."""
        output = self.training_module.training_step(batch, batch_idx)
        return (output["loss"] if isinstance(output, dict) else output), output

    def finish_step(self, batch_idx: int) -> None:
        """Clip the gradients of the weights, update the weights, and advance the learning rate."""
        optimizers = self.optimizers()
        optimizer = optimizers[0] if isinstance(optimizers, list) else optimizers
        if self.clip_norm:
            self.clip_gradients(optimizer, self.clip_norm, "norm")
        optimizer.step()
        optimizer.zero_grad()
        self.advance_lr_schedulers(batch_idx)
        self.steps_taken += 1

    def on_train_start(self) -> None:
        """Refuse a precision that NNI cannot train with."""
        if str(self.trainer.precision).startswith("16"):
            raise InputError("precision 16-mixed does not work under NNI; use bf16-mixed, or trials.supernet")
        super().on_train_start()

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """Validate a batch on the path of `export_for`."""
        activate_mixture(self.model, self.export_for(batch_idx))
        return self.training_module.validation_step(batch, batch_idx)

    def export_for(self, batch_idx: int) -> Arch:
        """The path that a validation batch runs on."""
        raise NotImplementedError


class PathModule(OneShotModule):
    """Trains sampled paths.

    Args:
        make_paths: (space, epochs, steps per epoch) -> the paths of every step.
        make_sampler: space -> the strategy's sampler.
        others: as for OneShotModule.
    """

    def __init__(
        self,
        training_module: LightningModule,
        seed: int,
        clip_norm: float | None,
        make_paths: Callable[[ModelSpace, int, int], Paths],
        make_sampler: Callable[[ModelSpace], PathSampler],
    ) -> None:
        super().__init__(training_module, seed, clip_norm)
        self.make_paths, self.make_sampler = make_paths, make_sampler

    def on_train_start(self) -> None:
        """Make the paths, now that the length of the run is known."""
        trainer = self.trainer
        self.paths = self.make_paths(self.model, int(trainer.max_epochs or 1), int(trainer.num_training_batches))
        super().on_train_start()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Add up the gradients of the step's paths, then update the weights once."""
        paths = self.paths(int(self.steps_taken))
        for path in paths:
            activate_mixture(self.model, path)
            loss, output = self.loss(batch, batch_idx)
            self.manual_backward(loss)
        self.finish_step(batch_idx)
        return output

    def export_for(self, batch_idx: int) -> Arch:
        """A random path, the same one for a batch in every epoch."""
        return uniform_path(space_choices(self.model), step_generator(self.seed, -1 - batch_idx))

    def export(self) -> Arch:
        """A random architecture within the limits. Finding the best one is a search of its own, after the training."""
        sampler = self.make_sampler(self.model)
        return sampler(space_choices(self.model), self.seed, 0, 0)[0]


class Interleaved:
    """Batches of the weights, each with the architecture batches that follow it; an epoch sees all of both loaders.

    Args:
        weights: loader of the images that the weights learn from.
        arch: loader of the images that the architecture parameters learn from.
    """

    def __init__(self, weights: Loader, arch: Loader) -> None:
        self.weights, self.arch = weights, arch

    def __len__(self) -> int:
        return len(self.weights)

    def __iter__(self) -> Iterator[tuple[Any, list[Any]]]:
        arch = iter(self.arch)
        for number, batch in enumerate(self.weights):
            yield batch, [next(arch) for _ in arch_learner.arch_steps(number, len(self.weights), len(self.arch))]


class SearchModule(OneShotModule):
    """Trains weights and architecture parameters in turn.

    Args:
        name: a key of `strategies.differentiable.SEARCHES`.
        make_search: (choices, squared norms of a label) -> the search.
        optimizer: arguments of `strategies.arch_learner.make_optimizer`.
        cost_loss: arguments of `strategies.cost_loss.cost_loss`.
        warmup_epochs: epochs that train the weights alone.
        max_macs: hard limit of the exported architecture; None: no limit.
        table: cost table of the space; None: counted if it is needed.
        others: as for OneShotModule.
    """

    def __init__(
        self,
        training_module: LightningModule,
        seed: int,
        clip_norm: float | None,
        *,
        name: str,
        make_search: Callable[[dict[str, list[Any]], nas.Norms], nas.SoftmaxSearch],
        optimizer: dict[str, Any],
        cost_loss: dict[str, Any],
        warmup_epochs: int,
        max_macs: int | None,
        table: CostTable | None,
    ) -> None:
        super().__init__(training_module, seed, clip_norm)
        self.name, self.make_search, self.optimizer_settings, self.cost_loss = name, make_search, optimizer, cost_loss
        self.warmup_epochs, self.max_macs, self.given_table = warmup_epochs, max_macs, table

    def set_model(self, model: ModelSpace) -> None:
        """Take the space from NNI, and make the search for its choices."""
        super().set_model(model)
        if not hasattr(self, "search"):
            self.search = self.make_search(space_choices(model), partial(squared_norms, model))
            needs_costs = self.cost_loss["form"] != "none" or self.max_macs is not None
            self.table = space_costs(model, self.given_table) if needs_costs else CostTable({}, (0, 0), [])

    def configure_architecture_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser of the architecture parameters; called by NNI."""
        return arch_learner.make_optimizer(self.search, self.name, **self.optimizer_settings)

    def on_train_start(self) -> None:
        """Make the learner, now that the optimisers exist."""
        if self.trainer.world_size > 1:
            raise InputError(
                "under NNI a differentiable strategy is one process; use torchrun -m trials.supernet for several"
            )
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        self.learner = arch_learner.ArchLearner(
            self.search,
            optimizers[-1],
            self.table,
            lambda loss, cost: cost_loss.cost_loss(loss=loss, cost=cost, **self.cost_loss),
        )
        super().on_train_start()

    def training_step(self, batch: tuple[Any, list[Any]], batch_idx: int) -> Any:
        """One step of the weights, then those of the architecture parameters that follow it; see `Interleaved`."""
        weight_batch, arch_batches = batch
        step, epoch = int(self.steps_taken), self.trainer.current_epoch

        def generator(number: int) -> torch.Generator:
            return torch.Generator().manual_seed(step_generator(self.seed, step).getrandbits(32) + number)

        activate_mixture(self.model, self.search.draw(generator(0), epoch, learn=False))
        loss, output = self.loss(weight_batch, batch_idx)
        self.manual_backward(loss)
        self.finish_step(batch_idx)
        if epoch >= self.warmup_epochs:
            for number, arch_batch in enumerate(arch_batches):
                mixture: Mixture = self.search.draw(generator(1 + number), epoch, learn=True)
                activate_mixture(self.model, mixture)
                self.learner.step(mixture, (self.loss(arch_batch, batch_idx)[0] for _ in range(1)))
        return output

    def export_probs(self) -> dict[str, dict[Any, float]]:
        """Label -> candidate -> its present probability."""
        return {
            label: dict(zip(self.search.choices[label], row, strict=True))
            for label, row in nas.as_lists(self.search.probabilities()).items()
        }

    def export_for(self, batch_idx: int) -> Arch:
        """The architecture that would be exported now."""
        return self.export()

    def export(self) -> Arch:
        """The most probable architecture within max_macs."""
        scores = nas.as_lists(self.search.export_scores())
        if self.table.blocks:
            return most_probable(self.table, scores, self.max_macs)[0]
        return {
            label: self.search.choices[label][max(range(len(row)), key=row.__getitem__)]
            for label, row in scores.items()
        }
