"""Draws under cost limits: uniform, compared with all architectures of a space that is small enough to list."""

import itertools
import random
from collections import Counter

import numpy as np
import pytest

from spaces.cost import CostTable
from spaces.errors import InputError
from strategies import cost_window
from strategies.cost_window import CostWindow
from strategies.feasible import FeasibleSpace, binned_path
from strategies.limits import Limits
from tests.commands import ROOT

IMAGENET = CostTable.load(ROOT / "experiments" / "spaces" / "spos-imagenet.costs.json")
CHANNEL = CostTable.load(ROOT / "experiments" / "spaces" / "spos-imagenet-channel.costs.json")
COSTS = [np.array(costs) for costs in ([10, 27, 44, 3], [7, 7, 90], [12, 30, 31, 55, 0], [5, 100], [1, 2, 4, 8])]
SUMS = {
    options: sum(int(c[o]) for c, o in zip(COSTS, options, strict=True))
    for options in itertools.product(*(range(len(c)) for c in COSTS))
}


def chi_square(counts: Counter, allowed: set, draws: int) -> float:
    expected = draws / len(allowed)
    return sum((counts[key] - expected) ** 2 / expected for key in allowed)


@pytest.mark.parametrize("bins", [1 << 18, 24])
@pytest.mark.parametrize(("low", "high"), [(60, 120), (0, 1000), (88, 92), (31, 31)])
def test_draws_are_uniform(monkeypatch, bins, low, high):
    """With 24 bins costs are rounded, and what falls outside is rejected: uniform all the same."""
    monkeypatch.setattr(cost_window, "BINS", bins)
    drawn = CostWindow(COSTS, low, high)
    assert drawn.exact == (bins > 24)
    allowed = {options for options, total in SUMS.items() if low <= total <= high}
    assert drawn.count == len(allowed) if drawn.exact else drawn.count >= len(allowed)
    generator, counts, draws = np.random.default_rng(0), Counter(), 0
    while draws < 200 * len(allowed):
        found = drawn.draw(5000, generator)
        counts.update(map(tuple, found.tolist()))
        draws += len(found)
    assert set(counts) == allowed
    freedom = len(allowed) - 1
    assert chi_square(counts, allowed, draws) < freedom + 5 * (2 * freedom) ** 0.5 + 10  # five standard deviations


def test_reachable_sums():
    assert CostWindow(COSTS, 0, 1000).sums().tolist() == sorted(set(SUMS.values()))


def test_the_reach_of_a_limit():
    """Against the costs of random architectures: the largest below the limit is met by one that is drawn there."""
    reach = FeasibleSpace(IMAGENET, Limits(max_macs=330_000_000, min_macs=300_000_000)).macs_range()
    assert 300_000_000 <= reach[0] < reach[1] <= 330_000_000
    for macs in reach:
        assert (
            IMAGENET.macs(FeasibleSpace(IMAGENET, Limits(min_macs=macs, max_macs=macs)).sample(random.Random(0)))
            == macs
        )
    with pytest.raises(InputError):
        FeasibleSpace(IMAGENET, Limits(min_macs=reach[1] + 1, max_macs=330_000_000))


def test_a_window_without_architectures_is_proved_empty():
    gap = next(value for value in range(min(SUMS.values()), max(SUMS.values())) if value not in SUMS.values())
    assert CostWindow(COSTS, gap, gap).count == 0
    assert len(CostWindow(COSTS, gap, gap).draw(10, np.random.default_rng(0))) == 0


@pytest.mark.parametrize("table", [IMAGENET, CHANNEL])
def test_counts_agree_with_uniform_draws(table):
    """The share of a window, exact, against an estimate from random architectures."""
    draw = np.random.default_rng(0)
    genes = np.stack([draw.integers(0, len(c), 100_000) for c in table.choices.values()], axis=1)
    macs = table.macs_many(genes)
    for low, high in ((300_000_000, 330_000_000), (None, 310_000_000), (340_000_000, None)):
        limits = Limits(min_macs=low, max_macs=high)
        expected = float(np.mean((macs >= (low or 0)) & (macs <= (high or 1e18))))
        assert FeasibleSpace(table, limits).share() == pytest.approx(expected, abs=0.005)


def test_the_edges_of_a_space():
    bounds = IMAGENET.bounds()
    for limits in (Limits(max_macs=bounds.min_macs), Limits(min_macs=bounds.max_macs)):
        feasible = FeasibleSpace(IMAGENET, limits)
        archs = [feasible.sample(random.Random(seed)) for seed in range(3)]
        assert {IMAGENET.macs(arch) for arch in archs} <= {bounds.min_macs, bounds.max_macs}
        assert feasible.window.count == 1


def test_one_in_a_million_is_drawn_at_once():
    """What rejection needs more than a million draws for."""
    limits = Limits(max_macs=IMAGENET.bounds().min_macs + 3_000_000)
    feasible = FeasibleSpace(IMAGENET, limits)
    assert feasible.share() < 1e-6
    archs = [feasible.sample(random.Random(seed)) for seed in range(20)]
    assert len({tuple(arch.values()) for arch in archs}) > 5
    assert all(IMAGENET.macs(arch) <= limits.max_macs for arch in archs)
    assert archs == [feasible.sample(random.Random(seed)) for seed in range(20)]


def test_two_limits_hold_together():
    limits = Limits(max_macs=330_000_000, min_macs=320_000_000, max_params=3_450_000)
    feasible = FeasibleSpace(CHANNEL, limits)
    for seed in range(30):
        arch = feasible.sample(random.Random(seed))
        assert 320_000_000 <= CHANNEL.macs(arch) <= 330_000_000
        assert CHANNEL.params(arch) <= 3_450_000


def test_a_window_in_a_gap_names_its_neighbours():
    message = "no architecture of the space meets max_macs 322,918,722, min_macs 322,918,721; the nearest have 322,918,720 and"
    with pytest.raises(InputError, match=message) as caught:
        FeasibleSpace(IMAGENET, Limits(min_macs=322_918_721, max_macs=322_918_722))
    above = int(str(caught.value).split(" and ")[1].split()[0].replace(",", ""))
    assert FeasibleSpace(IMAGENET, Limits(min_macs=above, max_macs=above)).window.count > 0
    with pytest.raises(InputError, match="no architecture"):
        FeasibleSpace(IMAGENET, Limits(min_macs=322_918_721, max_macs=above - 1))


def test_the_official_bins():
    paths = [binned_path(IMAGENET, random.Random(f"0/{step}")) for step in range(700)]
    assert paths[:20] == [binned_path(IMAGENET, random.Random(f"0/{step}")) for step in range(20)]
    bins = Counter(IMAGENET.macs(path) // 10**7 for path in paths)
    assert set(bins) <= set(range(29, 36))
    assert chi_square(bins, set(range(29, 36)), 700) < 30  # 6 degrees of freedom


def test_official_bins_give_up_as_the_official_code_does():
    path = binned_path(IMAGENET, random.Random(0), low=500_000_000, high=600_000_000, tries=3)
    assert IMAGENET.macs(path) < 500_000_000
