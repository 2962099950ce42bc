"""Recipes and what they are made of: schedules, optimisers, EMA, augmentation; baselines."""

import numpy as np
import pytest
import torch
from torch import nn

from trials import retrain
from trials.images.augment import mix_images, rand_augment
from trials.images.load import load_data
from trials.networks import baselines, batchnorm
from trials.training import optimizers, recipes
from trials.training.ema import SupernetEma, decay_at, make_ema

IMAGENET = 1_281_167  # training images


def configured(*flags, images=IMAGENET):
    from trials.common import cli

    return cli.parse(retrain.Config, list(map(str, flags)), None, "trials.retrain").fitted(images)[0]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("spos", "sgd 0.5 0.9 linear 0.0 240 1024 4e-05 0.1 0.4"),  # megvii-model/SinglePathOneShot, src/Evaluation
        ("proxylessnas", "sgd 0.05 0.9 cosine 0.0 300 256 4e-05 0.1 0.4"),  # mit-han-lab/proxylessnas, search/
        ("fairnas", f"rmsprop-tf 0.256 0.9 exponential {5 / 350} 350 4096 1e-05 0.1 0.0"),  # tensorflow/tpu, mnasnet
        ("cifar", "sgd 0.025 0.9 linear 0.0 600 96 0.0003 0.0 0.0"),  # ShunLu91/Single-Path-One-Shot-NAS
        ("tiny", "sgd 0.2 0.9 cosine 0.1 16 64 0.0001 0.1 0.0"),
    ],
)
def test_recipes_are_those_of_their_sources(name, values):
    recipe = recipes.RECIPES[name]
    fields = ("optimizer", "lr", "momentum", "schedule", "warmup", "epochs", "batch_size", "weight_decay")
    assert " ".join(str(recipe[field]) for field in (*fields, "label_smoothing", "color_jitter")) == values
    assert set(recipe) == set(recipes.OPTIONS)
    assert (recipe["nesterov"], recipe["ema"]) == (name == "proxylessnas", 0.9999 if name == "fairnas" else 0.0)
    assert not recipe["decay_norm_and_bias"]
    assert set(recipes.OPTIONS) <= set(retrain.Config.__dataclass_fields__)


def test_the_recipe_follows_the_space(arc):
    names = {
        ("spos", "imagenet"): "spos",
        ("fbnet", "imagenet"): "spos",
        ("spos", "cifar"): "cifar",
        ("fbnet", "tiny"): "tiny",
        ("proxylessnas", "gpu"): "proxylessnas",
        ("proxylessnas", "imagenet"): "proxylessnas",
        ("proxylessnas", "fairnas"): "fairnas",
    }
    assert {key: recipes.default_name(*key) for key in names} == names
    assert configured("--fixed-arc", "proxyless-gpu").dropout == 0.3
    fairnas = configured("--fixed-arc", "fairnas-a", "--epochs", "3", "--no-decay-norm-and-bias")
    assert (fairnas.recipe, fairnas.epochs, fairnas.lr, fairnas.dropout) == ("fairnas", 3, 0.256, 0.2)
    given = configured("--fixed-arc", arc, "--recipe", "fairnas", "--ema", "0", "--optimizer", "sgd", "--lr", "0.1")
    assert (given.ema, given.optimizer, given.lr, given.weight_decay) == (0.0, "sgd", 0.1, 1e-5)


def test_mnasnets_schedule_and_optimiser():
    def rate(epoch):  # of 350, 10 steps each
        step = round(10 * epoch)
        return optimizers.learning_rate(
            step, 3500, peak=0.256, schedule="exponential", warmup=5 / 350, gamma=0.97, every=24
        )

    assert rate(0) == pytest.approx(0.256 / 50)
    assert rate(4.9) == pytest.approx(0.256)
    assert rate(5) == pytest.approx(0.256 * 0.97**2)
    assert rate(24) == pytest.approx(0.256 * 0.97**10)
    assert rate(349.9) == pytest.approx(0.256 * 0.97**145)

    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    settings = {"momentum": 0.9, "weight_decay": 0.0, "decay_norm_and_bias": False}
    optimizer = optimizers.make_optimizer(layer, "rmsprop-tf", lr=0.1, **settings)
    weight, square, velocity = 1.0, 1.0, 0.0
    for gradient in (2.0, -1.0):
        layer.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
        square = 0.9 * square + 0.1 * gradient**2
        velocity = 0.9 * velocity + 0.1 * gradient / (square + 0.001) ** 0.5
        weight -= velocity
        assert layer.weight.item() == pytest.approx(weight, rel=1e-6)


