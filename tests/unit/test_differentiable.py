"""Differentiable strategies: weights against direct computation, expected cost, losses, budgeted export, data parts."""

import itertools
import math

import numpy as np
import pytest
import torch

import spaces
from spaces.arch import Weights, activate_mixture
from spaces.cost import CostTable, measure
from spaces.elastic import squared_norms
from spaces.errors import InputError
from spaces.model_space import make_supernet
from strategies import arch_learner, cost_loss
from strategies import differentiable as nas
from strategies.most_probable import best_within, most_probable
from trials.images.load import load_data
from trials.images.options import DataOptions

CHOICES = {"a": ["x", "y", "z"], "b": ["x", "y"]}
TABLE = CostTable.additive(
    {
        "a": {"x": (3_000_000, 1), "y": (5_000_000, 2), "z": (9_000_000, 3)},
        "b": {"x": (1_000_000, 1), "y": (4_000_000, 2)},
    },
    base=(2_000_000, 10),
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def with_logits(search):
    with torch.no_grad():
        for number, logits in enumerate(search.logits):
            logits.copy_(torch.linspace(-1, 0.5, len(logits)) * (number + 1))
    return search


# what a step runs on


def test_softmax():
    search = with_logits(nas.SoftmaxSearch(CHOICES))
    learning = search.draw(generator(), 0, learn=True)
    for label, logits in zip(CHOICES, search.logits, strict=True):
        powers = [math.exp(float(value)) for value in logits]
        assert learning[label].values.tolist() == pytest.approx([power / sum(powers) for power in powers])
        assert learning[label].values.requires_grad
    assert not any(weights.values.requires_grad for weights in search.draw(generator(), 0, learn=False).values())


@pytest.mark.parametrize("epoch", [0, 7])
def test_gumbel_softmax(epoch):
    search = with_logits(nas.GumbelSearch(CHOICES))
    temperature = 5.0 * math.exp(-0.045 * epoch)
    assert search.temperature(epoch) == pytest.approx(temperature)
    drawn = search.draw(generator(4), epoch, learn=True)
    source = generator(4)
    for label, logits in zip(CHOICES, search.logits, strict=True):
        uniform = torch.rand(len(logits), generator=source).tolist()
        probabilities = logits.softmax(0).tolist()
        powers = [
            math.exp((math.log(p) - math.log(-math.log(u))) / temperature)
            for p, u in zip(probabilities, uniform, strict=True)
        ]
        assert drawn[label].values.tolist() == pytest.approx([power / sum(powers) for power in powers], rel=1e-4)


def test_hard_gumbel_runs_one_candidate_and_draws_by_probability():
    search = with_logits(nas.GumbelSearch(CHOICES, hard=True))
    source, counts = generator(), torch.zeros(3)
    for _ in range(3000):
        weights = search.draw(source, 0, learn=False)["a"]
        (place,) = weights.active
        assert weights.values[place] == 1.0
        assert weights.values.sum() == 1.0
        counts[place] += 1
    expected = 3000 * search.logits[0].detach().softmax(0)
    assert float(((counts - expected) ** 2 / expected).sum()) < 24  # 2 degrees of freedom: p = 6e-6

    values = search.draw(generator(1), 3, learn=True)["a"].values
    soft = nas.GumbelSearch(CHOICES)
    soft.load_state_dict(search.state_dict())
    sample = soft.draw(generator(1), 3, learn=True)["a"].values
    reward = torch.tensor([1.0, 2.0, 4.0])
    (found,) = torch.autograd.grad(values @ reward, search.logits[0])
    (expected,) = torch.autograd.grad(sample @ reward, soft.logits[0])
    torch.testing.assert_close(found, expected)  # the gradient of the soft sample


def test_gates_draw_one_path_for_the_weights_and_two_for_the_architecture():
    search = with_logits(nas.GateSearch(CHOICES))
    source, counts = generator(), {"x": 0, "y": 0, "z": 0}
    for _ in range(3000):
        counts[search.draw(source, 0, learn=False)["a"]] += 1
    expected = 3000 * search.logits[0].detach().softmax(0)
    found = torch.tensor(list(counts.values()))
    assert float(((found - expected) ** 2 / expected).sum()) < 24

    weights = search.draw(generator(2), 0, learn=True)["a"]
    pair = list(weights.active)
    assert len(set(pair)) == 2
    assert sorted(weights.values.tolist()) == [0.0, 0.0, 1.0]
    assert float(weights.values[pair].sum()) == 1.0
    # the gradient is that of the two probabilities with the third left out
    reward = torch.tensor([1.0, 2.0, 4.0])
    (found,) = torch.autograd.grad(weights.values @ reward, search.logits[0])
    p = search.logits[0].detach()[pair].softmax(0)
    expected = torch.zeros(3)
    expected[pair] = p * (reward[pair] - float(p @ reward[pair]))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_a_gate_step_leaves_the_other_probabilities_alone(kind):
    search = with_logits(nas.GateSearch(CHOICES))
    optimizer = arch_learner.make_optimizer(search, "gates", kind, lr=0.5, weight_decay=0.1)
    table = TABLE
    learner = arch_learner.ArchLearner(search, optimizer, table, lambda loss, cost: loss + cost)
    for step in range(20):
        before = search.probabilities()["a"].detach().clone()
        chosen = search.draw(generator(step), 0, learn=True)
        reward = chosen["a"].values @ torch.tensor([1.0, 2.0, 4.0])
        learner.step(chosen, [reward])
        after = search.probabilities()["a"].detach()
        pair = list(chosen["a"].active)
        (other,) = {0, 1, 2} - set(pair)
        assert float(after[other]) == pytest.approx(float(before[other]), abs=1e-6)
        assert float(after[pair].sum()) == pytest.approx(float(before[pair].sum()), abs=1e-6)
        assert not torch.equal(after, before)


def test_threshold_decisions():
    """Against the indicator functions of arXiv:1904.02877, written out."""
    torch.manual_seed(0)
    net = make_supernet(spaces.build("single-path-nas", "tiny"))
    choices = net.chain.choices
    search = nas.ThresholdSearch(choices, lambda label: squared_norms(net, label))
    depthwise = net.blocks[1].layers.depthwise[0].weight  # (72, 1, 5, 5)
    ring = depthwise.square().sum() - depthwise[:, :, 1:4, 1:4].square().sum()
    torch.testing.assert_close(squared_norms(net, "kernel01").diff()[0], ring)
    halves = torch.stack([depthwise[:36].square().sum(), depthwise[36:].square().sum()])
    torch.testing.assert_close(squared_norms(net, "expand01").diff(), halves)

    drawn = search.draw(generator(), 0, learn=True)  # thresholds 0: everything is used
    assert drawn["kernel01"].values.tolist() == [0, 1]
    assert drawn["expand01"].values.tolist() == [0, 0, 1]
    place = list(choices).index("expand01")
    for thresholds, uses in (([0.5, 0.5], 2), ([0.5, 1.5], 1), ([1.5, 0.5], 0), ([1.5, 1.5], 0)):
        with torch.no_grad():
            search.logits[place].copy_(torch.tensor(thresholds))
        drawn = search.draw(generator(), 0, learn=True)
        assert drawn["expand01"].values.tolist() == [float(value == uses) for value in range(3)]
        s = torch.sigmoid(1 - torch.tensor(thresholds))  # norms are 1, relative to the start
        expected = [1 - s[0], s[0] * (1 - s[1]), s[0] * s[1]]
        torch.testing.assert_close(search.probabilities()["expand01"], torch.stack(expected))
        assert float(search.probabilities()["expand01"].sum()) == pytest.approx(1)
    with torch.no_grad():
        search.logits[place].copy_(torch.tensor([0.5, 1.5]))
    # backward: d/dt of the sigmoid, for the values (skip, e3, e6)
    values = search.draw(generator(), 0, learn=True)["expand01"].values
    (found,) = torch.autograd.grad(values @ torch.tensor([1.0, 2.0, 4.0]), search.logits[place])
    slope = float(torch.sigmoid(torch.tensor(0.5)) * torch.sigmoid(torch.tensor(-0.5)))
    # first: out = 1 + I1 (1 + 2 I2), I2 = 0; second: out = ... + 2 I1 I2, I1 = 1; dI/dt = -slope
    assert found.tolist() == pytest.approx([-slope * 1.0, -slope * 2.0], rel=1e-4)

    weights = search.draw(generator(), 0, learn=False)["expand01"].values
    (grad,) = torch.autograd.grad(weights[2], depthwise)
    assert grad.abs().sum() > 0  # a step of the weights moves the norms


def test_the_export_of_thresholds_is_what_they_decide():
    torch.manual_seed(0)
    net = make_supernet(spaces.build("single-path-nas", "tiny"))
    table = measure(net)
    search = nas.ThresholdSearch(net.chain.choices, lambda label: squared_norms(net, label))
    for _ in range(20):
        with torch.no_grad():
            for thresholds in search.logits:
                thresholds.copy_(1 + torch.randn(len(thresholds)))  # norms are 1
        drawn = search.draw(generator(), 0, learn=False)
        decided = {label: candidates[int(drawn[label].values.argmax())] for label, candidates in search.choices.items()}
        preferences = {label: p.tolist() for label, p in search.export_scores().items()}
        assert most_probable(table, preferences)[0] == decided
    with torch.no_grad():  # sigmoids 0.6 and 0.6: the product of probabilities would be 0.40 for the skip, 0.36 for e6
        for thresholds in search.logits:
            thresholds.fill_(0.6)
    largest = most_probable(table, {label: p.tolist() for label, p in search.export_scores().items()})[0]
    assert largest == {label: max(values) for label, values in table.choices.items()}


@pytest.mark.parametrize("pair", [(0, 1), (0, 2)])
def test_gates_compare_a_skip_with_the_size_that_was_drawn(pair):
    torch.manual_seed(0)
    block = make_supernet(spaces.build("single-path-nas", "tiny")).blocks[1]  # expansions 0 (skip), 3, 6
    x, towards = torch.randn(4, 12, 8, 8), torch.randn(4, 12, 8, 8)
    block.active = {"kernel01": 3, "expand01": 0}
    skipped = block(x)
    block.active = {"kernel01": 3, "expand01": (0, 3, 6)[pair[1]]}
    other = block(x)
    gates = torch.zeros(3).index_fill(0, torch.tensor(0), 1.0).requires_grad_()
    drawn = torch.zeros(3).index_fill(0, torch.tensor(pair), 1.0)
    block.active = {"kernel01": Weights([1.0, 0.0]), "expand01": Weights(gates, pair, drawn)}
    (found,) = torch.autograd.grad((block(x) * towards).sum(), gates)
    expected = ((other - skipped) * towards).sum()
    torch.testing.assert_close(found[pair[1]] - found[0], expected, rtol=1e-3, atol=1e-3)


def test_thresholds_need_ascending_superkernels():
    with pytest.raises(InputError, match="values of 'w' in ascending order; they are"):
        nas.ThresholdSearch({"w": [2, 1]}, lambda label: torch.ones(2))
    with pytest.raises(InputError, match="each value of 'w' adds to the one before; one adds none"):
        nas.ThresholdSearch({"w": [1, 2]}, lambda label: torch.ones(2))


# cost


def test_expected_cost_is_that_of_enumeration():
    weights = {"a": torch.tensor([0.2, 0.5, 0.3]), "b": torch.tensor([0.9, 0.1])}
    expected = sum(
        float(weights["a"][i] * weights["b"][j]) * TABLE.macs({"a": a, "b": b})
        for (i, a), (j, b) in itertools.product(enumerate(CHOICES["a"]), enumerate(CHOICES["b"]))
    )
    assert float(cost_loss.expected_cost(TABLE, weights)) == pytest.approx(expected / 1e6, rel=1e-6)


def test_expected_cost_of_blocks_with_two_labels():
    table = measure(spaces.describe("single-path-nas", "tiny"))
    draw = np.random.default_rng(0)
    chosen = {label: draw.dirichlet(np.ones(len(c))) for label, c in table.choices.items()}
    labels = ("kernel01", "expand01", "kernel02", "expand02")
    fixed = {label: candidates[0] for label, candidates in table.choices.items() if label not in labels}
    weights = {
        label: torch.tensor(chosen[label] if label in labels else [float(c == fixed[label]) for c in candidates])
        for label, candidates in table.choices.items()
    }
    expected = 0.0
    for combination in itertools.product(*(range(len(table.choices[label])) for label in labels)):
        arch = fixed | {label: table.choices[label][i] for label, i in zip(labels, combination, strict=True)}
        expected += math.prod(chosen[label][i] for label, i in zip(labels, combination, strict=True)) * table.macs(arch)
    assert float(cost_loss.expected_cost(table, weights)) == pytest.approx(expected / 1e6, rel=1e-6)


def test_cost_losses_are_the_papers():
    loss, cost = torch.tensor(1.7), torch.tensor(300.0)
    power = cost_loss.cost_loss("power", loss, cost, alpha=0.2, beta=0.6)
    assert float(power) == pytest.approx(1.7 * 0.2 * math.log(300) ** 0.6)
    assert float(power) != pytest.approx(1.7 * 0.2 * math.log(300**0.6))
    assert float(cost_loss.cost_loss("linear", loss, cost, weight=0.01)) == pytest.approx(1.7 + 3.0)
    assert float(cost_loss.cost_loss("target", loss, cost, weight=2.0, target=240.0)) == pytest.approx(1.7 + 2 * 0.25)
    assert float(cost_loss.cost_loss("none", loss, cost)) == pytest.approx(1.7)


@pytest.mark.parametrize("strategy", ["softmax", "gumbel", "gates"])
def test_learning_follows_the_loss_and_the_cost(strategy):
    """A toy whose answer is known: candidate z of a is best, and x of b as good as y but cheaper."""
    search = nas.SEARCHES[strategy](CHOICES)
    optimizer = arch_learner.make_optimizer(search, strategy, lr=0.05, weight_decay=0.0)
    learner = arch_learner.ArchLearner(
        search, optimizer, TABLE, lambda loss, cost: cost_loss.cost_loss("linear", loss, cost, weight=0.02)
    )
    for step in range(300):
        chosen = search.draw(generator(step), step // 10, learn=True)
        learner.step(chosen, [chosen["a"].values @ torch.tensor([3.0, 2.0, 1.0])])
    probabilities = search.probabilities()
    assert float(probabilities["a"][2]) > 0.8
    assert float(probabilities["b"][0]) > 0.6
    plain = {label: p.tolist() for label, p in probabilities.items()}
    assert most_probable(TABLE, plain)[0] == {"a": "z", "b": "x"}  # 12M
    assert TABLE.macs(most_probable(TABLE, plain, 8_000_000)[0]) <= 8_000_000


def test_parts_of_a_batch_give_the_gradient_of_the_whole():
    def learned(parts):
        search = with_logits(nas.SoftmaxSearch(CHOICES))
        optimizer = arch_learner.make_optimizer(search, "softmax", "sgd", lr=1.0, weight_decay=0.0)
        learner = arch_learner.ArchLearner(
            search, optimizer, TABLE, lambda loss, cost: cost_loss.cost_loss("power", loss, cost)
        )
        chosen = search.draw(generator(), 0, learn=True)
        targets = torch.tensor([[3.0, 2.0, 1.0], [0.5, 1.0, 4.0], [2.0, 2.0, 0.0], [1.0, 0.0, 5.0]])
        losses = [(part @ chosen["a"].values).mean() for part in targets.chunk(parts)]
        learner.step(chosen, losses, parts, scale=1024.0)
        return search.logits[0].detach()

    torch.testing.assert_close(learned(1), learned(4))


# export


def test_budgeted_export_equals_brute_force():
    draw = np.random.default_rng(1)
    reached = 0
    for _ in range(200):
        sizes = draw.integers(1, 5, draw.integers(1, 6))
        base = int(draw.choice([0, 10**6, 10**10]))
        costs = [base + draw.integers(0, 40, size) for size in sizes]
        scores = [np.log(draw.dirichlet(np.ones(size))) for size in sizes]
        limit = int(draw.integers(0, 40 * len(sizes))) + base * len(sizes)
        within = [
            sum(score[i] for score, i in zip(scores, options, strict=True))
            for options in itertools.product(*map(range, sizes))
            if sum(cost[i] for cost, i in zip(costs, options, strict=True)) <= limit
        ]
        options = best_within(costs, scores, limit)
        if not within:
            assert options is None
            continue
        reached += 1
        assert sum(cost[i] for cost, i in zip(costs, options, strict=True)) <= limit
        assert sum(score[i] for score, i in zip(scores, options, strict=True)) == pytest.approx(max(within), abs=1e-12)
    assert reached > 100


def test_budgeted_export_on_a_small_space_with_two_labels_a_block():
    table = measure(spaces.describe("single-path-nas", "tiny"))
    draw = np.random.default_rng(2)
    probabilities = {label: draw.dirichlet(np.ones(len(c))).tolist() for label, c in table.choices.items()}
    small = CostTable({}, table.base, table.blocks[:4])  # 6 * 4^... few enough to list
    bounds = small.bounds()
    for part in (0.0, 0.2, 0.5, 1.0):
        limit = int(bounds.min_macs + part * (bounds.max_macs - bounds.min_macs))
        best = max(
            (
                sum(math.log(probabilities[label][small.choices[label].index(c)]) for label, c in arch.items()),
                small.macs(arch),
            )
            for values in itertools.product(*small.choices.values())
            if small.macs(arch := dict(zip(small.choices, values, strict=True))) <= limit
        )
        arch, logarithm = most_probable(small, probabilities, limit)
        assert small.macs(arch) <= limit
        assert logarithm == pytest.approx(best[0], abs=1e-9)
    with pytest.raises(InputError, match=f"out of reach: the space starts at {bounds.min_macs:,} MACs; raise max_macs"):
        most_probable(small, probabilities, bounds.min_macs - 1)


def test_a_limit_may_force_what_has_probability_zero():
    arch, logarithm = most_probable(TABLE, {"a": [0.0, 0.0, 1.0], "b": [0.5, 0.5]}, 6_000_000)
    assert arch == {"a": "x", "b": "x"}
    assert logarithm == -math.inf


# data


def test_weights_and_architecture_learn_from_disjoint_images():
    data = load_data(DataOptions(data="digits"), 32, score_fraction=0.25, arch_fraction=0.2)
    weights, arch, score = (set(data.parts[part].tolist()) for part in ("weights", "arch", "score"))
    assert not weights & arch
    assert not (weights | arch) & score
    assert weights | arch == set(data.parts["train"].tolist())
    assert len(arch) / len(weights | arch) == pytest.approx(0.2, abs=0.01)
    labels = torch.cat([labels for _, labels in data.eval_batches("arch", 100)])
    counts = torch.bincount(labels)
    assert int(counts.max() - counts.min()) <= 2  # digits has as many images of each class
    seen = {image.numpy().tobytes() for x, _ in data.eval_batches("weights", 100) for image in x}
    assert not seen & {image.numpy().tobytes() for x, _ in data.eval_batches("arch", 100) for image in x}


@pytest.mark.parametrize(("weights", "arch"), [(13, 3), (3, 13), (5, 5), (1, 0), (250, 62)])
def test_an_epoch_walks_through_both_parts(weights, arch):
    batches = [number for step in range(weights) for number in arch_learner.arch_steps(step, weights, arch)]
    assert batches == list(range(arch))


@pytest.mark.slow
def test_mixing_reaches_the_architecture_parameters_through_the_network():
    """The gradient of a probability, by finite differences."""
    torch.manual_seed(0)
    net = make_supernet(spaces.build("proxylessnas", "tiny")).double().eval()
    search = nas.SoftmaxSearch(net.chain.choices).double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)

    def output():
        activate_mixture(net, search.draw(generator(), 0, learn=True))
        return net(images)[0, 0]

    label = list(net.chain.choices).index("block05")
    (found,) = torch.autograd.grad(output(), search.logits[label])
    for place in range(3):
        values = []
        for change in (1e-4, -1e-4):
            with torch.no_grad():
                search.logits[label][place] += change
            values.append(float(output()))
            with torch.no_grad():
                search.logits[label][place] -= change
        assert float(found[place]) == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-3, abs=1e-9)
    assert isinstance(search.draw(generator(), 0, learn=True)["block05"], Weights)
