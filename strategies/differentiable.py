"""Differentiable search: architecture parameters beside the weights, and losses that know the cost.

A search says what a step runs on (`draw`: label -> Weights, see `spaces.arch.mix`) and how probable each candidate is
(`probabilities`). Its parameters live outside of the supernet, whose checkpoint so stays one that evolution can search.
Weights and architecture parameters learn from disjoint parts of the training images.

K candidates of a choice. Costs are given in millions of the cost table's units: with MACs, millions of multiply-adds of
one image; with a latency table in nanoseconds, milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spaces.arch import Choices, Weights
from spaces.cost import CostTable
from spaces.errors import InputError

UNIT = 1e6  # of a cost table, in the losses
Chosen = dict[str, Any]  # label -> Weights, or a candidate
Norms = Callable[[str], torch.Tensor]  # label -> (K,) squared norms of the weights that each value uses


class SoftmaxSearch(nn.Module):
    """Every candidate counts by its softmax probability, as in DARTS (arXiv:1806.09055), first order."""

    def __init__(self, choices: Choices) -> None:
        super().__init__()
        self.choices = {label: list(candidates) for label, candidates in choices.items()}
        self.logits = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in self.sizes().values())

    def sizes(self) -> dict[str, int]:
        """label -> number of its parameters."""
        return {label: len(candidates) for label, candidates in self.choices.items()}

    def probabilities(self) -> dict[str, torch.Tensor]:
        """label -> (K,) how probable each candidate is now."""
        return {label: p.softmax(0) for label, p in zip(self.choices, self.logits, strict=True)}

    def preferences(self) -> dict[str, torch.Tensor]:
        """label -> (K,) what the export maximises the product of."""
        return self.probabilities()

    def draw(self, generator: torch.Generator, epoch: int, *, learn: bool) -> Chosen:
        """What one forward pass runs on.

        Args:
            generator: on the CPU, of the step: the same in every process, and after a resume.
            epoch: from 0; of the temperature.
            learn: for a step of the architecture parameters, with their gradient; else for a step of the weights.
        """
        return {label: Weights(p if learn else p.detach()) for label, p in self.probabilities().items()}

    def expectation(self, chosen: Chosen) -> dict[str, torch.Tensor]:
        """The weights by which the expected cost of a step counts the candidates."""
        return self.probabilities()

    def after_step(self, chosen: Chosen, before: Sequence[torch.Tensor]) -> None:
        """Called after the optimiser moved the parameters; `before` are their values from before."""


class GumbelSearch(SoftmaxSearch):
    """Every candidate counts by a Gumbel softmax sample, as in FBNet (arXiv:1812.03443).

    Args:
        temperature, decay: epoch t has temperature * exp(-decay * t); the paper's are 5.0 and 0.045.
        hard: run one candidate, with the gradient of the soft sample (straight-through).
    """

    def __init__(self, choices: Choices, temperature: float = 5.0, decay: float = 0.045, hard: bool = False) -> None:
        super().__init__(choices)
        self.start, self.decay, self.hard = temperature, decay, hard

    def temperature(self, epoch: int) -> float:
        return self.start * math.exp(-self.decay * epoch)

    def draw(self, generator: torch.Generator, epoch: int, *, learn: bool) -> Chosen:
        chosen: Chosen = {}
        for label, logits in zip(self.choices, self.logits, strict=True):
            uniform = torch.rand(len(logits), generator=generator).clamp(1e-10, 1 - 1e-7)
            noise = -torch.log(-torch.log(uniform)).to(logits.device)
            sample = ((logits.log_softmax(0) + noise) / self.temperature(epoch)).softmax(0)
            sample = sample if learn else sample.detach()
            if not self.hard:
                chosen[label] = Weights(sample)
                continue
            best = int(sample.argmax())
            # 1 and 0 exactly, with the gradient of the sample
            hard = nn.functional.one_hot(torch.tensor(best), len(sample)).to(sample) + (sample - sample.detach())
            chosen[label] = Weights(hard, None if learn else (best,), sample.detach())
        return chosen

    def expectation(self, chosen: Chosen) -> dict[str, torch.Tensor]:
        """FBNet's latency is that of the sample."""
        return {label: weights.values for label, weights in chosen.items()}


