"""Retraining: resuming, held-out images, published networks, baselines, mistakes."""

import shutil

import pytest
import torch

import spaces
from spaces.arch import arch_id
from spaces.errors import InputError, Stopped
from spaces.files import load_json, save_json
from spaces.published import PUBLISHED
from tests.commands import assert_one_clear_line, onepath
from tests.experiments import events, log_without_times
from tests.unit.test_recipes import configured
from trials import report, retrain
from trials.common import run_dir
from trials.common.checkpoint import load_checkpoint
from trials.networks import build
from trials.networks.answers import Answers
from trials.reporting import baselines_table
from trials.training import retrain_plan, retrain_trainer

SMALL = ["--preset", "tiny", "--data", "digits", "--resolution", "16", "--batch-size", "128"]  # a second per epoch
EVERYTHING = ["--ema", "0.99", "--mixup", "0.2", "--cutmix", "1", "--randaugment", "2", "--cutout", "4"]
EVERYTHING += ["--color-jitter", "0.2", "--clip-norm", "5", "--nesterov"]


# runs


def test_a_resumed_run_is_bitwise_the_same(arc, tmp_path, monkeypatch):
    """With an average, mixing, RandAugment and held-out images; stopped between two checkpoints."""
    flags = ["--fixed-arc", str(arc), *SMALL, *EVERYTHING, "--epochs", "2", "--hold-out", "0.2"]
    flags += ["--checkpoint-every", "5", "--device", "cpu", "--resume", "--out"]
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
    cut, whole = (load_checkpoint(tmp_path / n / "seed0/checkpoints/last.pt", "") for n in ("cut", "whole"))
    for part in ("model", "ema"):
        assert all(torch.equal(cut[part][name], whole[part][name]) for name in whole[part])
    logs = [log_without_times(tmp_path / name / "seed0") for name in ("cut", "whole")]
    assert logs[0] == logs[1]
    lines = logs[0]
    curves = events(tmp_path / "cut" / "seed0" / "tensorboard")
    assert curves == events(tmp_path / "whole" / "seed0" / "tensorboard")
    assert (curves["train/loss"], curves["score/top1"], curves["test/top1"]) == ([8, 16], [8, 16], [16])
    measured = [line["val_top1"] for line in lines if "val_top1" in line]
    assert len(measured) == 2
    assert all("lr" in line for line in lines if "loss" in line)

    run = tmp_path / "whole" / "seed0"
    best, result = load_checkpoint(run / "checkpoints" / "best.pt", ""), load_json(run / "result.json", "")
    assert best["val_top1"] == max(measured) == result["val_top1"]
    stored = load_checkpoint(run / "network.pt", "")
    assert set(stored) == {"model", "arch", "space", "seed", "preprocessing"}
    assert all(torch.equal(stored["model"][name], best["model"][name]) for name in stored["model"])
    assert not torch.equal(stored["model"]["stem.0.weight"], whole["model"]["stem.0.weight"])  # the average
    assert right_answers(run / "network.pt", configured(*flags, str(tmp_path))) == result["test_correct"]
    assert result["test_top1"] == 100 * result["test_correct"] / result["test_images"]
    answers = Answers.load(run / "answers.npz")
    assert (int(answers.right.sum()), answers.size) == (result["test_correct"], result["test_images"])
    assert (run / "answers.npz").read_bytes() == (tmp_path / "cut" / "seed0" / "answers.npz").read_bytes()


def right_answers(path, config):
    """Of the test images, by a network that was read again."""
    network, data = build.load_network(path), retrain_trainer.open_data(config)
    with torch.no_grad():
        return sum(
            int((network(data.normalise(images)).argmax(1) == labels).sum())
            for images, labels in data.eval_batches("test", 100)
        )


def test_seeds_that_were_trained_stay_in_the_result(arc, tmp_path, capsys):
    """Fewer seeds than there are: certificate, model card and report read the result of all of them."""
    out = tmp_path / "out"
    flags = ["--fixed-arc", str(arc), *SMALL, "--epochs", "1", "--device", "cpu", "--out", str(out)]
    retrain.main([*flags, "--seeds", "2"])
    result = load_json(out / "result.json", "")
    assert len(result["test_top1"]) == 2
    capsys.readouterr()
    told = retrain.main([*flags, "--resume"])
    assert f"--seeds 1: '{out}' has results of 2 seeds, and all of them count" in capsys.readouterr().out
    assert load_json(out / "result.json", "") == result == told["result"]


def test_the_scale_of_fp16_gradients_is_in_the_checkpoint(arc, tmp_path):
    from lightning_fabric.plugins import MixedPrecision

    config = configured("--fixed-arc", arc, *SMALL, "--device", "cpu", "--out", tmp_path)
    space = {"name": "spos", "preset": "tiny", "options": {"classes": 10, "resolution": 16}}
    about = {"arch": retrain_plan.read_arch(config), "space": space}
    trainer = retrain_trainer.NetworkTrainer(config, about, 0, retrain_trainer.open_data(config))
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)  # training with it needs a GPU
    trainer.fabric.strategy._precision = MixedPrecision("16-mixed", "cpu", scaler)
    run_dir.save_checkpoint(tmp_path / "last.pt", trainer.state())
    scaler.load_state_dict({**scaler.state_dict(), "scale": 4.0})
    trainer.restore(load_checkpoint(tmp_path / "last.pt", ""))
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
    assert {"weight_decay", "0.01", "(not", "0.0001)"} <= set(said.split())  # folded, in a table of 120 columns
    assert max(map(len, said.partition("\nnetwork ")[2].partition("\nlatency: ")[0].splitlines())) <= 120
    out = here / "baselines" / "timm-mobilenetv2_035"
    config, result = load_json(out / "config.json", "")["config"], load_json(out / "result.json", "")
    assert (config["lr"], config["ema"], config["batch_size"], config["epochs"]) == (0.05, 0.9, 256, 1)
    assert result["arch"] is None

    rows = baselines_table.collect_networks(here)
    assert [row.network for row in rows] == [f"found: {arch_id(arch)}", "timm:mobilenetv2_035"]
    assert [row.n for row in rows] == [2, 1]
    assert rows[0].std is not None
    assert all(row.latency_ms > 0 for row in rows)
    assert all(set(row.latency.split()) <= set(said.split()) for row in rows)
    assert rows[1].differs == "weight_decay 0.01 (not 0.0001)"
    stored = load_checkpoint(out / "seed0" / "network.pt", "")
    assert (stored["arch"], stored["space"], stored["baseline"]) == (None, None, "timm:mobilenetv2_035")
    again = build.load_network(out / "seed0" / "network.pt")
    assert sum(parameter.numel() for parameter in again.parameters()) == result["params"] == rows[1].params
    flags = ["--baseline", "timm:mobilenetv2_035", "--supernet", str(here)]
    seed = load_json(out / "seed0" / "result.json", "")
    assert right_answers(out / "seed0" / "network.pt", configured(*flags)) == seed["test_correct"]

    report.main([str(here)])
    said = capsys.readouterr().out
    assert f"{result['mean']:.2f}%" in said
    assert "baseline timm:mobilenetv2_035" in said
    page = (here / "report.html").read_text()
    assert "weight_decay 0.01 (not 0.0001)" in page
    assert rows[1].latency in page


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
