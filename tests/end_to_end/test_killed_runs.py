"""trials.supernet and trials.retrain killed and resumed; what a retraining reads."""

import json
import re

import pytest
import torch

import spaces
from spaces.errors import InputError
from spaces.files import load_json
from tests.commands import Command, onepath
from tests.conftest import SUPERNET
from tests.experiments import events
from trials import retrain
from trials.common.checkpoint import load_checkpoint


def start(out, *more):
    return Command("trials.supernet", *SUPERNET, "--checkpoint-every", "4", "--out", out, *more)


def test_killed_and_resumed_is_bitwise_equal(tmp_path, run):
    """SIGKILL in the middle, twice, at steps nobody chose; the same weights as the run that was left alone."""
    out = tmp_path / "killed"
    for wait_for in (4, 12):
        process = start(out, "--resume")
        last = out / "checkpoints" / "last.pt"
        while not last.exists() or load_checkpoint(last, "")["step"] < wait_for:
            assert process.poll(0.05) is None, process.written()
        process.kill()
        process.wait()
        assert not (out / "supernet.pt").exists()
    output = "".join(start(out, "--resume").communicate())
    assert re.search(r"resumed at step \d+", output), output
    whole = load_checkpoint(run / "supernet.pt", "")["model"]
    again = load_checkpoint(out / "supernet.pt", "")["model"]
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert events(out / "tensorboard") == events(run / "tensorboard")
    assert steps[-1] == events(out / "tensorboard")["train/loss"][-1]


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
    assert read == ["all", "test"] * 2 + ["all", "test"]  # each network; then the floor, which needs no network
    result = load_json(tmp_path / "retrain" / "result.json", "")
    assert len(result["test_top1"]) == 2
    assert result["mean"] == pytest.approx(sum(result["test_top1"]) / 2)
    assert result["params"] == 138_736  # all k3, affine BN
    assert "(2 seeds, 359 images)" in capsys.readouterr().out
    weights = load_checkpoint(tmp_path / "retrain" / "seed1" / "network.pt", "")
    chain = spaces.describe("spos", "tiny", affine=True)
    chain.network(weights["arch"]).load_state_dict(weights["model"])

    retrain.main([*arguments, "--jobs", "2", "--out", str(tmp_path / "parallel")])
    assert load_json(tmp_path / "parallel" / "result.json", "")["test_top1"] == result["test_top1"]

    assert (
        read == ["all", "test"] * 2 + ["all", "test"] * 2
    )  # its networks in other processes, and its floor in this one

    retrain.main([*arguments, "--resume"])  # complete: nothing is trained or tested again
    assert read == ["all", "test"] * 2 + ["all", "test"] * 2
    arc.write_text(str((1,) * 20))
    with pytest.raises(InputError, match="was started with another architecture"):
        retrain.main([*arguments, "--resume"])


def test_retrain_resumes_bitwise(tmp_path):
    arc = tmp_path / "arc.json"
    arc.write_text(str((0,) * 20))
    flags = ["--fixed-arc", arc, "--preset", "tiny", "--epochs", "1", "--checkpoint-every", "5", "--resume"]
    flags += ["--device", "cpu", "--out"]
    process = Command("trials.retrain", *flags, tmp_path / "killed")
    while not (tmp_path / "killed/seed0/checkpoints/last.pt").exists():
        assert process.poll(0.05) is None, process.written()
    process.kill()
    process.wait()
    for name in ("killed", "whole"):
        onepath("retrain", *flags, tmp_path / name, check=True)
    killed, whole = (load_checkpoint(tmp_path / n / "seed0" / "network.pt", "")["model"] for n in ("killed", "whole"))
    assert all(torch.equal(killed[name], whole[name]) for name in whole)
