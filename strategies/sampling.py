"""Which paths of a supernet a training step trains: pure functions of (choices, seed, step).

Every process of a distributed run samples the same paths, and a resumed run samples the same sequence, because the
generator of a step is made from (seed, step) and keeps no state. K candidates of a choice.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from spaces.arch import Arch, Choices, Mixture, Weights
from spaces.errors import InputError

# Channel-width warm-up: (first epoch of 120, counted from 1; narrowest open width relative to the widest).
# Source: the schedule of CanyonWind's Single-Path-One-Shot-NAS-MXNet, whose widths are 0.2 to 2.0.
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
    """The random generator of one step, a different one for each pair (seed, step)."""
    return random.Random(f"{seed}/{step}")


def uniform_path(choices: Choices, generator: random.Random) -> Arch:
    """One architecture; each candidate of a choice is equally likely. Source: arXiv:1904.00420, section 3.2."""
    return {label: generator.choice(list(candidates)) for label, candidates in choices.items()}


def uniform(choices: Choices, seed: int, step: int, first: int = 0) -> list[Arch]:
    """Uniform sampling: one path per step."""
    return [uniform_path(choices, step_generator(seed, step))]


def strict_fair(choices: Choices, seed: int, step: int, first: int = 0) -> list[Arch]:
    """Strict fairness: a step trains m paths, where m is the largest number of candidates of a choice.

    Every choice has an endless sequence of its own: random permutations of its candidates, one after another. Path
    number t since step `first` takes entry t of each sequence. For a choice with K = m candidates a step is one
    permutation, so all candidates have been trained equally often after every step, as in FairNAS. With K < m a
    permutation may reach into the next step, and at any time the counts of the candidates differ by at most one.

    Source: arXiv:1907.01845, algorithm 1. The extension to choices of different sizes is ours.
    """
    paths = _largest_choice(choices)
    return _fair_paths(choices, seed, (step - first) * paths, paths, {})


@dataclass(frozen=True)
class OpWarmup:
    """Steps in which a choice runs the mean of all its candidates instead of one, with a probability that falls linearly from 1 to 0.

    Source: TuNAS, arXiv:2008.06120. Without it, and without a warm start, candidates that have weights of their own learn little in
    few steps.

    Attributes:
        choices: those that open, label -> candidates; not those of widths or superkernels, which have one set of weights.
        first: the first such step.
        steps: how many there are.
    """

    choices: Choices
    seed: int
    first: int
    steps: int

    def __call__(self, path: Mixture, step: int) -> Mixture:
        """What a step trains in place of a path."""
        past = step - self.first
        if not 0 <= past < self.steps:
            return path
        generator = random.Random(f"{self.seed}/{step}/op warm-up")
        opened = [label for label in self.choices if generator.random() < 1 - past / self.steps]
        return path | {label: mean_of(self.choices[label]) for label in opened}

    def more_passes(self) -> float:
        """How many passes of a path the open choices of all steps take in addition, about."""
        candidates = sum(map(len, self.choices.values())) / max(1, len(self.choices))
        return self.steps / 2 * (candidates - 1)


def mean_of(candidates: Sequence[object]) -> Weights:
    """The weights with which all candidates of a choice are run, and have the same part of its output."""
    return Weights([1 / len(candidates)] * len(candidates))


def _largest_choice(choices: Choices) -> int:
    """The number of candidates of the choice that has most."""
    return max(len(candidates) for candidates in choices.values())


def _fair_paths(choices: Choices, seed: int, number: int, count: int, since: Mapping[str, int]) -> list[Arch]:
    """Paths of strict fairness.

    Args:
        number: number of the first path, counted over all steps.
        count: how many paths.
        since: label -> the path number at which the choice got its present candidates; 0 if it is left out.
    """
    paths: list[Arch] = [{} for _ in range(count)]
    for label, candidates in choices.items():
        size, start = len(candidates), since.get(label, 0)
        order: list[object] = []
        for index, path in enumerate(paths, start=number - start):
            if not order or index % size == 0:
                generator = random.Random(f"{seed}/{label}/{start}/{index // size}")
                order = generator.sample(list(candidates), size)
            path[label] = order[index % size]
    return paths


PathSampler = Callable[[Choices, int, int, int], list[Arch]]  # (choices, seed, step, first step) -> paths of the step
STRATEGIES: dict[str, PathSampler] = {"uniform": uniform, "strict-fair": strict_fair}


def widths_open(epoch: int, epochs: int) -> tuple[float, int]:
    """Which widths are open in channel-width warm-up, whose 120 epochs are stretched to `epochs`.

    Args:
        epoch: the epoch, from 0.
        epochs: number of epochs of the run.
    Returns:
        The narrowest open width relative to the widest, and the epoch from which on it is open.
    """
    open_since = [(width, -(-(first - 1) * epochs // WIDTH_EPOCHS)) for first, width in WIDTH_SCHEDULE]
    return [(width, since) for width, since in open_since if since <= epoch][-1]


class Paths:
    """The paths of every step of a run.

    Args:
        draw: samples the paths of a step: one of STRATEGIES, or another PathSampler.
        choices: the choices of the space, label -> candidates.
        elastic: the labels whose values share weights (widths, superkernels).
        seed: seed of all random decisions.
        epochs, steps_per_epoch: length of the run; only `width_warmup` needs them.
        first: the first step that trains sampled paths (after a warm start); strict fairness counts from there.
        width_warmup: open elastic values one after another, from the largest down, see WIDTH_SCHEDULE.
        use_all_blocks: a baseline in which every step trains the mean of all candidates of a block.
        use_all_channels: a baseline in which elastic values are always the largest.
    Raises:
        InputError: settings that contradict each other, or that do not apply to the space.
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
        """The paths that a step trains one after another. With use_all_blocks, labels have Weights instead of candidates."""
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
            mean = {label: mean_of(candidates) for label, candidates in choices.items() if label not in self.elastic}
            paths = [{label: mean.get(label, candidate) for label, candidate in path.items()} for path in paths]
        return paths

    def paths_per_step(self) -> int:
        """How many paths a step trains, each with a forward and a backward pass."""
        return len(self.draw(self.choices, self.seed, 0, 0))

    def _fair_while_widths_open(self, step: int) -> list[Arch]:
        """Strict fairness with width warm-up: when a choice gets more candidates, only its own counts start anew."""
        number, before = 0, self.choices
        since: dict[str, int] = {}
        starts = sorted(
            {max(self.first, widths_open(e, self.epochs)[1] * self.steps_per_epoch) for e in range(self.epochs)}
        )
        # Between two starts the choices stay the same.
        for start, end in zip(starts, [*starts[1:], math.inf], strict=True):
            choices = self._at_least(widths_open(start // self.steps_per_epoch, self.epochs)[0])
            since |= {label: number for label in choices if choices[label] != before[label]}
            paths = _largest_choice(choices)
            if step < end:
                return _fair_paths(choices, self.seed, number + (step - start) * paths, paths, since)
            number, before = number + int(end - start) * paths, choices
        raise AssertionError

    def _at_least(self, relative: float) -> Choices:
        """The choices without the elastic values below `relative` times the largest."""
        return {
            label: [v for v in values if v >= relative * max(values) - 1e-9] if label in self.elastic else values
            for label, values in self.choices.items()
        }
