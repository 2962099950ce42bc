"""Random search: uniform over the architectures within the limits, none twice."""

from __future__ import annotations

import random

from spaces.arch import Arch
from strategies.tuner import ArchTuner


class RandomTuner(ArchTuner):
    """NNI tuner; arguments as for ArchTuner."""

    def breed(self, generator: random.Random) -> list[Arch]:
        return self.fill({}, generator)
