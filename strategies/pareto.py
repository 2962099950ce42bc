"""NSGA-II: architectures of high score and low cost at once, by pymoo.

Each generation is bred anew from all results so far: pymoo's rank-and-crowding survival picks the parents, its binary
tournament, crossover and mutation make the children. Children outside of the limits, known ones and ones that are the
same network as another are drawn again. pymoo is imported where it is used, because NNI waits 10 s for a tuner to start.
Source: Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE TEC 6(2), 2002; pymoo,
arXiv:2002.04504. Deviation: survivors are of all results, not of the last two generations, so that results may come late.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from spaces.arch import Arch
from spaces.errors import InputError, unknown
from strategies.feasible import FeasibleSpace
from strategies.tuner import ArchTuner

OBJECTIVES: dict[str, Callable[[FeasibleSpace, Arch], float]] = {
    "macs": lambda space, arch: space.table.macs(arch),
    "params": lambda space, arch: space.table.params(arch),
    "latency": lambda space, arch: space.latency.ms(arch) if space.latency else 0.0,
}
ROUNDS = 100  # children drawn for each place of a generation, before random architectures fill it
Entry = TypeVar("Entry", bound=tuple[Any, ...])


class ParetoTuner(ArchTuner):
    """NNI tuner. Its first generation is random; `pareto_front` gives the best compromises of the results.

    Args:
        population: architectures per generation, and survivors that may become parents.
        objective: what is minimised beside the score that is maximised: macs, params, or latency (with a latency_table).
        crossover: part of the children with genes of two parents; the others are mutated copies of one.
        mutation: of a gene to be drawn anew; by default one gene of each child on average.
        others: as for ArchTuner.
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
        seed: int = 0,
        tries: int = 3,
        **limits: Any,
    ) -> None:
        if objective not in OBJECTIVES:
            raise InputError(unknown("objective", objective, OBJECTIVES))
        for name, value in (("crossover", crossover), ("mutation", mutation)):
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1
            ):
                raise InputError(f"{name} {value} is out of range; give a number above 0, at most 1")
        super().__init__(cost_table, population, seed, tries, **limits)
        if objective == "latency" and self.feasible.latency is None:
            raise InputError("objective latency needs a latency_table; measure one with: python -m trials.latency")
        self.objective, self.crossover = objective, crossover
        self.mutation = 1 / len(self.table.choices) if mutation is None else mutation

    def breed(self, generator: random.Random) -> list[Arch]:
        members: dict[str, Arch] = {}
        scored = self.ranked()
        if len(scored) > 1:
            for arch in islice(self._children(scored, generator.getrandbits(32)), ROUNDS * self.population):
                self.add(members, partial(dict, arch), tries=1)
                if len(members) == self.population:
                    break
        return self.fill(members, generator)

    def _children(self, scored: list[dict[str, Any]], seed: int) -> Iterator[Arch]:
        """Children of the survivors among `scored`, without end."""
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
        genes = [[choices[label].index(entry["arch"][label]) for label in choices] for entry in scored]
        cost = OBJECTIVES[self.objective]
        goals = [[-entry["score"], cost(self.feasible, entry["arch"])] for entry in scored]
        everyone = Population.new(X=np.array(genes), F=np.array(goals), G=np.zeros((len(goals), 0)))
        draw = np.random.default_rng(seed)
        algorithm = NSGA2(
            pop_size=self.population,
            sampling=RankAndCrowding().do(problem, everyone, n_survive=self.population, random_state=draw),
            crossover=UX(prob=self.crossover),
            mutation=ChoiceRandomMutation(prob_var=self.mutation),
            eliminate_duplicates=False,  # `add` does, and knows which architectures are the same network
            seed=seed,
        )
        algorithm.setup(problem, termination=NoTermination())
        algorithm.tell(infills=algorithm.ask())  # the survivors, whose scores are known
        while True:
            for child in algorithm.ask().get("X"):
                yield {
                    label: candidates[int(gene)]
                    for (label, candidates), gene in zip(choices.items(), child, strict=True)
                }


def pareto_front(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that no other one beats: none is at least as good in both numbers, and better in one.

    Args:
        entries: each starts with a score (larger is better) and a cost (smaller is better); the rest is not looked at.
    Returns:
        The non-dominated entries, cheapest first; of entries with the same two numbers, the first.
    """
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    first: dict[tuple[float, float], Entry] = {}
    for entry in entries:
        first.setdefault((float(entry[0]), float(entry[1])), entry)
    goals = np.array([(-score, cost) for score, cost in first]).reshape(-1, 2)
    best = NonDominatedSorting().do(goals, only_non_dominated_front=True)
    distinct = list(first.values())
    return sorted((distinct[place] for place in best), key=lambda entry: entry[1])
