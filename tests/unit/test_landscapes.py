"""The landscapes and the noise of benchmarks/tuners: the best under a limit is exact, and told scores have the tau they say."""

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau

from benchmarks.tuners.macro import cost_table, macro, made_up_table
from benchmarks.tuners.made_up import UNIT, made_up
from benchmarks.tuners.noise import Noise, Told


@pytest.mark.parametrize("seed", [0, 1])
def test_the_best_of_a_made_up_landscape_is_that_of_counting_all(seed):
    landscape = made_up(6, seed)
    genes = np.array(list(itertools.product(range(4), repeat=6)))
    true, macs = landscape.truth(genes), landscape.feasible.costs(genes)[0]
    for limit in (landscape.max_macs, macs.min(), macs.min() + 3 * UNIT, macs.max(), np.inf):
        assert landscape.within(limit) == pytest.approx(true[macs <= limit].max())
    assert landscape.best == landscape.within(landscape.max_macs)
    drawn = landscape.truth(landscape.drawn)
    assert (drawn.mean(), drawn.std()) == (pytest.approx(0), pytest.approx(1))
    assert made_up(6, seed, limited=False).max_macs is None


@pytest.mark.parametrize(("tau", "systematic"), [(0.7, 0), (0.5, 0), (0.5, 0.5)])
def test_told_scores_have_the_tau_they_say(tau, systematic):
    landscape = made_up(20, 0)
    told = Told(landscape, Noise(tau, systematic), seed=1)
    true, heard = landscape.truth(landscape.drawn), told(landscape.drawn)
    assert kendalltau(true, heard).statistic == pytest.approx(tau, abs=0.01)
    assert np.array_equal(heard[:5], told(landscape.drawn[:5]))  # equal whenever it is asked
    # what neighbours share of their errors is the systematic part
    near = landscape.drawn.copy()
    near[:, 3] = (near[:, 3] + 1) % 4
    errors = [told(genes) - landscape.truth(genes) for genes in (landscape.drawn, near)]
    correlation = np.corrcoef(errors)[0, 1]
    assert correlation > 0.35 if systematic else abs(correlation) < 0.1


def test_exact_scores_are_the_truth():
    landscape = macro(made_up_table(), "40M")
    assert np.array_equal(Told(landscape, Noise(), 0)(landscape.drawn), landscape.truth(landscape.drawn))
    assert landscape.best == landscape.truth(landscape.drawn).max()
    assert landscape.table.choices == cost_table(made_up_table()).choices
