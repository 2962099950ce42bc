"""Random search: uniform over the architectures within the limits, without repetition."""

from __future__ import annotations

import random

from spaces.arch import Arch
from strategies.tuner import ArchTuner


class RandomTuner(ArchTuner):
    """NNI tuner for random search; arguments as for ArchTuner."""

    def breed(self, generator: random.Random) -> list[Arch]:
        """A generation of random architectures."""
        return self.fill({}, generator)
