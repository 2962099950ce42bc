"""Differentiable search: architecture parameters beside the weights of a supernet.

A search samples what a step runs on (`draw`: label -> Weights, see `spaces.arch.activate_mixture`) and says how probable
each candidate is (`probabilities`). Its parameters are kept outside of the supernet, so the supernet's checkpoint can
also be searched by evolution. Weights and architecture parameters learn from disjoint sets of training images.

K candidates of a choice. Costs are in millions of the cost table's unit: millions of multiply-adds of one image for MACs,
milliseconds for a latency table in nanoseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from spaces.arch import Choices, Mixture, Weights
from spaces.errors import InputError

Norms = Callable[[str], torch.Tensor]  # label -> (K,) squared norms of the weights that each value uses


class SoftmaxSearch(nn.Module):
    """Every candidate has its softmax probability as its weight, as in first-order DARTS (arXiv:1806.09055).

    Args:
        choices: the choices of the space, label -> candidates.
    Attributes:
        logits: for each label, its parameters; zero at first.
    """

    def __init__(self, choices: Choices) -> None:
        super().__init__()
        self.choices = {label: list(candidates) for label, candidates in choices.items()}
        self.logits = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in self.sizes().values())

    def sizes(self) -> dict[str, int]:
        """Label -> number of its parameters."""
        return {label: len(candidates) for label, candidates in self.choices.items()}

    def probabilities(self) -> dict[str, torch.Tensor]:
        """Label -> (K,) the present probability of each candidate."""
        return {label: p.softmax(0) for label, p in zip(self.choices, self.logits, strict=True)}

    def export_scores(self) -> dict[str, torch.Tensor]:
        """Label -> (K,) scores of the candidates; the export picks the path with the largest product."""
        return self.probabilities()

    def draw(self, generator: torch.Generator, epoch: int, *, learn: bool) -> Mixture:
        """Sample what one forward pass runs on.

        Args:
            generator: the step's generator on the CPU: the same in every process, and after a resume.
            epoch: the epoch, from 0; a temperature may depend on it.
            learn: True for a step of the architecture parameters, whose gradient the Weights then carry; False for a
                step of the weights.
        Returns:
            Label -> Weights, or one candidate.
        """
        return {label: Weights(p if learn else p.detach()) for label, p in self.probabilities().items()}

    def expectation(self, mixture: Mixture) -> dict[str, torch.Tensor]:
        """Label -> (K,) the candidates' weights in the expected cost of a step that ran on `mixture`."""
        return self.probabilities()

    def compared(self, mixture: Mixture) -> dict[str, torch.Tensor]:
        """Label -> (K,) weights of what a step on `mixture` compares.

        Their expected cost has a gradient where the cross-entropy has one.
        """
        return self.expectation(mixture)

    def after_step(self, mixture: Mixture, before: Sequence[torch.Tensor]) -> None:
        """Called after the optimiser changed the parameters in a step that ran on `mixture`; `before`: their old values."""


class GumbelSearch(SoftmaxSearch):
    """The candidates' weights are a Gumbel softmax sample, as in FBNet (arXiv:1812.03443).

    Args:
        choices: the choices of the space, label -> candidates.
        temperature, decay: epoch t has temperature * exp(-decay * t); the paper's values are 5.0 and 0.045.
        hard: run one candidate only, with the gradient of the soft sample (straight-through).
    """

    def __init__(self, choices: Choices, temperature: float = 5.0, decay: float = 0.045, hard: bool = False) -> None:
        super().__init__(choices)
        self.start, self.decay, self.hard = temperature, decay, hard

    def temperature(self, epoch: int) -> float:
        """The softmax temperature of an epoch."""
        return self.start * math.exp(-self.decay * epoch)

    def draw(self, generator: torch.Generator, epoch: int, *, learn: bool) -> Mixture:
        """Gumbel softmax samples, or one candidate each with `hard`."""
        mixture: Mixture = {}
        for label, logits in zip(self.choices, self.logits, strict=True):
            uniform = torch.rand(len(logits), generator=generator).clamp(1e-10, 1 - 1e-7)
            noise = -torch.log(-torch.log(uniform)).to(logits.device)
            sample = ((logits.log_softmax(0) + noise) / self.temperature(epoch)).softmax(0)
            sample = sample if learn else sample.detach()
            if not self.hard:
                mixture[label] = Weights(sample)
                continue
            best = int(sample.argmax())
            # exactly 1 and 0 in the forward pass, with the gradient of the sample
            hard = nn.functional.one_hot(torch.tensor(best), len(sample)).to(sample) + (sample - sample.detach())
            mixture[label] = Weights(hard, None if learn else (best,), sample.detach())
        return mixture

    def expectation(self, mixture: Mixture) -> dict[str, torch.Tensor]:
        """The sample's own weights: FBNet's cost is that of the sample."""
        return {label: weights.values for label, weights in mixture.items()}