def test_nothing_of_norms_and_biases_decays_in_a_baseline():
    network = baselines.build_baseline("timm:mobilenetv3_small_050", 10)  # its convolutions of SE have biases
    config = configured("--baseline", "timm:mobilenetv3_small_050", "--recipe", "fairnas")
    settings = {"lr": config.lr, "momentum": config.momentum, "weight_decay": config.weight_decay}
    decay = config.decay_norm_and_bias
    decayed, spared = optimizers.make_optimizer(
        network, config.optimizer, **settings, decay_norm_and_bias=decay
    ).param_groups
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    norms = {name for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert decayed["weight_decay"] == 1e-5
    assert spared["weight_decay"] == 0
    for parameter in decayed["params"]:
        name, _, kind = names[id(parameter)].rpartition(".")
        assert kind == "weight"
        assert name not in norms


def test_ema_by_hand():
    assert [decay_at(n, 0.5) for n in (1, 2, 8, 9, 100)] == [2 / 11, 3 / 12, 0.5, 0.5, 0.5]
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1))
    mean = make_ema(network, 0.2)
    weight = stat = None
    for n, value in enumerate((1.0, 3.0, -2.0, 7.0)):
        with torch.no_grad():
            network[0].weight.fill_(value)
            network[1].running_mean.fill_(10 * value)
            network[1].num_batches_tracked.fill_(n)
        mean.update_parameters(network)
        keep = min(0.2, (1 + n) / (10 + n)) if n else 0.0
        weight = value if weight is None else keep * weight + (1 - keep) * value
        stat = 10 * value if stat is None else keep * stat + (1 - keep) * 10 * value
        assert mean.module[0].weight.item() == pytest.approx(weight, rel=1e-6)
        assert mean.module[1].running_mean.item() == pytest.approx(stat, rel=1e-6)
        assert mean.module[1].num_batches_tracked.item() == n
    assert not mean.module.training
    assert network[0].weight.item() == 7.0  # untouched


def test_ema_of_a_supernet_by_hand():
    """Weights off the path count as they are, buffers are the network's own, and replaced weights begin a new average."""
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    moved, still = (network[number].weight for number in (0, 1))
    nn.init.ones_(moved), nn.init.ones_(still)
    ema, by_hand = SupernetEma(network, 0.25), 1.0
    for update, value in enumerate((3.0, 5.0, 2.0), 1):
        nn.init.constant_(moved, value)
        ema.update()
        by_hand += (value - by_hand) * (1 - decay_at(update, 0.25))
    network[2].running_mean.fill_(7)
    weights = ema.weights()
    assert float(weights["0.weight"]) == pytest.approx(by_hand)
    assert by_hand != float(moved) == 2.0
    assert float(weights["1.weight"]) == 1.0
    assert float(weights["2.running_mean"]) == 7.0
    assert weights.keys() == network.state_dict().keys()

    again = SupernetEma(network, 0.25)
    again.restore({**ema.state(), "mean": {name: mean.clone() for name, mean in ema.state()["mean"].items()}})
    nn.init.constant_(moved, 9.0)
    ema.update(), again.update()
    assert torch.equal(ema.weights()["0.weight"], again.weights()["0.weight"])
    ema.restart()
    assert float(ema.weights()["0.weight"]) == 9.0


@pytest.mark.parametrize("kind", ["digits", "folder"])
def test_randaugment_is_a_function_of_seed_epoch_and_place(kind, tree):
    more = ["--data", "folder", "--data-root", tree, "--loader", "torchvision", "--workers", "0"]
    flags = [
        "--baseline",
        "timm:mobilenetv2_100",
        "--preset",
        "tiny",
        *(more if kind == "folder" else ["--data", kind]),
    ]
    config = configured(*flags, "--randaugment", "2", "--batch-size", "8")
    torch.manual_seed(5)
    before = torch.get_rng_state()

    def first(epoch=0, take=None, start=0, operations=2):
        data = load_data(config, 32, score_fraction=0.1, randaugment=(operations, 9))
        return next(data.train_batches("all", 8, seed=0, epoch=epoch, start=start, take=take))[0]

    whole = first()
    assert torch.equal(first(), whole)
    assert torch.equal(first(take=np.array([1, 6])), whole[[1, 6]])
    if kind == "digits":
        assert torch.equal(torch.get_rng_state(), before)  # nothing is taken from the process' own numbers
    assert not torch.equal(first(epoch=1), whole)
    changed = (first(operations=0) != whole).flatten(1).any(1)
    assert 4 <= int(changed.sum()) <= 8  # some operations leave an image as it is


