"""Every benchmark runs its real code on a tiny scale, and ends with its table. The figures say nothing, and none is asserted."""

import importlib
import logging
import re
import sys

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.results import Results
from spaces.files import load_json
from tests.commands import ROOT

# command line -> how a line with a figure above 0 begins
SMOKES = {
    "calibration RUN": r"512 +1\.000 +1\.000 +([\d.]+)",
    "calibration RUN --precision 3": r"32 +([\d.]+)",
    "certificate": r"0\.6 +3 +[\d.]+ +([\d.]+)",
    "cost": r"spos +[\d.]+ +([\d,]+)",
    "data": r"val +ours, dali +\d+ +([\d.]+)",
    "data --step": r"2 steps of 4 images: ([\d.]+)",
    "evaluation": r"C tree, 32 +[\d.]+ +([\d.]+)",
    "evaluation --count": r"all 100 +[\d,]+ of [\d,]+ +([\d.]+)",
    "evaluation --growth RUN": r"100 +([\d.]+)",
    "floor": r"digits +1,438 +16x16, grey +([\d.]+)",
    "gpu": r"loaders +val, dali, 1 threads +([\d,]+)",
    "latency": r"in a network +([\d.]+)",
    "quality": r"fbnet-smoke +uniform +evolution +1 +[\d.]+M +([\d.]+)",
    "ranking RUN": r"loss minus top-1: .* architectures, mean top-1 ([\d.]+)%",
    "roads": r"photographs .* (\d+) +[\d.]+$",
    "training": r"ratio by processor time ([\d.]+)",
    "trial_turnaround RUN": r"ordinary trial +[\d.]+ +[\d.]+ to [\d.]+ +[\d.]+ +([\d.]+)",
    "zero_cost": r"fbnet-smoke +parameters +5 +([\d.]+)",
    "tuners": r"macro, 50M +exact +EvolutionTuner +([\d.]+) /",
}


def test_every_benchmark_is_listed():
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"common", "ordinary_trial", "trainers"}
    packages = {path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")}
    assert {line.split()[0] for line in SMOKES} == modules | packages


@pytest.mark.parametrize("line", SMOKES)
def test_smoke(line, request, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # benchmarks.data sets it, too
    level = logging.getLogger("nni").level
    name, *words = line.split()
    package = (ROOT / "benchmarks" / name).is_dir()
    benchmark = importlib.import_module(f"benchmarks.{name}.__main__" if package else f"benchmarks.{name}")
    benchmark.main(["--smoke", *(str(request.getfixturevalue("own_run")) if word == "RUN" else word for word in words)])
    logging.getLogger("nni").setLevel(level)
    output = capsys.readouterr().out
    figure = re.search(f"^{SMOKES[line]}", output, re.M)
    assert figure, output
    assert float(figure[1].replace(",", "")) > 0, output


def test_parts_of_the_gpu_benchmark_are_independent(tmp_path, monkeypatch, capfd):
    """One that breaks and one that reaches its limit say so in their rows, and the rows of the others are kept."""
    monkeypatch.setattr(gpu, "LEAST", 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gpu.run_parts(["scoring"], tmp_path, 120, device="cpu", smoke=True)
    gpu.run_parts(["small"], tmp_path, 1.2, device="cpu", smoke=True)
    gpu.run_parts(["loaders"], tmp_path, 120, device="cuda")
    monkeypatch.setitem(sys.modules, "timm", None)
    gpu.measure("timm", Results(tmp_path), torch.device("cpu"), smoke=True)
    rows = load_json(tmp_path / "gpu.json", "")["rows"]
    assert next(row["value"] for row in rows if row["what"] == "tree, 32") > 0
    assert {row["part"]: row["note"] for row in rows if row["value"] is None} == {
        "small": "stopped at its limit of 1 s",
        "loaders": "ended with code 1",
        "timm": "timm is not installed",
    }
    assert "stopped at its limit" in (tmp_path / "gpu.txt").read_text()