class GateSearch(SoftmaxSearch):
    """Binary gates, as in ProxylessNAS (arXiv:1812.00332).

    A step of the weights runs one path, sampled by the probabilities. A step of the architecture parameters samples two
    candidates of each choice, runs both, lets the output of one pass, and updates only the parameters of these two: the
    other candidates keep their probabilities.
    """

    def draw(self, generator: torch.Generator, epoch: int, *, learn: bool) -> Mixture:
        """One candidate per choice for the weights, two for the architecture parameters."""
        mixture: Mixture = {}
        for label, logits in zip(self.choices, self.logits, strict=True):
            probabilities = logits.detach().softmax(0).cpu()
            if not learn:
                index = int(torch.multinomial(probabilities, 1, generator=generator))
                mixture[label] = self.choices[label][index]
                continue
            number = min(2, len(probabilities))
            pair = torch.multinomial(probabilities.clamp_min(1e-12), number, generator=generator).tolist()
            among_pair = logits[pair].softmax(0)  # probabilities of the pair, without the other candidates
            passes = int(torch.multinomial(among_pair.detach().cpu(), 1, generator=generator))
            # forward 1 or 0, backward the gradient with respect to the gate as if it were the probability (section 3.2)
            one_hot = nn.functional.one_hot(torch.tensor(passes), number)
            gates = one_hot.to(among_pair) + (among_pair - among_pair.detach())
            indices = torch.tensor(pair, device=logits.device)
            values = torch.zeros_like(logits).index_put((indices,), gates)
            fallback = torch.zeros_like(logits).index_fill(0, indices, 1.0) + 1e-12
            mixture[label] = Weights(values, tuple(pair), fallback)
        return mixture

    def compared(self, mixture: Mixture) -> dict[str, torch.Tensor]:
        """The two candidates that were drawn, without the others."""
        return {
            label: torch.zeros_like(logits).index_put(
                (torch.tensor(mixture[label].active, device=logits.device),),
                logits[list(mixture[label].active)].softmax(0),
            )
            for label, logits in zip(self.choices, self.logits, strict=True)
        }

    @torch.no_grad()
    def after_step(self, mixture: Mixture, before: Sequence[torch.Tensor]) -> None:
        """Rescale each pair so that the sum of its probabilities stays; the others keep theirs (section 3.2.1)."""
        for label, logits, old in zip(self.choices, self.logits, before, strict=True):
            pair = list(mixture[label].active)
            moved = logits[pair] + old[pair].logsumexp(0) - logits[pair].logsumexp(0)
            logits.copy_(old)
            logits[pair] = moved


