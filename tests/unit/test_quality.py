"""The quality measurement: its pairs, its units and its statistics, against direct computation and made-up results."""

import dataclasses
import itertools
import json
import statistics

import numpy as np
import pytest
from scipy.stats import kendalltau

from benchmarks.quality.__main__ import RESULTS
from benchmarks.quality.carry_out import carry_out
from benchmarks.quality.evidence import against_random, difference_of_taus, foretold, picked, ranking, spread
from benchmarks.quality.pairs import BASELINE_RATES, PAIRS, Pair
from benchmarks.quality.rankings import differences_table
from benchmarks.quality.shapes import centre, centre_of
from benchmarks.quality.tables import Measured
from benchmarks.quality.units import LOCK, Plan, Unit, baseline_units, found_by, missing, result_of
from spaces.arch import arch_id
from spaces.errors import InputError
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from trials.common.locks import exclusive
from trials.scoring.noise import pack_answers, unpack_answers

PAIR = Pair("fbnet-test", "fbnet", "", "digits", 16, 690_000, 1, 64, 0.2, 3)
PLAN = Plan(pool=4, seeds=2, evaluations=3, supernets=("uniform",), learners=("gumbel", "threshold"))


def store(results, unit, **content):
    path = results / unit.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"training": unit.training, "seed": unit.seed, **content}))


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_limits_are_low_and_the_networks_of_a_pool_lie_in_the_band_below_them(pair):
    table = pair.table()
    drawn = FeasibleSpace(table, Limits()).sample_many(4000, np.random.default_rng(0))
    share = float((FeasibleSpace(table, Limits()).costs(drawn)[0] <= pair.max_macs).mean())
    assert 0.10 <= share <= 0.25
    pool = pair.random_archs(30)
    assert len({arch_id(table.canonical(arch)) for arch in pool}) == 30
    assert all(0.9 * pair.max_macs <= table.macs(arch) <= pair.max_macs for arch in pool)
    assert pool[:5] == pair.random_archs(5)
    cheapest, most = pair.extremes().values()
    assert table.macs(cheapest) == table.bounds().min_macs
    assert 0.99 * pair.max_macs <= table.macs(most) <= pair.max_macs


@pytest.mark.parametrize("pair", [pair for pair in PAIRS.values() if pair.learned_centre], ids=str)
def test_random_architectures_of_the_learned_shape_lie_in_the_band_and_as_early(pair):
    table, archs = pair.table(), pair.shaped_archs(6)
    assert len({arch_id(table.canonical(arch)) for arch in archs}) == 6
    assert archs[:2] == pair.shaped_archs(2)
    for arch in archs:
        assert 0.9 * pair.max_macs <= table.macs(arch) <= pair.max_macs
        assert abs(centre_of(table, arch) - pair.learned_centre) <= 0.4
    # earlier than random ones, and no more alike among themselves than these
    assert centre_of(table, archs[0]) < min(centre_of(table, arch) for arch in pair.random_archs(30))
    same = [
        [statistics.mean(a[label] == b[label] for label in a) for a, b in itertools.combinations(drawn, 2)]
        for drawn in (archs, pair.random_archs(6))
    ]
    assert statistics.mean(same[0]) < statistics.mean(same[1]) + 0.15


def test_the_centre_is_where_the_macs_lie():
    assert centre(np.array([1.0, 0.0, 1.0])) == 1
    assert centre(np.array([3.0, 1.0])) == 0.25


def test_what_is_measured_is_not_measured_again_and_winners_follow_their_searches(tmp_path):
    units = missing([PAIR], PLAN, tmp_path)
    # four random architectures, a supernet, a learned one (thresholds are of superkernels), two extremes; two seeds each
    assert len(units) == 2 * (4 + 1 + 1 + 2)
    assert [unit.kind for unit in units[:6]] == ["networks"] * 4 + ["supernets", "learned"]
    pool = PAIR.random_archs(6)
    store(tmp_path, units[0])
    searches = {"evolution": {"arch": pool[4]}, "guided": {"arch": pool[0]}}
    store(tmp_path, units[4], searches=searches)
    left = missing([PAIR], PLAN, tmp_path)
    new = {str(unit.path) for unit in left} - {str(unit.path) for unit in units}
    assert new == {f"fbnet-test/networks/{arch_id(pool[4])}-seed{seed}.json" for seed in (0, 1)}
    assert len(left) == len(units) - 2 + 2
    assert found_by({"arch": pool[0]}) == {"learned": pool[0]}


