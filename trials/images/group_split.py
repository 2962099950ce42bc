"""A share of every class is cut off in whole groups: pictures that belong together stay together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PASSES = 20  # over all groups, from one order; a few are enough, for each change brings the shares nearer
TRIED = 2000  # groups that are gone through: few groups are tried in many orders, for a single one may end far off
SAME = 1e-9  # changes of a distance that are smaller are rounding
Shares = list[tuple[int, float]]  # of a group: each of its classes, and which share of that class is in it


def cut_groups(labels: np.ndarray, groups: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Which images are cut off, bool (n,): in every class as near to the fraction as whole groups permit.

    Every class with several groups is on both sides, as far as groups of several classes permit, and one of a single group is not
    cut off. Of some random orders that with the shares nearest to the fraction is taken.

    Args:
        labels: class numbers, (n,), n above 0.
        groups: the group of each image, (n,).
        fraction: of every class.
        generator: draws the orders.
    """
    members = np.unique(groups, return_inverse=True)[1]
    totals = np.bincount(labels)
    pairs, counts = np.unique(members * len(totals) + labels, return_counts=True)
    of_group, of_class = np.divmod(pairs, len(totals))
    shares: list[Shares] = [[] for _ in range(int(members.max()) + 1)]
    for group, label, share in zip(of_group.tolist(), of_class.tolist(), counts / totals[of_class], strict=True):
        shares[group].append((label, float(share)))
    numbers = np.bincount(of_class).tolist()
    best = None
    for _ in range(max(1, TRIED // len(shares))):
        found = _Cut(shares, numbers, fraction)
        found.settle(generator.permutation(len(shares)).tolist())
        if best is None or found.merit() < best.merit():
            best = found
    assert best is not None
    return np.array(best.taken, bool)[members]


class _Cut:
    """Groups that are cut off, and how far that is from what is wanted.

    Args:
        shares: of each group.
        numbers: how many groups each class has.
        fraction: which share of each class is wanted.
    """

    def __init__(self, shares: Sequence[Shares], numbers: Sequence[int], fraction: float) -> None:
        self.shares, self.numbers = shares, numbers
        self.taken = [False] * len(shares)
        self.left = list(numbers)  # groups of each class that are not cut off
        self.off = [-fraction] * len(numbers)  # of each class: how far its share that is cut off is from the fraction

    def merit(self) -> tuple[int, float]:
        """How many classes have nothing cut off, and the distance: the sum of the squares of how far the shares are off."""
        lacking = sum(left == number for left, number in zip(self.left, self.numbers, strict=True))
        return lacking, round(sum(off * off for off in self.off), 9)

    def change(self, group: int) -> float:
        """What the distance changes by where a group goes to the other side; infinite where a class would have none left."""
        if not self.taken[group] and any(self.left[label] == 1 for label, _ in self.shares[group]):
            return float("inf")
        sign = -1 if self.taken[group] else 1
        return sum(share * (share + 2 * sign * self.off[label]) for label, share in self.shares[group])

    def move(self, group: int) -> None:
        """Put a group on the other side."""
        self.taken[group] = not self.taken[group]
        sign = 1 if self.taken[group] else -1
        for label, share in self.shares[group]:
            self.off[label] += sign * share
            self.left[label] -= sign

    def settle(self, order: Sequence[int]) -> None:
        """Move groups, in this order, as long as that makes the distance smaller; then give every class its part."""
        for _ in range(PASSES):
            before = list(self.taken)
            for group in order:
                if self.change(group) < -SAME:
                    self.move(group)
            if self.taken == before:
                break
        lacking: dict[int, list[int]] = {
            label: [] for label, number in enumerate(self.numbers) if number > 1 and self.left[label] == number
        }
        for group in order if lacking else ():
            for label, _ in self.shares[group]:
                if label in lacking:
                    lacking[label].append(group)
        for label, candidates in lacking.items():
            nearest = min(candidates, key=self.change)
            if self.left[label] == self.numbers[label] and self.change(nearest) < float("inf"):
                self.move(nearest)
