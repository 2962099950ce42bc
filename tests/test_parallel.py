"""Two processes (gloo, CPU) train the same supernet as one process with the same batch."""

import json
import os
import subprocess
import sys

import pytest
import torch

from tests.conftest import ROOT, SUPERNET
from trials import run_dir

COMMON = ["--preset", "tiny", "--data", "digits", "--score-fraction", "0.25", "--batch-size", "8", "--out", "unused"]
COMMON += ["--lr", "0.01"]  # an untrained network amplifies rounding 150 times in a step of 0.1
CASES = {
    "uniform": ["--space", "spos"],
    "strict-fair": ["--space", "proxylessnas", "--strategy", "strict-fair", "--clip-norm", "1"],
    "gumbel": [
        *("--space", "spos", "--strategy", "gumbel", "--arch-warmup", "0", "--arch-fraction", "0.5"),
        *("--cost-loss", "target", "--cost-weight", "1", "--cost-target", "2M"),
    ],
    "superkernels": ["--space", "single-path-nas", "--accumulate", "2"],
}


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """Case -> what one process, and two, came to."""
    folder = tmp_path_factory.mktemp("parallel")
    (folder / "cases.json").write_text(json.dumps({name: [*COMMON, *options] for name, options in CASES.items()}))
    for name in ("one", "two"):
        (folder / name).mkdir()
    torchrun("tests.parallel_worker", folder / "cases.json", folder / "two")
    alone = [sys.executable, "-m", "tests.parallel_worker", str(folder / "cases.json"), str(folder / "one")]
    subprocess.run(alone, cwd=ROOT, check=True, capture_output=True, timeout=250)
    return {
        case: [torch.load(folder / name / f"{case}.pt", weights_only=True) for name in ("one", "two")] for case in CASES
    }


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(case, states):
    one, two = states[case]
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-10, atol=1e-10)
    for part in ("model", "search"):
        for key, tensor in one[part].items():
            torch.testing.assert_close(two[part][key], tensor, rtol=1e-8, atol=1e-8)
    if case == "gumbel":
        assert len(one["costs"]) == 2
        assert two["costs"] == pytest.approx(one["costs"], rel=1e-9)
        assert any(tensor.abs().max() > 0 for tensor in one["search"].values())


def test_the_command_under_torchrun(tmp_path):
    flags = [*SUPERNET, "--batch-size", "512", "--epochs", "1", "--warm-start", "0", "--out", tmp_path / "run"]
    output = torchrun("trials.supernet", *flags)
    assert "x 2 processes" in output
    assert output.count("trained in") == 1  # one process speaks
    assert output.count("fixed paths score") == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 2]
    weights = run_dir.load_checkpoint(tmp_path / "run" / "supernet.pt", "")["model"]
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
