"""Random search: uniform over the architectures within the limits, none twice."""

from __future__ import annotations

from spaces.arch import Arch
from strategies.tuner import ArchTuner


class RandomTuner(ArchTuner):
    """NNI tuner; arguments as for ArchTuner."""

    def propose(self) -> Arch:
        return self.fresh()
