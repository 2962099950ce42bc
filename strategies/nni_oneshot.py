"""The training strategies as NNI one-shot strategies: NasExperiment(space, evaluator, StrictFair()).run().

They train any NNI ModelSpace whose choices are LayerChoices, and Onepath's spaces with all they offer. The evaluator is
one of NNI's Lightning evaluators. Its validation images are those that the architecture parameters of a differentiable
strategy learn from; an epoch walks once over both. `trials.supernet` trains without Lightning's loop and is the faster
and safer way; the paths and the mathematics are the same code. See docs/nni_strategies.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from spaces.arch import activate_mixture
from spaces.cost import CostTable, measure
from spaces.elastic import squared_norms
from spaces.errors import InputError
from spaces.latency import LatencyTable
from spaces.model_space import MixedLayer
from strategies import arch_learner, cost_loss
from strategies import differentiable as nas
from strategies.feasible import FeasibleSpace, draw_within_limits
from strategies.limits import Limits
from strategies.most_probable import most_probable
from strategies.sampling import STRATEGIES, Paths, PathSampler, step_generator, uniform_path

with warnings.catch_warnings():  # NNI 3.0 complains about every newer class in torch.nn
    warnings.simplefilter("ignore")
    import nni.nas.strategy  # first: else NNI's own strategies fail to import, without a word
    from nni.nas.oneshot.pytorch.base_lightning import BaseOneShotLightningModule
    from nni.nas.oneshot.pytorch.strategy import OneShotStrategy, no_default_hook


def _choices(model: Any) -> dict[str, list[Any]]:
    return {label: list(mutable.values) for label, mutable in model.simplify().items()}


def _table(model: Any, given: CostTable | None) -> CostTable:
    """The cost table of a space: the one given, or counted where it is one of Onepath's."""
    if given is None and not hasattr(model, "chain"):
        raise TypeError("limits and cost losses need the costs of the space; give table=CostTable.additive(...)")
    return given if given is not None else measure(model)


class _OneShotModule(BaseOneShotLightningModule):
    """What all strategies share: their own count of steps, and validation on one path."""

    steps_taken: torch.Tensor

    def __init__(self, training_module: Any, seed: int) -> None:
        super().__init__(training_module)
        self.seed = seed
        self.register_buffer("steps_taken", torch.zeros((), dtype=torch.long))  # in the checkpoint, for a resume

    def loss(self, batch: Any, batch_idx: int) -> tuple[torch.Tensor, Any]:
        output = self.training_module.training_step(batch, batch_idx)
        return (output["loss"] if isinstance(output, dict) else output), output

    def finish_step(self, batch_idx: int, clip_norm: float | None) -> None:
        """Clip, step and schedule the optimiser of the weights, whose gradients are there."""
        optimizers = self.optimizers()
        optimizer = optimizers[0] if isinstance(optimizers, list) else optimizers
        if clip_norm:
            self.clip_gradients(optimizer, clip_norm, "norm")
        optimizer.step()
        optimizer.zero_grad()
        self.advance_lr_schedulers(batch_idx)
        self.steps_taken += 1

    def on_train_start(self) -> None:
        if str(self.trainer.precision).startswith("16"):
            raise InputError("precision 16-mixed does not work under NNI; use bf16-mixed, or trials.supernet")
        super().on_train_start()

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        activate_mixture(self.model, self.export_for(batch_idx))
        return self.training_module.validation_step(batch, batch_idx)

    def export_for(self, batch_idx: int) -> dict[str, Any]:
        """The path that a validation batch runs on."""
        raise NotImplementedError


class _PathModule(_OneShotModule):
    def __init__(self, training_module: Any, strategy: SamplingStrategy) -> None:
        super().__init__(training_module, strategy.seed)
        self.strategy = strategy

    def on_train_start(self) -> None:
        trainer = self.trainer
        self.paths = self.strategy.paths(self.model, int(trainer.max_epochs or 1), int(trainer.num_training_batches))
        super().on_train_start()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        paths = self.paths(int(self.steps_taken))
        for chosen in paths:
            activate_mixture(self.model, chosen)
            loss, output = self.loss(batch, batch_idx)
            self.manual_backward(loss)
        self.finish_step(batch_idx, self.strategy.clip_norm)
        return output

    def export_for(self, batch_idx: int) -> dict[str, Any]:
        return uniform_path(_choices(self.model), step_generator(self.seed, -1 - batch_idx))

    def export(self) -> dict[str, Any]:
        """Sampling finds no best architecture: that is a search of its own. This is a random one within the limits."""
        draw = self.strategy.draw(self.model)
        return draw(_choices(self.model), self.seed, 0, 0)[0]


