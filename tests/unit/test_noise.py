"""The noise of scores: which architectures cannot be told apart from the best."""

import json

import numpy as np
import pytest

from trials.scoring import noise

IMAGES = 359


def record(right: np.ndarray, *, answers: bool = True) -> dict:
    """A score with these answers; without them as an older version wrote it, with the number of images in its settings."""
    kept = {"scoring_images": len(right), "right": noise.pack_answers(right)} if answers else {}
    settings = {"calibration_images": 2560, "scoring_images": 0}
    return json.loads(json.dumps({"top1": 100 * float(right.mean()), "settings": settings, **kept}))


def draw(accuracies: list[float], generator: np.random.Generator, shared: float = 0.9) -> list[np.ndarray]:
    """Answers of architectures that find the same images hard: an image has one difficulty for all of them in most cases."""
    hard = generator.random(IMAGES)
    own = generator.random((len(accuracies), IMAGES))
    alike = generator.random((len(accuracies), IMAGES)) < shared
    return [np.where(a, hard, o) < p for a, o, p in zip(alike, own, accuracies, strict=True)]


def test_answers_survive_the_file():
    generator = np.random.default_rng(0)
    for images in (1, 7, 8, 359):
        right = generator.random(images) < 0.7
        again = noise.unpack_answers(record(right))
        assert again.dtype == bool
        assert np.array_equal(again, [right])
        several = np.stack([right, ~right, right])
        answers = {"scoring_images": images, "right": noise.pack_answers(several), "supernets": [{}] * 3}
        assert np.array_equal(noise.unpack_answers(answers), several)
        assert noise.unpack_answers(answers | {"supernets": [{}] * 30}) is None
    broken = record(right) | {"right": "no base64!"}
    assert noise.unpack_answers(broken) is None
    assert noise.unpack_answers(record(right) | {"scoring_images": 400}) is None
    assert noise.unpack_answers(record(right, answers=False)) is None


def test_equal_architectures_hold_the_best_one():
    """Of 30 equal ones, one that was named beforehand is told apart in at most 5 % of 200 draws."""
    generator = np.random.default_rng(1)
    missed = 0
    for _ in range(200):
        results = [record(right) for right in draw([0.9] * 30, generator)]
        missed += not noise.like_the_best(results)[7]
    assert missed <= 10


def test_a_planted_best_one_is_marked_and_bad_ones_are_told_apart():
    generator = np.random.default_rng(2)
    kept, told = 0, 0
    for _ in range(50):
        alike = noise.like_the_best([record(right) for right in draw([0.93, *[0.7] * 20], generator)])
        kept, told = kept + alike[0], told + alike[1:].count(False)
    assert kept == 50
    assert told > 0.95 * 50 * 20


def test_pairs_of_answers_see_more_than_shares():
    """20 images that the best alone has right: McNemar's p is 2 ** -20; as independent shares they are within the noise."""
    best = np.arange(IMAGES) < 330
    other = np.arange(IMAGES) < 310
    assert noise.like_the_best([record(best), record(other)]) == [True, False]
    half = [record(best), record(other) | {"right": None}]  # one score came from another machine
    assert noise.like_the_best(half) == [True, False]  # 5.6 points are 2.6 standard deviations
    others = [record(other) | {"right": None} for _ in range(9)]
    assert noise.like_the_best([record(best), *others]) == [True] * 10  # but not the largest of ten
    assert noise.like_the_best([record(best), *[record(other)] * 9]) == [True] + [False] * 9


def test_scores_of_older_versions(tmp_path):
    right = np.arange(IMAGES) < 350
    old = record(right, answers=False)
    assert noise.scoring_images(old) is None
    assert noise.short_score_text(old) == "97.49 +- ?"
    assert noise.like_the_best([old, record(np.arange(IMAGES) < 9, answers=False)]) == [True, True]
    (tmp_path / "cache").mkdir()
    np.save(tmp_path / "cache" / "labels-2560-0.npy", np.zeros(IMAGES, np.int64))
    assert noise.scoring_images(old, tmp_path) == IMAGES
    assert noise.score_text(old, tmp_path) == "97.49% [95.3, 98.7] (1 seed, 359 images)"
    assert noise.like_the_best([old, record(np.arange(IMAGES) < 9, answers=False)], tmp_path) == [True, False]


@pytest.mark.parametrize("correct", [0, 1, 180, 358, 359])
def test_no_score_is_without_noise(correct):
    text = noise.short_score_text(record(np.arange(IMAGES) < correct))
    assert float(text.split(" +- ")[1]) > 0
