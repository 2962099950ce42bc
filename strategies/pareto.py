"""NSGA-II, by pymoo: a search for architectures of high score and low cost at once.

Each generation is bred anew from all results so far: pymoo's rank-and-crowding survival picks the parents, and its
binary tournament, crossover and mutation make the children. A child that is outside of the limits, known, or the same
network as another child is made again.
Source: Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE TEC 6(2), 2002; pymoo,
arXiv:2002.04504. Deviation: the survivors come from all results, not from the last two generations, so that a result
may come late.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from spaces.arch import Arch
from spaces.errors import InputError, shown, unknown
from strategies.score_model import LEAST_RESULTS, ScoreModel
from strategies.tuner import ArchTuner

OBJECTIVES = {"macs": 0, "params": 1, "latency": 2}  # places in `FeasibleSpace.costs`
SCREENED = 10  # children, for each that is evaluated, among which the model chooses
ROUNDS = 100  # children made per member of a generation, before random architectures fill the rest
Point = TypeVar("Point", bound=tuple[Any, ...])


class ParetoTuner(ArchTuner):
    """NNI tuner for NSGA-II. Its first generation is random; `pareto_front` selects the best compromises of the results.

    Args:
        population: number of architectures per generation, and of survivors that may become parents.
        objective: the cost that is minimised, beside the score that is maximised: macs, params, or latency (with a
            latency_table).
        crossover: fraction of the children with genes of two parents; the others are mutated copies of one.
        mutation: probability that a gene of a child is sampled anew; None: one gene of each child on average.
        model: whether a model of the scores takes their place; False: NSGA-II alone, for comparisons.
        cost_table, seed, tries, latency_table, limits: as for ArchTuner.
    Raises:
        InputError: an unknown objective, a probability out of range, or limits out of reach.
    """

    def __init__(
        self,
        cost_table: str,
        population: int = 20,
        objective: str = "macs",
        crossover: float = 0.9,
        mutation: float | None = None,
        model: bool = True,
        seed: int = 0,
        tries: int = 3,
        latency_table: str | None = None,
        **limits: float | str | None,
    ) -> None:
        if importlib.util.find_spec("pymoo") is None:  # it is imported when a generation is bred, which takes a while
            raise InputError(
                "ParetoTuner needs pymoo, which is not installed here; install it with: pip install pymoo, or take EvolutionTuner"
            )
        if objective not in OBJECTIVES:
            raise InputError(unknown("objective", objective, OBJECTIVES))
        for name, value in (("crossover", crossover), ("mutation", mutation)):
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1
            ):
                raise InputError(f"{name} {shown(value)} is out of range; give a number above 0, at most 1")
        super().__init__(cost_table, population, seed, tries, latency_table, **limits)
        if objective == "latency" and self.feasible.latency is None:
            raise InputError("objective latency needs a latency_table; measure one with: python -m trials.latency")
        self.objective, self.crossover, self.model = objective, crossover, model
        self.mutation = 1 / len(self.table.choices) if mutation is None else mutation

    def breed(self, generator: random.Random) -> list[Arch]:
        """Children of the survivors among all results, then random architectures."""
        members: dict[str, Arch] = {}
        known, scores = self.results()
        if len(scores) > 1:
            model = ScoreModel(self.feasible, known, scores) if self.model and len(scores) >= LEAST_RESULTS else None
            goals = self._goals(model.known if model else scores, known)
            number = SCREENED * self.population if model else self.population
            for arch in islice(self._children(known, goals, generator.getrandbits(32)), ROUNDS * self.population):
                self.add(members, partial(dict, arch), tries=1)
                if len(members) == number:
                    break
            if model and len(members) > self.population:
                members = self._screened(members, model, generator.getrandbits(32))
        return self.fill(members, generator)

    def _goals(self, scores: np.ndarray, combinations: np.ndarray) -> np.ndarray:
        """What is minimised, (architectures, 2): minus the score, and the cost."""
        return np.stack([-scores, self.feasible.costs(combinations)[OBJECTIVES[self.objective]]], axis=1)

    def _screened(self, members: dict[str, Arch], model: ScoreModel, seed: int) -> dict[str, Arch]:
        """The best compromises of these children by the model, as many as the population."""
        from pymoo.algorithms.moo.nsga2 import RankAndCrowding
        from pymoo.core.population import Population
        from pymoo.core.problem import Problem

        rows = self.table.canonical_many(np.array([self.table.combinations(arch) for arch in members.values()]))
        goals = self._goals(model.mean(rows), rows)
        everyone = Population.new(X=np.arange(len(rows))[:, None], F=goals, G=np.zeros((len(rows), 0)))
        best = RankAndCrowding().do(
            Problem(n_obj=2), everyone, n_survive=self.population, random_state=np.random.default_rng(seed)
        )
        keys = list(members)
        return {keys[place]: members[keys[place]] for place in best.get("X")[:, 0].astype(int)}

    def _children(self, known: np.ndarray, goals: np.ndarray, seed: int) -> Iterator[Arch]:
        """Yield children of the survivors among the results, without end.

        Args:
            known: (results, blocks) combination indices of the cost table.
            goals: (results, 2), see `_goals`.
        """
        from pymoo.algorithms.moo.nsga2 import NSGA2, RankAndCrowding
        from pymoo.core.population import Population
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination
        from pymoo.core.variable import Choice
        from pymoo.operators.crossover.ux import UX
        from pymoo.operators.mutation.rm import ChoiceRandomMutation

        choices = self.feasible.choices
        problem = Problem(
            n_obj=2, vars={label: Choice(options=range(len(candidates))) for label, candidates in choices.items()}
        )
        archs = [self.table.arch(row) for row in known]
        genes = [[choices[label].index(arch[label]) for label in choices] for arch in archs]
        everyone = Population.new(X=np.array(genes), F=goals, G=np.zeros((len(goals), 0)))
        survival_generator = np.random.default_rng(seed)
        algorithm = NSGA2(
            pop_size=self.population,
            sampling=RankAndCrowding().do(
                problem, everyone, n_survive=self.population, random_state=survival_generator
            ),
            crossover=UX(prob=self.crossover),
            mutation=ChoiceRandomMutation(prob_var=self.mutation),
            eliminate_duplicates=False,  # ArchTuner.add does that, and knows which architectures are the same network
            seed=seed,
        )
        algorithm.setup(problem, termination=NoTermination())
        algorithm.tell(infills=algorithm.ask())  # the first "children" are the survivors, whose scores are known
        while True:
            for child in algorithm.ask().get("X"):
                yield {
                    label: candidates[int(gene)]
                    for (label, candidates), gene in zip(choices.items(), child, strict=True)
                }


def pareto_front(entries: Sequence[Point]) -> list[Point]:
    """The entries that no other entry dominates, that is, equals or beats in both numbers and beats in one.

    Args:
        entries: tuples that start with a score (larger is better) and a cost (smaller is better).
    Returns:
        The non-dominated entries, cheapest first. Of entries with the same two numbers, only the first is kept.
    """
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    first: dict[tuple[float, float], Point] = {}
    for entry in entries:
        first.setdefault((float(entry[0]), float(entry[1])), entry)
    goals = np.array([(-score, cost) for score, cost in first]).reshape(-1, 2)
    best = NonDominatedSorting().do(goals, only_non_dominated_front=True)
    distinct = list(first.values())
    return sorted((distinct[index] for index in best), key=lambda entry: entry[1])