class GateSearch(SoftmaxSearch):
    """Binary gates, as in ProxylessNAS (arXiv:1812.00332).

    A step of the weights runs one path, drawn by the probabilities. A step of the architecture draws two candidates of
    each choice, runs both, lets one through, and moves these two alone: the others keep their probabilities.
    """

    def draw(self, generator: torch.Generator, epoch: int, *, learn: bool) -> Chosen:
        chosen: Chosen = {}
        for label, logits in zip(self.choices, self.logits, strict=True):
            probabilities = logits.detach().softmax(0).cpu()
            if not learn:
                one = int(torch.multinomial(probabilities, 1, generator=generator))
                chosen[label] = self.choices[label][one]
                continue
            number = min(2, len(probabilities))
            pair = torch.multinomial(probabilities.clamp_min(1e-12), number, generator=generator).tolist()
            among = logits[pair].softmax(0)  # their probabilities, with the others left out
            through = int(torch.multinomial(among.detach().cpu(), 1, generator=generator))
            # forward 1 or 0, backward the gradient with respect to the gate as if it were the probability (section 3.2)
            gates = nn.functional.one_hot(torch.tensor(through), number).to(among) + (among - among.detach())
            places = torch.tensor(pair, device=logits.device)
            values = torch.zeros_like(logits).index_put((places,), gates)
            chosen[label] = Weights(values, tuple(pair), torch.zeros_like(logits).index_fill(0, places, 1.0) + 1e-12)
        return chosen

    @torch.no_grad()
    def after_step(self, chosen: Chosen, before: Sequence[torch.Tensor]) -> None:
        """The two keep their sum of probabilities, the others keep theirs (section 3.2.1)."""
        for label, logits, old in zip(self.choices, self.logits, before, strict=True):
            pair = list(chosen[label].active)
            moved = logits[pair] + old[pair].logsumexp(0) - logits[pair].logsumexp(0)
            logits.copy_(old)
            logits[pair] = moved


class ThresholdSearch(SoftmaxSearch):
    """Single-Path NAS (arXiv:1904.02877): a superkernel uses a part of its weights if their norm is above a threshold.

    For the values v1 < v2 < ... of a choice, what v2 adds to v1 is used if its squared norm is above a trained
    threshold, and so on; forward 0 or 1, backward the derivative of a sigmoid. Nothing is drawn at random.

    Args:
        choices: all of superkernels.
        norms: of the supernet's weights as they are now.
    Deviations: norms are relative to those at the start, which makes small and large layers comparable; thresholds learn
    from their own part of the images; the authors' dropout of decisions is left out.
    """

    start: torch.Tensor

    def __init__(self, choices: Choices, norms: Norms) -> None:
        for label, values in choices.items():
            if list(values) != sorted(values):
                raise InputError(f"thresholds need the values of '{label}' in ascending order; they are {list(values)}")
        super().__init__(choices)
        self.norms = norms
        with torch.no_grad():
            added = [norms(label).diff() for label in self.choices]
        for label, part in zip(self.choices, added, strict=True):
            if not (part > 0).all():
                raise InputError(
                    f"thresholds need weights that each value of '{label}' adds to the one before; one adds none"
                )
        self.register_buffer("start", torch.cat(added))

    def sizes(self) -> dict[str, int]:
        return {label: len(values) - 1 for label, values in self.choices.items()}

    def probabilities(self) -> dict[str, torch.Tensor]:
        """The sigmoids that stand behind the decisions."""
        return {label: self._values(margin.sigmoid()) for label, margin in self._margins(learn=False).items()}

    def draw(self, generator: torch.Generator, epoch: int, *, learn: bool) -> Chosen:
        chosen: Chosen = {}
        for label, margin in self._margins(learn).items():
            soft = margin.sigmoid()
            used = (margin > 0).to(soft) + (soft - soft.detach())
            chosen[label] = Weights(
                self._values(used), None, self._values(torch.cat((torch.ones_like(used[:1]), used[1:])))
            )
        return chosen

    def preferences(self) -> dict[str, torch.Tensor]:
        """Their best value is what the decisions say. Another one costs the odds of the decisions that it overturns."""
        margins = self._margins(learn=False)
        relative = {label: margin.sigmoid() / margin.abs().sigmoid() for label, margin in margins.items()}
        opposite = {label: (-margin).sigmoid() / margin.abs().sigmoid() for label, margin in margins.items()}
        return {label: self._values(relative[label], opposite[label]) for label in margins}

    def expectation(self, chosen: Chosen) -> dict[str, torch.Tensor]:
        """The cost of what is used."""
        return {label: weights.values for label, weights in chosen.items()}

    def _margins(self, learn: bool) -> dict[str, torch.Tensor]:
        """How far each part is above its threshold; a step of the weights moves the norms, the other the thresholds."""
        margins = {}
        starts = self.start.split(list(self.sizes().values()))
        for label, thresholds, start in zip(self.choices, self.logits, starts, strict=True):
            added = self.norms(label).diff() / start
            margins[label] = added.detach() - thresholds if learn else added - thresholds.detach()
        return margins

    @staticmethod
    def _values(used: torch.Tensor, unused: torch.Tensor | None = None) -> torch.Tensor:
        """(K - 1,) decisions, each of which presumes the ones before, to (K,) weights of the values."""
        one = torch.ones(1, device=used.device)
        return torch.cat((one, used.cumprod(0))) * torch.cat((1 - used if unused is None else unused, one))


