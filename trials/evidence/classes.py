"""How well a network knows each class, and all of them alike: a class with few images counts as much as one with many.

All accuracies are in percent, and all intervals are of 95 %. K classes, S seeds, N test images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trials.evidence.intervals import Interval, accuracy_interval


@dataclass(frozen=True)
class ClassRow:
    """A class of the test part.

    Attributes:
        name: of the class.
        images: test images of it.
        correct: how many of them each seed answers rightly, (S,).
        mistaken_for: the class that it is mistaken for most often, with how many images, the mean of the seeds; "": never.
    """

    name: str
    images: int
    correct: tuple[int, ...]
    mistaken_for: str

    @property
    def interval(self) -> Interval:
        """Its accuracy over all seeds, which is the recall of the class."""
        return accuracy_interval(self.correct, self.images)


def confusion_of(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How often images of a class (row) got an answer (column), over all seeds.

    Args:
        labels: class numbers, (N,).
        predicted: class numbers, (S, N).
    Returns:
        int (K, K).
    """
    from sklearn.metrics import confusion_matrix

    numbers, seeds = np.arange(classes), len(predicted)
    return np.asarray(confusion_matrix(np.tile(labels, seeds), np.ravel(predicted), labels=numbers))


def class_rows(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> list[ClassRow]:
    """One row for each class that has test images, the least accurate first.

    Args:
        labels: class numbers, (N,).
        predicted: class numbers, (S, N).
        classes: names, (K,).
    """
    of_seeds = [confusion_of(labels, one[None], len(classes)) for one in predicted]
    confusion = np.sum(of_seeds, axis=0)
    rows = []
    for number in np.unique(labels).tolist():
        wrong = confusion[number].copy()
        wrong[number] = 0
        mean = wrong.max() / len(predicted)
        times = f"{mean:,.4g} image{'s' if mean != 1 else ''}{' per seed' if len(predicted) > 1 else ''}"
        most = f"{classes[int(wrong.argmax())]} ({times})" if wrong.any() else ""
        correct = tuple(int(one[number, number]) for one in of_seeds)
        rows.append(ClassRow(classes[number], int(of_seeds[0][number].sum()), correct, most))
    return sorted(rows, key=lambda row: row.interval.value)


def balanced_accuracy(rows: Sequence[ClassRow]) -> Interval:
    """The mean of the accuracies of the classes: each counts alike, however many images it has.

    Its interval combines those of the classes, which have no image in common. Source: MOVER, Zou and Donner (2008),
    doi:10.1002/sim.3095.
    """
    k, intervals = len(rows), [row.interval for row in rows]
    value = sum(interval.value for interval in intervals) / k
    below = math.sqrt(sum((interval.value - interval.low) ** 2 for interval in intervals)) / k
    above = math.sqrt(sum((interval.high - interval.value) ** 2 for interval in intervals)) / k
    return Interval(value, max(0.0, value - below), min(100.0, value + above))


def balanced_of(right: np.ndarray, labels: np.ndarray) -> Interval:
    """The balanced accuracy of answers of which only is known whether they are right.

    Args:
        right: bool (S, N).
        labels: class numbers, (N,); classes without an image do not count.
    """
    numbers = np.unique(labels).tolist()
    of_classes = [right[:, labels == number] for number in numbers]
    return balanced_accuracy(
        [
            ClassRow(str(n), one.shape[1], tuple(one.sum(1).tolist()), "")
            for n, one in zip(numbers, of_classes, strict=True)
        ]
    )


def neglected_class(rows: Sequence[ClassRow]) -> ClassRow | None:
    """The least accurate class that a loss in which every class counts alike may help; None where there is none.

    Its accuracy is below half of the mean of the classes, and it has less than half of the images of the largest one.

    Args:
        rows: of all classes, the least accurate first.
    """
    mean, most = balanced_accuracy(rows).value, max(row.images for row in rows)
    return next((row for row in rows if row.interval.value < mean / 2 and row.images < most / 2), None)


def figures(rows: Sequence[ClassRow]) -> dict[str, Any]:
    """What result.json says about the classes: `balanced` with its interval, and `classes`, the least accurate first."""
    balanced = balanced_accuracy(rows)
    of_classes = [
        {
            "name": row.name,
            "images": row.images,
            "correct": list(row.correct),
            "accuracy": row.interval.value,
            "interval": [row.interval.low, row.interval.high],
        }
        for row in rows
    ]
    return {
        "balanced": {"accuracy": balanced.value, "interval": [balanced.low, balanced.high]},
        "classes": of_classes,
    }
