"""Sampling strategies: fairness counts, uniform counts, cost windows, width warm-up, gradients of a strict-fair step."""

import random
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

import spaces
from spaces.arch import ArchError, Weights, activate, activate_mixture, validate
from spaces.cost import measure
from spaces.errors import InputError
from spaces.model_space import make_supernet
from spaces.spec import SpaceSpec
from strategies.feasible import FeasibleSpace, draw_from_bins, draw_within_limits
from strategies.limits import Limits
from strategies.sampling import STRATEGIES, OpWarmup, Paths, strict_fair, uniform, uniform_path, widths_open

SPACES = {
    "spos": ("spos", {}),
    "spos-channel": ("spos", {"variant": "channel"}),
    "spos-plus": ("spos", {"variant": "plus"}),
    "fbnet": ("fbnet", {}),
    "proxylessnas": ("proxylessnas", {}),
    "single-path-nas": ("single-path-nas", {}),
    "own": ("docs.own_space:space", {}),
}


def chain_of(name, preset="tiny"):
    space, options = SPACES[name]
    return spaces.describe(space, preset, **options)


def elastic_of(chain):
    return [label for block in chain.blocks for label in block.elastic]


@pytest.mark.parametrize("name", SPACES)
def test_strict_fairness_counts_after_any_number_of_steps(name):
    choices = chain_of(name).choices
    most = max(len(candidates) for candidates in choices.values())
    counts = {label: Counter(dict.fromkeys(candidates, 0)) for label, candidates in choices.items()}
    for step in range(5, 45):
        paths = strict_fair(choices, 7, step, first=5)
        assert len(paths) == most
        for path in paths:
            validate(path, choices)
            for label, candidate in path.items():
                counts[label][candidate] += 1
                assert max(counts[label].values()) - min(counts[label].values()) <= 1  # even within a step
        for label, candidates in choices.items():
            if len(candidates) == most:
                assert set(counts[label].values()) == {step - 4}


def test_strict_fair_permutations_are_independent_and_random():
    choices = chain_of("spos").choices
    steps = [strict_fair(choices, 0, step) for step in range(3000)]
    assert steps[:50] == [strict_fair(choices, 0, step) for step in range(50)]
    assert steps[:50] != [strict_fair(choices, 1, step) for step in range(50)]
    first = [tuple(path["block00"] for path in step) for step in steps]
    counts = Counter(first)
    assert len(counts) == 24
    assert sum((n - 125) ** 2 / 125 for n in counts.values()) < 65  # chi-square, 23 degrees of freedom: p = 7e-6
    pairs = Counter((step[0]["block00"], step[0]["block01"]) for step in steps)
    assert sum((pairs[a, b] - 187.5) ** 2 / 187.5 for a in choices["block00"] for b in choices["block01"]) < 50


@pytest.mark.parametrize("name", SPACES)
def test_uniform_counts(name):
    choices = chain_of(name).choices
    paths = [uniform(choices, 11, step)[0] for step in range(2000)]
    for label, candidates in choices.items():
        expected = 2000 / len(candidates)
        counts = Counter(path[label] for path in paths)
        # chi-square with K - 1 <= 9 degrees of freedom: exceeded with a probability below 2e-5
        assert sum((counts[c] - expected) ** 2 / expected for c in candidates) < 38, label


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_same_seed_same_paths(strategy):
    choices = chain_of("fbnet").choices
    make = lambda seed: Paths(STRATEGIES[strategy], choices, seed=seed)  # noqa: E731
    assert [make(3)(step) for step in range(30)] == [make(3)(step) for step in range(30)]
    assert [make(3)(step) for step in range(30)] != [make(4)(step) for step in range(30)]


