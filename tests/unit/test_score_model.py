"""The model of the scores, and the winner that a search chooses by it."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from spaces.cost import CostTable
from strategies import score_model
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from strategies.score_model import ScoreModel, smoothed
from tests.commands import ROOT
from trials.search_driver.ranking import front, rank

TABLE = CostTable.load(ROOT / "experiments/spaces/spos-tiny.costs.json")
FEASIBLE = FeasibleSpace(TABLE, Limits(max_macs=3_200_000))
EFFECTS = np.random.default_rng(3).normal(size=(len(TABLE.blocks), 4))


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct architectures, and their true scores: sums over the blocks."""
    rows = np.unique(FEASIBLE.sample_many(number, np.random.default_rng(0)), axis=0)
    np.random.default_rng(1).shuffle(rows)
    return rows, EFFECTS[np.arange(rows.shape[1]), rows].sum(axis=1)


def test_means_are_nearer_to_the_truth_than_noisy_scores():
    rows, true = draw(300)
    told = true + true.std() * np.random.default_rng(2).normal(size=len(true))
    model = ScoreModel(FEASIBLE, rows, told)
    assert kendalltau(model.known, true).statistic > kendalltau(told, true).statistic + 0.1
    exact = ScoreModel(FEASIBLE, rows, true)
    assert exact.kernel.noise < 0.1 * model.kernel.noise
    assert kendalltau(exact.known, true).statistic > 0.98


def test_unknown_architectures_are_predicted_and_known_ones_are_sure():
    rows, true = draw(300)
    model = ScoreModel(FEASIBLE, rows[:200], true[:200])
    assert kendalltau(model.mean(rows[200:]), true[200:]).statistic > 0.7
    assert model.deviation(rows[:200]).max() < model.deviation(rows[200:]).min()


def test_only_the_order_of_scores_counts():
    rows, true = draw(100)
    means = [ScoreModel(FEASIBLE, rows, values).known for values in (true, np.exp(true), 1e300 * true, 7 + true)]
    assert all(np.array_equal(means[0], other) for other in means[1:])
    assert np.ptp(ScoreModel(FEASIBLE, rows, np.ones(len(rows))).known) == pytest.approx(0, abs=1e-6)


def test_of_many_results_good_and_bad_ones_are_fitted(monkeypatch):
    """Fitted to the best alone, the model knew nothing bad, and what it proposed after 500 results was worse than chance."""
    rows, true = draw(400)
    monkeypatch.setattr(score_model, "FITTED", 200)
    model = ScoreModel(FEASIBLE, rows, true)
    assert len(model.inputs) == 200
    assert model.known.shape == (len(rows),)
    assert kendalltau(model.known, true).statistic > 0.8
    assert true[model.known.argmin()] < np.quantile(true, 0.1)
    assert ScoreModel(FEASIBLE, rows[:200], true[:200]).inputs.shape[0] == 200


def test_few_scores_are_taken_as_they_are():
    rows, true = draw(100)
    assert np.array_equal(smoothed(FEASIBLE, rows[:19], true[:19]), true[:19])
    assert not np.array_equal(smoothed(FEASIBLE, rows[:20], true[:20]), true[:20])


def test_the_winner_of_noisy_scores_is_better_than_the_luckiest():
    rows, true = draw(400)
    archs = [TABLE.arch(row) for row in rows]
    by_score, by_model = [], []
    for seed in range(10):
        told = true + true.std() * np.random.default_rng(seed).normal(size=len(true))
        results = [{"arch": arch, "top1": score, "macs": 1} for arch, score in zip(archs, told, strict=True)]
        by_score.append(true[told.argmax()])
        ranked = rank(FEASIBLE, results, told, [True] * len(results))
        by_model.append(true[results.index(ranked[0])])
    assert np.mean(by_model) > np.mean(by_score) + 0.2 * true.std()
    # what noise tells apart from the best score never wins
    alike = [result["top1"] == max(told) for result in results]
    assert rank(FEASIBLE, results, told, alike)[0] is results[told.argmax()]


def test_one_rule_orders_the_winner_the_candidates_and_the_front():
    """Few scores are taken as they are; of equal ones the cheaper is ahead. Many are taken by the model, at every cost."""
    archs = [TABLE.arch(row) for row in draw(4)[0]]
    scores, macs = np.array([70.0, 80, 80, 60]), (1, 3, 2, 1)
    few = [{"arch": arch, "macs": cost} for arch, cost in zip(archs, macs, strict=True)]
    ranked = rank(FEASIBLE, few, scores, [True] * 4)
    assert [few.index(result) for result in ranked] == [2, 1, 0, 3]
    assert [few.index(result) for result in front(ranked)] == [0, 2]
    assert rank(FEASIBLE, few, scores, [False, True, False, False])[0] is few[1]

    rows, true = draw(400)
    told = true + true.std() * np.random.default_rng(0).normal(size=len(true))
    costs = FEASIBLE.costs(rows)[0]
    many = [{"arch": TABLE.arch(row), "macs": int(cost)} for row, cost in zip(rows, costs, strict=True)]
    ranked = rank(FEASIBLE, many, told, [True] * len(many))
    line = front(ranked)
    assert line[-1] is ranked[0]
    assert line == sorted(line, key=lambda result: result["macs"])
    for result in line:  # nothing that costs as little is ahead
        ahead = ranked[: ranked.index(result)]
        assert all(other["macs"] > result["macs"] for other in ahead)
    bounds = np.quantile(costs, np.linspace(0.2, 1, 9))
    by_model, by_score = [], []
    for bound in bounds:
        within = [number for number, cost in enumerate(costs) if cost <= bound]
        by_score.append(true[max(within, key=lambda number: told[number])])
        by_model.append(true[next(number for number in map(many.index, ranked) if costs[number] <= bound)])
    assert np.mean(by_model) > np.mean(by_score)
