"""What the two training loops share: the window, the log, the last checkpoint, the stop at numbers that are not finite."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from spaces.errors import Stopped
from trials.common.checkpoint import load_checkpoint
from trials.training import loop, supernet_config
from trials.training.loop import LastCheckpoint, TrainingLog, Window, stop_if_not_finite


def trainer(**more):
    weight = nn.Parameter(torch.ones(2))
    restored = {}
    parts = {
        "rank": 0,
        "prefix": "seed 3: ",
        "fabric": SimpleNamespace(device=torch.device("cpu")),
        "data": SimpleNamespace(fingerprint=lambda: 7),
        "config": SimpleNamespace(data_root="images"),
        "parameters": lambda: [weight],
        "describe_step": lambda step: "",
        "state": lambda: {"model": {"weight": weight.detach()}},
        "restore": restored.update,
        "restored": restored,
    }
    return SimpleNamespace(**(parts | more))


def test_the_window_is_a_mean_since_the_last_line():
    window = Window(torch.device("cpu"))
    for loss, top1 in ((1.0, 0.5), (2.0, 1.0)):
        window.add(torch.tensor(loss), torch.tensor(top1))
    again = Window(torch.device("cpu"))
    again.restore(window.state())
    assert again.means() == (1.5, 75.0)
    assert again.steps == 0
    assert again.sums.tolist() == [0.0, 0.0]


def test_the_last_checkpoint(tmp_path, capsys):
    checkpoint, state = LastCheckpoint(tmp_path), trainer()
    assert checkpoint.resume(state) == {}
    assert str(checkpoint) == "there is no checkpoint yet"
    checkpoint.save(state, 1234, best=0.5)
    path = tmp_path / "checkpoints" / "last.pt"
    assert str(checkpoint) == f"the last good checkpoint is '{path}' (step 1,234)"
    assert list(load_checkpoint(path, "")) == ["model", "step", "best"]
    fresh = LastCheckpoint(tmp_path)
    assert fresh.resume(state)["best"] == 0.5
    assert fresh.step == state.restored["step"] == 1234
    assert capsys.readouterr().out == "seed 3: resumed at step 1,234\n"

    other = trainer(rank=1)  # only the first process writes
    checkpoint.save(other, 2000)
    assert load_checkpoint(path, "")["step"] == 1234
    assert checkpoint.step == 2000


def test_the_log_goes_on_after_a_checkpoint(tmp_path):
    def log():
        config = supernet_config.Config(out=str(tmp_path), preset="tiny", data="digits")
        return TrainingLog(tmp_path, config, facts={"command": "supernet"}, name="mine", writes=True)

    first = log()
    first.begin(0, 4)
    first.write(2, {"loss": 1.0}, speed=9.0)
    first.write(6, {"loss": 0.5})
    first.close()
    second = log()
    second.begin(4, 4)
    second.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [{"step": 2, "epoch": 0.5, "speed": 9.0, "loss": 1.0}]
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_the_speed_is_that_since_the_last_line(monkeypatch):
    now = 100.0
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now)
    window = Window(torch.device("cpu"))
    for seconds, steps, speed in ((2.0, 5, 80.0), (4.0, 5, 40.0), (1.0, 0, 0.0)):
        for _ in range(steps):
            window.add(torch.tensor(1.0), torch.tensor(0.5))
        now += seconds
        assert window.speed(32) == speed


def test_numbers_that_are_not_finite_stop_a_run(tmp_path):
    checkpoint = LastCheckpoint(tmp_path)
    fine, bad = torch.tensor(1.0), torch.tensor(math.nan)
    stop_if_not_finite(trainer(), [(0, fine), (1, fine)], checkpoint)
    remedy = "there is no checkpoint yet; start again with a lower --lr, or with --clip-norm"
    with pytest.raises(Stopped) as caught:
        stop_if_not_finite(trainer(), [(0, fine), (1, bad), (2, bad)], checkpoint)
    assert str(caught.value) == f"seed 3: the loss became nan at step 2; {remedy}"
    assert caught.value.exit_code == 3

    diverged = [nn.Parameter(torch.full((2,), math.inf))]
    supernet = trainer(prefix="", parameters=lambda: diverged, describe_step=lambda step: f"path {step}")
    with pytest.raises(Stopped) as caught:
        stop_if_not_finite(supernet, [(8, bad)], checkpoint)
    assert str(caught.value) == f"the loss became nan at step 9 on path 8; {remedy}"
    with pytest.raises(Stopped) as caught:
        stop_if_not_finite(supernet, [(7, fine), (8, fine)], checkpoint)
    assert str(caught.value) == f"the weights are no longer finite after step 9, path 8; {remedy}"
