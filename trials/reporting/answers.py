"""What a network answered to each test image: confusions and wrong answers; evidence/classes.py has the accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from trials.evidence.classes import ClassRow, class_rows, confusion_of
from trials.networks import answers as stored

MOST_CLASSES = 24  # so many rows and columns of a confusion matrix can still be read
MOST_ROWS = 20  # of the other tables


@dataclass(frozen=True)
class Answers:
    """The answers of all seeds of a network to the N test images; S seeds, K classes.

    Attributes:
        labels: class numbers, (N,).
        predicted: class numbers, (S, N).
        classes: names of the classes, (K,).
    """

    labels: np.ndarray
    predicted: np.ndarray
    classes: Sequence[str]

    @property
    def confusion(self) -> np.ndarray:
        """How often images of a class (row) got an answer (column), over all seeds; (K, K)."""
        return confusion_of(self.labels, self.predicted, len(self.classes))

    @property
    def rows(self) -> list[ClassRow]:
        """One row for each class that has test images, the least accurate first."""
        return class_rows(self.labels, self.predicted, self.classes)


def read_answers(folder: Path, classes: Sequence[str] | None = None) -> Answers | None:
    """Read seedK/answers.npz of a run of trials.retrain.

    Args:
        classes: names of the classes; None numbers them.
    Returns:
        None where there are no answers, as in runs of older versions, or where they do not belong together.
    Raises:
        InputError: a file of answers is damaged.
    """
    labels: np.ndarray | None = None
    predicted = []
    for path in sorted(folder.glob(f"seed*/{stored.FILE}"), key=lambda path: int(path.parent.name[4:])):
        content = stored.Answers.load(path)
        if labels is not None and not np.array_equal(labels, content.labels):
            return None
        labels = content.labels
        predicted.append(content.predicted)
    if labels is None or not len(labels):
        return None
    stacked = np.stack(predicted)
    highest = int(max(labels.max(), stacked.max())) + 1
    if classes is None or len(classes) < highest:
        classes = [str(number) for number in range(highest)]
    return Answers(labels, stacked, classes)


def frequent_confusions(answers: Answers) -> list[tuple[str, str, int]]:
    """The pairs of classes that are mistaken most often: true class, answer, how often over all seeds."""
    confusion = answers.confusion.copy()
    np.fill_diagonal(confusion, 0)
    order = np.argsort(-confusion, axis=None, kind="stable")[:MOST_ROWS]
    pairs = [divmod(int(position), len(answers.classes)) for position in order]
    return [
        (answers.classes[true], answers.classes[said], int(confusion[true, said]))
        for true, said in pairs
        if confusion[true, said]
    ]


def hardest_images(answers: Answers, most: int) -> list[tuple[int, int, str, str]]:
    """The images that most seeds get wrong, of all classes in turn, so that no class fills the places of the others.

    Returns:
        For at most `most` of them: position in the test part, number of seeds that are wrong, true class, the first wrong answer.
        Class by class, the least accurate class first; within a class those that most seeds get wrong first.
    """
    wrong = answers.predicted != answers.labels
    times = wrong.sum(axis=0)
    labels = answers.labels.tolist()
    by_accuracy = sorted(set(labels), key=lambda label: (-times[answers.labels == label].mean(), label))
    of_class: dict[int, list[int]] = {label: [] for label in by_accuracy}
    for position in np.argsort(-times, kind="stable")[: int((times > 0).sum())].tolist():
        of_class[labels[position]].append(position)
    # the first of each class, then the second of each, until `most` are chosen
    turns = [position for turn in zip_longest(*of_class.values()) for position in turn if position is not None]
    chosen = set(turns[:most])
    found = []
    for position in (position for positions in of_class.values() for position in positions if position in chosen):
        said = answers.predicted[int(wrong[:, position].argmax()), position]
        found.append((position, int(times[position]), answers.classes[labels[position]], answers.classes[said]))
    return found