def test_randaugment_and_mixing_by_hand():
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    seeds = np.arange(4)
    out = rand_augment(images, 1, 9, seeds)
    assert out.dtype == torch.uint8
    assert torch.equal(rand_augment(images[2:], 1, 9, seeds[2:]), out[2:])

    x, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 3
    state = torch.get_rng_state()
    mixed, targets = mix_images(x, labels, 3, mixup=0.4, cutmix=0.0, seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    share = targets[0, 0].item()
    torch.testing.assert_close(mixed, share * x + (1 - share) * x.roll(1, 0))
    torch.testing.assert_close(targets.sum(1), torch.ones(6))
    cut, targets = mix_images(x, labels, 3, mixup=0.0, cutmix=1.0, seed=1)
    old, new = cut == x, cut == x.roll(1, 0)
    assert (old | new).all()
    assert targets[1, 1].item() == pytest.approx(old[1, 0].float().mean().item(), abs=1e-6)
    ways = set()
    for seed in range(20):  # both ways are drawn
        mixed, _ = mix_images(x, labels, 3, mixup=0.4, cutmix=1.0, seed=seed)
        ways.add(bool(((mixed == x) | (mixed == x.roll(1, 0))).all()))
    assert ways == {True, False}


@pytest.mark.parametrize("name", ["timm:mobilenetv2_100,output_stride=8", "torchvision:mobilenet_v3_small"])
def test_batchnorms_of_baselines_are_folded_before_they_are_timed(name):
    torch.manual_seed(0)
    network = baselines.build_baseline(name, 10)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.running_mean, -1, 1)
    folded = batchnorm.fold_batchnorm_traced(network, 32)
    assert not [layer for layer in folded.modules() if isinstance(layer, nn.BatchNorm2d)]
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), network.eval()(images), rtol=1e-3, atol=1e-4)


def test_costs_of_a_baseline():
    """MobileNetV2: 300,774,272 multiply-adds of convolutions and classifier, 3,504,872 params (arXiv:1801.04381: 300M, 3.4M)."""
    assert baselines.check_baseline("torchvision:mobilenet_v2", 1000, 224) == (300_774_272, 3_504_872)


@pytest.mark.parametrize(
    ("preset", "data", "smoothing"), [("imagenet", "cifar10", 0.1), ("cifar", "cifar10", 0.0), ("tiny", "digits", 0.1)]
)
def test_label_smoothing_of_a_supernet_is_that_of_its_source(preset, data, smoothing):
    """The seed implementation (github.com/ShunLu91/Single-Path-One-Shot-NAS) has nn.CrossEntropyLoss() alone."""
    from trials.training.supernet_config import Config

    assert Config(out="none", preset=preset, data=data).label_smoothing == smoothing
    assert Config(out="none", preset=preset, data=data, label_smoothing=0.2).label_smoothing == 0.2


def test_networks_of_which_only_the_counts_are_published_are_marked(capsys):
    from spaces.published import PUBLISHED
    from trials import space

    space.main(["--list"])
    said = capsys.readouterr().out
    marked = {key for entries in PUBLISHED.values() for key, entry in entries.items() if entry.counts_only}
    assert marked == {"spos-cifar", "oneshot-s-plus", "oneshot-plus"}
    rows = {line.split()[0]: line.split()[-1] for line in said.splitlines() if line}
    for entries in PUBLISHED.values():
        for key, entry in entries.items():
            assert rows[key] == f"{entry.top1:.2f}" + "*" * (key in marked)
    for key in marked:
        assert f"* {key}: only the counts are those of its authors" in said
    space.main(["spos"])
    said = capsys.readouterr().out
    assert "* oneshot-plus: only the counts" in said
    assert "* spos-cifar" not in said
