"""The noise of scores: how much of it the number of scoring images leaves, and which architectures it hides from each other.

All architectures are scored on the same images, and which of them each has right is kept with its score. So two scores are
compared image by image (McNemar's test), which sees smaller differences than the two accuracies alone do.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trials.common import cli, run_files
from trials.evidence.intervals import Interval, accuracy_interval, accuracy_text, score_sd
from trials.scoring.score_value import score_value

TOP = 4  # the best of a search that are trained briefly and chosen among by held-out images, beside as many random ones
LEVEL = 0.05  # probability with which the truly best architecture is not among those that are marked


def top_command(run: Path, count: int) -> str:
    """The command that chooses by short trainings where scores cannot.

    Args:
        run: of the supernet.
        count: architectures that come into question; at most TOP of them are taken.
    """
    return cli.command("retrain", "--supernet", run, "--top", min(TOP, count), "--top-random", TOP)


def pack_answers(right: np.ndarray) -> str:
    """Whether each image is right, bool of any shape, as text for JSON: 8 answers in a byte, in base64."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpack_answers(record: Mapping[str, Any]) -> np.ndarray | None:
    """Whether each supernet has each scoring image right, bool (supernets, n).

    Args:
        record: a score, see `ScoreStore.record`.
    Returns:
        None where the record does not say: it is of an older version, or came back from another machine through NNI.
    """
    text, images = record.get("right"), record.get("scoring_images")
    if not text or not images:
        return None
    try:
        packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except binascii.Error:
        return None
    supernets = len(record.get("supernets", [None]))
    answers = supernets * images
    if len(packed) != -(-answers // 8):
        return None
    return np.unpackbits(packed, count=answers).astype(bool).reshape(supernets, images)


def scoring_images(record: Mapping[str, Any], run: Path | None = None) -> int | None:
    """The number of images that a score was measured on.

    Args:
        record: a score; those of older versions do not say it.
        run: the run that keeps it, whose cached labels are counted then.
    Returns:
        None where it cannot be found.
    """
    if record.get("scoring_images"):
        return int(record["scoring_images"])
    settings = record.get("settings", {})
    if run is not None and {"calibration_images", "scoring_images"} <= settings.keys():
        labels = run / "cache" / f"labels-{settings['calibration_images']}-{settings['scoring_images']}.npy"
        if labels.exists():
            return len(run_files.read_array(labels, "cached labels", "r"))
    return None


def percent_text(percent: float, images: int) -> str:
    """An accuracy on so many images in the form in which accuracies are shown; 0: their number is not known."""
    if not images:
        return f"{percent:.2f}% (number of images not known)"
    return accuracy_text([round(percent * images / 100)], images)


def score_interval(record: Mapping[str, Any], run: Path | None = None) -> Interval | None:
    """A score with its 95 % interval, percent; None where the number of its images is not known."""
    images = scoring_images(record, run)
    return accuracy_interval([round(record["top1"] * images / 100)], images) if images else None


def score_text(record: Mapping[str, Any], run: Path | None = None) -> str:
    """A score in the form in which accuracies are shown."""
    return percent_text(record["top1"], scoring_images(record, run) or 0)


def short_score_text(record: Mapping[str, Any], run: Path | None = None) -> str:
    """A score with its standard deviation in points, such as `97.49 +- 0.83`, for tables."""
    return _with_deviation(record["top1"], scoring_images(record, run))


def short_before_text(record: Mapping[str, Any], run: Path | None = None) -> str:
    """Likewise the accuracy before recalibration, which was measured on the first batch alone."""
    images = scoring_images(record, run)
    first = min(images, record["settings"]["batch_size"]) if images else None
    return _with_deviation(record["top1_before_recalibration"], first)


def _with_deviation(percent: float, images: int | None) -> str:
    return f"{percent:.2f} +- " + (f"{score_sd(percent, images):.2g}" if images else "?")


def like_the_best(results: Sequence[Mapping[str, Any]], run: Path | None = None, score_by: str = "top1") -> list[bool]:
    """Which architectures cannot be told apart from the best one by their answers.

    An architecture is told apart if it is worse than the best of the search by a one-sided test at the level 5 % / (K - 1).
    The best was the highest of K noisy scores, so each of the others must be allowed for (Bonferroni): the truly best
    one, that with the highest accuracy on endlessly many images, is marked with a probability of at least 95 %.

    The test is McNemar's exact one, where it is known which images both have right; the t-test of the images' differences where
    the score is a mean of several supernets, whose answers to one image are not independent. Else it is that of two independent
    shares, which is wider, because answers to the same images agree more often than by chance. Where even the number of
    images is not known, nothing is told apart.

    Args:
        results: K scores of one supernet with the same settings.
        run: the run that keeps them.
        score_by: what chose the best one, see `score_value`; the tests are those of top-1 in any case.
    Returns:
        One bool for each; the best itself is marked.
    Source: McNemar (1947), doi:10.1007/BF02295996; Hsu (1984), Annals of Statistics 12:1136, for comparisons with the best.
    """
    if not results:
        return []
    best = max(results, key=lambda result: score_value(result, score_by))
    level = LEVEL / max(1, len(results) - 1)
    answers = unpack_answers(best)
    return [result is best or not _is_worse(result, best, answers, level, run) for result in results]


def _is_worse(
    result: Mapping[str, Any], best: Mapping[str, Any], best_answers: np.ndarray | None, level: float, run: Path | None
) -> bool:
    """Whether a score is below the best one by more than noise, at this one-sided level."""
    from scipy.stats import binomtest, norm, ttest_1samp

    answers = unpack_answers(result) if best_answers is not None else None
    if answers is not None and best_answers is not None and answers.shape == best_answers.shape:
        if len(answers) > 1:
            differences = best_answers.mean(0) - answers.mean(0)
            return bool(differences.any() and ttest_1samp(differences, 0, alternative="greater").pvalue < level)
        lost, won = int((best_answers & ~answers).sum()), int((answers & ~best_answers).sum())
        return lost > won and bool(binomtest(lost, lost + won, alternative="greater").pvalue < level)
    images, images_of_best = scoring_images(result, run), scoring_images(best, run)
    if images is None or images_of_best is None:
        return False
    noise = math.hypot(score_sd(result["top1"], images), score_sd(best["top1"], images_of_best))
    return bool(norm.sf((best["top1"] - result["top1"]) / noise) < level)