def test_units_of_other_trainings_are_refused(tmp_path):
    network, supernet = Unit(PAIR, "networks", "cheapest", 0), Unit(PAIR, "supernets", "uniform", 0)
    store(tmp_path, network)
    store(tmp_path, supernet)
    assert result_of(network, tmp_path)["seed"] == 0
    longer = dataclasses.replace(PAIR, epochs=2)
    with pytest.raises(InputError, match="move it away to measure anew"):
        result_of(dataclasses.replace(network, pair=longer), tmp_path)
    assert result_of(dataclasses.replace(supernet, pair=longer), tmp_path)["seed"] == 0  # supernets are as they were


def test_spread_separates_architectures_from_seeds_and_noise():
    generator = np.random.default_rng(0)
    of_seeds = np.array([-1.0, 0.0, 1.0])
    top1 = 90 + generator.normal(0, 1.5, (400, 1)) + of_seeds + generator.normal(0, 0.5, (400, 3))
    found = spread(top1)
    assert found.architectures == pytest.approx(1.5, rel=0.1)
    assert found.seeds == pytest.approx(1.0, rel=0.1)
    assert found.noise == pytest.approx(0.5, rel=0.1)
    assert spread(np.array([[1.0, 2.0], [2.0, 1.0]])).architectures == 0


def test_ranking_averages_the_seeds_and_compares_with_macs():
    accuracy = np.arange(30.0)
    alternating = np.tile([0.0, 1.0], 15)  # of MACs: says nothing
    found = ranking(np.stack([accuracy, -accuracy]), alternating, accuracy, draws=200)
    assert found.tau.value == pytest.approx(0)
    found = ranking(np.stack([accuracy, accuracy]), alternating, accuracy, draws=200)
    assert found.tau.value == pytest.approx(1)
    assert abs(found.by_macs.value) < 0.1
    assert found.difference.value == pytest.approx(1 - found.by_macs.value)
    assert found.difference.low > 0.5
    generator = np.random.default_rng(0)
    score, macs = generator.normal(size=30), generator.normal(size=30)
    found = ranking(score[None], macs * 7, score / score.std() + macs / macs.std(), draws=200)
    assert found.both.value == pytest.approx(1)
    assert found.gain.value == pytest.approx(1 - found.by_macs.value)
    assert found.gain.low > 0


def test_one_supernet_is_compared_with_another_on_the_same_architectures():
    accuracy = np.arange(30.0)
    right, wrong = np.stack([accuracy, accuracy + 1]), -accuracy[None]
    found = difference_of_taus(right, wrong, accuracy, draws=100)
    assert found.value == pytest.approx(2)
    assert found.low == pytest.approx(2)
    noise = np.random.default_rng(0).normal(size=(6, 30))
    found = difference_of_taus(noise[:3], noise[3:], accuracy, draws=400)
    assert found.value == pytest.approx(
        statistics.mean(kendalltau(row, accuracy).statistic for row in noise[:3])
        - statistics.mean(kendalltau(row, accuracy).statistic for row in noise[3:])
    )
    assert found.low < 0 < found.high


def test_the_committed_supernets_of_strict_fairness_are_set_against_those_of_uniform_sampling():
    plan = Plan(seeds=3, supernets=("strict-fair", "uniform-short", "uniform"), learners=())
    measured = Measured(PAIRS["spos-fashion"], plan, RESULTS)
    table = differences_table([measured])
    rows = [line.split() for line in table.splitlines() if line.startswith("spos-fashion")]
    assert [row[1:3] for row in rows] == [["strict-fair", "uniform-short"], ["strict-fair", "uniform"]]
    fair, short, uniform = (
        statistics.mean(
            kendalltau([result["scores"][name]["top1"] for name in measured.randoms], measured.random_means()).statistic
            for result in measured.searches["supernets", name]
        )
        for name in plan.supernets
    )
    assert f" {fair - short:.2f} [" in table
    assert f" {fair - uniform:.2f} [" in table


def test_a_winner_above_all_random_ones_is_significant_with_three_seeds():
    randoms = np.linspace(80, 82, 30)
    found = against_random([83.0, 83.1, 82.9], randoms)
    assert found.difference.value == pytest.approx(2.0)
    assert found.difference.low > 1.5
    assert found.percentile == 100
    assert found.p < 0.001
    same = against_random([80.5, 81.0, 81.5], randoms)
    assert same.p > 0.3
    assert same.difference.low < 0 < same.difference.high


