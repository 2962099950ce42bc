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
from trials.search_driver.winner import choose_winner

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
        results = [{"arch": arch, "top1": score} for arch, score in zip(archs, told, strict=True)]
        by_score.append(true[told.argmax()])
        by_model.append(true[results.index(choose_winner(FEASIBLE, results, told, [True] * len(results)))])
    assert np.mean(by_model) > np.mean(by_score) + 0.2 * true.std()
    # what noise tells apart from the best score never wins
    alike = [result["top1"] == max(told) for result in results]
    assert choose_winner(FEASIBLE, results, told, alike) is results[told.argmax()]