def test_window_strategies_keep_their_limits():
    table = measure(spaces.describe("spos", "tiny"))
    limits = Limits(min_macs=3_000_000, max_macs=3_200_000)
    for draw in (draw_within_limits(FeasibleSpace(table, limits)), draw_from_bins(table, limits)):
        paths = [draw(table.choices, 0, step, 0)[0] for step in range(300)]
        assert all(3_000_000 <= table.macs(path) <= 3_200_000 for path in paths)
        assert paths[:10] == [draw(table.choices, 0, step, 0)[0] for step in range(10)]
    bins = Counter(int((table.macs(path) - 3_000_000) * 7 // 200_001) for path in paths)
    assert set(bins) == set(range(7))  # all bins are equally likely: 43 each
    assert min(bins.values()) > 15
    with pytest.raises(InputError, match="bins of MACs need their range: give --min-macs and --max-macs"):
        draw_from_bins(table, Limits(max_macs=3_000_000))


def test_width_warm_up_follows_the_published_epochs():
    opened = {epoch: widths_open(epoch - 1, 120)[0] * 2.0 for epoch in range(1, 121)}
    assert [round(opened[epoch], 3) for epoch in (1, 60, 61, 62, 63, 64, 65, 66, 67, 69, 70, 73)] == [
        *(2.0, 2.0, 1.8, 1.6, 1.4, 1.2, 1.0, 1.0, 0.8, 0.8, 0.6, 0.6)
    ]
    assert opened[79] == opened[120] == 0

    chain = chain_of("spos-plus")  # widths 0.2 to 2.0
    paths = Paths(uniform, chain.choices, elastic=elastic_of(chain), epochs=120, steps_per_epoch=30, width_warmup=True)
    for epoch, least in ((1, 2.0), (60, 2.0), (61, 1.8), (65, 1.0), (70, 0.6), (120, 0.2)):
        widths = {
            arch[label] for step in range(30) for arch in paths((epoch - 1) * 30 + step) for label in arch
            if label.startswith("width")
        }  # fmt: skip
        assert min(widths) == least
        assert max(widths) == 2.0
    seen = {path["block00"] for step in range(60) for path in paths(step)}
    assert seen == set(chain.choices["block00"])  # blocks are searched from the beginning


def test_strict_fairness_counts_hold_within_every_phase_of_the_width_warm_up():
    chain = chain_of("spos-channel")
    paths = Paths(
        strict_fair, chain.choices, elastic=elastic_of(chain), epochs=30, steps_per_epoch=7, width_warmup=True
    )
    phase, widths, operations = None, Counter(), Counter()
    for step in range(30 * 7):
        part, _ = widths_open(step // 7, 30)
        open_widths = [width for width in chain.choices["width03"] if width >= part * 1.6 - 1e-9]
        if open_widths != phase:
            phase, widths = open_widths, Counter(dict.fromkeys(open_widths, 0))
        for path in paths(step):
            widths[path["width03"]] += 1
            operations[path["block03"]] += 1
            assert max(widths.values()) - min(widths.values()) <= 1  # counted anew when the open widths change
            if len(operations) == 4:
                assert max(operations.values()) - min(operations.values()) <= 1  # these go on
        assert set(widths) == set(open_widths)
    assert len(open_widths) == 8


def test_baselines():
    chain = chain_of("spos-channel")
    settings = {"elastic": elastic_of(chain), "seed": 0}
    widest = Paths(uniform, chain.choices, use_all_channels=True, **settings)
    assert {path[f"width{i:02d}"] for step in range(20) for path in widest(step) for i in range(20)} == {1.6}
    everything = Paths(uniform, chain.choices, use_all_blocks=True, **settings)(3)[0]
    assert everything["block07"] == Weights([0.25] * 4)
    assert everything["width07"] in chain.choices["width07"]

    net = make_supernet(spaces.build("spos", "tiny")).eval()
    choices = net.chain.choices
    images = torch.randn(2, 3, 32, 32)
    activate_mixture(net, Paths(uniform, choices, use_all_blocks=True)(0)[0])
    outputs = []
    net.blocks[0].register_forward_hook(lambda module, inputs, output: outputs.append((inputs[0], output)))
    net(images)
    (given, made), block = outputs[0], net.blocks[0]
    torch.testing.assert_close(made, sum(block[name](given) for name in block.names) / 4)


@pytest.mark.parametrize(
    ("name", "draw", "settings", "says"),
    [
        ("spos", uniform, {"width_warmup": True}, "need a space with widths or superkernels"),
        ("spos-channel", uniform, {"width_warmup": True, "use_all_channels": True}, "contradict each other"),
        ("single-path-nas", uniform, {"use_all_blocks": True}, "needs blocks with candidates"),
        ("spos", strict_fair, {"use_all_blocks": True}, "use it with uniform sampling"),
        ("spos-channel", uniform, {"width_warmup": True, "epochs": 2}, "2 epochs are too few for the width warm-up"),
        ("spos-channel", lambda *_: [], {"width_warmup": True}, "a cost window draws from the whole space"),
    ],
)
def test_settings_that_make_no_sense(name, draw, settings, says):
    chain = chain_of(name)
    with pytest.raises(InputError, match=says):
        Paths(draw, chain.choices, elastic=elastic_of(chain), **settings)


@pytest.mark.parametrize("name", ["spos", "proxylessnas", "single-path-nas"])
def test_gradients_of_a_strict_fair_step_are_the_sum_of_separate_ones(name, monkeypatch):
    from trials.common import cli
    from trials.images.load import load_data
    from trials.images.options import DataOptions
    from trials.training import supernet_config, supernet_plan, supernet_trainer, trainer

    flags = ["--space", name, "--preset", "tiny", "--data", "digits", "--batch-size", "8", "--strategy", "strict-fair"]
    config = cli.parse(
        supernet_config.Config, [*flags, "--label-smoothing", "0", "--out", "unused"], None, "trials.supernet"
    ).fitted(1000)[0]
    data, chain = load_data(DataOptions(data="digits"), 32, score_fraction=0.25), spaces.describe(name, "tiny")
    about = {"name": name, "preset": "tiny", "options": {}}
    table = measure(chain)
    run = supernet_trainer.SupernetTrainer(
        config,
        data,
        SpaceSpec.read(about),
        table,
        supernet_plan.make_paths(config, chain, FeasibleSpace(table, config.limits()), data),
    )
    net = run.supernet
    for layer in net.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    images, labels, _ = next(run.batches(0))
    separate = {}
    for path in strict_fair(chain.choices, 0, 0):
        activate(net, path)
        net.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        for key, parameter in net.named_parameters():
            if parameter.grad is not None:
                separate[key] = separate.get(key, 0) + parameter.grad
    net.zero_grad()
    together = {}
    monkeypatch.setattr(
        trainer,
        "average_gradients",
        lambda _: together.update({k: p.grad.clone() for k, p in net.named_parameters()}),
    )
    run.step(0, images, labels)
    assert together.keys() == separate.keys() == dict(net.named_parameters()).keys()  # one step reaches every weight
    for key, gradient in together.items():
        torch.testing.assert_close(gradient, separate[key], rtol=1e-5, atol=1e-7)


# mixtures


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("training", [True, False])
def test_a_mixture_with_one_weight_is_the_path(name, training):
    torch.manual_seed(0)
    space, options = SPACES[name]
    net = make_supernet(spaces.build(space, "tiny", **options)).train(training)
    for layer in net.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    images = torch.randn(4, 3, 32, 32)
    if not training:  # statistics that are not all 0 and 1
        net.train()
        for seed in range(8):
            activate(net, uniform_path(net.chain.choices, random.Random(seed)))
            net(images)
        net.eval()
    for seed in range(3):
        arch = uniform_path(net.chain.choices, random.Random(seed))
        activate(net, arch)
        path = net(images)
        activate_mixture(
            net,
            {
                label: Weights([float(candidate == arch[label]) for candidate in candidates])
                for label, candidates in net.chain.choices.items()
            },
        )
        torch.testing.assert_close(net(images), path, rtol=1e-4, atol=1e-5)


def test_mixed_superkernel_against_its_own_definition():
    """Kernel and channels weighted by hand, in one block."""
    torch.manual_seed(0)
    net = make_supernet(spaces.build("single-path-nas", "tiny"))
    block = net.blocks[1]  # 12 channels, expansions 0 (skip), 3, 6
    x = torch.randn(4, 12, 8, 8)
    kernel, expand = torch.tensor([0.3, 0.7]), torch.tensor([0.2, 0.5, 0.3])
    block.active = {"kernel01": Weights(kernel), "expand01": Weights(expand)}
    mixed = block(x)
    ring = torch.ones(5, 5)
    ring[1:4, 1:4] = 0
    channels = torch.cat((torch.ones(36), torch.full((36,), 0.3 / 0.8)))  # of the 6-fold, given that it is not skipped
    largest = block._build(5, 6)
    largest.load_state_dict(block.state_dict())
    with torch.no_grad():
        largest.layers.depthwise[0].weight *= 1 - 0.3 * ring
        largest.layers.project[0].weight *= channels[:, None, None]
    torch.testing.assert_close(mixed, 0.8 * largest(x) + 0.2 * x, rtol=1e-4, atol=1e-5)


def test_a_mixture_with_a_wrong_label_is_refused():
    net = make_supernet(spaces.build("spos", "tiny"))
    right = {label: Weights([0.25] * 4) for label in net.chain.choices}
    with pytest.raises(ArchError, match="unknown label 'blok00'; did you mean 'block00'"):
        activate_mixture(net, {**right, "blok00": "k3"})
    with pytest.raises(ArchError, match="3 weights for 'block03', which has 4 candidates"):
        activate_mixture(net, {**right, "block03": Weights([0.5, 0.5, 0.0])})
    with pytest.raises(ArchError, match="lacks 'block19'"):
        activate_mixture(net, {label: weights for label, weights in right.items() if label != "block19"})


def test_an_op_warm_up_opens_choices_fewer_and_fewer():
    """A share of the choices that falls linearly from all to none, whatever else was drawn; the others stay as they were."""
    choices = {f"block{number}": ["a", "b", "skip"] for number in range(40)}
    path = dict.fromkeys(choices, "b") | {"width": 0.5}
    warm_up = OpWarmup(choices, seed=3, first=10, steps=200)
    assert warm_up(path, 9) == path
    assert all(warm_up(path, step) == path for step in (210, 500))
    first = warm_up(path, 10)
    assert first == {label: Weights([1 / 3] * 3) for label in choices} | {"width": 0.5}
    counts = []
    for step in range(10, 210):
        trained = warm_up(path, step)
        assert trained == warm_up(path, step)  # a function of seed and step, so a resumed run repeats it
        assert set(trained) == set(path)
        assert set(map(str, trained.values())) <= {"b", "0.5", str(Weights([1 / 3] * 3))}
        counts.append(sum(isinstance(value, Weights) for value in trained.values()))
    for quarter, expected in enumerate((0.875, 0.625, 0.375, 0.125)):  # 2,000 choices each; 4 standard deviations
        assert sum(counts[50 * quarter : 50 * quarter + 50]) / 2000 == pytest.approx(expected, abs=0.045)
    assert OpWarmup(choices, 4, 10, 200)(path, 110) != warm_up(path, 110)
    assert sum(counts) * 2 / 40 == pytest.approx(
        warm_up.more_passes(), rel=0.05
    )  # an open one runs two candidates more


def test_an_open_block_is_the_mean_of_its_candidates_and_trains_all():
    torch.manual_seed(0)
    net = make_supernet(spaces.build("fbnet", "tiny"))
    label = net.chain.blocks[1].label
    path = {label: candidates[0] for label, candidates in net.chain.operations.items()}
    x = torch.randn(4, 3, 32, 32)
    net.eval()
    activate_mixture(net, OpWarmup({label: net.chain.operations[label]}, 0, 0, 1)(path, 0))
    net.stem(x)
    before = net.blocks[0](net.stem(x))
    mean = net.blocks[1](before)
    alone = []
    for candidate in net.chain.operations[label]:
        activate(net, path | {label: candidate})
        alone.append(net.blocks[1](before))
    torch.testing.assert_close(mean, torch.stack(alone).mean(0), rtol=1e-5, atol=1e-6)
