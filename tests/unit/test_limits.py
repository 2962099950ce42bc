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


@pytest.mark.parametrize(("value", "meant"), [("3.2", "3.2M"), ("330", "330M"), (3.2, "3.2M"), ("9,999", "9999M")])
@pytest.mark.parametrize("name", ["max_macs", "--for"])
def test_a_forgotten_suffix_is_asked_for(value, meant, name):
    with pytest.raises(InputError, match=f"^{name} is .* did you mean {name} {meant}[?]"):
        amount(value, name)


@pytest.mark.parametrize(("value", "number"), [("9k", 9000), ("10000", 10_000), (35, 35), ("0.01M", 10_000)])
def test_small_amounts_that_are_meant(value, number):
    """Those of a file, which tools write, too; spaces of one's own can be as small as they like."""
    assert amount(value, "max_macs") == number


def test_limits_of_a_file_that_lost_their_suffix():
    for limits, meant in ((Limits(max_macs=3), "3M"), (Limits(max_params=150), "150k")):
        with pytest.raises(InputError, match=f"is out of reach: .*; did you mean {meant}[?]$"):
            limits.check(BOUNDS)
    with pytest.raises(InputError, match="; raise max_macs$"):
        Limits(max_macs=1000).check(BOUNDS)


def test_generators_of_steps_differ():
    assert len({step_generator(seed, step).random() for seed in range(10) for step in range(100)}) == 1000