def test_committed_results_agree_with_their_spaces_and_with_themselves():
    for path in sorted(RESULTS.glob("*/networks/*.json")):
        result = json.loads(path.read_text())
        pair = PAIRS[path.parent.parent.name]
        rate = (
            {"lr": result["training"]["lr"]} if result["arch"] is None else {}
        )  # a model of timm gets the best of several
        assert result["training"] == pair.training("networks") | rate, path
        assert path.name == f"{result['name']}-seed{result['seed']}.json"
        if "diverged" in result:
            continue
        right = unpack_answers({"right": result["right"], "scoring_images": result["test_images"]})
        assert right.sum() == round(result["test_top1"] * result["test_images"] / 100), path
        if result["arch"]:
            assert arch_id(result["arch"]) == result["name"], path
            assert pair.table().macs(result["arch"]) == result["macs"], path
            assert pair.table().params(result["arch"]) == result["params"], path


def test_a_network_has_one_answer_to_each_test_image():
    measured = Measured(PAIRS["spos-fashion"], Plan(), RESULTS)
    assert len(measured.right) > 30
    assert {right.shape for right in measured.right.values()} == {(10_000,)}
    for name, right in measured.right.items():
        assert 100 * right.mean() == pytest.approx(measured.networks[name][0]), name


def test_short_trainings_foretell_long_ones_as_far_as_they_agree():
    """Networks that answer each image rightly with a probability of their own; short trainings with the same, or with others."""
    generator = np.random.default_rng(0)
    quality = np.linspace(0.7, 0.9, 20)
    answers = [generator.random((20, 4000)) < quality[:, None] for _ in range(2)]
    same = foretold(*answers, images=2000, draws=200)
    assert same.tau.tau > 0.9
    # the best of 8 among 20 of 70 to 90 %: the expected largest of 8 ranks of 20, less the mean of the others
    expected = 100 * (0.7 + 0.2 * ((20 + 1) * 8 / 9 - 1) / 19)
    assert same.gain == pytest.approx((expected - 80) * 20 / 19, abs=1)
    assert same.ahead > 0.9
    turned = foretold(answers[0][::-1], answers[1], images=2000, draws=200)
    assert turned.tau.tau < -0.9
    assert turned.gain == pytest.approx(-same.gain, abs=1)
    assert turned.ahead < 0.1


def test_a_strategy_that_knows_the_answer_picks_above_random_and_one_that_does_not_picks_as_random():
    generator = np.random.default_rng(0)
    quality = np.linspace(0.7, 0.9, 20)
    short, right = (generator.random((20, 4000)) < quality[:, None] for _ in range(2))
    known = picked(quality, right, draws=400)
    assert known.gain.low > 0
    # the expected largest of 8 ranks of 20, less the mean
    assert known.gain.value == pytest.approx(100 * 0.2 * ((21 * 8 / 9 - 1) / 19 - 0.5), abs=0.5)
    assert known.ahead > 0.98
    assert picked(short, right, draws=400).gain.value == pytest.approx(known.gain.value, abs=1)
    assert picked(-quality, right, draws=400).gain.high < 0
    assert abs(picked(np.zeros(20), right, draws=400).gain.value) < 0.2


def test_a_network_of_timm_gets_the_best_of_its_rates_once_all_were_tried(tmp_path):
    pair, plan = PAIRS["spos-fashion"], Plan(pool=1, seeds=1)
    units = list(baseline_units(pair, "timm:mobilenetv2_035", 0))
    assert {unit.training["lr"] for unit in units} == set(BASELINE_RATES)
    right = pack_answers(np.ones(8, dtype=bool))
    for unit, top1 in zip(units, (None, 84.0, 83.0), strict=True):
        assert Measured(pair, plan, tmp_path).best_of_rates("timm:mobilenetv2_035") is None
        trained = {"test_top1": top1, "right": right, "test_images": 8}
        found = {"diverged": "the loss became nan"} if top1 is None else trained
        store(tmp_path, unit, name=unit.name, macs=1, **found)
    assert Measured(pair, plan, tmp_path).best_of_rates("timm:mobilenetv2_035") == 84.0


def test_processes_beside_each_other_measure_no_unit_twice(tmp_path):
    pair, plan = PAIRS["fbnet-fashion"], Plan(pool=2, seeds=1)
    taken, other = missing([pair], plan, tmp_path / "results")[:2]
    with exclusive(taken.run(tmp_path), LOCK):
        assert taken.is_measured_elsewhere(tmp_path)
        assert not other.is_measured_elsewhere(tmp_path)
        with pytest.raises(InputError, match=f"another measurement of .*{taken.name}-seed0' is going on"):
            carry_out(taken, plan, tmp_path / "results", tmp_path, "cpu")
    assert not taken.is_measured_elsewhere(tmp_path)
    assert result_of(taken, tmp_path / "results") is None
