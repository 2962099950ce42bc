"""Steps of the architecture parameters: when they happen, their optimiser, one step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from spaces.cost import CostTable
from strategies.cost_loss import expected_cost
from strategies.differentiable import Mixture, SoftmaxSearch

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
    """The optimiser of architecture parameters.

    Args:
        kind: adam or sgd.
        lr, weight_decay: the paper's where None.
    """
    settings = dict(OPTIMIZERS[strategy])
    settings |= {name: value for name, value in (("lr", lr), ("weight_decay", weight_decay)) if value is not None}
    if kind == "sgd":
        return torch.optim.SGD(search.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"])
    return torch.optim.Adam(search.parameters(), **settings)


def arch_steps(step: int, weight_steps: int, arch_steps_per_epoch: int) -> range:
    """The batches of the architecture part that follow a step of the weights, so that an epoch walks over both parts.

    Args:
        step: within its epoch, from 0.
        weight_steps, arch_steps_per_epoch: batches of both parts in an epoch.
    """
    return range(step * arch_steps_per_epoch // weight_steps, (step + 1) * arch_steps_per_epoch // weight_steps)


class ArchLearner:
    """One search with its optimiser: the architecture's side of a training loop.

    Args:
        search: an instance of SEARCHES.
        optimizer: of its parameters.
        table: costs of the space.
        loss_of: (cross-entropy, expected cost) -> loss; see `cost_loss`.
        average: makes gradients the mean over all processes, in place.
    """

    def __init__(
        self,
        search: SoftmaxSearch,
        optimizer: torch.optim.Optimizer,
        table: CostTable,
        loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        average: Callable[[Sequence[torch.Tensor]], None] = lambda gradients: None,
    ) -> None:
        self.search, self.optimizer, self.table, self.loss_of, self.average = search, optimizer, table, loss_of, average
        self.scale_limit = math.inf

    def step(
        self, chosen: Mixture, losses: Iterable[torch.Tensor], parts: int = 1, scale: float = 1.0
    ) -> tuple[float, torch.Tensor]:
        """Move the architecture parameters; the weights of the supernet get no gradient.

        A gradient that is not finite moves nothing: in 16 bits the next step has half the scale, else the loss tells.

        Args:
            chosen: what was drawn, with `learn`, and is run.
            losses: cross-entropy of each of the equal `parts` of a batch; each may be computed when it is asked for.
            scale: of the loss during the backward pass, against underflow in 16 bits.
        Returns:
            The expected cost, in millions of the table's units; the loss.
        """
        scale = min(scale, self.scale_limit)
        parameters = list(self.search.parameters())
        gradients = [torch.zeros_like(parameter) for parameter in parameters]
        mean = torch.zeros((), device=parameters[0].device)
        for number, loss in enumerate(losses, 1):
            cost = expected_cost(self.table, self.search.expectation(chosen))
            total = self.loss_of(loss, cost) / parts  # the mean over the parts: all forms are linear in CE
            found = torch.autograd.grad(total * scale, parameters, retain_graph=number < parts, allow_unused=True)
            for gradient, part in zip(gradients, found, strict=True):
                if part is not None:
                    gradient += part / scale
            mean, cost = mean + total.detach(), cost.detach()
            del loss, total, found  # before the next part is computed
        self.average(gradients)
        if all(torch.isfinite(gradient).all() for gradient in gradients):
            before = [parameter.detach().clone() for parameter in parameters]
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            self.optimizer.step()
            self.search.after_step(chosen, before)
        elif scale > 1:
            self.scale_limit = scale / 2
        return float(cost), mean
