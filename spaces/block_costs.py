"""Costs of one choice block of a space, for every combination of its candidates. numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class BlockCosts:
    """Costs of one choice block. A combination is one candidate for each label of the block.

    Args:
        choices: label -> candidates, in order.
        macs, params: (combinations,) int64, one number per combination; the last label changes fastest.
        identities: indices of the combinations that return their input (a skip).
        interchangeable_with_previous: the block has identities, and the same operations as the block before, so that
            it makes no difference which of the two is skipped.
    """

    choices: Mapping[str, Sequence[Any]]
    macs: np.ndarray
    params: np.ndarray
    identities: tuple[int, ...] = ()
    interchangeable_with_previous: bool = False

    def combination_index(self, arch: Mapping[str, Any]) -> int:
        """Index of the combination that `arch` chooses."""
        index = 0
        for label, candidates in self.choices.items():
            index = index * len(candidates) + list(candidates).index(arch[label])
        return index

    def combination(self, index: int) -> dict[str, Any]:
        """The combination with an index, label -> candidate; the reverse of `combination_index`."""
        combination = {}
        for label, candidates in reversed(list(self.choices.items())):
            index, candidate = divmod(index, len(candidates))
            combination[label] = candidates[candidate]
        return {label: combination[label] for label in self.choices}
