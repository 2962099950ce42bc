"""Sampling and limits: counts, limits, seeds. Pure Python, no NNI manager."""

from collections import Counter

import pytest

from spaces.cost import CostTable
from spaces.errors import InputError
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits, amount
from strategies.sampling import step_generator, uniform
from tests.commands import ROOT

TABLE = CostTable.load(ROOT / "experiments/spaces/spos-tiny.costs.json")
BOUNDS = TABLE.bounds()


def test_uniform_is_uniform_and_repeatable():
    paths = [uniform(TABLE.choices, 3, step)[0] for step in range(4000)]
    assert paths[:100] == [uniform(TABLE.choices, 3, step)[0] for step in range(100)]
    assert paths[:100] != [uniform(TABLE.choices, 4, step)[0] for step in range(100)]
    for label in TABLE.choices:
        counts = Counter(path[label] for path in paths)
        # chi-square with 3 degrees of freedom; 27 is exceeded with probability 6e-6
        assert sum((counts[name] - 1000) ** 2 / 1000 for name in TABLE.choices[label]) < 27


@pytest.mark.slow
def test_a_conflict_between_limits_ends():
    """Each limit is within reach, both together are not: the search for one gives up and says so."""
    with pytest.raises(InputError, match=r"none of 1,000,000 architectures drawn meets min_macs .* max_params"):
        FeasibleSpace(TABLE, Limits(min_macs=BOUNDS.max_macs, max_params=BOUNDS.min_params))


@pytest.mark.parametrize("value", ["330M", 330_000_000, "3.3e8", 3.3e8, "330,000,000"])
def test_amounts(value):
    assert amount(value, "max_macs") == 330_000_000


@pytest.mark.parametrize("value", ["", "lots", "-1", 0, True, "nan", "inf", "M"])
def test_bad_amounts(value):
    with pytest.raises(InputError, match="give a positive number such as 330000000 or 330M"):
        amount(value, "max_macs")


def test_generators_of_steps_differ():
    assert len({step_generator(seed, step).random() for seed in range(10) for step in range(100)}) == 1000
