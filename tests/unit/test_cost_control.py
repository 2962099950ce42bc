"""The multiplier that makes the most probable architecture end at a limit: its rule, and what is learned under it."""

import pytest
import torch

from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import save_json
from strategies import arch_learner
from strategies import differentiable as nas
from strategies.cost_control import AIM, BOUNDS, LOOKAHEAD, CostControl, foresee, next_multiplier
from strategies.most_probable import most_probable
from trials.training.supernet_config import Config

# twelve blocks of four sizes, 0.1M to 0.8M each: 1.2M to 9.6M in all
TABLE = CostTable.additive(
    {f"block{b:02}": {f"k{k}": (100_000 * 2**k, k + 1) for k in range(4)} for b in range(12)}, base=(500_000, 1)
)
LIMIT = 4.0  # million


def test_the_multiplier_rises_above_the_limit_and_falls_below():
    integral, multiplier = next_multiplier(0.0, 1.5 * AIM * 3.0, 3.0, 100)
    assert 0 < integral < multiplier
    again, _ = next_multiplier(integral, 1.5 * AIM * 3.0, 3.0, 100)
    assert again == pytest.approx(2 * integral)
    less, below = next_multiplier(integral, 0.5 * AIM * 3.0, 3.0, 100)
    assert less < integral
    assert below < 0 < multiplier  # the proportional part answers at once
    assert next_multiplier(0.3, AIM * 3.0, 3.0, 100) == pytest.approx((0.3, 0.3))  # at the aim nothing moves
    of_ten, _ = next_multiplier(0.0, 1.5 * AIM * 3.0, 3.0, 10)  # fewer steps, each of more
    assert of_ten == pytest.approx(10 * integral)


def test_the_mode_is_foreseen_along_the_expected_cost():
    assert foresee(3.0, 2.0, None) == 3.0
    assert foresee(3.0, 2.0, 2.1) == pytest.approx(3.0 - 0.1 * LOOKAHEAD)
    assert foresee(3.0, 2.0, 9.0) == 0.0
    falling, standing = CostControl(2.0, 100), CostControl(2.0, 100)
    for expected in (3.0, 2.9):
        falling.follow(3.0, expected)
        standing.follow(3.0, 3.0)
    assert falling.multiplier < standing.multiplier  # what already falls is pushed less
    assert falling.expected == 2.9


def test_a_limit_out_of_reach_does_not_pile_up():
    for cost, bound in ((100.0, BOUNDS[1]), (0.01, BOUNDS[0])):
        integral = 0.0
        for _ in range(1000):
            integral, multiplier = next_multiplier(integral, cost, 1.0, 50)
        assert (integral, multiplier) == (bound, bound)


def test_multiplier_one_makes_the_two_gradients_equally_long():
    control = CostControl(3.0, 100, multiplier=1.0)
    assert control.weight(4.0, 0.25) * 0.25**0.5 == pytest.approx(4.0**0.5)
    first = control.weight(8.0, 0.25)
    assert 4 < first < 8**0.5 / 0.5  # a running mean
    other = CostControl(3.0, 100)
    other.restore(control.state())
    assert other == control
    assert CostControl(3.0, 100, multiplier=1.0).weight(4.0, 0.0) == 0.0


def learn(strategy, control, steps=150):
    """Learn where every larger candidate is better, in some blocks more: without a cost, the largest network is the answer."""
    search = nas.SEARCHES[strategy](TABLE.choices)
    optimizer = arch_learner.make_optimizer(search, strategy, lr=0.1, weight_decay=0.0)
    learner = arch_learner.ArchLearner(search, optimizer, TABLE, lambda loss, cost: loss, control=control)
    source, noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    courses = []
    for step in range(steps):
        chosen = search.draw(source, step // 8, learn=True)
        losses = [
            weights.values @ (torch.randn(4, generator=noise) - (0.3 + block / 6) * torch.arange(4))
            for block, weights in enumerate(chosen.values())
        ]
        courses.append(learner.step(chosen, [torch.stack(losses).sum() / 20])[0])
    return search, courses


@pytest.mark.parametrize("strategy", ["softmax", "gumbel", "gates"])
def test_the_mode_ends_at_the_limit(strategy):
    search, courses = learn(strategy, CostControl(LIMIT, 150))
    assert 0.8 * LIMIT <= courses[-1].mode_cost <= 1.05 * LIMIT
    _, free = learn(strategy, None)
    assert free[-1].mode_cost > 2 * LIMIT
    assert free[-1].cost_multiplier == 0
    # what the export has to overturn is little
    scores = nas.as_lists(search.export_scores())
    within, mode = (most_probable(TABLE, scores, limit)[0] for limit in (int(LIMIT * 1e6), None))
    assert TABLE.macs(mode) == pytest.approx(courses[-1].mode_cost * 1e6)
    assert sum(within[label] != mode[label] for label in mode) <= 2


def test_entropy_is_a_part_of_the_largest():
    even, sure = torch.full((4,), 0.25), torch.tensor([1.0, 0.0])
    assert arch_learner.mean_entropy({"a": even}) == pytest.approx(1)
    assert arch_learner.mean_entropy({"a": even, "b": sure}) == pytest.approx(0.5)
    assert arch_learner.mean_entropy({"only": torch.ones(1)}) == 0


def test_gates_compare_the_two_that_were_drawn():
    search = nas.GateSearch(TABLE.choices)
    chosen = search.draw(torch.Generator().manual_seed(0), 0, learn=True)
    for label, row in search.compared(chosen).items():
        first, second = chosen[label].active
        assert row[first] == row[second] == 0.5
        assert float(row.sum()) == 1
    with torch.no_grad():
        for logits in search.logits:
            logits[0] += 2
    row, pair = search.compared(chosen)["block00"], list(chosen["block00"].active)
    torch.testing.assert_close(row[pair], search.logits[0][pair].softmax(0))


def test_a_limit_is_learned_under_unless_something_else_is_said(tmp_path):
    def cost_loss(**options):
        return Config(out=str(tmp_path), preset="tiny", **options).cost_loss

    assert cost_loss(strategy="gates", max_macs="3M") == "limit"
    assert cost_loss(strategy="gates", max_latency_ms=3.0, latency_table="x.json") == "limit"
    assert cost_loss(strategy="gates", max_macs="3M", cost_loss="none") == "none"
    assert cost_loss(strategy="gates") == cost_loss(strategy="window", max_macs="3M") == "none"
    with pytest.raises(InputError, match="--latency-table has no effect without --max-latency-ms or --cost-loss"):
        cost_loss(strategy="gates", max_macs="3M", latency_table="x.json")
    # a run that was started without goes on without
    save_json(tmp_path / "config.json", {"command": "supernet", "config": {"cost_loss": "none"}})
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").touch()
    assert cost_loss(strategy="gates", max_macs="3M", resume=True) == "none"
