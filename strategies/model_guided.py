"""Evolution guided by a model: of thousands of children, those with the largest expected improvement are evaluated.

For each small generation a Gaussian process is fitted anew to the results so far. Its features are the choices in
one-hot code, and MACs and params. Its kernel is a product over the labels, so it models single choices, pairs and all
higher interactions. Scores enter by rank, so that neither their scale nor a few very bad ones matter.
Source: expected improvement as in Jones, Schonlau and Welch, Journal of Global Optimization 13, 1998; a model within an
evolution as in BANANAS (arXiv:1910.11858), with a Gaussian process in place of its networks.
"""

from __future__ import annotations

import math
import random
import warnings
from functools import partial

import numpy as np

from spaces.arch import Arch
from spaces.errors import InputError, is_whole_number
from strategies.tuner import ArchTuner

PARENTS = 20  # how many of the best architectures so far may become parents
CHANGES = (1, 2, 4)  # mean numbers of blocks that a mutation samples anew; each child takes one of them at random
FIT_RESULTS = 500  # how many of the best results the process is fitted to
TUNING_RESULTS = 100  # how many of those its length scale and noise are tuned on
COST_WEIGHT = 0.3  # factor of MACs and params, which have variance 1; the one-hot code of all choices has length 1


class ModelGuidedTuner(ArchTuner):
    """NNI tuner for evolution guided by a Gaussian process.

    Args:
        population: number of architectures per generation, that is, per fit of the model.
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
                raise InputError(f"{name} {value} is not a whole number of at least {least}; give a larger one")
        self.initial, self.candidates = initial, candidates

    def breed(self, generator: random.Random) -> list[Arch]:
        """The children with the largest expected improvement; random architectures before the first fit."""
        members: dict[str, Arch] = {}
        scored = self.ranked()
        if len(scored) >= self.initial:
            rng = np.random.default_rng(generator.getrandbits(64))
            known = self.table.canonical_many(np.array([self.table.combinations(entry["arch"]) for entry in scored]))
            children = self._children(known[:PARENTS], rng)
            scores = np.array([entry["score"] for entry in scored])
            improvement = self._expected_improvement(known, scores, children, rng)
            for index in np.argsort(-improvement, kind="stable"):
                if len(members) == self.population:
                    break
                self.add(members, partial(self.table.arch, children[index]), tries=1)
        return self.fill(members, generator)

    def _children(self, parents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Make distinct architectures within the limits.

        Args:
            parents: (architectures, blocks) combination indices of the cost table, canonical.
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
        everyone = np.unique(self.table.canonical_many(everyone), axis=0)
        return everyone[self.feasible.satisfied_by(everyone)]

    def _expected_improvement(
        self, known: np.ndarray, scores: np.ndarray, children: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Expected improvement of each child over the best known architecture, in units of the ranked scores.

        Args:
            known: (architectures, blocks) combination indices of the architectures with a score, best first.
            scores: (architectures,) their scores.
            children: (children, blocks) combination indices.
        Returns:
            (children,)
        """
        from scipy.special import ndtr, ndtri
        from scipy.stats import rankdata
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        known, targets = known[:FIT_RESULTS], ndtri((rankdata(scores) - 0.5) / len(scores))[:FIT_RESULTS]
        features = self._features(np.concatenate([known, children]), len(known))
        inputs, outputs = features[: len(known)], features[len(known) :]
        kernel = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(1.0, (0.1, 10)) + WhiteKernel(0.1, (1e-3, 1))
        subset = rng.permutation(len(known))[:TUNING_RESULTS]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn warns of a kernel parameter at its bound
            tuned = GaussianProcessRegressor(kernel, normalize_y=True).fit(inputs[subset], targets[subset])
            process = GaussianProcessRegressor(tuned.kernel_, optimizer=None, normalize_y=True).fit(inputs, targets)
            mean, deviation = process.predict(outputs, return_std=True)
        better = (mean - targets.max()) / deviation
        return deviation * (better * ndtr(better) + np.exp(-(better**2) / 2) / math.sqrt(2 * math.pi))

    def _features(self, combinations: np.ndarray, known: int) -> np.ndarray:
        """The inputs of the model: one-hot choices, and MACs and params.

        Args:
            combinations: (architectures, blocks) combination indices.
            known: MACs and params get mean 0 and variance 1 over so many of the first architectures.
        Returns:
            (architectures, features)
        """
        columns = []
        for block, indices in zip(self.table.blocks, combinations.T, strict=True):
            sizes = [len(candidates) for candidates in block.choices.values()]
            genes = np.unravel_index(indices, sizes)
            columns += [np.eye(size)[gene] for size, gene in zip(sizes, genes, strict=True)]
        costs = np.stack(self.feasible.costs(combinations)[:2], axis=1).astype(float)
        costs = (costs - costs[:known].mean(axis=0)) / np.maximum(costs[:known].std(axis=0), 1)
        return np.concatenate([*(column / math.sqrt(len(columns)) for column in columns), COST_WEIGHT * costs], axis=1)
