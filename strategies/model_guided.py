"""Evolution guided by a model: of thousands of children, those are evaluated that a Gaussian process expects most of.

Each small generation fits the process anew to the results so far and takes the children with the largest expected
improvement. It sees the choices as one-hot code, where its kernel, a product over the labels, knows single choices, pairs
and all higher interactions, and beside them MACs and params. Scores enter by rank, so that neither their scale nor a few
very bad ones matter. scikit-learn is imported where it is used, because NNI waits 10 s for a tuner to start.
Source: expected improvement as in Jones, Schonlau and Welch, Journal of Global Optimization 13, 1998; a model within an
evolution as in BANANAS (arXiv:1910.11858), with a Gaussian process in place of its networks.
"""

from __future__ import annotations

import math
import random
import warnings
from functools import partial
from typing import Any

import numpy as np

from spaces.arch import Arch
from spaces.errors import InputError
from strategies.tuner import ArchTuner

PARENTS = 20  # the best so far
CHANGES = (1, 2, 4)  # blocks drawn anew in a mutation, on average
FITTED = 500  # the best results, which the process sees
TUNED = 100  # of them, on which its length scale and noise are set
COST_WEIGHT = 0.3  # of MACs and params, each with variance 1, against a code of the choices of length 1


class ModelGuidedTuner(ArchTuner):
    """NNI tuner.

    Args:
        population: architectures per generation, that is, for one fit of the model.
        initial: results that are waited for with random architectures before the first fit.
        candidates: architectures that the model compares in a generation: a half mutated, a quarter each crossed and random.
        others: as for ArchTuner.
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
        **limits: Any,
    ) -> None:
        super().__init__(cost_table, population, seed, tries, **limits)
        for name, value, least in (("initial", initial, 2), ("candidates", candidates, max(4, population))):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name} {value} is not a whole number of at least {least}; give a larger one")
        self.initial, self.candidates = initial, candidates

    def breed(self, generator: random.Random) -> list[Arch]:
        members: dict[str, Arch] = {}
        scored = self.ranked()
        if len(scored) >= self.initial:
            draw = np.random.default_rng(generator.getrandbits(64))
            options = np.array(
                [[block.combination_index(entry["arch"]) for block in self.table.blocks] for entry in scored]
            )
            known = self.table.canonical_many(options)
            children = self._children(known[:PARENTS], draw)
            promise = self._promise(known, np.array([entry["score"] for entry in scored]), children, draw)
            for place in np.argsort(-promise, kind="stable"):
                if len(members) == self.population:
                    break
                self.add(members, partial(self.table.arch, children[place]), tries=1)
        return self.fill(members, generator)

    def _children(self, parents: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """Distinct architectures within the limits, as canonical options (architectures, blocks)."""
        sizes = np.array([len(block.macs) for block in self.table.blocks])
        quarter = self.candidates // 4
        mutated = parents[draw.integers(len(parents), size=2 * quarter)]
        changed = draw.random(mutated.shape) < draw.choice(CHANGES, size=(len(mutated), 1)) / len(sizes)
        mutated = np.where(changed, draw.integers(sizes, size=mutated.shape), mutated)
        mothers, fathers = (parents[draw.integers(len(parents), size=quarter)] for _ in range(2))
        crossed = np.where(draw.random(mothers.shape) < 0.5, mothers, fathers)
        everyone = np.concatenate([mutated, crossed, self.feasible.sample_many(quarter, draw)])
        everyone = np.unique(self.table.canonical_many(everyone), axis=0)
        return everyone[self.feasible.satisfied_by(everyone)]

    def _promise(
        self, known: np.ndarray, scores: np.ndarray, children: np.ndarray, draw: np.random.Generator
    ) -> np.ndarray:
        """Expected improvement of each child over the best that is known.

        Args:
            known: options of the architectures with a score, best first.
            scores: of these.
            children: options.
        """
        from scipy.special import ndtr, ndtri
        from scipy.stats import rankdata
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        known, targets = known[:FITTED], ndtri((rankdata(scores) - 0.5) / len(scores))[:FITTED]
        code = self._code(np.concatenate([known, children]), len(known))
        inputs, outputs = code[: len(known)], code[len(known) :]
        kernel = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(1.0, (0.1, 10)) + WhiteKernel(0.1, (1e-3, 1))
        some = draw.permutation(len(known))[:TUNED]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a parameter at its bound
            tuned = GaussianProcessRegressor(kernel, normalize_y=True).fit(inputs[some], targets[some])
            process = GaussianProcessRegressor(tuned.kernel_, optimizer=None, normalize_y=True).fit(inputs, targets)
            mean, deviation = process.predict(outputs, return_std=True)
        better = (mean - targets.max()) / deviation
        return deviation * (better * ndtr(better) + np.exp(-(better**2) / 2) / math.sqrt(2 * math.pi))

    def _code(self, options: np.ndarray, known: int) -> np.ndarray:
        """What the model sees: one-hot choices, MACs and params with mean 0 and variance 1 over the first `known`."""
        columns = []
        for block, chosen in zip(self.table.blocks, options.T, strict=True):
            sizes = [len(candidates) for candidates in block.choices.values()]
            genes = np.unravel_index(chosen, sizes)
            columns += [np.eye(size)[gene] for size, gene in zip(sizes, genes, strict=True)]
        costs = np.stack(self.feasible.costs(options)[:2], axis=1).astype(float)
        costs = (costs - costs[:known].mean(axis=0)) / np.maximum(costs[:known].std(axis=0), 1)
        return np.concatenate([*(column / math.sqrt(len(columns)) for column in columns), COST_WEIGHT * costs], axis=1)
