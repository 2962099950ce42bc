"""Evidence: intervals, comparison with random architectures, rankings and sample sizes, against direct computation."""

import math
import random
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from benchmarks.certificate import made_up_answers as answers
from trials.evidence.comparison import Comparison, compare_with_random, limiting_factor, verdict
from trials.evidence.intervals import Interval, accuracy_interval, accuracy_text, score_sd
from trials.evidence.ranking import LEAST, given_up, kendall, seed_ceiling, tau_difference, too_few
from trials.evidence.sample_sizes import disagreement, images_needed, seeds_needed, seeds_sd

# intervals of an accuracy


@pytest.mark.parametrize(("right", "images"), [(350, 359), (359, 359), (0, 5), (71, 100), (38_000, 50_000)])
def test_one_seed_has_wilsons_interval(right, images):
    interval = accuracy_interval([right], images)
    expected = stats.binomtest(right, images).proportion_ci(method="wilson")
    assert (interval.low, interval.high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-6)
    assert interval.value == 100 * right / images
    assert interval.low < interval.high
    assert interval.value in interval


def test_the_interval_by_hand():
    """350, 340 and 352 of 359: variances of images and seeds, Satterthwaite's degrees of freedom, Wilson's roots."""
    rates = [350 / 359, 340 / 359, 352 / 359]
    p = sum(rates) / 3
    images, seeds = p * (1 - p) / 359, sum((rate - p) ** 2 for rate in rates) / 2 / 3
    n = p * (1 - p) / (images + seeds)
    t = stats.t.ppf(0.975, (images + seeds) ** 2 / (seeds**2 / 2))
    roots = np.roots([1 + t * t / n, -(2 * p + t * t / n), p * p])  # |p - x| = t sqrt(x (1 - x) / n)
    interval = accuracy_interval([350, 340, 352], 359)
    assert sorted(100 * roots) == pytest.approx([interval.low, interval.high])


@pytest.mark.parametrize("rate", [0.5, 0.95])
def test_one_seed_covers_the_true_accuracy(rate):
    """Exactly, over all possible numbers of right answers."""
    covered = [right for right in range(360) if 100 * rate in accuracy_interval([right], 359)]
    assert stats.binom.pmf(covered, 359, rate).sum() == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("rate", [0.5, 0.95])
def test_three_seeds_cover_the_true_accuracy(rate):
    generator = np.random.default_rng(0)
    runs = [answers(generator, [rate], 3, 359, seed_sd=0.012)[0].sum(1) for _ in range(600)]
    covered = np.mean([100 * rate in accuracy_interval(right, 359) for right in runs])
    assert 0.94 <= covered <= 0.995


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_interval_has_width_0(seeds):
    perfect = accuracy_interval([359] * seeds, 359)
    assert (perfect.value, perfect.high) == (100, 100)
    assert 98 < perfect.low < 99.5
    assert accuracy_interval([349] * seeds, 359).low < 97  # seeds that agree do not make it narrow
    assert 0.1 < score_sd(100, 359) < 0.3
    assert str(Interval(71.234, 71.231, 71.238)) == "71.234 [71.231, 71.238]"


def test_the_form_of_an_accuracy():
    assert accuracy_text([350, 351], 359) == "97.63% [95.4, 98.8] (2 seeds, 359 images)"
    assert accuracy_text([1], 1) == "100.00% [20.7, 100.0] (1 seed, 1 image)"
    assert str(Interval(-0.001, -1.26, 1.24)) == "0.00 [-1.3, 1.2]"
    assert score_sd(90, 500) == pytest.approx(100 * math.sqrt(0.9 * 0.1 / 500), rel=0.01)


@pytest.mark.parametrize(("right", "images"), [([], 10), ([11], 10), ([-1], 10), ([0], 0)])
def test_impossible_answers_are_refused(right, images):
    with pytest.raises(ValueError, match="right answers"):
        accuracy_interval(right, images)


# the winner against random architectures


