"""What the size of the test part and the seeds leave open about an accuracy, and the one form in which it is shown.

All accuracies are in percent, and all intervals are of 95 %. S seeds, N test images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

TAIL = 0.975  # 2.5 % on either side
NORMAL = 1.959964  # the normal quantile of it


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval, in percent or points."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Such as `97.63 [95.9, 98.6]`; narrow intervals get as many decimals as their bounds need to differ."""
        low, high, digits = self.low, self.high, 1
        while digits < 6 and 0 < high - low < 5 * 10**-digits:
            digits += 1
        return f"{_plain(self.value, max(2, digits))} [{_plain(low, digits)}, {_plain(high, digits)}]"

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def accuracy_interval(correct: Sequence[int], images: int) -> Interval:
    """The test accuracy of an architecture with its 95 % interval: of the size of the test part, and of the seeds.

    Wilson's interval, with the number of images that alone would give the variance p (1 - p) / N + s^2 / S, where s is
    the standard deviation over the seeds. The quantile is Student's, with Satterthwaite's degrees of freedom. With one
    seed the noise of training is unknown and is left out: the interval is then of this trained network, not of its
    architecture. The seeds answer the same images, so the first term is not divided by S; where their errors differ,
    s contains a part of it once more, and the interval is rather too wide than too narrow.

    Args:
        correct: right answers of each seed, (S,).
        images: test images N, the same for each seed.

    Returns:
        Mean accuracy and interval in percent, within 0 to 100 and never of width 0.

    Raises:
        ValueError: no seed, no image, or more right answers than images.

    Source: Wilson (1927), doi:10.1080/01621459.1927.10502953; Satterthwaite (1946), doi:10.2307/3002019.
    """
    counts = [int(number) for number in correct]
    if not counts or images < 1 or min(counts) < 0 or max(counts) > images:
        raise ValueError(f"right answers {counts} of {images} images; give one number from 0 to {images} for each seed")
    seeds = len(counts)
    share = sum(counts) / seeds / images
    of_images = share * (1 - share) / images
    of_seeds = sum((number / images - share) ** 2 for number in counts) / max(seeds - 1, 1) / seeds
    both = of_images + of_seeds
    effective = share * (1 - share) / both if both else float(images)
    quantile = student((seeds - 1) * (both / of_seeds) ** 2 if of_seeds else math.inf)
    shrink = 1 + quantile**2 / effective
    middle = (share + quantile**2 / effective / 2) / shrink
    half = quantile * math.sqrt(share * (1 - share) / effective + (quantile / effective) ** 2 / 4) / shrink
    # at 0 and 100 % one bound is the value itself, which rounding must not pass
    return Interval(100 * share, 100 * max(0.0, min(middle - half, share)), 100 * min(1.0, max(middle + half, share)))


def loss_interval(lost: int, gained: int, images: int) -> Interval:
    """What one network loses against another on the same images, in points, with its 95 % interval.

    Args:
        lost, gained: images that only the first, and only the second has right.
        images: number of images.
    Returns:
        Such as `1.12 [-1.9, 4.2]` for one image of 89; negative where the second is better.
    Raises:
        ValueError: no images, or more lost and gained than there are.

    Source: Agresti and Min (2005), doi:10.1002/sim.1781: Wald's interval of paired proportions with half an image added to
    each of the four pairs of answers.
    """
    if images < 1 or min(lost, gained) < 0 or lost + gained > images:
        raise ValueError(f"{lost} lost and {gained} gained of {images} images")
    whole = images + 2
    middle = (lost - gained) / whole
    half = NORMAL * math.sqrt(max(0.0, (lost + gained + 1) / whole - middle**2) / whole)
    return Interval(100 * (lost - gained) / images, 100 * (middle - half), 100 * (middle + half))


def accuracy_text(correct: Sequence[int], images: int) -> str:
    """The one form in which an accuracy is shown: `97.63% [95.9, 98.6] (2 seeds, 359 images)`."""
    seeds = f"{len(correct)} seed" + "s" * (len(correct) != 1)
    return f"{percent(accuracy_interval(correct, images))} ({seeds}, {images:,} image{'s' * (images != 1)})"


def percent(interval: Interval) -> str:
    """An accuracy with its interval: `97.63% [95.9, 98.6]`."""
    value, bounds = str(interval).split(" ", 1)
    return f"{value}% {bounds}"


def score_sd(top1_percent: float, images: int) -> float:
    """The standard deviation in points that a score has from its number of scoring images; never 0.

    That of the Beta distribution with half an answer added on either side (Jeffreys), which differs from
    sqrt(p (1 - p) / N) near 0 and 100 % alone. Source: Brown, Cai, DasGupta (2001), doi:10.1214/ss/1009213286.
    """
    if images < 1 or not 0 <= top1_percent <= 100:
        raise ValueError(f"a score of {top1_percent} % on {images} images; give 0 to 100 % and at least 1 image")
    share = (top1_percent / 100 * images + 0.5) / (images + 1)
    return 100 * math.sqrt(share * (1 - share) / (images + 2))


def student(freedom: float) -> float:
    """Student's two-sided 5 % quantile; 1.96 for infinitely many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, TAIL))


def _plain(number: float, digits: int) -> str:
    """Rounded, and without a minus before zero."""
    return f"{round(number, digits) + 0.0:.{digits}f}"
