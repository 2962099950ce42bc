"""Training: BN statistics, schedules, optimisers, and the files of a run."""

import os

import pytest
import torch
from torch import nn

import spaces
from spaces.errors import InputError
from spaces.files import atomic, load_json, save_json
from tests.conftest import SUPERNET
from trials import supernet
from trials.common import run_dir
from trials.common.checkpoint import load_checkpoint
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


def test_what_a_run_leaves(run):
    stored = load_json(run / "config.json", "")
    assert stored["command"] == "supernet"
    assert stored["config"]["epochs"] == 3
    assert set(run_dir.PACKAGES) < set(stored["versions"])
    assert list((run / "tensorboard").glob("events*"))
    assert not list(run.rglob("*.tmp"))
    checkpoint = load_checkpoint(run / "supernet.pt", "")
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
                load_checkpoint(tmp_path / "cut.pt", "supernet", mmap=mmap)


def test_checkpoints_are_never_executed(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    torch.save({"model": Bomb()}, tmp_path / "bomb.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Bomb()))
    whole = "is whole but holds posix.mkdir, which is not read because loading it could run code"
    for name, reason in (("bomb.pt", whole), ("raw.pt", "is truncated or not a checkpoint")):
        with pytest.raises(InputError, match=reason):
            load_checkpoint(tmp_path / name, "checkpoint")
    assert not (tmp_path / "boom").exists()


def test_files_are_written_whole_or_not_at_all(tmp_path):
    save_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(RuntimeError), atomic(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert load_json(tmp_path / "a.json", "") == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
