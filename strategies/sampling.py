"""Which paths of a supernet one training step trains. Pure functions of (choices, seed, step); no torch.

Every process of a distributed run draws the same paths, and a resumed run draws the same sequence, because the
generator is made from (seed, step) and holds no state.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

from spaces.arch import Arch, Choices, Weights
from spaces.errors import InputError

# Channel-width warm-up: (first epoch of 120, narrowest open width relative to the widest). Source: the schedule of
# CanyonWind's Single-Path-One-Shot-NAS-MXNet, whose widths are 0.2 to 2.0.
WIDTH_EPOCHS = 120
WIDTH_SCHEDULE = (
    (1, 1.0),
    (61, 0.9),
    (62, 0.8),
    (63, 0.7),
    (64, 0.6),
    (65, 0.5),
    (67, 0.4),
    (70, 0.3),
    (74, 0.2),
    (79, 0.0),
)


def step_generator(seed: int, step: int) -> random.Random:
    """A generator for one step; different for each pair (seed, step)."""
    return random.Random(f"{seed}/{step}")


def uniform_path(choices: Choices, generator: random.Random) -> Arch:
    """One architecture, each candidate of each choice block equally likely. Source: arXiv:1904.00420, section 3.2."""
    return {label: generator.choice(list(candidates)) for label, candidates in choices.items()}


def uniform(choices: Choices, seed: int, step: int, first: int = 0) -> list[Arch]:
    """Uniform sampling: one path per step."""
    return [uniform_path(choices, step_generator(seed, step))]


def strict_fair(choices: Choices, seed: int, step: int, first: int = 0) -> list[Arch]:
    """Strict fairness: m paths per step, m the largest number of candidates of a choice.

    Every choice has an endless sequence of its own: random permutations of its candidates, one after another. Path
    number t since step `first` takes entry t of each sequence. With K = m candidates a step is one permutation, so all
    have been trained equally often after every step, as in FairNAS. With K < m a permutation may reach into the next
    step, and at any time the counts of the candidates differ by at most one.

    Source: arXiv:1907.01845, algorithm 1. The extension to choices of different sizes is ours.
    """
    paths = _most(choices)
    return _fair(choices, seed, (step - first) * paths, paths, {})


def _most(choices: Choices) -> int:
    return max(len(candidates) for candidates in choices.values())


def _fair(choices: Choices, seed: int, number: int, paths: int, begun: Mapping[str, int]) -> list[Arch]:
    """`paths` paths from number `number` on; `begun`: the number at which a choice got its present candidates."""
    drawn: list[Arch] = [{} for _ in range(paths)]
    for label, candidates in choices.items():
        size, since = len(candidates), begun.get(label, 0)
        order: list[object] = []
        for place, path in enumerate(drawn, start=number - since):
            if not order or place % size == 0:
                generator = random.Random(f"{seed}/{label}/{since}/{place // size}")
                order = generator.sample(list(candidates), size)
            path[label] = order[place % size]
    return drawn


PathSampler = Callable[[Choices, int, int, int], list[Arch]]  # (choices, seed, step, first step) -> the paths of a step
STRATEGIES: dict[str, PathSampler] = {"uniform": uniform, "strict-fair": strict_fair}


def widths_open(epoch: int, epochs: int) -> tuple[float, int]:
    """Channel-width warm-up, its 120 epochs stretched to `epochs`.

    Args:
        epoch: from 0.
    Returns:
        The narrowest open width relative to the widest, and the epoch since when.
    """
    open_since = [(part, -(-(first - 1) * epochs // WIDTH_EPOCHS)) for first, part in WIDTH_SCHEDULE]
    return [(part, since) for part, since in open_since if since <= epoch][-1]


class Paths:
    """The paths of every step of a run.

    Args:
        draw: one of STRATEGIES, or another function of that kind.
        choices: label -> candidates of the space.
        elastic: the labels whose values share weights (widths, superkernels).
        seed: of the draws.
        epochs, steps_per_epoch: of the run; for `width_warmup`.
        first: the step from which on paths are drawn; strict fairness counts from there.
        width_warmup: elastic values open from the largest down, see WIDTH_SCHEDULE.
        use_all_blocks: a baseline: every step trains the mean of all candidates of a block.
        use_all_channels: a baseline: elastic values are always the largest.
    Raises:
        InputError: settings that contradict each other, or that the space has no use for.
    """

    def __init__(
        self,
        draw: PathSampler,
        choices: Choices,
        *,
        elastic: Sequence[str] = (),
        seed: int = 0,
        epochs: int = 1,
        steps_per_epoch: int = 1,
        first: int = 0,
        width_warmup: bool = False,
        use_all_blocks: bool = False,
        use_all_channels: bool = False,
    ) -> None:
        if width_warmup and use_all_channels:
            raise InputError("width warm-up and use-all-channels contradict each other; choose one")
        if (width_warmup or use_all_channels) and not elastic:
            raise InputError(
                "width warm-up and use-all-channels need a space with widths or superkernels; leave them out"
            )
        if use_all_blocks and set(elastic) == set(choices):
            raise InputError("use-all-blocks needs blocks with candidates; this space has superkernels alone")
        if (width_warmup or use_all_blocks or use_all_channels) and draw not in STRATEGIES.values():
            raise InputError("a cost window draws from the whole space; leave width warm-up and use-all-... out")
        if use_all_blocks and draw is not uniform:
            raise InputError("use-all-blocks trains all candidates at every step; use it with uniform sampling")
        if width_warmup and widths_open(epochs - 1, epochs)[0]:
            raise InputError(
                f"{epochs} epochs are too few for the width warm-up, which opens the last width after two thirds"
            )
        self.draw, self.choices, self.elastic, self.seed = draw, choices, set(elastic), seed
        self.epochs, self.steps_per_epoch, self.first = epochs, steps_per_epoch, first
        self.width_warmup, self.use_all_blocks, self.use_all_channels = width_warmup, use_all_blocks, use_all_channels

    def __call__(self, step: int) -> list[Arch]:
        """What a step trains, one after the other; a label has a candidate, or `Weights` with use_all_blocks."""
        choices = self.choices
        if self.use_all_channels:
            choices = self._at_least(1.0)
        elif self.width_warmup:
            choices = self._at_least(widths_open(step // self.steps_per_epoch, self.epochs)[0])
        if self.width_warmup and self.draw is strict_fair:
            paths = self._fair_while_widths_open(step)
        else:
            paths = self.draw(choices, self.seed, step, self.first)
        if self.use_all_blocks:
            mean = {label: Weights([1 / len(c)] * len(c)) for label, c in choices.items() if label not in self.elastic}
            paths = [{label: mean.get(label, chosen) for label, chosen in path.items()} for path in paths]
        return paths

    def paths_per_step(self) -> int:
        """Forward and backward passes of a step."""
        return len(self.draw(self.choices, self.seed, 0, 0))

    def _fair_while_widths_open(self, step: int) -> list[Arch]:
        """Strict fairness counts a choice anew when its candidates change, and goes on counting all others."""
        number, before = 0, self.choices
        begun: dict[str, int] = {}
        starts = sorted(
            {max(self.first, widths_open(e, self.epochs)[1] * self.steps_per_epoch) for e in range(self.epochs)}
        )
        for start, end in zip(starts, [*starts[1:], math.inf], strict=True):
            choices = self._at_least(widths_open(start // self.steps_per_epoch, self.epochs)[0])
            begun |= {label: number for label in choices if choices[label] != before[label]}
            if step < end:
                return _fair(choices, self.seed, number + (step - start) * _most(choices), _most(choices), begun)
            number, before = number + int(end - start) * _most(choices), choices
        raise AssertionError

    def _at_least(self, part: float) -> Choices:
        """The choices without the elastic values below `part` of the largest."""
        return {
            label: [v for v in values if v >= part * max(values) - 1e-9] if label in self.elastic else values
            for label, values in self.choices.items()
        }
