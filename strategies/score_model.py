"""A model of the scores: a Gaussian process says what an architecture's choices let expect of it, and how surely.

Its features are the choices in one-hot code, and MACs and params. Its kernel is a product over the labels, so it models
single choices, pairs and all higher interactions. Length scale and noise are those of the highest marginal likelihood on a
grid: for each length scale, one eigendecomposition gives it for all noise levels. So nothing is carried from fit to fit,
and the same results give the same model.
Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapters 2 and 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from strategies.feasible import FeasibleSpace

LEAST_RESULTS = 20  # with fewer, scores are taken as they are
FITTED = 3000  # results that the process is fitted to; of more, the best half of them and a random sample of the rest
TUNED = 150  # how many of those length scale and noise are chosen on
LENGTHS = (0.3, 0.42, 0.6, 0.85, 1.2, 1.7, 2.4, 4.0)  # the one-hot codes of two architectures are at most sqrt(2) apart
NOISES = np.geomspace(1e-3, 10, 21)  # variance of the scores' noise, over that of the process
COST_WEIGHT = 0.3  # factor of MACs and params, which have variance 1; the one-hot code of all choices has length 1


@dataclass(frozen=True)
class Kernel:
    """What was chosen on the grid: length scale, variance of the noise over that of the process, variance of the process."""

    length: float
    noise: float
    variance: float


class ScoreModel:
    """A Gaussian process fitted to scores, which enter by rank, so that neither their scale nor a few very bad ones matter.

    All its numbers are normal scores: those of a normal distribution at the scores' ranks.

    Args:
        feasible: the space, and the architectures within the limits.
        combinations: (results, blocks) combination indices of the cost table, canonical, distinct.
        scores: (results,), finite.
    Attributes:
        known: (results,) posterior means of the results: their scores without the part that the model takes for noise.
        kernel: length scale and noise that were chosen.
    """

    def __init__(self, feasible: FeasibleSpace, combinations: np.ndarray, scores: np.ndarray) -> None:
        from scipy.linalg import cho_solve
        from scipy.special import ndtri
        from scipy.stats import rankdata

        generator = np.random.default_rng(len(scores))
        self.feasible = feasible
        costs = self._costs(combinations)
        self.cost_mean, self.cost_deviation = costs.mean(axis=0), np.maximum(costs.std(axis=0), 1)
        fitted = _fitted(scores, generator)
        self.inputs = self._features(combinations[fitted])
        targets = ndtri((rankdata(scores) - 0.5) / len(scores))[fitted]
        self.offset = float(targets.mean())
        targets = targets - self.offset
        tuned = generator.permutation(len(targets))[:TUNED]
        self.kernel = _most_likely(self.inputs[tuned], targets[tuned])
        covariance = _similar(self.inputs, self.inputs, self.kernel.length)
        covariance[np.diag_indices_from(covariance)] += self.kernel.noise
        self.factor = np.linalg.cholesky(covariance)
        self.weights = np.asarray(cho_solve((self.factor, True), targets))
        self.known = self.mean(combinations)

    def mean(self, combinations: np.ndarray) -> np.ndarray:
        """Posterior means (architectures,) of architectures (architectures, blocks)."""
        inputs = self._features(combinations).astype(
            np.float32
        )  # single precision is several times as fast, and enough
        similar = _similar(inputs, self.inputs.astype(np.float32), self.kernel.length)
        return np.asarray(self.offset + (similar @ self.weights.astype(np.float32)).astype(float))

    def deviation(self, combinations: np.ndarray) -> np.ndarray:
        """Posterior standard deviations, without the noise of a score; takes much longer than the mean."""
        from scipy.linalg import solve_triangular

        similar = _similar(self._features(combinations), self.inputs, self.kernel.length)
        explained = (solve_triangular(self.factor, similar.T, lower=True) ** 2).sum(axis=0)
        return np.asarray(np.sqrt(self.kernel.variance * np.maximum(1 - explained, 1e-12)))

    def _costs(self, combinations: np.ndarray) -> np.ndarray:
        """MACs and params, (architectures, 2)."""
        return np.stack(self.feasible.costs(combinations)[:2], axis=1).astype(float)

    def _features(self, combinations: np.ndarray) -> np.ndarray:
        """The inputs of the process, (architectures, features): one-hot choices, and MACs and params."""
        columns = []
        for block, indices in zip(self.feasible.table.blocks, combinations.T, strict=True):
            sizes = [len(candidates) for candidates in block.choices.values()]
            genes = np.unravel_index(indices, sizes)
            columns += [np.eye(size)[gene] for size, gene in zip(sizes, genes, strict=True)]
        costs = (self._costs(combinations) - self.cost_mean) / self.cost_deviation
        return np.concatenate([*(column / math.sqrt(len(columns)) for column in columns), COST_WEIGHT * costs], axis=1)


def smoothed(feasible: FeasibleSpace, combinations: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Numbers to order results by: posterior means, or the scores where there are fewer than LEAST_RESULTS. Arguments as for ScoreModel."""
    return scores if len(scores) < LEAST_RESULTS else ScoreModel(feasible, combinations, scores).known


def _fitted(scores: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Indices of the results that the process is fitted to; bad ones must be among them, or the model forgets what is bad."""
    if len(scores) <= FITTED:
        return np.arange(len(scores))
    order = np.argsort(-scores, kind="stable")
    rest = generator.permutation(order[FITTED // 2 :])[: FITTED - FITTED // 2]
    return np.sort(np.concatenate([order[: FITTED // 2], rest]))


def _most_likely(inputs: np.ndarray, targets: np.ndarray) -> Kernel:
    """The kernel of the grid with the highest marginal likelihood; the best variance of the process has a closed form."""
    found: list[tuple[float, Kernel]] = []
    for length in LENGTHS:
        values, vectors = np.linalg.eigh(_similar(inputs, inputs, length))
        spread = np.maximum(values, 0)[:, None] + NOISES  # (results, noises)
        variance = np.maximum(((vectors.T @ targets) ** 2)[:, None] / spread, 1e-12).mean(axis=0)
        likelihood = -0.5 * (len(targets) * np.log(variance) + np.log(spread).sum(axis=0))
        best = int(likelihood.argmax())
        found.append((float(likelihood[best]), Kernel(length, float(NOISES[best]), float(variance[best]))))
    return max(found, key=lambda pair: pair[0])[1]


def _similar(ones: np.ndarray, others: np.ndarray, length: float) -> np.ndarray:
    """The kernel's value for each pair, (ones, others), 1 for equal inputs."""
    squares = (ones**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * ones @ others.T
    return np.asarray(np.exp(np.minimum(squares * (-0.5 / length**2), 0)))
