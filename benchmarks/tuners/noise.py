"""What a tuner is told: the true score, with an error as large as that of a supernet.

The error's size is set by Kendall's tau between told and true scores of random architectures within the limit. Part of
it may be systematic: a fixed random function of single choices and of pairs, which no number of evaluations averages out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.tuners.landscape import Landscape

HALVINGS = 20  # steps of the bisection for the error's size


@dataclass(frozen=True)
class Noise:
    """An error of told scores.

    Args:
        tau: Kendall's tau of told and true scores; 1: no error.
        systematic: share of the error's variance that is a function of single choices and pairs.
    """

    tau: float = 1.0
    systematic: float = 0.0

    def __str__(self) -> str:
        if self.tau == 1:
            return "exact"
        return f"tau {self.tau:g}" + (f", {self.systematic:.0%} systematic" if self.systematic else "")


class Told:
    """The scores that one search is told; equal for the same architecture, whoever asks.

    Args:
        landscape: what is searched.
        noise: how large the error is, and how much of it systematic.
        seed: of the error.
    """

    def __init__(self, landscape: Landscape, noise: Noise, seed: int) -> None:
        self.landscape, self.noise, self.seed = landscape, noise, seed
        self.scale = 0.0
        if noise.tau == 1:
            return
        generator = np.random.default_rng([seed, 1])
        sizes = [len(block.macs) for block in landscape.table.blocks]
        self.single = [generator.normal(size=size) for size in sizes]
        self.pair = generator.normal(size=(len(sizes), len(sizes), max(sizes), max(sizes)))
        fixed = self._fixed(landscape.drawn)
        self.mean, self.deviation = fixed.mean(), fixed.std()
        self.scale = self._scale()

    def __call__(self, genes: np.ndarray) -> np.ndarray:
        """Told scores (architectures,) of genes (architectures, labels)."""
        return self.landscape.truth(genes) + (self.scale * self._error(genes) if self.scale else 0)

    def _fixed(self, genes: np.ndarray) -> np.ndarray:
        """The systematic error before scaling: half of its variance from single choices, half from pairs."""
        labels = genes.shape[1]
        single = sum(weights[column] for weights, column in zip(self.single, genes.T, strict=True))
        first, second = np.triu_indices(labels, 1)
        pair = self.pair[first, second, genes[:, first], genes[:, second]].sum(axis=1)
        return np.asarray(single / labels**0.5 + pair / len(first) ** 0.5)

    def _error(self, genes: np.ndarray) -> np.ndarray:
        """Errors of deviation 1 over random architectures within the limit, (architectures,)."""
        alone = [np.random.default_rng([self.seed, 2, *map(int, row)]).normal() for row in genes]
        share = self.noise.systematic
        fixed = (self._fixed(genes) - self.mean) / self.deviation if share else 0
        return np.asarray((1 - share) ** 0.5 * np.array(alone) + share**0.5 * fixed)

    def _scale(self) -> float:
        """The deviation of errors that gives tau, by bisection."""
        from scipy.stats import kendalltau

        truth = self.landscape.truth(self.landscape.drawn)
        error = self._error(self.landscape.drawn)
        low, high = 0.0, 20 * float(truth.std())
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            tau = kendalltau(truth, truth + middle * error).statistic
            low, high = (middle, high) if tau > self.noise.tau else (low, middle)
        return high