def test_the_comparison_by_hand():
    """Plain loops over a small table: each part of the uncertainty, and a bootstrap of images one by one."""
    table = answers(np.random.default_rng(1), [0.8, 0.7, 0.6, 0.75], 2, 60, seed_sd=0.05)
    winner, randoms = table[0], table[1:]
    found = compare_with_random(winner, randoms, draws=20_000)

    rates = [[sum(map(int, seed)) / 60 for seed in network] for network in table]
    means = [sum(network) / 2 for network in rates]
    average = sum(means[1:]) / 3
    assert found.difference.value == pytest.approx(100 * (means[0] - average))
    assert found.beaten == sum(mean < means[0] for mean in means[1:])

    of_seeds = sum((rate - mean) ** 2 for network, mean in zip(rates, means, strict=True) for rate in network) / 4
    of_architectures = sum((mean - average) ** 2 for mean in means[1:]) / 2
    each = [sum(map(int, winner[:, i])) / 2 - sum(map(int, randoms[:, :, i].flat)) / 6 for i in range(60)]
    pool = each * 2 + [1, -1, 0, 0]  # twice the table, so that half an image is a whole one
    generator, moved = random.Random(0), []
    for _ in range(4000):
        moved.append(sum(generator.choice(pool) for _ in range(62)) / 62)
    sds = found.uncertainty
    assert sds["seeds"] == pytest.approx(100 * math.sqrt(of_seeds / 2 + of_seeds / 6))
    assert sds["architectures"] == pytest.approx(100 * math.sqrt(of_architectures / 3))
    assert sds["images"] == pytest.approx(100 * np.std(moved), rel=0.05)

    # what the images explain of the other two, network by network and image by image
    by_image = {"seeds": 0.0, "architectures": 0.0}
    for network in table:
        for i in range(60):
            for s in range(2):
                expected = network[:, i].mean() + network[s].mean() - network.mean()
                by_image["seeds"] += (network[s, i] - expected) ** 2 / 59 / 4 / 60
    for i in range(60):
        for k in range(3):
            expected = randoms[:, :, i].mean() + randoms[k].mean() - randoms.mean()
            by_image["architectures"] += (randoms[k, :, i].mean() - expected) ** 2 / 59 / 2 / 60
    left = max(0, of_seeds - by_image["seeds"]) / 2 + max(0, of_architectures - by_image["architectures"]) / 3
    variance = left + np.var(moved)
    freedom = variance**2 / ((of_seeds / 2) ** 2 / 4 + (of_architectures / 3) ** 2 / 2)
    half = 100 * stats.t.ppf(0.975, max(2, freedom)) * math.sqrt(variance)
    assert (found.difference.high - found.difference.low) / 2 == pytest.approx(half, rel=0.06)


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("spread", [0.0, 0.005])
def test_equal_architectures_are_not_called_different(seeds, spread):
    """K = 8, N = 359; and where architectures differ a little, but the winner is exactly the average one."""
    generator = np.random.default_rng(seeds)
    called = 0
    for draw in range(200):
        rates = 0.97 + spread * generator.choice([-1, 1], 9)
        rates[0] = 0.97
        table = answers(generator, rates, seeds, 359, seed_sd=0.004)
        called += verdict(compare_with_random(table[0], table[1:], seed=draw, draws=500))[0] != "not distinguishable"
    assert called <= 10


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_a_planted_winner_is_found(seeds):
    table = answers(np.random.default_rng(0), [0.98] + [0.92, 0.9] * 4, seeds, 1500, seed_sd=0.004)
    found = compare_with_random(table[0], table[1:])
    assert 7 in found.difference
    assert (found.beaten, found.of) == (8, 8)
    assert found.blind == pytest.approx(1 / 9)
    code, sentence = verdict(found)
    assert code == "better"
    assert sentence.startswith(f"better than random by {found.difference.value:.2f} points [")
    assert sentence.endswith("it beats 8 of 8 random architectures, as a blind draw does in 11 % of cases")
    turned = compare_with_random(~table[0], ~table[1:])
    assert verdict(turned)[0] == "worse"
    assert verdict(turned)[1].startswith(f"worse than random by {found.difference.value:.2f} points [")


def test_the_interval_covers_the_true_difference():
    generator = np.random.default_rng(3)
    covered = 0
    for draw in range(200):
        rates = [0.93, *(0.9 + 0.01 * generator.standard_normal(8))]
        table = answers(generator, rates, 2, 359, seed_sd=0.01)
        covered += 3 in compare_with_random(table[0], table[1:], seed=draw, draws=500).difference
    assert 184 <= covered <= 199


def test_the_comparison_is_reproducible_and_paired():
    table = answers(np.random.default_rng(0), [0.9] * 9, 2, 359)
    first = compare_with_random(table[0], table[1:], seed=4)
    assert compare_with_random(table[0], table[1:], seed=4) == first
    other = compare_with_random(table[0], table[1:], seed=5)
    assert other != first
    assert other.difference.low == pytest.approx(first.difference.low, abs=0.2)
    order = np.random.default_rng(1).permutation(359)
    assert compare_with_random(table[0][:, order], table[1:][:, :, order], seed=4) == first
    apart = compare_with_random(table[0][:, order], table[1:], seed=4)  # unpaired answers say less
    assert apart.uncertainty["images"] > 1.2 * first.uncertainty["images"]


