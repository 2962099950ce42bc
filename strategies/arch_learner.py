"""The training of architecture parameters: their optimiser, when their steps happen, one step. K candidates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from spaces.arch import Mixture
from spaces.cost import CostTable
from strategies.cost_control import CostControl
from strategies.cost_loss import UNIT, expected_cost
from strategies.differentiable import SoftmaxSearch

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "softmax": {"lr": 3e-4, "betas": (0.5, 0.999), "weight_decay": 1e-3},  # DARTS
    "gumbel": {"lr": 0.01, "betas": (0.9, 0.999), "weight_decay": 5e-4},  # FBNet
    "gates": {"lr": 0.006, "betas": (0.0, 0.999), "weight_decay": 0.0},  # ProxylessNAS
    "threshold": {"lr": 0.016, "betas": (0.9, 0.999), "weight_decay": 0.0},  # Single-Path NAS: its weights' rate
}


def make_optimizer(
    search: SoftmaxSearch,
    strategy: str,
    kind: str = "adam",
    *,
    lr: float | None = None,
    weight_decay: float | None = None,
) -> torch.optim.Optimizer:
    """Make the optimiser of the architecture parameters.

    Args:
        search: the search whose parameters are trained.
        strategy: a key of OPTIMIZERS.
        kind: adam or sgd.
        lr, weight_decay: None: the values of the strategy's paper.
    """
    settings = dict(OPTIMIZERS[strategy])
    settings |= {name: value for name, value in (("lr", lr), ("weight_decay", weight_decay)) if value is not None}
    if kind == "sgd":
        return torch.optim.SGD(search.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"])
    return torch.optim.Adam(search.parameters(), **settings)


def arch_steps(step: int, weight_steps: int, arch_steps_per_epoch: int) -> range:
    """Which batches of the architecture images follow a step of the weights, so that an epoch sees all of both.

    Args:
        step: step of the weights within the epoch, from 0.
        weight_steps: batches of weight images in an epoch.
        arch_steps_per_epoch: batches of architecture images in an epoch.
    Returns:
        Indices of batches of architecture images.
    """
    return range(step * arch_steps_per_epoch // weight_steps, (step + 1) * arch_steps_per_epoch // weight_steps)


class Course(NamedTuple):
    """Where the architecture parameters stand after a step. Costs are in millions of the table's unit.

    Attributes:
        expected_cost: of the distribution, before the step.
        mode_cost: of the most probable architecture, whatever the limit.
        entropy: of a choice, as a part of the largest one, ln K; mean over choices. 1: all are equally probable, 0: decided.
        cost_multiplier: see `cost_control`; 0 without control.
    """

    expected_cost: float
    mode_cost: float
    entropy: float
    cost_multiplier: float


class ArchLearner:
    """A search with its optimiser: the architecture parameters' side of a training loop.

    Args:
        search: an instance of one of SEARCHES.
        optimizer: optimiser of its parameters.
        table: cost table of the space.
        loss_of: (cross-entropy, expected cost) -> loss; see `cost_loss`.
        average: averages gradients over all processes, in place.
        control: adds the gradient of the cost, times its multiplier; None: the cost has no part but in `loss_of`.
    """

    def __init__(
        self,
        search: SoftmaxSearch,
        optimizer: torch.optim.Optimizer,
        table: CostTable,
        loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        average: Callable[[Sequence[torch.Tensor]], None] = lambda gradients: None,
        control: CostControl | None = None,
    ) -> None:
        self.search, self.optimizer, self.table, self.loss_of, self.average = search, optimizer, table, loss_of, average
        self.control = control
        self.scale_limit = math.inf

    def step(
        self, mixture: Mixture, losses: Iterable[torch.Tensor], chunks: int = 1, scale: float = 1.0
    ) -> tuple[Course, torch.Tensor]:
        """Update the architecture parameters; the weights of the supernet get no gradient.

        If the gradient is not finite, nothing is updated. In 16-bit precision the next step then halves the scale; with
        scale 1 the returned loss shows the problem to the training loop.

        Args:
            mixture: what the search sampled with `learn`, and the losses were computed on.
            losses: cross-entropy of each of the equally large chunks of a batch, scalars; each may be computed when it
                is asked for.
            chunks: number of chunks.
            scale: factor of the loss during the backward pass, against underflow in 16-bit precision.
        Returns:
            Where the parameters stand, and the loss, a scalar.
        """
        scale = min(scale, self.scale_limit)
        parameters = list(self.search.parameters())
        gradients = [torch.zeros_like(parameter) for parameter in parameters]
        mean = torch.zeros((), device=parameters[0].device)
        for number, loss in enumerate(losses, 1):
            cost = expected_cost(self.table, self.search.expectation(mixture))
            total = self.loss_of(loss, cost) / chunks  # all forms are linear in CE: the sum over chunks is the batch's
            chunk_gradients = torch.autograd.grad(
                total * scale, parameters, retain_graph=number < chunks or self.control is not None, allow_unused=True
            )
            for gradient, chunk_gradient in zip(gradients, chunk_gradients, strict=True):
                if chunk_gradient is not None:
                    gradient += chunk_gradient / scale
            mean, cost = mean + total.detach(), cost.detach()
            del loss, total, chunk_gradients  # frees their memory before the next chunk is computed
        self.average(gradients)
        if all(torch.isfinite(gradient).all() for gradient in gradients):
            if self.control is not None:
                self._add_cost(self.control, mixture, parameters, gradients)
            before = [parameter.detach().clone() for parameter in parameters]
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            self.optimizer.step()
            self.search.after_step(mixture, before)
        elif scale > 1:
            self.scale_limit = scale / 2
        mode = mode_cost(self.table, self.search.export_scores())
        if self.control is not None:
            with torch.no_grad():
                expected = float(expected_cost(self.table, self.search.probabilities()))
            self.control.follow(mode, expected)
        multiplier = self.control.multiplier if self.control is not None else 0.0
        return Course(float(cost), mode, mean_entropy(self.search.probabilities()), multiplier), mean

    def _add_cost(
        self,
        control: CostControl,
        mixture: Mixture,
        parameters: Sequence[nn.Parameter],
        gradients: Sequence[torch.Tensor],
    ) -> None:
        """Add the gradient of the cost to that of the cross-entropy, in place."""
        relative = expected_cost(self.table, self.search.compared(mixture)) / control.limit
        costs = torch.autograd.grad(relative, parameters)
        squares = [torch.stack([part.square().sum() for part in parts]).sum() for parts in (gradients, costs)]
        weight = control.weight(*torch.stack(squares).tolist())
        for gradient, cost in zip(gradients, costs, strict=True):
            gradient += weight * cost


def mode_cost(table: CostTable, scores: Mapping[str, torch.Tensor]) -> float:
    """The cost of the most probable architecture, in millions of the table's unit.

    Args:
        table: without choices where nothing needs costs.
        scores: label -> (K,) scores of the candidates.
    """
    best = torch.stack([row.detach().argmax() for row in scores.values()]).tolist()  # one transfer from a GPU
    index = dict(zip(scores, best, strict=True))
    return table.macs({label: values[index[label]] for label, values in table.choices.items()}) / UNIT


@torch.no_grad()
def mean_entropy(probabilities: Mapping[str, torch.Tensor]) -> float:
    """The entropy of a choice as a part of ln K, mean over the choices of two candidates and more."""
    parts = [torch.special.entr(row).sum() / math.log(len(row)) for row in probabilities.values() if len(row) > 1]
    return float(torch.stack(parts).mean()) if parts else 0.0
