"""Evolution as in Single Path One-Shot: the parents are the top k of all architectures so far, without tournaments.

A generation has `mutation` children of one parent each, `crossover` children of two parents, and random architectures
for the rest. Every child is new and within the limits; after 100 failed attempts a random architecture replaces it.
Source: arXiv:1904.00420, section 3.4 and the official search.py.
"""

from __future__ import annotations

import random
from typing import Any

from spaces.arch import Arch
from spaces.errors import InputError, shown
from strategies.mutation import crossover, mutate
from strategies.tuner import ArchTuner

PAPER: dict[str, Any] = {"population": 50, "top_k": 10, "mutation": 25, "crossover": 25}


class EvolutionTuner(ArchTuner):
    """NNI tuner for evolution. The paper's population is 50; all else by default is the paper's.

    Args:
        population: number of architectures per generation. With 20 the best is found sooner, docs/tuners.md.
        top_k: number of parents.
        mutation: number of mutated children per generation; None: half of the population.
        crossover: number of crossover children per generation; None: half of the population.
        probability: probability that a mutation samples a gene anew.
        cost_table, seed, tries, latency_table, limits: as for ArchTuner.
    Raises:
        InputError: numbers that do not fit together, or limits out of reach.
    """

    def __init__(
        self,
        cost_table: str,
        population: int = 20,
        top_k: int = 10,
        mutation: int | None = None,
        crossover: int | None = None,
        probability: float = 0.1,
        seed: int = 0,
        tries: int = 3,
        latency_table: str | None = None,
        **limits: float | str | None,
    ) -> None:
        if isinstance(population, int):
            mutation = population // 2 if mutation is None else mutation
            crossover = population // 2 if crossover is None else crossover
        if not all(isinstance(value, int) for value in (population, top_k, mutation, crossover)) or (
            min(population, top_k) < 1 or min(mutation, crossover) < 0 or mutation + crossover > population
        ):
            raise InputError(
                f"population {shown(population)}, top_k {shown(top_k)}, mutation {shown(mutation)}, crossover {shown(crossover)}; "
                "population and top_k must be at least 1, and mutation + crossover at most the population"
            )
        if not 0 < probability <= 1:
            raise InputError(f"probability {shown(probability)} is out of range; give a number above 0, at most 1")
        super().__init__(cost_table, population, seed, tries, latency_table, **limits)
        self.top_k, self.mutation, self.crossover, self.probability = top_k, mutation, crossover, probability

    def breed(self, generator: random.Random) -> list[Arch]:
        """Mutated children, then crossover children, then random architectures."""
        parents = [entry["arch"] for entry in self.ranked()[: self.top_k]]
        members: dict[str, Arch] = {}
        choices = self.feasible.choices
        if parents:
            for _ in range(self.mutation):
                self.add(members, lambda: mutate(generator.choice(parents), choices, self.probability, generator))
            for _ in range(self.crossover):
                self.add(members, lambda: crossover(generator.choice(parents), generator.choice(parents), generator))
        return self.fill(members, generator)
