"""The training strategies as NNI one-shot strategies: NasExperiment(space, evaluator, StrictFair()).run().

They train any NNI ModelSpace whose choices are LayerChoices, and all spaces of Onepath. The evaluator is one of NNI's
Lightning evaluators. The architecture parameters of a differentiable strategy learn from its validation images, and an
epoch sees all training and validation images once. `trials.supernet` trains without Lightning's loop and is the faster
and safer way; the paths and the mathematics are the same code. See docs/nni_strategies.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from spaces.cost import CostTable
from spaces.errors import InputError, unknown
from spaces.latency import LatencyTable
from spaces.model_space import MixedLayer
from strategies import differentiable as nas
from strategies.cost_loss import FORMS
from strategies.feasible import FeasibleSpace, draw_within_limits
from strategies.limits import Limits
from strategies.nni_modules import Interleaved, Loader, PathModule, SearchModule, space_choices, space_costs
from strategies.sampling import STRATEGIES, Paths, PathSampler

with warnings.catch_warnings():  # NNI 3.0 complains about every newer class in torch.nn
    warnings.simplefilter("ignore")
    import nni.nas.strategy
    from nni.nas.evaluator.pytorch import LightningModule
    from nni.nas.nn.pytorch import ModelSpace
    from nni.nas.oneshot.pytorch.strategy import OneShotStrategy, no_default_hook


class SamplingStrategy(OneShotStrategy):
    """Base of the strategies that sample paths.

    Args:
        seed: seed of all random decisions; every process of a distributed run samples the same paths.
        clip_norm: largest norm of the gradient; None: not clipped. (Lightning's own option cannot be used, because it
            refuses the manual optimisation of NNI's modules.)
        options: width_warmup, use_all_blocks, use_all_channels of `strategies.sampling.Paths`.
    """

    learns_value_choices = True  # for spaces.model_space: a path has a value for every label

    def __init__(self, seed: int = 0, clip_norm: float | None = None, **options: bool) -> None:
        super().__init__()
        self.seed, self.clip_norm, self.options = seed, clip_norm, options

    def sampler(self, model: ModelSpace) -> PathSampler:
        """The strategy's path sampler for a space."""
        raise NotImplementedError

    def paths(self, model: ModelSpace, epochs: int, steps_per_epoch: int) -> Paths:
        """The paths of every step of a run."""
        elastic = [label for block in model.chain.blocks for label in block.elastic] if hasattr(model, "chain") else []
        return Paths(
            self.sampler(model),
            space_choices(model),
            elastic=elastic,
            seed=self.seed,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            **self.options,
        )

    def configure_oneshot_module(self, training_module: LightningModule) -> PathModule:
        """The Lightning module around the evaluator's own; called by NNI."""
        return PathModule(training_module, self.seed, self.clip_norm, self.paths, self.sampler)

    def default_mutation_hooks(self) -> list[Any]:
        """The hooks that turn a space into a supernet; called by NNI."""
        return [MixedLayer.mutate, *nni.nas.strategy.RandomOneShot().default_mutation_hooks()]


class Uniform(SamplingStrategy):
    """Uniform sampling, as in SPOS: one path per step."""

    def sampler(self, model: ModelSpace) -> PathSampler:
        """The strategy's path sampler for a space."""
        return STRATEGIES["uniform"]


class StrictFair(SamplingStrategy):
    """Strict fairness, as in FairNAS: m paths and one optimiser step per batch; see `strategies.sampling.strict_fair`."""

    def sampler(self, model: ModelSpace) -> PathSampler:
        """The strategy's path sampler for a space."""
        return STRATEGIES["strict-fair"]


class CostWindow(SamplingStrategy):
    """Uniform sampling from the architectures within limits.

    Args:
        seed, clip_norm: as for SamplingStrategy.
        table: cost table of the space; None: counted.
        latency: latency table of the space, for max_latency_ms.
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

    def sampler(self, model: ModelSpace) -> PathSampler:
        """The strategy's path sampler for a space."""
        return draw_within_limits(FeasibleSpace(space_costs(model, self.table), self.limits, self.latency))


class DifferentiableStrategy(OneShotStrategy):
    """Base of the strategies that learn how probable each candidate is.

    Args:
        seed: seed of all random decisions.
        warmup_epochs: epochs that train the weights alone.
        max_macs: hard limit of the exported architecture, such as "320M".
        cost_loss: arguments of `strategies.cost_loss.cost_loss`, such as {"form": "linear", "weight": 0.01}.
        optimizer: arguments of `strategies.arch_learner.make_optimizer`: kind, lr, weight_decay.
        table: cost table of the space; None: counted. `LatencyTable.load(FILE).costs` is one of latencies in nanoseconds.
        clip_norm: largest norm of the weights' gradient; None: not clipped.
        options: options of the search, such as temperature.
    Raises:
        InputError: an unknown form of cost_loss.
    """

    name = ""
    learns_value_choices = True  # for spaces.model_space: widths and kernels are mixed by `Weights`

    def __init__(
        self,
        seed: int = 0,
        *,
        warmup_epochs: int = 0,
        max_macs: int | str | None = None,
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
        if self.cost_loss["form"] not in FORMS:  # --cost-loss limit of trials.supernet is no form: it controls a weight
            raise InputError(unknown("form of cost_loss", str(self.cost_loss["form"]), FORMS))
        self.optimizer, self.options = optimizer or {}, options

    def make_search(self, choices: dict[str, list[Any]], norms: nas.Norms) -> nas.SoftmaxSearch:
        """The strategy's search for the choices of a space."""
        return nas.SEARCHES[self.name](choices, **self.options)

    def configure_oneshot_module(self, training_module: LightningModule) -> SearchModule:
        """The Lightning module around the evaluator's own; called by NNI."""
        return SearchModule(
            training_module,
            self.seed,
            self.clip_norm,
            name=self.name,
            make_search=self.make_search,
            optimizer=self.optimizer,
            cost_loss=self.cost_loss,
            warmup_epochs=self.warmup_epochs,
            max_macs=self.limits.max_macs,
            table=self.table,
        )

    def default_mutation_hooks(self) -> list[Any]:
        """The hooks that turn a space into a supernet; called by NNI."""
        return [MixedLayer.mutate, no_default_hook]

    def train_dataloader(
        self, train_dataloader_fn: Callable[[], Loader], val_dataloader_fn: Callable[[], Loader]
    ) -> Interleaved:
        """Training and validation images, interleaved; called by NNI."""
        return Interleaved(train_dataloader_fn(), val_dataloader_fn())


class Softmax(DifferentiableStrategy):
    """Softmax over all candidates, as in first-order DARTS."""

    name = "softmax"


class Gumbel(DifferentiableStrategy):
    """Gumbel softmax, as in FBNet. Options: temperature, decay (per epoch), hard."""

    name = "gumbel"


class Gates(DifferentiableStrategy):
    """Binary gates, as in ProxylessNAS: two paths per architecture step, one per weight step."""

    name = "gates"


class Threshold(DifferentiableStrategy):
    """Threshold decisions, as in Single-Path NAS, for spaces of superkernels."""

    name = "threshold"

    def make_search(self, choices: dict[str, list[Any]], norms: nas.Norms) -> nas.SoftmaxSearch:
        """The search, which reads the norms of the supernet's weights."""
        return nas.ThresholdSearch(choices, norms, **self.options)