def test_networks_that_agree_on_all_images_have_an_interval():
    same = compare_with_random(np.ones((2, 359), bool), np.ones((8, 2, 359), bool))
    assert same.difference.value == 0
    assert -1 < same.difference.low < -0.3
    assert 0.3 < same.difference.high < 1
    assert same.beaten == 0


def test_few_random_architectures_leave_a_wide_interval():
    table = answers(np.random.default_rng(2), [0.95] + [0.9, 0.8] * 10, 2, 359, seed_sd=0.01)
    widths = [np.ptp([compare_with_random(table[0], table[1 : 1 + k]).difference.high, 0]) for k in (2, 6, 20)]
    assert widths == sorted(widths, reverse=True)
    alone = compare_with_random(table[0], table[1:2])
    assert (alone.difference.low, alone.difference.high) == (-math.inf, math.inf)
    assert limiting_factor(alone) == "architectures"
    assert verdict(alone)[1].endswith("one random architecture says nothing about the others")


def test_seeds_may_be_more_on_one_side():
    table = answers(np.random.default_rng(2), [0.9] * 9, 3, 359, seed_sd=0.01)
    for winner, randoms in ((table[0][:1], table[1:]), (table[0], table[1:, :1])):
        found = compare_with_random(winner, randoms)
        assert 0 in found.difference
        assert found.difference.high - found.difference.low < 15


@pytest.mark.parametrize("shapes", [((2, 9), (3, 2, 8)), ((9,), (3, 2, 9)), ((2, 9), (0, 2, 9)), ((0, 9), (3, 2, 9))])
def test_answers_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match="right answers of shapes"):
        compare_with_random(*(np.ones(shape, bool) for shape in shapes))


def test_the_limiting_factor():
    generator = np.random.default_rng(0)
    few_images = answers(generator, [0.9] * 21, 5, 50)
    noisy_seeds = answers(generator, [0.9] * 21, 2, 5000, seed_sd=0.04)
    two_architectures = answers(generator, [0.9, 0.8, 0.95], 3, 5000)
    factors = [
        limiting_factor(compare_with_random(table[0], table[1:]))
        for table in (few_images, noisy_seeds, two_architectures)
    ]
    assert factors == ["images", "seeds", "architectures"]


def test_the_sentence_where_nothing_can_be_told():
    comparison = Comparison(Interval(0.123, -0.94, 1.06), 5, 8, {"seeds": 1, "architectures": 1, "images": 1})
    expected = "not distinguishable from random (0.12 points [-0.9, 1.1]): it beats 5 of 8 random architectures"
    assert verdict(comparison) == ("not distinguishable", expected)


# rankings


def tau_b(x, y):
    """By its definition, over pairs."""
    signs = [(np.sign(a - b), np.sign(c - d)) for (a, c), (b, d) in combinations(zip(x, y, strict=True), 2)]
    tied = [sum(pair[side] != 0 for pair in signs) for side in (0, 1)]
    return sum(a * b for a, b in signs) / math.sqrt(tied[0] * tied[1])


def test_kendall():
    x, y = [1, 2, 2, 4, 5, 6, 7], [2, 1, 3, 3, 7, 5, 6]
    found = kendall(x, y)
    assert found.tau == pytest.approx(tau_b(x, y))
    half = 1.96 * math.sqrt(0.437 / 3)
    bounds = math.tanh(math.atanh(found.tau) - half), math.tanh(math.atanh(found.tau) + half)
    assert (found.low, found.high) == pytest.approx(bounds, abs=1e-4)


@pytest.mark.parametrize(("networks", "half"), [(10, 0.5), (40, 0.2)])
def test_kendall_at_a_true_0(networks, half):
    """The interval covers 0 for unrelated rankings, and is as wide as the documentation says."""
    generator = np.random.default_rng(0)
    found = [kendall(generator.random(networks), generator.random(networks)) for _ in range(400)]
    assert np.mean([tau.low <= 0 <= tau.high for tau in found]) == pytest.approx(0.95, abs=0.03)
    nearest = min(found, key=lambda tau: abs(tau.tau))
    assert nearest.high == pytest.approx(half, abs=0.05)


def test_kendall_where_little_can_be_said():
    assert kendall([1, 1, 1], [1, 2, 3]).tau is None
    assert (kendall([1], [1]).tau, kendall([], []).low) == (None, -1)
    for n in range(2, LEAST):
        found = kendall(range(n), range(n))
        assert (found.tau, found.low, found.high, found.needed) == (None, -1, 1, None)
        assert too_few(n) == f"too few networks ({n}) to rank; 5 are the fewest"
        assert seed_ceiling(np.array([range(n), range(n)], float).T) is None
    least = kendall(range(LEAST), range(LEAST))
    assert least.low > 0  # the fewest of which an interval can be without 0
    assert too_few(LEAST) == ""
    same = kendall(range(10), range(10))
    assert 0.8 < same.low < 0.97
    assert same.high == same.tau == pytest.approx(1)
    with pytest.raises(ValueError, match="to rank"):
        kendall([1, 2], [1])


