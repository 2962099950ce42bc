"""A few commands killed at random moments and run again; `python -m tests.kills` does as many as one likes, of all commands."""

import random

import pytest

from tests import kills


@pytest.fixture(scope="module")
def bases(shared):
    return shared("bases of kills", kills.make_bases)


@pytest.mark.parametrize("name", ["search in process", "evaluate", "export", "report"])
def test_killed_at_a_random_moment_nothing_is_lost_or_left(name, bases, tmp_path):
    alone = kills.undisturbed(name, bases, tmp_path)
    number = list(kills.CASES).index(name)
    kills.kill_once(name, number, random.Random(name).uniform(0.3, 0.95), alone, bases, tmp_path)
