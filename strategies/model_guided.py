"""Evolution guided by a model: of thousands of children, those with the largest expected improvement are evaluated.

For each generation a Gaussian process is fitted anew to the results so far (score_model.py). Scores may be noisy: what a
child must improve on is the highest posterior mean of a known architecture, not the highest score, which is often luck, and
the parents are those of the highest posterior means.
Source: expected improvement as in Jones, Schonlau and Welch, Journal of Global Optimization 13, 1998, with the incumbent
that Picheny et al., Structural and Multidisciplinary Optimization 48, 2013, take under noise; a model within an evolution as
in BANANAS (arXiv:1910.11858), with a Gaussian process in place of its networks.
"""

from __future__ import annotations

import math
import random
from functools import partial

import numpy as np

from spaces.arch import Arch
from spaces.errors import InputError, is_whole_number, shown
from strategies.score_model import ScoreModel
from strategies.tuner import ArchTuner

PARENTS = 20  # how many of the best architectures so far may become parents
CHANGES = (1, 2, 4)  # mean numbers of blocks that a mutation samples anew; each child takes one of them at random
GROWTH = (
    0.05  # generations are at least this part of the results so far, so that a long search does not fit without end
)
SCREENED = 300  # children with the highest means whose deviation is computed, which takes longest


class ModelGuidedTuner(ArchTuner):
    """NNI tuner for evolution guided by a Gaussian process.

    Args:
        population: number of architectures per generation, that is, per fit of the model; after 20 times as many results
            a generation is a twentieth of the results.
        initial: number of results from random architectures before the first fit.
        candidates: number of architectures that the model compares in a generation: half of them mutated, a quarter
            each from crossover and random.
        cost_table, seed, tries, latency_table, limits: as for ArchTuner.
    Raises:
        InputError: `initial` below 2 or `candidates` below the population, or limits out of reach.
    """

    def __init__(
        self,
        cost_table: str,
        population: int = 5,
        initial: int = 20,
        candidates: int = 4000,
        seed: int = 0,
        tries: int = 3,
        latency_table: str | None = None,
        **limits: float | str | None,
    ) -> None:
        super().__init__(cost_table, population, seed, tries, latency_table, **limits)
        for name, value, least in (("initial", initial, 2), ("candidates", candidates, max(4, population))):
            if not is_whole_number(value, least):
                raise InputError(f"{name} {shown(value)} is not a whole number of at least {least}; give a larger one")
        self.initial, self.candidates = initial, candidates

    def breed(self, generator: random.Random) -> list[Arch]:
        """The children with the largest expected improvement; random architectures before the first fit."""
        members: dict[str, Arch] = {}
        known, scores = self.results()
        if len(scores) >= self.initial:
            size = max(self.population, int(GROWTH * len(scores)))
            rng = np.random.default_rng(generator.getrandbits(64))
            model = ScoreModel(self.feasible, known, scores)
            parents = known[np.argsort(-model.known, kind="stable")[:PARENTS]]
            children = self._children(parents, known, rng)
            for child in children[_most_improving(model, children)]:
                if len(members) == size:
                    break
                self.add(members, partial(self.table.arch, child), tries=1)
        return self.fill(members, generator)

    def _children(self, parents: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Make distinct new architectures within the limits.

        Args:
            parents, known: (architectures, blocks) combination indices of the cost table, canonical.
        Returns:
            The same for the children.
        """
        sizes = np.array([len(block.macs) for block in self.table.blocks])
        quarter = self.candidates // 4
        mutated = parents[rng.integers(len(parents), size=2 * quarter)]
        changed = rng.random(mutated.shape) < rng.choice(CHANGES, size=(len(mutated), 1)) / len(sizes)
        mutated = np.where(changed, rng.integers(sizes, size=mutated.shape), mutated)
        mothers, fathers = (parents[rng.integers(len(parents), size=quarter)] for _ in range(2))
        crossed = np.where(rng.random(mothers.shape) < 0.5, mothers, fathers)
        everyone = np.concatenate([mutated, crossed, self.feasible.sample_many(quarter, rng)])
        everyone = self.table.canonical_many(everyone)
        # one number for each architecture: sorting numbers is ten times as fast as sorting rows
        factors = np.random.default_rng(0).integers(1 << 62, size=len(sizes)) * 2 + 1
        numbers = (everyone * factors).sum(axis=1)
        first = np.unique(numbers, return_index=True)[1]
        everyone = everyone[first[~np.isin(numbers[first], (known * factors).sum(axis=1))]]
        return everyone[self.feasible.satisfied_by(everyone)]


def _most_improving(model: ScoreModel, children: np.ndarray) -> np.ndarray:
    """Indices of the children by their expected improvement over the best posterior mean so far, largest first."""
    from scipy.special import ndtr

    if not len(children):
        return np.zeros(0, int)
    means = model.mean(children)
    likely = np.argsort(-means, kind="stable")[:SCREENED]
    deviation = model.deviation(children[likely])
    better = (means[likely] - model.known.max()) / deviation
    density = np.exp(-(better**2) / 2) / math.sqrt(2 * math.pi)
    return likely[np.argsort(-deviation * (better * ndtr(better) + density), kind="stable")]
