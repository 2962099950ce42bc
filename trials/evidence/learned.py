"""Whether networks have learned enough to be worth a comparison: more than chance, and what needs no deep learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trials.evidence.intervals import Interval, accuracy_interval

LEAST_ABOVE_CHANCE = 0.1  # of the way from chance to 100 %


def above_chance(interval: Interval, chance: float) -> bool:
    """Whether an accuracy is above that of always the same class, beyond noise and by a tenth of the way to 100 %.

    Args:
        interval: of the accuracy.
        chance: that of always the same class, in percent: the share of the most frequent one, or, of a balanced accuracy,
            one in the number of classes.
    """
    return interval.low > chance and interval.value - chance >= LEAST_ABOVE_CHANCE * (100 - chance)


def is_below(accuracy: Interval, floor: Mapping[str, Any]) -> bool:
    """Whether a method without deep learning beats a network, beyond noise.

    Args:
        accuracy: the test accuracy of the network, with its interval.
        floor: what `trials.evidence.floor` measured on the same test part.
    """
    return _of_images(accuracy, floor).high < floor["top1"]


def not_above(accuracy: Interval, floor: Mapping[str, Any]) -> bool:
    """Whether a network's accuracy is no higher than what needs no deep learning, and noise hides which of the two is better.

    Args:
        accuracy, floor: as for `is_below`, which says what noise does not hide.
    """
    return accuracy.value <= floor["top1"] and not is_below(accuracy, floor)


def clearly_above(accuracy: Interval, floor: Mapping[str, Any]) -> bool:
    """Whether a network beats what needs no deep learning, beyond noise; arguments as for `is_below`."""
    return _of_images(accuracy, floor).low > floor["top1"]


def not_above_text(what: str, accuracy: Interval, floor: Mapping[str, Any]) -> str:
    """The sentence that says so, without a full stop; "" for a network that is above the floor, or below it beyond noise.

    Args:
        what: the network, as the sentence begins.
        accuracy, floor: as for `is_below`.
    """
    if not not_above(accuracy, floor):
        return ""
    return (
        f"{what} is not above the floor: {accuracy.value:.2f}% beside {floor['top1']:.2f}% ({floor['name']}); "
        "so few test images cannot tell which is better"
    )


def learned_nothing(
    accuracies: Sequence[Interval], floor: Mapping[str, Any], balanced: Sequence[Interval] = (), classes: int = 2
) -> str:
    """What must be said first of networks of which none has learned enough for a comparison; "" where one has.

    Args:
        accuracies: test accuracies of all of them, with their intervals.
        floor: as for `is_below`.
        balanced: balanced accuracies of all of them; where classes are of unequal size, and above all where a loss lets them
            count alike, a network that knows much can be right less often than always the same class is.
        classes: how many have test images.
    """
    which = f"none of these {len(accuracies)} networks"
    if all(is_below(accuracy, floor) for accuracy in accuracies):
        return f"{which} reaches what needs no deep learning ({floor['name']}: {floor['top1']:.1f}%)"
    same = floor.get("majority")
    knows = any(above_chance(accuracy, 100 / classes) for accuracy in balanced)
    if (
        same
        and not knows
        and not any(above_chance(_of_images(accuracy, floor), same["top1"]) for accuracy in accuracies)
    ):
        return f"{which} knows more than always answering '{same['class']}' does ({same['top1']:.1f}%)"
    return ""


def _of_images(accuracy: Interval, floor: Mapping[str, Any]) -> Interval:
    """An accuracy with the interval that its images alone leave.

    Few seeds that differ have a wide interval; whether such networks are good enough is a matter of the images alone.
    """
    images = floor.get("test_images")
    return accuracy_interval([round(accuracy.value * images / 100)], images) if images else accuracy
