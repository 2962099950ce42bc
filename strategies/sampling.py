"""Which paths of a supernet one training step trains. Pure functions of (choices, seed, step).

Every process of a distributed run draws the same path, and a resumed run draws the same sequence, because the
generator is made from (seed, step) and holds no state.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from spaces.arch import Arch, Choices


def step_generator(seed: int, step: int) -> random.Random:
    """A generator for one step; different for each pair (seed, step)."""
    return random.Random(f"{seed}/{step}")


def uniform_path(choices: Choices, generator: random.Random) -> Arch:
    """One architecture, each candidate of each choice block equally likely. Source: arXiv:1904.00420, section 3.2."""
    return {label: generator.choice(list(candidates)) for label, candidates in choices.items()}


def uniform(choices: Choices, seed: int, step: int) -> list[Arch]:
    """Uniform sampling: one path per step."""
    return [uniform_path(choices, step_generator(seed, step))]


# name -> paths(choices, seed, step); a step adds up the gradients of its paths
STRATEGIES: dict[str, Callable[[Choices, int, int], list[Arch]]] = {"uniform": uniform}