def plain(rows: Mapping[str, torch.Tensor]) -> dict[str, list[float]]:
    """Probabilities or preferences as numbers, to be written or maximised."""
    return {label: row.detach().cpu().tolist() for label, row in rows.items()}


# name -> search, and the architecture optimiser's defaults as the papers have them
SEARCHES: dict[str, type[SoftmaxSearch]] = {
    "softmax": SoftmaxSearch,
    "gumbel": GumbelSearch,
    "gates": GateSearch,
    "threshold": ThresholdSearch,
}
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


def expected_cost(table: CostTable, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The expectation of the cost when choices are drawn independently, in millions of the table's units; a scalar.

    Args:
        weights: label -> (K,) probabilities, or the weights that stand for them.
    """
    total = torch.tensor(table.base[0] / UNIT)
    for block in table.blocks:
        joint = torch.ones(1)
        for label in block.choices:  # the last label changes fastest
            joint = (joint.to(weights[label])[:, None] * weights[label]).flatten()
        total = total.to(joint) + joint @ torch.as_tensor(block.macs / UNIT).to(joint)
    return total


def cost_loss(
    form: str,
    loss: torch.Tensor,
    cost: torch.Tensor,
    *,
    alpha: float = 0.2,
    beta: float = 0.6,
    weight: float = 0.0,
    target: float = 1.0,
) -> torch.Tensor:
    """The loss of the architecture parameters.

    Args:
        form: none: CE
            power: CE * alpha * (log cost)^beta, natural logarithm. FBNet, arXiv:1812.03443, eq. 2; not log(cost^beta).
            linear: CE + weight * cost. ProxylessNAS, arXiv:1812.00332, section 3.3.
            target: CE + weight * |cost / target - 1|. The absolute reward of TuNAS, arXiv:2008.06120.
        loss: cross-entropy CE.
        cost, target: in millions of the table's units.
        weight: per million units (linear), or of the relative distance (target).
    """
    if form == "power":
        return loss * alpha * torch.log(cost) ** beta
    if form == "linear":
        return loss + weight * cost
    if form == "target":
        return loss + weight * (cost / target - 1).abs()
    return loss


def arch_steps(step: int, weight_steps: int, arch_steps_per_epoch: int) -> range:
    """The batches of the architecture part that follow a step of the weights, so that an epoch walks over both parts.

    Args:
        step: within its epoch, from 0.
        weight_steps, arch_steps_per_epoch: batches of both parts in an epoch.
    """
    return range(step * arch_steps_per_epoch // weight_steps, (step + 1) * arch_steps_per_epoch // weight_steps)


class Learner:
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
        self, chosen: Chosen, losses: Iterable[torch.Tensor], parts: int = 1, scale: float = 1.0
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
