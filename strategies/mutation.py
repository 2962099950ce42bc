"""How an evolutionary search makes new architectures from old ones. Pure functions; importing them needs no NNI.

Source: arXiv:1904.00420, section 3.4 and the official search.py.
"""

from __future__ import annotations

import random

from spaces.arch import Arch, Choices


def mutate(parent: Arch, choices: Choices, probability: float, generator: random.Random) -> Arch:
    """Sample each gene anew with a probability; the new value may equal the old one, as in the official code."""
    return {
        label: generator.choice(list(candidates)) if generator.random() < probability else parent[label]
        for label, candidates in choices.items()
    }


def crossover(mother: Arch, father: Arch, generator: random.Random) -> Arch:
    """Uniform crossover: each gene comes from either parent with equal probability."""
    return {label: generator.choice((mother[label], father[label])) for label in mother}