class ThresholdSearch(SoftmaxSearch):
    """Single-Path NAS (arXiv:1904.02877): a superkernel uses a slice of its weights if their norm exceeds a threshold.

    For the values v1 < v2 < ... of a choice, the weights that v2 adds to v1 are used if their squared norm exceeds a
    trained threshold, and so on. A decision is 0 or 1 in the forward pass, and has the derivative of a sigmoid in the
    backward pass. Nothing is random.

    Args:
        choices: the choices of the space, label -> values; all belong to superkernels.
        norms: gives the squared norms of the supernet's present weights.
    Attributes:
        start: the squared norms of the added weights at the start, for all labels one after another.
    Raises:
        InputError: the values of a choice are not in ascending order, or one adds no weights to the one before.
    Deviations: norms are relative to those at the start, which makes small and large layers comparable; thresholds learn
    from their own set of images; the authors' dropout of decisions is left out.
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
        for label, added_norms in zip(self.choices, added, strict=True):
            if not (added_norms > 0).all():
                raise InputError(
                    f"thresholds need weights that each value of '{label}' adds to the one before; one adds none"
                )
        self.register_buffer("start", torch.cat(added))

    def sizes(self) -> dict[str, int]:
        """Label -> number of its thresholds."""
        return {label: len(values) - 1 for label, values in self.choices.items()}

    def probabilities(self) -> dict[str, torch.Tensor]:
        """Label -> (K,) the probabilities of the values, as if each decision were random with its sigmoid."""
        return {label: self._values(margin.sigmoid()) for label, margin in self._margins(learn=False).items()}

    def draw(self, generator: torch.Generator, epoch: int, *, learn: bool) -> Mixture:
        """The decisions for the present norms and thresholds."""
        mixture: Mixture = {}
        for label, margin in self._margins(learn).items():
            soft = margin.sigmoid()
            used = (margin > 0).to(soft) + (soft - soft.detach())
            fallback = self._values(torch.cat((torch.ones_like(used[:1]), used[1:])))
            mixture[label] = Weights(self._values(used), None, fallback)
        return mixture

    def export_scores(self) -> dict[str, torch.Tensor]:
        """Label -> (K,): 1 for the value that the decisions choose; others get a factor exp(-|margin|) for each decision
        that they overturn.
        """
        margins = self._margins(learn=False)
        relative = {label: margin.sigmoid() / margin.abs().sigmoid() for label, margin in margins.items()}
        opposite = {label: (-margin).sigmoid() / margin.abs().sigmoid() for label, margin in margins.items()}
        return {label: self._values(relative[label], opposite[label]) for label in margins}

    def expectation(self, mixture: Mixture) -> dict[str, torch.Tensor]:
        """The weights of the decisions: the cost is that of the values in use."""
        return {label: weights.values for label, weights in mixture.items()}

    def _margins(self, learn: bool) -> dict[str, torch.Tensor]:
        """Label -> (K - 1,) how far the relative norm of each slice exceeds its threshold.

        Only the thresholds have a gradient with `learn`; only the norms, through the supernet's weights, without it.
        """
        margins = {}
        starts = self.start.split(list(self.sizes().values()))
        for label, thresholds, start in zip(self.choices, self.logits, starts, strict=True):
            added = self.norms(label).diff() / start
            margins[label] = added.detach() - thresholds if learn else added - thresholds.detach()
        return margins

    @staticmethod
    def _values(used: torch.Tensor, unused: torch.Tensor | None = None) -> torch.Tensor:
        """Convert decisions, each of which presumes those before it, to the weights of the values.

        Args:
            used: (K - 1,) decisions to use a slice.
            unused: (K - 1,) decisions not to use it; None: 1 - used.
        Returns:
            (K,)
        """
        one = torch.ones(1, device=used.device)
        return torch.cat((one, used.cumprod(0))) * torch.cat((1 - used if unused is None else unused, one))


def as_lists(rows: Mapping[str, torch.Tensor]) -> dict[str, list[float]]:
    """Convert probabilities or export scores, label -> (K,), to lists of numbers."""
    return {label: row.detach().cpu().tolist() for label, row in rows.items()}


# strategy -> its search; the papers' settings of their optimisers are in arch_learner.py
SEARCHES: dict[str, type[SoftmaxSearch]] = {
    "softmax": SoftmaxSearch,
    "gumbel": GumbelSearch,
    "gates": GateSearch,
    "threshold": ThresholdSearch,
}
