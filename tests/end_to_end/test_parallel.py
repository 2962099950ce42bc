"""Two processes (gloo, CPU) train the same supernet, or network, as one process with the same batch."""

import json
import os
import re

import pytest
import torch

from spaces.files import load_json
from tests.commands import Command
from tests.conftest import SUPERNET
from tests.experiments import free_port
from tests.unit.test_recipes import configured
from trials.common.checkpoint import load_checkpoint
from trials.networks.answers import Answers
from trials.networks.build import load_network
from trials.training.retrain_trainer import open_data

COMMON = ["--preset", "tiny", "--data", "digits", "--score-fraction", "0.25", "--batch-size", "8", "--out", "unused"]
COMMON += ["--warm-start", "0"]
COMMON += ["--lr", "0.01"]  # an untrained network amplifies rounding 150 times in a step of 0.1
CASES = {
    "uniform": ["--space", "spos"],
    "strict-fair": ["--space", "proxylessnas", "--strategy", "strict-fair", "--clip-norm", "1"],
    "gumbel": [
        *("--space", "spos", "--strategy", "gumbel", "--arch-warmup", "0", "--arch-fraction", "0.5"),
        *("--cost-loss", "target", "--cost-weight", "1", "--cost-target", "2M"),
    ],
    "dali": [
        "--space",
        "spos",
        "--color-jitter",
        "0.4",
        "--cutout",
        "8",
        "--loader",
        "dali",
        "--data",
        "folder",
        "--data-root",
    ],
    "superkernels": ["--space", "single-path-nas", "--accumulate", "2"],
}
TRAINED = ["--preset", "tiny", "--data", "digits", "--batch-size", "8", "--lr", "0.01", "--dropout", "0"]
TRAINED += ["--randaugment", "1", "--cutout", "4", "--clip-norm", "1", "--ema", "0.5"]
CASES |= {
    "retrain": ["--fixed-arc", "spos-block", *TRAINED, "--nesterov"],
    "retrain a baseline": ["--baseline", "timm:mobilenetv2_035,output_stride=8", *TRAINED],
}


def torchrun(*arguments):
    process = Command("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", *arguments)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output


def as_torchrun_does(module, *arguments):
    """Start a module in two processes, with the environment that torchrun would give them."""
    everyones = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "TORCHELASTIC_RUN_ID": "tests"}
    everyones |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    return [Command(module, *arguments, environment={**os.environ, **everyones, **one}) for one in own]


def test_two_processes_equal_one(tmp_path, tree):
    """All cases in one test: most of its time is the start of the processes."""
    cases = {name: options if name.startswith("retrain") else [*COMMON, *options] for name, options in CASES.items()}
    cases["dali"].append(str(tree))
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    processes = as_torchrun_does("tests.parallel_worker", tmp_path / "cases.json", tmp_path / "two")
    processes.append(Command("tests.parallel_worker", tmp_path / "cases.json", tmp_path / "one"))
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    for case in CASES:
        one, two = (torch.load(tmp_path / name / f"{case}.pt", weights_only=True) for name in ("one", "two"))
        torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-10, atol=1e-10)
        for part in ("model", "search"):
            for key, tensor in one[part].items():
                torch.testing.assert_close(two[part][key], tensor, rtol=1e-8, atol=1e-8)
        if case.startswith("retrain"):
            assert two["counts"] == one["counts"]
            assert one["counts"][2] == 359
        if case == "gumbel":
            assert len(one["costs"]) == 2
            assert two["costs"] == pytest.approx(one["costs"], rel=1e-9)
            assert any(tensor.abs().max() > 0 for tensor in one["search"].values())


def test_the_command_under_torchrun(tmp_path):
    flags = [*SUPERNET, "--batch-size", "512", "--epochs", "1", "--warm-start", "0", "--out", tmp_path / "run"]
    output = torchrun("trials.supernet", *flags)
    assert "x 2 processes" in output
    assert output.count("trained in") == 1  # one process speaks
    assert output.count("epoch 1: 5 fixed paths") == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 2]
    weights = load_checkpoint(tmp_path / "run" / "supernet.pt", "")["model"]
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_retraining_under_torchrun(tmp_path):
    flags = [
        "--fixed-arc",
        "spos-block",
        "--preset",
        "tiny",
        "--resolution",
        "16",
        "--batch-size",
        "256",
        "--epochs",
        "1",
    ]
    flags += [
        "--seeds",
        "2",
        "--hold-out",
        "0.2",
        "--ema",
        "0.9",
        "--mixup",
        "0.2",
        "--device",
        "cpu",
        "--out",
        tmp_path / "run",
    ]
    output = torchrun("trials.retrain", *flags)
    assert output.count("(2 seeds, 359 images)") == 1  # one process speaks
    assert len(re.findall(r"% \[\S+, \S+\] \(1 seed, \d+ images\) of held-out images", output)) == 2
    for seed in (0, 1):
        run = tmp_path / "run" / f"seed{seed}"
        result, best = load_json(run / "result.json", ""), load_checkpoint(run / "checkpoints" / "best.pt", "")
        weights = load_checkpoint(run / "network.pt", "")["model"]
        assert result["test_images"] == 359
        answers = Answers.load(run / "answers.npz")  # in the order of the test part, whichever process read an image
        network, data = load_network(run / "network.pt"), open_data(configured(*map(str, flags)))
        again = [
            (labels, network(data.normalise(images)).argmax(1)) for images, labels in data.eval_batches("test", 90)
        ]
        assert answers.labels.tolist() == torch.cat([labels for labels, _ in again]).tolist()
        # channels last or not changes the last bits of a logit
        assert (answers.predicted == torch.cat([guesses for _, guesses in again]).numpy()).mean() > 0.98
        assert answers.right.sum() == result["test_correct"]
        assert all(torch.equal(weights[name], best["model"][name]) for name in weights)