class SamplingStrategy(OneShotStrategy):
    """Base of the strategies that draw paths.

    Args:
        seed: of the draws; every process of a distributed run draws the same paths.
        clip_norm: largest norm of the gradient; None: not clipped. (Trainer's own option refuses manual optimisation.)
        options: width_warmup, use_all_blocks, use_all_channels of `strategies.sampling.Paths`.
    """

    def __init__(self, seed: int = 0, clip_norm: float | None = None, **options: bool) -> None:
        super().__init__()
        self.seed, self.clip_norm, self.options = seed, clip_norm, options

    def draw(self, model: Any) -> PathSampler:
        """The strategy's draw for this space."""
        raise NotImplementedError

    def paths(self, model: Any, epochs: int, steps_per_epoch: int) -> Paths:
        elastic = [label for block in model.chain.blocks for label in block.elastic] if hasattr(model, "chain") else []
        return Paths(
            self.draw(model),
            _choices(model),
            elastic=elastic,
            seed=self.seed,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            **self.options,
        )

    def configure_oneshot_module(self, training_module: Any) -> BaseOneShotLightningModule:
        return _PathModule(training_module, self)

    def default_mutation_hooks(self) -> list[Any]:
        return [MixedLayer.mutate, *nni.nas.strategy.RandomOneShot().default_mutation_hooks()]


class Uniform(SamplingStrategy):
    """Uniform sampling, as in SPOS: one path per step."""

    def draw(self, model: Any) -> PathSampler:
        return STRATEGIES["uniform"]


class StrictFair(SamplingStrategy):
    """Strict fairness, as in FairNAS: m paths and one optimiser step per batch; see `strategies.sampling.strict_fair`."""

    def draw(self, model: Any) -> PathSampler:
        return STRATEGIES["strict-fair"]


class CostWindow(SamplingStrategy):
    """Uniform sampling from the architectures within limits.

    Args:
        table: costs of the space; counted where None.
        latency: of the space, for max_latency_ms.
        limits: max_macs, min_macs, max_params, max_latency_ms.
    """

    def __init__(
        self,
        seed: int = 0,
        table: CostTable | None = None,
        clip_norm: float | None = None,
        latency: LatencyTable | None = None,
        **limits: Any,
    ) -> None:
        super().__init__(seed, clip_norm)
        self.table, self.latency, self.limits = table, latency, Limits.of(limits)

    def draw(self, model: Any) -> PathSampler:
        return draw_within_limits(FeasibleSpace(_table(model, self.table), self.limits, self.latency))


class _Interleaved:
    """Batches of the weights, each with the batches of the architecture part that follow it; an epoch walks over both."""

    def __init__(self, weights: Any, arch: Any) -> None:
        self.weights, self.arch = weights, arch

    def __len__(self) -> int:
        return len(self.weights)

    def __iter__(self) -> Iterator[tuple[Any, list[Any]]]:
        arch = iter(self.arch)
        for number, batch in enumerate(self.weights):
            yield batch, [next(arch) for _ in arch_learner.arch_steps(number, len(self.weights), len(self.arch))]


