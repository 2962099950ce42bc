"""The weight of the cost in the loss of the architecture parameters, controlled so that the mode of the distribution ends at a limit.

The mode is the most probable architecture, which is exported; its cost may lie far from the expected one while the distribution
is broad. So the multiplier follows the mode: it rises while the mode's cost is above the limit and falls while it is below, also
under zero, since a budget that is left unused is accuracy that is lost. It has an integral part, which is dual ascent, and two
that damp it: a proportional part, and a look ahead along the expected cost, which moves before the mode does (PID control,
arXiv:2007.03964). The constraint is an equality, as in TuNAS (arXiv:2008.06120).

Both gradients are brought to one size first: multiplier 1 means that the cost's gradient is as long as the cross-entropy's of
one batch. So one rule serves all spaces, costs and strategies. Deviation from both papers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

INTEGRAL = 4.0  # what the integral part gains over a whole training whose mode is at twice the limit or more
PROPORTIONAL = 2.0  # the proportional part there
LOOKAHEAD = 10  # steps: about what Adam's momentum remembers
BOUNDS = (-2.0, 4.0)  # of the multiplier: the cost never drowns the images by more
AIM = 0.95  # part of the limit that is aimed at, as the mode moves in steps of a candidate's cost
MEMORY = 0.9  # weight of the old value in the running means of the squared gradients


def next_multiplier(integral: float, cost: float, limit: float, steps: int) -> tuple[float, float]:
    """One step of the control.

    Args:
        integral: integral part so far, 0 at first.
        cost: of the mode, as it is foreseen.
        limit: of the cost, in the same unit.
        steps: of the architecture parameters in the whole training.
    Returns:
        The new integral part, and the multiplier of the next step. Both are within BOUNDS, so that a limit that cannot be
        reached, or lies above the whole space, does not pile up.
    """
    excess = min(max(cost / (AIM * limit) - 1, -1.0), 1.0)
    integral = _bounded(integral + INTEGRAL * excess / steps)
    return integral, _bounded(integral + PROPORTIONAL * excess)


def foresee(cost: float, expected: float, expected_before: float | None) -> float:
    """The cost of the mode in LOOKAHEAD steps, if it goes on as the expected cost went in the last step.

    Args:
        cost: of the mode now.
        expected, expected_before: expected cost now, and before the last step; None: there was none.
    """
    return cost if expected_before is None else max(0.0, cost + LOOKAHEAD * (expected - expected_before))


def _bounded(value: float) -> float:
    return min(max(value, BOUNDS[0]), BOUNDS[1])


@dataclass
class CostControl:
    """The multiplier of a training, and what it is made of; all of it is in the checkpoint.

    Attributes:
        limit: of the cost, in millions of the table's unit.
        steps: of the architecture parameters in the whole training.
        integral, multiplier: see `next_multiplier`.
        loss_square, cost_square: running means of the squared norms of the two gradients.
        expected: expected cost after the last step, in millions; None before the first.
    """

    limit: float
    steps: int
    integral: float = 0.0
    multiplier: float = 0.0
    loss_square: float = 0.0
    cost_square: float = 0.0
    expected: float | None = None

    def weight(self, loss_square: float, cost_square: float) -> float:
        """The factor of the cost's gradient in this step.

        Args:
            loss_square, cost_square: squared norms of the gradients of the cross-entropy and of cost / limit in this step.
        """
        new = 1.0 if not self.loss_square else 1 - MEMORY  # the first step has no past
        self.loss_square += new * (loss_square - self.loss_square)
        self.cost_square += new * (cost_square - self.cost_square)
        return self.multiplier * (self.loss_square / self.cost_square) ** 0.5 if self.cost_square else 0.0

    def follow(self, mode: float, expected: float) -> None:
        """Set the multiplier of the next step by the costs of the mode and of the distribution, in millions."""
        foreseen = foresee(mode, expected, self.expected)
        self.integral, self.multiplier = next_multiplier(self.integral, foreseen, self.limit, self.steps)
        self.expected = expected

    def state(self) -> dict[str, float | None]:
        """What a checkpoint holds."""
        names = ("integral", "multiplier", "loss_square", "cost_square", "expected")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: Mapping[str, float | None]) -> None:
        """Continue from what `state()` returned."""
        for name, value in state.items():
            setattr(self, name, value)
