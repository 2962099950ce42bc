"""Evolution as in Single Path One-Shot: tournament-free, the top k of all architectures so far are the parents.

A generation: `mutation` children of one parent each, `crossover` children of two, random architectures for the rest.
Every child meets the limits and is new; after `TRIES` failures a child is replaced by a random architecture.
Source: arXiv:1904.00420, section 3.4 and the official search.py. Deviation: at concurrency above 1 the next
generation is bred as soon as the present one has been handed out, from the results there are, so no worker waits.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import nni

from spaces.arch import Arch, Choices, arch_id, save_arch
from spaces.errors import InputError
from strategies.tuner import ArchTuner

TRIES = 100  # draws of one child before a random architecture takes its place


def mutate(parent: Arch, choices: Choices, probability: float, generator: random.Random) -> Arch:
    """Draw each gene anew with `probability`; the new value may equal the old one, as in the official code."""
    return {
        label: generator.choice(list(candidates)) if generator.random() < probability else parent[label]
        for label, candidates in choices.items()
    }


def crossover(mother: Arch, father: Arch, generator: random.Random) -> Arch:
    """Uniform crossover: each gene from either parent."""
    return {label: generator.choice((mother[label], father[label])) for label in mother}


class EvolutionTuner(ArchTuner):
    """NNI tuner. Defaults are the paper's.

    Args:
        population: architectures per generation.
        top_k: parents.
        mutation: mutated children per generation.
        crossover: crossover children per generation.
        probability: of a gene to be drawn anew in a mutation.
        others: as for ArchTuner.
    Raises:
        InputError: numbers that do not fit together, or limits out of reach.
    """

    def __init__(
        self,
        cost_table: str,
        population: int = 50,
        top_k: int = 10,
        mutation: int = 25,
        crossover: int = 25,
        probability: float = 0.1,
        seed: int = 0,
        **limits: Any,
    ) -> None:
        if min(population, top_k) < 1 or min(mutation, crossover) < 0 or mutation + crossover > population:
            raise InputError(
                f"population {population}, top_k {top_k}, mutation {mutation}, crossover {crossover}; "
                "population and top_k must be at least 1, and mutation + crossover at most the population"
            )
        if not 0 < probability <= 1:
            raise InputError(f"probability {probability} is out of range; give a number above 0, at most 1")
        super().__init__(cost_table, seed, **limits)
        self.population, self.top_k = population, top_k
        self.mutation, self.crossover, self.probability = mutation, crossover, probability
        self.generation = -1
        self.queue: list[Arch] = []  # of this generation, not yet handed out

    def propose(self) -> Arch:
        while True:
            if not self.queue:
                self._breed()
            arch = self.queue.pop(0)
            if arch_id(arch) not in self.asked:  # it may have arrived by import_data meanwhile
                return arch

    def generation_now(self) -> int:
        return max(self.generation, 0)

    def _breed(self) -> None:
        self.generation += 1
        parents = [entry["arch"] for entry in self.ranked()[: self.top_k]]
        members: dict[str, Arch] = {}
        rng, choices = self.generator, self.feasible.choices
        if parents:
            for _ in range(self.mutation):
                self._child(members, lambda: mutate(rng.choice(parents), choices, self.probability, rng))
            for _ in range(self.crossover):
                self._child(members, lambda: crossover(rng.choice(parents), rng.choice(parents), rng))
        while len(members) < self.population:
            before = len(members)
            try:
                self._child(members, self.fresh)
            except nni.NoMoreTrialError:
                if not members:
                    raise
            if len(members) == before:
                break  # hardly anything new is left within the limits
        self.queue = list(members.values())

    def _child(self, members: dict[str, Arch], make: Callable[[], Arch]) -> None:
        for _ in range(TRIES):
            arch = make()
            key = arch_id(arch)
            if key not in members and key not in self.asked and self.feasible.allows(arch):
                members[key] = arch
                return

    def scored(self, arch: Arch, score: float) -> None:
        """Export the best architecture so far, one file per generation, for `--fixed-arc`."""
        folder = self.folder()
        if folder:
            save_arch(folder / f"generation-{self.generation_now():03d}.json", self.ranked()[0]["arch"])

    def state(self) -> dict[str, Any]:
        return {**super().state(), "generation": self.generation, "queue": self.queue}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.generation, self.queue = state["generation"], state["queue"]
