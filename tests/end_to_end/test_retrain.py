"""Retraining: recipes, EMA, augmentation, resuming, held-out images, published networks, baselines."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import spaces
from spaces.errors import InputError, Stopped
from spaces.files import load_json, save_json
from spaces.published import PUBLISHED
from tests.commands import assert_one_clear_line, onepath
from trials import report, retrain
from trials.common import run_dir
from trials.images.augment import mix_images, rand_augment
from trials.images.load import load_data
from trials.networks import baselines, batchnorm, build
from trials.reporting import baselines_table
from trials.training import optimizers, recipes, retrain_plan, retrain_trainer
from trials.training.ema import decay_at, make_ema

SMALL = ["--preset", "tiny", "--data", "digits", "--resolution", "16", "--batch-size", "128"]  # a second per epoch
EVERYTHING = ["--ema", "0.99", "--mixup", "0.2", "--cutmix", "1", "--randaugment", "2", "--cutout", "4"]
EVERYTHING += ["--color-jitter", "0.2", "--clip-norm", "5", "--nesterov"]


@pytest.fixture
def arc(tmp_path):
    path = tmp_path / "arc.json"
    path.write_text(str((0,) * 20))
    return path


def configured(*flags):
    from trials.common import cli

    return cli.parse(retrain.Config, list(map(str, flags)), None, "trials.retrain")


# recipes


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


# EMA and augmentation


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


# runs


def test_a_resumed_run_is_bitwise_the_same(arc, tmp_path, monkeypatch):
    """With an average, mixing, RandAugment and held-out images; stopped between two checkpoints."""
    flags = ["--fixed-arc", str(arc), *SMALL, *EVERYTHING, "--epochs", "2", "--hold-out", "0.2"]
    flags += ["--checkpoint-every", "5", "--resume", "--out"]
    original = retrain_trainer.NetworkTrainer.step

    def stop(self, step, *batch):
        if step == 13:  # of 16; the last checkpoint is at 10, the first measurement at 8
            raise KeyboardInterrupt
        return original(self, step, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(retrain_trainer.NetworkTrainer, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            retrain.main([*flags, str(tmp_path / "cut")])
    for name in ("cut", "whole"):
        retrain.main([*flags, str(tmp_path / name)])
    cut, whole = (run_dir.load_checkpoint(tmp_path / n / "seed0/checkpoints/last.pt", "") for n in ("cut", "whole"))
    for part in ("model", "ema"):
        assert all(torch.equal(cut[part][name], whole[part][name]) for name in whole[part])
    logs = [(tmp_path / name / "seed0" / "log.jsonl").read_text() for name in ("cut", "whole")]
    assert logs[0] == logs[1]
    lines = [json.loads(line) for line in logs[0].splitlines()]
    measured = [line["val_top1"] for line in lines if "val_top1" in line]
    assert len(measured) == 2
    assert all("lr" in line for line in lines if "loss" in line)

    run = tmp_path / "whole" / "seed0"
    best, result = run_dir.load_checkpoint(run / "checkpoints" / "best.pt", ""), load_json(run / "result.json", "")
    assert best["val_top1"] == max(measured) == result["val_top1"]
    stored = run_dir.load_checkpoint(run / "network.pt", "")
    assert set(stored) == {"model", "arch", "space", "seed", "preprocessing"}
    assert all(torch.equal(stored["model"][name], best["model"][name]) for name in stored["model"])
    assert not torch.equal(stored["model"]["stem.0.weight"], whole["model"]["stem.0.weight"])  # the average
    assert right_answers(run / "network.pt", configured(*flags, str(tmp_path))) == result["test_correct"]
    assert result["test_top1"] == 100 * result["test_correct"] / result["test_images"]


def right_answers(path, config):
    """Of the test images, by a network that was read again."""
    network, data = build.load_network(path), retrain_trainer.open_data(config)
    with torch.no_grad():
        return sum(
            int((network(data.normalise(images)).argmax(1) == labels).sum())
            for images, labels in data.eval_batches("test", 100)
        )


def test_the_scale_of_fp16_gradients_is_in_the_checkpoint(arc, tmp_path):
    from lightning_fabric.plugins import MixedPrecision

    config = configured("--fixed-arc", arc, *SMALL, "--out", tmp_path)
    space = {"name": "spos", "preset": "tiny", "options": {"classes": 10, "resolution": 16}}
    about = {"arch": retrain_plan.read_arch(config), "space": space}
    trainer = retrain_trainer.NetworkTrainer(config, about, 0, retrain_trainer.open_data(config))
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)  # training with it needs a GPU
    trainer.fabric.strategy._precision = MixedPrecision("16-mixed", "cpu", scaler)
    run_dir.save_checkpoint(tmp_path / "last.pt", trainer.state())
    scaler.load_state_dict({**scaler.state_dict(), "scale": 4.0})
    trainer.restore(run_dir.load_checkpoint(tmp_path / "last.pt", ""))
    assert scaler.state_dict()["scale"] == 512.0


def test_a_loss_that_is_not_finite_stops_with_one_line(arc, tmp_path):
    flags = [
        "--fixed-arc",
        str(arc),
        *SMALL,
        "--checkpoint-every",
        "2",
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]
    flags += ["--warmup", "0.5", "--lr", "1e20"]
    says = "seed 0: the .* step .*; start again with a lower --lr, or with --clip-norm"
    with pytest.raises(Stopped, match=says):  # trials.cli prints it and exits with 3
        retrain.main(flags)
    assert not (tmp_path / "run" / "seed0" / "network.pt").exists()


def test_published_networks_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = configured("--fixed-arc", "oneshot-s-plus")
    assert (config.space, config.preset, config.space_options) == ("spos", "imagenet", "variant=plus")
    assert config.out == "runs/oneshot-s-plus"
    retrain.main(["--fixed-arc", "spos-block", *SMALL, "--epochs", "1"])
    result = load_json(tmp_path / "runs" / "spos-block" / "result.json", "")
    assert result["arch"] == PUBLISHED["spos"]["spos-block"].arch
    (tmp_path / "spos-block").write_text(str((1,) * 20))  # a file of that name wins
    config = configured("--fixed-arc", "spos-block", "--preset", "tiny")
    assert set(retrain_plan.read_arch(config).values()) == {"k5"}
    assert config.out == "retrain"


def test_where_runs_go(tmp_path, run):
    assert configured("--fixed-arc", "RUN/frontier/2936448-84c7f6000c3f.json").out == "RUN/retrain-84c7f6000c3f"
    assert configured("--fixed-arc", "RUN/arc.json").out == "RUN/retrain"
    assert configured("--baseline", "timm:mobilenetv2_100,output_stride=8").out == (
        "runs/baselines/timm-mobilenetv2_100-output_stride=8"
    )
    assert configured("--baseline", "torchvision:mobilenet_v3_small", "--supernet", run).out == str(
        run / "baselines" / "torchvision-mobilenet_v3_small"
    )


# baselines


def test_a_baseline_beside_the_winner(arc, tmp_path, run, capsys):
    here = tmp_path / "run"
    shutil.copytree(run, here)
    shutil.copy(arc, here / "arc.json")
    chain = spaces.describe("spos", "tiny")
    arch = dict.fromkeys(chain.choices, "k3")
    save_json(
        here / "most_probable.json",
        {"arch": arch, "strategy": "", "max_macs": None, "macs": 1, "params": 1, "log_probability": None},
    )
    flags = ["--supernet", str(here), "--batch-size", "256", "--epochs", "1"]
    retrain.main(["--fixed-arc", str(here / "arc.json"), *flags, "--lr", "0.05", "--ema", "0.9", "--seeds", "2"])
    capsys.readouterr()
    retrain.main(["--baseline", "timm:mobilenetv2_035", "--supernet", str(here), "--weight-decay", "0.01"])
    said = capsys.readouterr().out
    assert f"recipe: options that are not given are those of the winner, '{here}/retrain'" in said
    assert "weight_decay 0.01 (not 0.0001)" in said
    out = here / "baselines" / "timm-mobilenetv2_035"
    config, result = load_json(out / "config.json", "")["config"], load_json(out / "result.json", "")
    assert (config["lr"], config["ema"], config["batch_size"], config["epochs"]) == (0.05, 0.9, 256, 1)
    assert result["arch"] is None

    rows = baselines_table.collect_networks(here)
    assert [row.network for row in rows] == [f"found: {report.arch_id(arch)}", "timm:mobilenetv2_035"]
    assert [row.n for row in rows] == [2, 1]
    assert rows[0].std is not None
    assert all(row.latency_ms > 0 for row in rows)
    assert all(row.latency in said for row in rows)
    stored = run_dir.load_checkpoint(out / "seed0" / "network.pt", "")
    assert (stored["arch"], stored["space"], stored["baseline"]) == (None, None, "timm:mobilenetv2_035")
    again = build.load_network(out / "seed0" / "network.pt")
    assert sum(parameter.numel() for parameter in again.parameters()) == result["params"] == rows[1].params
    flags = ("--baseline", "timm:mobilenetv2_035", "--supernet", here)
    seed = load_json(out / "seed0" / "result.json", "")
    assert right_answers(out / "seed0" / "network.pt", configured(*flags)) == seed["test_correct"]

    report.main([str(here)])
    said = capsys.readouterr().out
    assert f"{result['mean']:.2f}%" in said
    assert "baseline timm:mobilenetv2_035" in said
    page = (here / "report.html").read_text()
    assert "weight_decay 0.01 (not 0.0001)" in page
    assert rows[1].latency in page


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
    ("flags", "says"),
    [
        ("--baseline timm:mobilenetv2_10", "timm has no model 'mobilenetv2_10'; did you mean mobilenetv2_1"),
        ("--baseline timm:vit_tiny_patch16_224", "with images of 32x32 pixels fails: .*img_size"),
        ("--baseline keras:x", "is not timm:NAME or torchvision:NAME"),
        ("--baseline timm:mobilenetv2_100,pretrained=true", "pretrained has no place here, .* from scratch"),
        ("--baseline timm:mobilenetv2_100,foo=3", "cannot be made: TypeError"),
        ("--baseline timm:mobilenetv2_100,stride", "'stride' is not NAME=VALUE"),
        ("--baseline timm:mobilenetv2_100 --fixed-arc spos-block", "one of them"),
        ("--fixed-arc spos-blok", "no published network: unknown name 'spos-blok'; did you mean 'spos-block'"),
        ("--fixed-arc fbnet-a --space spos", "--fixed-arc fbnet-a is of space fbnet, not spos; leave --space out"),
        ("--fixed-arc fairnas-a", "lacks 'block19' .*in space proxylessnas tiny; it is of proxylessnas fairnas"),
        ("--fixed-arc spos-block --hold-out 1", "--hold-out 1.0 is out of range"),
        ("--fixed-arc spos-block --ema 1", "--ema 1.0 is out of range"),
        ("--fixed-arc spos-block --mixup -1", "--mixup -1.0 is below 0"),
        ("--fixed-arc spos-block --randaugment 2 --randaugment-magnitude 31", "give 0 to 30"),
        ("--fixed-arc spos-block --optimizer adam --nesterov", "--nesterov is of --optimizer sgd"),
        ("--fixed-arc spos-block --eval-every 0", "--eval-every 0 is not above 0"),
        ("--fixed-arc spos-block --decay-rate 2", "--decay-rate 2.0 is out of range"),
        ("--fixed-arc spos-block --batch-size 5000 --hold-out 0.5", "--batch-size 5000 exceeds the 7.. images"),
        ("--import-official x.pth --hold-out 0.1", "--import-official trains nothing"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(flags, says, tmp_path):
    with pytest.raises(InputError, match=says):
        retrain.main([*flags.split(), "--preset", "tiny", "--data", "digits", "--out", str(tmp_path / "x")])
    assert not (tmp_path / "x").exists()


def test_contradictions_of_a_supernet(run, tmp_path):
    flags = ["--supernet", str(run), "--out", str(tmp_path / "x")]
    with pytest.raises(InputError, match="--fixed-arc fbnet-a is of space fbnet, supernet '.*' has spos"):
        retrain.main(["--fixed-arc", "fbnet-a", *flags])
    with pytest.raises(InputError, match="holds 0.25 of its training images out; give --hold-out 0.25"):
        retrain.main(["--fixed-arc", "spos-block", *flags, "--hold-out", "0.1"])


def test_processes_must_share_the_batch(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    for flags, says in (
        (["--batch-size", "64"], "--batch-size 64 is not divisible among 3 processes; give a multiple of 3"),
        (["--jobs", "2"], "--jobs 2 under torchrun"),
    ):
        with pytest.raises(InputError, match=says):
            configured("--fixed-arc", "spos-block", "--preset", "tiny", *flags)


def test_one_line_for_a_misspelt_recipe():
    done = onepath("retrain", "--fixed-arc", "spos-block", "--recipe", "spso")
    assert_one_clear_line(done, "argument --recipe: invalid choice: 'spso'", "proxylessnas")
