"""Latencies that are measured here, and a search and a differentiable strategy under a limit of milliseconds."""

import json
import random
import re

import pytest
import torch

import spaces
from spaces.cost import measure
from spaces.errors import InputError
from spaces.files import load_json
from spaces.latency import LatencyTable
from strategies.sampling import uniform_path
from tests.experiments import copy_run, experiment
from tests.unit.test_latency import COSTS, made
from trials import evaluate, latency, supernet
from trials import search as search_command
from trials.reporting import collect, summary
from trials.timing import measure as timing
from trials.timing import runtimes


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("latency") / "table.json"
    made().save(path)
    return str(path)


@pytest.fixture(scope="module")
def measured_here(shared) -> tuple[str, LatencyTable]:
    flags = "--space spos --preset tiny --device cpu --threads 1 --rounds 10 --networks 20 --out"
    folder = shared("measured", lambda folder: latency.main([*flags.split(), str(folder / "table.json")]))
    path = str(folder / "table.json")
    return path, LatencyTable.load(path)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_space_is_measured_and_checked(runtime, tmp_path, capsys):
    out = tmp_path / "table.json"
    latency.main(
        f"--space proxylessnas --preset tiny --runtime {runtime} --threads 1 --device cpu --rounds 6 --networks 20 --out {out}".split()
    )
    costs = measure(spaces.describe("proxylessnas", "tiny"))
    found = LatencyTable.load(out, costs)
    assert all((block.macs >= 0).all() and block.macs.max() > 0 for block in found.costs.blocks)
    twins = [place for place, block in enumerate(costs.blocks) if block.interchangeable_with_previous]
    for place in twins:  # the same work at two places is timed together
        assert found.costs.blocks[place].macs.tolist() == found.costs.blocks[place - 1].macs.tolist()
    assert twins
    assert (found.measured["threads"], found.measured["batch"], found.measured["runtime"]) == (1, 1, runtime)
    assert found.measured["device"]
    assert found.check["networks"] == 20
    # a doubled or a forgotten part would not pass; how exact a table is, depends on what else the machine does
    assert found.check["mean_absolute_error_percent"] < 50
    assert found.spread is not None
    assert all(min(row) >= 0 and max(row) > 0 for row in found.spread)
    printed = capsys.readouterr().out
    assert re.search(rf"mean absolute error +{found.check['mean_absolute_error_percent']:.1f}%", printed)
    assert "Kendall's tau" in printed
    low, middle, high = map(float, re.search(r"are below +([\d.]+), ([\d.]+) and ([\d.]+) ms", printed).groups())
    assert found.bounds_ms()[0] < low <= middle <= high < found.bounds_ms()[1]
    assert "<svg" in out.with_suffix(".svg").read_text()


def test_one_network_is_compared_with_a_table(measured_here, tmp_path, capsys, table):
    """At the pace of the machine when the table was measured, which networks of its check tell."""
    path, found = measured_here
    arch = uniform_path(found.costs.choices, random.Random(5))
    (tmp_path / "arc.json").write_text(json.dumps(arch))
    latency.main(["--table", path, "--fixed-arc", str(tmp_path / "arc.json"), "--rounds", "6"])
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines()[2:])
    assert rows["by the table"].startswith(f"{found.ms(arch):.3g} ms +- ")
    clock = float(rows["by the clock"].split()[0])
    pace = float(rows["pace of the machine now"].split()[0])
    even = float(rows["by the clock, at the table's pace"].split()[0])
    assert even == pytest.approx(clock / pace, rel=0.02)
    assert float(rows["difference"].rstrip("%")) == pytest.approx(100 * (found.ms(arch) / even - 1), abs=1.5)
    with pytest.raises(InputError, match="was not measured by this command; compare it on its own device"):
        latency.main(["--table", table, "--fixed-arc", str(tmp_path / "arc.json")])
    content = load_json(path, "")
    content["measured"]["device"] = "a phone"
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="is of a phone, this is .*; compare it there"):
        latency.main(["--table", str(tmp_path / "other.json"), "--fixed-arc", str(tmp_path / "arc.json")])


