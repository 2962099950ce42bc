"""One search of a landscape, and how far its architectures are from the best there are."""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nni
import numpy as np
from nni.algorithms.hpo.evolution_tuner import EvolutionTuner as BuiltinTuner

from benchmarks.tuners.landscape import Landscape
from benchmarks.tuners.noise import Noise, Told
from spaces.cost import CostTable, search_space
from strategies.evolution import PAPER, EvolutionTuner
from strategies.model_guided import ModelGuidedTuner
from strategies.pareto import ParetoTuner
from strategies.random_search import RandomTuner
from strategies.score_model import smoothed

FRONT = 10  # limits along a front, at equally spaced quantiles of the MACs of random architectures
MakeTuner = Callable[..., Any]  # cost table, seed=, max_macs= -> tuner


def builtin(costs: str, seed: int, **limits: Any) -> BuiltinTuner:
    """NNI's own evolution, with a seed; it draws from random, and from a state that it makes without one."""
    tuner = BuiltinTuner(optimize_mode="maximize", population_size=50)
    tuner.update_search_space(search_space(CostTable.load(costs).choices))
    random.seed(seed)
    tuner.random_state.seed(seed)
    tuner.population.clear()
    for _ in range(tuner.population_size):
        tuner._random_generate_individual()
    return tuner


TUNERS: dict[str, tuple[str, MakeTuner]] = {
    "random": ("RandomTuner", RandomTuner),
    "builtin": ("NNI's Evolution", builtin),
    "evolution": ("EvolutionTuner", EvolutionTuner),
    "paper": ("EvolutionTuner, the paper's", lambda costs, **given: EvolutionTuner(costs, **PAPER, **given)),
    "pareto": ("ParetoTuner", ParetoTuner),
    "nsga2": ("ParetoTuner, model: false", lambda costs, **given: ParetoTuner(costs, model=False, **given)),
    "guided": ("ModelGuidedTuner", ModelGuidedTuner),
}


@dataclass(frozen=True)
class Regrets:
    """Of one search: the best true score there is, less the true score of an architecture, after so many evaluations.

    Along a front they are means over FRONT limits.

    Attributes:
        evaluated: of the truly best architecture that was evaluated, which a noisy search cannot know.
        by_score: of that with the highest score that was told.
        by_model: of that with the highest posterior mean (strategies.score_model).
        seconds: processor time of the tuner.
    """

    evaluated: list[float]
    by_score: list[float]
    by_model: list[float]
    seconds: float


def search(landscape: Landscape, noise: Noise, name: str, seed: int, checks: Sequence[int], front: bool) -> Regrets:
    """Let a tuner search a landscape.

    Args:
        name: a key of TUNERS.
        seed: of the tuner, and of the noise.
        checks: numbers of evaluations after which regrets are taken, ascending.
        front: take them along the front, not under the landscape's limit alone.
    """
    told = Told(landscape, noise, seed)
    limits = {} if landscape.max_macs is None else {"max_macs": landscape.max_macs}
    with tempfile.TemporaryDirectory() as folder:
        costs = str(Path(folder) / "costs.json")
        landscape.table.save(costs)
        tuner = TUNERS[name][1](costs, seed=seed, **limits)
    genes, scores, seconds = play(tuner, told, checks[-1])
    if front:
        macs = landscape.feasible.costs(landscape.drawn)[0]
        bounds = np.quantile(macs, (np.arange(FRONT) + 0.5) / FRONT)
    else:
        bounds = np.array([math.inf if landscape.max_macs is None else landscape.max_macs])
    taken = [_regrets(landscape, genes[:count], scores[:count], bounds) for count in checks]
    evaluated, by_score, by_model = (list(column) for column in zip(*taken, strict=True))
    return Regrets(evaluated, by_score, by_model, seconds)


def play(tuner: Any, told: Told, evaluations: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Ask a tuner through NNI's interface, one architecture at a time; what breaks the limit scores least and counts.

    Returns:
        Canonical genes of the architectures in their order (evaluations or less, labels), their scores, and processor
        seconds of the tuner. It is less where nothing new is left within the limit.
    """
    landscape, rows, scores, seconds = told.landscape, [], [], 0.0
    worst = float(landscape.truth(landscape.drawn).min())
    for number in range(evaluations):
        began = time.process_time()
        try:
            arch = tuner.generate_parameters(number)
        except nni.NoMoreTrialError:
            break
        seconds += time.process_time() - began
        genes = landscape.table.canonical_many(np.array([landscape.table.combinations(arch)]))
        score = float(told(genes)[0]) if landscape.feasible.satisfied_by(genes)[0] else worst
        began = time.process_time()
        tuner.receive_trial_result(number, arch, {"default": score})
        tuner.trial_end(number, True)
        seconds += time.process_time() - began
        rows.append(genes[0])
        scores.append(score)
    return np.array(rows), np.array(scores), seconds


def _regrets(
    landscape: Landscape, genes: np.ndarray, scores: np.ndarray, bounds: np.ndarray
) -> tuple[float, float, float]:
    """Regrets of the best evaluated, of the best by score and of the best by the model; means over the bounds of MACs."""
    truth, macs = landscape.truth(genes), landscape.feasible.costs(genes)[0]
    first = np.unique(genes, axis=0, return_index=True)[1]  # NNI's own tuner proposes networks again
    model = np.full(len(genes), -math.inf)
    model[first] = smoothed(landscape.feasible, genes[first], scores[first])
    rows = []
    for bound in bounds:
        within = np.flatnonzero(macs <= bound)
        if not len(within):  # nothing so cheap was evaluated: the cheapest stands for it
            within = np.array([macs.argmin()])
        chosen = [truth[within[values[within].argmax()]] for values in (truth, scores, model)]
        rows.append([landscape.within(bound) - value for value in chosen])
    evaluated, by_score, by_model = np.mean(rows, axis=0)
    return float(evaluated), float(by_score), float(by_model)


def as_json(regrets: Regrets) -> dict[str, Any]:
    """Regrets for a file, rounded to what matters."""
    return {
        key: round(value, 2) if isinstance(value, float) else [round(number, 5) for number in value]
        for key, value in asdict(regrets).items()
    }
