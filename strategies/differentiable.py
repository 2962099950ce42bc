"""Differentiable search: architecture parameters beside the weights, and losses that know the cost.

A search says what a step runs on (`draw`: label -> Weights, see `spaces.arch.activate_mixture`) and how probable each candidate is
(`probabilities`). Its parameters live outside of the supernet, whose checkpoint so stays one that evolution can search.
Weights and architecture parameters learn from disjoint parts of the training images.

K candidates of a choice. Costs are given in millions of the cost table's units: with MACs, millions of multiply-adds of
one image; with a latency table in nanoseconds, milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spaces.arch import Choices, Weights
from spaces.errors import InputError

Mixture = dict[str, Any]  # label -> Weights, or a candidate
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

    def export_scores(self) -> dict[str, torch.Tensor]:
        """label -> (K,) what the export maximises the product of."""
        return self.probabilities()

    def draw(self, generator: torch.Generator, epoch: int, *, learn: bool) -> Mixture:
        """What one forward pass runs on.

        Args:
            generator: on the CPU, of the step: the same in every process, and after a resume.
            epoch: from 0; of the temperature.
            learn: for a step of the architecture parameters, with their gradient; else for a step of the weights.
        """
        return {label: Weights(p if learn else p.detach()) for label, p in self.probabilities().items()}

    def expectation(self, chosen: Mixture) -> dict[str, torch.Tensor]:
        """The weights by which the expected cost of a step counts the candidates."""
        return self.probabilities()

    def after_step(self, chosen: Mixture, before: Sequence[torch.Tensor]) -> None:
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

    def draw(self, generator: torch.Generator, epoch: int, *, learn: bool) -> Mixture:
        chosen: Mixture = {}
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

    def expectation(self, chosen: Mixture) -> dict[str, torch.Tensor]:
        """FBNet's latency is that of the sample."""
        return {label: weights.values for label, weights in chosen.items()}


class GateSearch(SoftmaxSearch):
    """Binary gates, as in ProxylessNAS (arXiv:1812.00332).

    A step of the weights runs one path, drawn by the probabilities. A step of the architecture draws two candidates of
    each choice, runs both, lets one through, and moves these two alone: the others keep their probabilities.
    """

    def draw(self, generator: torch.Generator, epoch: int, *, learn: bool) -> Mixture:
        chosen: Mixture = {}
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
    def after_step(self, chosen: Mixture, before: Sequence[torch.Tensor]) -> None:
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

    def draw(self, generator: torch.Generator, epoch: int, *, learn: bool) -> Mixture:
        chosen: Mixture = {}
        for label, margin in self._margins(learn).items():
            soft = margin.sigmoid()
            used = (margin > 0).to(soft) + (soft - soft.detach())
            chosen[label] = Weights(
                self._values(used), None, self._values(torch.cat((torch.ones_like(used[:1]), used[1:])))
            )
        return chosen

    def export_scores(self) -> dict[str, torch.Tensor]:
        """Their best value is what the decisions say. Another one costs the odds of the decisions that it overturns."""
        margins = self._margins(learn=False)
        relative = {label: margin.sigmoid() / margin.abs().sigmoid() for label, margin in margins.items()}
        opposite = {label: (-margin).sigmoid() / margin.abs().sigmoid() for label, margin in margins.items()}
        return {label: self._values(relative[label], opposite[label]) for label in margins}

    def expectation(self, chosen: Mixture) -> dict[str, torch.Tensor]:
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


def as_lists(rows: Mapping[str, torch.Tensor]) -> dict[str, list[float]]:
    """Probabilities or preferences as numbers, to be written or maximised."""
    return {label: row.detach().cpu().tolist() for label, row in rows.items()}


# name -> search, and the architecture optimiser's defaults as the papers have them
SEARCHES: dict[str, type[SoftmaxSearch]] = {
    "softmax": SoftmaxSearch,
    "gumbel": GumbelSearch,
    "gates": GateSearch,
    "threshold": ThresholdSearch,
}