class _SearchModule(_OneShotModule):
    def __init__(self, training_module: Any, strategy: DifferentiableStrategy) -> None:
        super().__init__(training_module, strategy.seed)
        self.strategy = strategy

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        if not hasattr(self, "search"):
            self.search = self.strategy.make_search(_choices(model), partial(squared_norms, model))
            needed = self.strategy.cost_loss["form"] != "none" or self.strategy.limits.max_macs is not None
            self.table = _table(model, self.strategy.table) if needed else CostTable({}, (0, 0), [])

    def configure_architecture_optimizers(self) -> Any:
        return arch_learner.make_optimizer(self.search, self.strategy.name, **self.strategy.optimizer)

    def on_train_start(self) -> None:
        if self.trainer.world_size > 1:
            raise InputError(
                "under NNI a differentiable strategy is one process; use torchrun -m trials.supernet for several"
            )
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        self.learner = arch_learner.ArchLearner(
            self.search,
            optimizers[-1],  # type: ignore[arg-type]
            self.table,
            lambda loss, cost: cost_loss.cost_loss(loss=loss, cost=cost, **self.strategy.cost_loss),
        )
        super().on_train_start()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        weights, arch = batch
        step, epoch = int(self.steps_taken), self.trainer.current_epoch

        def generator(what: int) -> torch.Generator:
            return torch.Generator().manual_seed(step_generator(self.seed, step).getrandbits(32) + what)

        activate_mixture(self.model, self.search.draw(generator(0), epoch, learn=False))
        loss, output = self.loss(weights, batch_idx)
        self.manual_backward(loss)
        self.finish_step(batch_idx, self.strategy.clip_norm)
        if epoch >= self.strategy.warmup_epochs:
            for number, images in enumerate(arch):
                chosen = self.search.draw(generator(1 + number), epoch, learn=True)
                activate_mixture(self.model, chosen)
                self.learner.step(chosen, (self.loss(images, batch_idx)[0] for _ in range(1)))
        return output

    def export_probs(self) -> dict[str, Any]:
        return {
            label: dict(zip(self.search.choices[label], row, strict=True))
            for label, row in nas.as_lists(self.search.probabilities()).items()
        }

    def export_for(self, batch_idx: int) -> dict[str, Any]:
        return self.export()

    def export(self) -> dict[str, Any]:
        """The most probable architecture within max_macs."""
        preferences = nas.as_lists(self.search.export_scores())
        if self.table.blocks:
            return most_probable(self.table, preferences, self.strategy.limits.max_macs)[0]
        return {
            label: self.search.choices[label][max(range(len(row)), key=row.__getitem__)]
            for label, row in preferences.items()
        }


class DifferentiableStrategy(OneShotStrategy):
    """Base of the strategies that learn how probable each candidate is.

    Args:
        seed: of what is drawn.
        warmup_epochs: for the weights alone.
        max_macs: hard limit of the exported architecture, such as "320M".
        cost_loss: arguments of `strategies.differentiable.cost_loss`, such as {"form": "linear", "weight": 0.01}.
        optimizer: arguments of `strategies.differentiable.make_optimizer`: kind, lr, weight_decay.
        table: costs of the space; counted where None. That of latencies is `LatencyTable.load(FILE).costs`, in nanoseconds.
        clip_norm: largest norm of the weights' gradient.
        options: of the search, such as temperature.
    """

    name = ""

    def __init__(
        self,
        seed: int = 0,
        *,
        warmup_epochs: int = 0,
        max_macs: Any = None,
        cost_loss: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
        table: CostTable | None = None,
        clip_norm: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.seed, self.warmup_epochs, self.table, self.clip_norm = seed, warmup_epochs, table, clip_norm
        self.limits = Limits.of({"max_macs": max_macs})
        self.cost_loss = {"form": "none", **(cost_loss or {})}
        self.optimizer, self.options = optimizer or {}, options

    def make_search(self, choices: dict[str, list[Any]], norms: Callable[[str], torch.Tensor]) -> nas.SoftmaxSearch:
        return nas.SEARCHES[self.name](choices, **self.options)

    def configure_oneshot_module(self, training_module: Any) -> BaseOneShotLightningModule:
        return _SearchModule(training_module, self)

    def default_mutation_hooks(self) -> list[Any]:
        return [MixedLayer.mutate, no_default_hook]

    def train_dataloader(self, train_dataloader_fn: Any, val_dataloader_fn: Any) -> Any:
        return _Interleaved(train_dataloader_fn(), val_dataloader_fn())


class Softmax(DifferentiableStrategy):
    """DARTS-like softmax over all candidates, first order."""

    name = "softmax"


class Gumbel(DifferentiableStrategy):
    """Gumbel softmax, as in FBNet. Options: temperature, decay (per epoch), hard."""

    name = "gumbel"


class Gates(DifferentiableStrategy):
    """Binary gates, as in ProxylessNAS: two paths per architecture step, one per weight step."""

    name = "gates"


class Threshold(DifferentiableStrategy):
    """Threshold decisions of Single-Path NAS, for spaces of superkernels."""

    name = "threshold"

    def make_search(self, choices: dict[str, list[Any]], norms: Callable[[str], torch.Tensor]) -> nas.SoftmaxSearch:
        return nas.ThresholdSearch(choices, norms, **self.options)
