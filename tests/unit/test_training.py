"""Training: data, BN statistics, schedules, kill and resume, retraining."""

import json
import os
import re

import pytest
import torch
from torch import nn

import spaces
from spaces.errors import InputError
from spaces.files import atomic, load_json, save_json
from tests.commands import Command, onepath
from tests.conftest import SUPERNET
from trials import retrain, supernet
from trials.common import run_dir
from trials.networks.batchnorm import recalibrate_batchnorm
from trials.training import optimizers

# BN recalibration


def test_bn_statistics_are_those_of_the_images():
    torch.manual_seed(0)
    network = spaces.describe("spos", "tiny").network(dict.fromkeys(spaces.describe("spos", "tiny").choices, "k3"))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.fill_(9.0)
    batches = [torch.randn(16, 3, 32, 32) for _ in range(3)]
    assert recalibrate_batchnorm(network, batches) == 48
    conv, norm = network.stem[0], network.stem[1]
    with torch.no_grad():
        outputs = [conv(batch) for batch in batches]
    mean = torch.stack([x.mean((0, 2, 3)) for x in outputs]).mean(0)
    variance = torch.stack([x.transpose(0, 1).flatten(1).var(1, unbiased=True) for x in outputs]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    assert not network.training
    assert norm.momentum == 0.1

    kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    recalibrate_batchnorm(network, batches[::-1])
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, kept[name], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="at least one batch"):
        recalibrate_batchnorm(network, [])


# optimisers and schedules