@pytest.mark.parametrize("name", ["spos", "fbnet", "single-path-nas"])
def test_a_part_in_a_network_computes_what_the_network_computes(name):
    """What is timed part by part is the very network: the same numbers, but for the rounding of folded BatchNorm."""
    chain = spaces.describe(name, "tiny")
    arch = uniform_path(chain.choices, random.Random(3))
    if name == "fbnet":
        arch["block05"] = "k5_e1_g2"  # whose channel shuffle only one of torch's two exporters knows
    network = timing.calibrated_network(chain, arch)
    x = torch.randn(1, 3, 32, 32)
    for where in (runtimes.TorchRuntime("cpu", 1), runtimes.OnnxRuntime("cpu", 1)):
        shapes, parts = x, []
        with torch.no_grad():
            for part in (network.stem, *network.blocks, network.head):
                parts.append(where.prepare(part, shapes))
                shapes = part(shapes)
        if isinstance(where, runtimes.TorchRuntime):
            with torch.inference_mode():
                y = x
                for part in parts:
                    y = part(y)
        else:
            value = x.numpy()
            for part in parts:
                value = part.run(["y"], {"x": value})[0]
            y = torch.from_numpy(value)
        assert torch.allclose(y, network(x), atol=1e-4)
        given = where.input(x.shape)
        assert len(where.run(parts, given)) == len(parts)


def test_a_search_under_a_latency(run, tmp_path, table, capsys):
    """In one process, end to end: the limit holds, and the table, the summary and the report name latencies."""
    copy = copy_run(run, tmp_path / "run")
    latencies = LatencyTable.load(table)
    limit = sum(latencies.bounds_ms()) / 2
    arguments = {"latency_table": table, "max_latency_ms": limit}
    path = experiment(copy, classArgs={**arguments, "max_macs": None}, maxTrialNumber=6)
    search_command.main([str(path), "--in-process"])
    printed = capsys.readouterr().out
    searched = load_json(copy / "search.json", "")
    archs = [load_json(copy / "search" / f"{entry['id']}.json", "")["arch"] for entry in searched["history"]]
    assert len(archs) == 6
    assert all(latencies.ms(arch) <= limit for arch in archs)
    best = load_json(copy / "arc.json", "")
    assert searched["latency"]["best_ms"] == latencies.ms(best)
    assert searched["limits"]["max_latency_ms"] == limit
    costs = {entry["id"]: entry["latency_ms"] for entry in searched["history"]}
    front = [costs[name] for name in searched["frontier"]]  # of milliseconds, not of MACs
    assert front == sorted(front)
    assert min(costs.values()) == front[0]
    assert "milliseconds" in (copy / "report.html").read_text()
    assert f"{latencies.ms(best):.3g}" in printed
    rows = dict(summary.summary_rows(collect.collect_run(copy)))
    assert rows["its latency"].startswith(f"{latencies.ms(best):.3g} ms")
    assert f"max_latency_ms {limit:,}" in rows["limits"]
    # NNI's own tuners know no limits: there the trial refuses, unseen
    (tmp_path / "slow.json").write_text(json.dumps({label: values[-1] for label, values in COSTS.choices.items()}))
    (tmp_path / "fast.json").write_text(json.dumps(best))
    for name, seen in (("slow", False), ("fast", True)):
        flags = ["--arch", str(tmp_path / f"{name}.json"), "--latency-table", table]
        allowed = latencies.ms(load_json(tmp_path / f"{name}.json", "")) + (0.001 if seen else -0.001)
        flags += ["--max-latency-ms", str(allowed), "--calibration-images", "128", "--scoring-images", "64"]
        evaluate.main(["--run", str(copy), *flags])
        assert ("top-1 before BN recalibration" in capsys.readouterr().out) == seen


QUICK = ["--preset", "tiny", "--data", "digits", "--score-fraction", "0.75", "--batch-size", "32", "--epochs", "1"]


def test_a_differentiable_strategy_under_a_latency(tmp_path, table):
    """The loss sees milliseconds, and arc.json obeys the limit although everything pulls the other way."""
    latencies = LatencyTable.load(table)
    fastest, slowest = latencies.bounds_ms()
    limit = fastest + 0.05 * (slowest - fastest)
    flags = ["--strategy", "softmax", "--arch-warmup", "0", "--cost-loss", "linear", "--cost-weight", "0.01"]
    flags += ["--latency-table", table, "--max-latency-ms", str(limit)]
    supernet.main([*QUICK, "--eval-paths", "0", *flags, "--out", str(tmp_path / "run")])
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (cost,) = [line["expected_cost"] for line in log if "expected_cost" in line]
    assert fastest < cost < slowest
    learned = load_json(tmp_path / "run" / "most_probable.json", "")
    assert latencies.ms(learned["arch"]) <= limit
    assert learned["latency"]["best_ms"] == latencies.ms(learned["arch"])
    rows = dict(summary.summary_rows(collect.collect_run(tmp_path / "run")))
    assert rows["within"] == f"max_latency_ms {limit:g}"