def test_networks_needed_to_tell_a_tau_from_0():
    x = list(range(12))
    y = [2, 5, 0, 9, 1, 7, 4, 10, 3, 6, 11, 8]
    found = kendall(x, y)
    lower = [math.atanh(found.tau) - 1.959964 * math.sqrt(0.437 / (n - 4)) for n in (found.needed, found.needed - 1)]
    assert lower[0] >= 0 > lower[1]
    assert kendall([1, 2, 3, 4, 5], [3, 1, 5, 2, 4]).tau == pytest.approx(0.2)
    assert kendall([1, 2, 3, 4, 5, 6], [4, 1, 6, 3, 2, 5]).needed is not None
    assert kendall([1, 2, 3, 4, 5], [1, 4, 5, 3, 2]).needed is None  # tau is 0


def test_tau_difference():
    generator = np.random.default_rng(0)
    truth = generator.standard_normal(30)
    scores, other = truth + 0.3 * generator.standard_normal(30), generator.standard_normal(30)
    found = tau_difference(scores, other, truth, seed=1)
    assert found.value == pytest.approx(tau_b(scores, truth) - tau_b(other, truth))
    assert found == tau_difference(scores, other, truth, seed=1)
    assert found.low > 0
    resamples = []
    for _ in range(300):
        chosen = generator.integers(30, size=30)
        resamples.append(tau_b(scores[chosen], truth[chosen]) - tau_b(other[chosen], truth[chosen]))
    assert found.high - found.low == pytest.approx(np.ptp(np.quantile(resamples, [0.025, 0.975])), rel=0.2)


def test_tau_difference_where_little_can_be_said():
    assert tau_difference([1, 2, 3], [3, 1, 2], [1, 2, 3]) is None
    assert tau_difference([1, 1, 1, 1, 1], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) is None
    same = tau_difference(range(9), range(9), range(9))
    assert same.low < same.value == 0 < same.high


def test_seed_ceiling():
    accuracies = np.array([[1, 2, 5], [2, 1, 6], [3, 3, 7], [4, 4, 9], [5, 5, 8], [6, 7, 1]], float)
    taus = [tau_b(accuracies[:, one], accuracies[:, two]) for one, two in ((0, 1), (0, 2), (1, 2))]
    found = seed_ceiling(accuracies)
    assert found.tau == pytest.approx(sum(taus) / 3)
    assert found.n == 6
    assert seed_ceiling(accuracies[:, :1]) is None
    assert seed_ceiling(np.ones((5, 2))).tau is None


def test_given_up():
    assert given_up([70, 80, 75], [97, 96.5, 98]) == 1.5
    assert given_up([80, 80, 75], [97, 95, 98]) == 2
    assert given_up([1, 2, 3], [1, 2, 3]) == 0


# sample sizes


def test_seeds_sd():
    found, freedom = seeds_sd(np.array([[97, 98], [96, 94], [95, 95]], float))
    assert found == pytest.approx(math.sqrt((0.5 + 2 + 0) / 3))
    assert freedom == 3
    assert seeds_sd(np.ones((3, 1))) == (None, 0)


@pytest.mark.parametrize(("sd", "points"), [(0.4, 0.5), (0.8, 1.0), (0.3, 1.0)])
def test_seeds_needed_have_the_power(sd, points):
    seeds = seeds_needed(sd, points)
    generator = np.random.default_rng(0)

    def power(number):
        first, second = sd * generator.standard_normal((2, 4000, number))
        return (stats.ttest_ind(first + points, second, axis=1).pvalue < 0.05).mean()

    assert power(seeds) > 0.78
    assert seeds == 2 or power(seeds - 1) < 0.82
    assert seeds_needed(0, points) == 2


@pytest.mark.parametrize(("apart", "points"), [(4, 1.0), (10, 2.0)])
def test_images_needed_have_the_power(apart, points):
    images = images_needed(apart, points)
    generator = np.random.default_rng(0)
    better, worse, _ = generator.multinomial(
        images, [(apart + points) / 200, (apart - points) / 200, 1 - apart / 100], 4000
    ).T
    power = (np.abs(better - worse) / np.sqrt(better + worse) > 1.96).mean()
    assert power == pytest.approx(0.8, abs=0.03)
    assert images_needed(0, points) == images_needed(points, points)


def test_disagreement():
    winner = np.array([[True, True, False, False]])
    randoms = np.array([[[True, False, False, True]], [[True, True, False, False]]])
    assert disagreement(winner, randoms) == 25