def test_schedules():
    def rates(schedule, **more):
        return [optimizers.learning_rate(s, 100, peak=1.0, schedule=schedule, warmup=0.1, **more) for s in range(100)]

    for schedule in optimizers.SCHEDULES:
        assert rates(schedule)[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
        assert rates(schedule)[10] == 1.0
    assert rates("linear")[55] == pytest.approx(0.5)
    assert rates("cosine")[55] == pytest.approx(0.5)
    assert rates("cosine")[99] < 0.001 < rates("linear")[99] < 0.012
    assert {round(rate, 6) for rate in rates("step")[10:]} == {1.0, 0.1, 0.01}
    assert optimizers.learning_rate(0, 100, peak=1.0, schedule="linear", warmup=0) == 1.0


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_weight_decay_spares_norms_and_biases(name):
    chain = spaces.describe("spos", "tiny", affine=True)
    network = chain.network(dict.fromkeys(chain.choices, "k3"))
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.5}
    optimizer = optimizers.make_optimizer(network, name, **settings, decay_norm_and_bias=False)
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0.0)
    assert all(parameter.dim() > 1 for parameter in decayed["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(list(network.parameters()))
    assert len(optimizers.make_optimizer(network, name, **settings, decay_norm_and_bias=True).param_groups) == 1


# supernet


def test_a_step_moves_only_its_path(tmp_path):
    from spaces.arch import activate
    from spaces.model_space import make_supernet
    from strategies.sampling import uniform

    net = make_supernet(spaces.build("spos", "tiny"))
    arch = uniform(net.chain.choices, 0, 0)[0]
    activate(net, arch)
    optimizer = optimizers.make_optimizer(net, "sgd", lr=0.1, momentum=0.9, weight_decay=0.1, decay_norm_and_bias=True)
    before = {name: parameter.clone() for name, parameter in net.named_parameters()}
    net(torch.randn(4, 3, 32, 32)).sum().backward()
    optimizer.step()
    labels = list(arch)
    for name, parameter in net.named_parameters():
        parts = name.split(".")
        on_path = parts[0] != "blocks" or arch[labels[int(parts[1])]] == parts[2]
        assert torch.equal(parameter, before[name]) != on_path, name


def start(out, *more):
    return Command("trials.supernet", *SUPERNET, "--checkpoint-every", "4", "--out", out, *more)


def test_killed_and_resumed_is_bitwise_equal(tmp_path, run):
    """SIGKILL in the middle, twice, at steps nobody chose; the same weights as the run that was left alone."""
    out = tmp_path / "killed"
    for wait_for in (4, 12):
        process = start(out, "--resume")
        last = out / "checkpoints" / "last.pt"
        while not last.exists() or run_dir.load_checkpoint(last, "")["step"] < wait_for:
            assert process.poll(0.05) is None, process.written()
        process.kill()
        process.wait()
        assert not (out / "supernet.pt").exists()
    output = "".join(start(out, "--resume").communicate())
    assert re.search(r"resumed at step \d+", output), output
    whole = run_dir.load_checkpoint(run / "supernet.pt", "")["model"]
    again = run_dir.load_checkpoint(out / "supernet.pt", "")["model"]
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]


def test_what_a_run_leaves(run):
    stored = load_json(run / "config.json", "")
    assert stored["command"] == "supernet"
    assert stored["config"]["epochs"] == 3
    assert set(run_dir.PACKAGES) < set(stored["versions"])
    assert list((run / "tensorboard").glob("events*"))
    assert not list(run.rglob("*.tmp"))
    checkpoint = run_dir.load_checkpoint(run / "supernet.pt", "")
    assert checkpoint["space"] == {"name": "spos", "preset": "tiny", "options": {"classes": 10, "resolution": 32}}


def test_runs_are_not_overwritten_or_mixed(run):
    with pytest.raises(InputError, match="already holds a run; add --resume to continue it, or choose another --out"):
        supernet.main([*SUPERNET, "--out", str(run)])
    with pytest.raises(InputError, match="was started with --seed 0, not 1; give 0 or another --out"):
        supernet.main([*SUPERNET, "--out", str(run), "--resume", "--seed", "1"])
    with pytest.raises(InputError, match="holds a run of supernet, not of retrain"):
        run_dir.load_run(run, "retrain")


def test_a_truncated_checkpoint_is_named(run, tmp_path):
    content = (run / "supernet.pt").read_bytes()
    for size in (0, 100, len(content) // 2):
        (tmp_path / "cut.pt").write_bytes(content[:size])
        for mmap in (False, True):
            with pytest.raises(
                InputError, match=f"supernet '.*cut.pt' \\({size:,} bytes\\) is truncated or not a checkpoint"
            ):
                run_dir.load_checkpoint(tmp_path / "cut.pt", "supernet", mmap=mmap)


def test_checkpoints_are_never_executed(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    torch.save({"model": Bomb()}, tmp_path / "bomb.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pt", "raw.pt"):
        with pytest.raises(InputError, match="is truncated or not a checkpoint"):
            run_dir.load_checkpoint(tmp_path / name, "checkpoint")
    assert not (tmp_path / "boom").exists()


def test_files_are_written_whole_or_not_at_all(tmp_path):
    save_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(RuntimeError), atomic(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert load_json(tmp_path / "a.json", "") == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


# retrain


def test_retrain_reads_the_test_part_once(tmp_path, monkeypatch, capsys):
    from trials.images import memory

    arc = tmp_path / "arc.json"
    arc.write_text(str((0,) * 20))
    read = []
    for name in ("train_batches", "eval_batches"):
        original = getattr(memory.MemoryData, name)

        def spy(self, part, *args, _original=original, **kwargs):
            read.append(part)
            yield from _original(self, part, *args, **kwargs)

        monkeypatch.setattr(memory.MemoryData, name, spy)
    arguments = ["--fixed-arc", str(arc), "--preset", "tiny", "--epochs", "1", "--seeds", "2"]
    retrain.main(arguments)
    assert read == ["all", "test"] * 2
    result = load_json(tmp_path / "retrain" / "result.json", "")
    assert len(result["test_top1"]) == 2
    assert result["mean"] == pytest.approx(sum(result["test_top1"]) / 2)
    assert result["params"] == 138_736  # all k3, affine BN
    assert "n = 2, 359 test images" in capsys.readouterr().out
    weights = run_dir.load_checkpoint(tmp_path / "retrain" / "seed1" / "network.pt", "")
    chain = spaces.describe("spos", "tiny", affine=True)
    chain.network(weights["arch"]).load_state_dict(weights["model"])

    retrain.main([*arguments, "--jobs", "2", "--out", str(tmp_path / "parallel")])
    assert load_json(tmp_path / "parallel" / "result.json", "")["test_top1"] == result["test_top1"]

    retrain.main([*arguments, "--resume"])  # complete: nothing is trained or tested again
    assert read == ["all", "test"] * 2
    arc.write_text(str((1,) * 20))
    with pytest.raises(InputError, match="was started with another architecture"):
        retrain.main([*arguments, "--resume"])


def test_retrain_resumes_bitwise(tmp_path):
    arc = tmp_path / "arc.json"
    arc.write_text(str((0,) * 20))
    flags = ["--fixed-arc", arc, "--preset", "tiny", "--epochs", "1", "--checkpoint-every", "5", "--resume", "--out"]
    process = Command("trials.retrain", *flags, tmp_path / "killed")
    while not (tmp_path / "killed/seed0/checkpoints/last.pt").exists():
        assert process.poll(0.05) is None, process.written()
    process.kill()
    process.wait()
    for name in ("killed", "whole"):
        onepath("retrain", *flags, tmp_path / name, check=True)
    killed, whole = (
        run_dir.load_checkpoint(tmp_path / n / "seed0" / "network.pt", "")["model"] for n in ("killed", "whole")
    )
    assert all(torch.equal(killed[name], whole[name]) for name in whole)
