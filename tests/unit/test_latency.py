"""Latency tables: imported, checked, and as limits of everything that keeps limits."""

import csv
import json
import random
import re

import numpy as np
import pytest
import torch
import yaml

import spaces
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import load_json
from spaces.latency import FIT_NETWORKS, MIN_CHECK_NETWORKS, LatencyTable
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from strategies.sampling import uniform_path
from tests.commands import ROOT, assert_one_clear_line, onepath
from tests.unit.test_tuners import every_tuner, make, search
from trials import latency
from trials.search_driver.plan import make_tuner
from trials.timing import latency_csv, passes, runtimes, stopwatch
from trials.timing import measure as timing
from trials.training import supernet_config, supernet_plan

COSTS = CostTable.load(ROOT / "experiments/spaces/spos-tiny.costs.json")


def made(costs: CostTable = COSTS, seed: int = 0) -> LatencyTable:
    """A table in which a candidate takes what a generator says: the arithmetic is what is tested with it."""
    draw = np.random.default_rng(seed)
    blocks = [draw.integers(100_000, 900_000, len(block.macs)) for block in costs.blocks]
    return LatencyTable(costs.space, [block.choices for block in costs.blocks], 1_500_000, blocks)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("latency") / "table.json"
    made().save(path)
    return str(path)


# the table


def test_a_latency_is_the_sum_of_its_parts(table):
    read = LatencyTable.load(table, COSTS)
    generator = random.Random(0)
    archs = [uniform_path(COSTS.choices, generator) for _ in range(50)]
    for arch in archs:
        parts = [
            block.macs[next(iter(block.choices.values())).index(arch[label])]
            for block, label in zip(read.costs.blocks, arch, strict=True)
        ]
        assert read.ms(arch) == (1_500_000 + sum(map(int, parts))) / 1e6
    fastest, slowest = read.bounds_ms()
    assert all(fastest <= read.ms(arch) <= slowest for arch in archs)
    assert read.error() == ""


def test_whole_networks_correct_the_base_and_tell_the_error():
    """Eight networks find what lies between the parts (here 0.7 ms); the others, measured 10 % off, tell the error."""
    plain = made()
    generator = random.Random(1)
    archs = [uniform_path(COSTS.choices, generator) for _ in range(FIT_NETWORKS + MIN_CHECK_NETWORKS)]
    clock = [plain.ms(arch) + 0.7 for arch in archs]
    exact = plain.validated_on(archs, clock)
    assert exact.check["networks"] == MIN_CHECK_NETWORKS
    assert exact.check["mean_absolute_error_percent"] < 1e-4
    assert exact.check["kendall_tau"] == 1
    assert exact.costs.base[0] == pytest.approx(1_500_000 + 2 * 700_000 / 22, abs=20)
    assert exact.ms(archs[0]) == pytest.approx(plain.ms(archs[0]) + 0.7, abs=1e-6)
    off = plain.validated_on(archs, clock[:FIT_NETWORKS] + [time * 1.1 for time in clock[FIT_NETWORKS:]])
    assert off.check["mean_absolute_error_percent"] == pytest.approx(100 / 11)
    assert off.check["bias_percent"] == pytest.approx(-100 / 11)
    assert off.error() == "+- 9.1%"
    reversed_order = plain.validated_on(archs, clock[:FIT_NETWORKS] + [20 - time for time in clock[FIT_NETWORKS:]])
    assert reversed_order.check["kendall_tau"] == -1


def test_a_table_of_another_space_or_a_damaged_one_is_refused(table, tmp_path):
    with pytest.raises(
        InputError,
        match=r"is of .*spos.*, not of .*fbnet.*; measure it anew with: python -m trials.latency --space fbnet",
    ):
        LatencyTable.load(table, CostTable.load(ROOT / "experiments/spaces/fbnet-tiny.costs.json"))
    content = load_json(table, "")
    content["blocks"][3]["nanoseconds"].pop()
    (tmp_path / "short.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="is damaged or incomplete; mend it there, or restore it"):
        LatencyTable.load(tmp_path / "short.json")
    nothing = [[0] * len(block.macs) for block in COSTS.blocks]
    LatencyTable(COSTS.space, [block.choices for block in COSTS.blocks], 0, nothing).save(tmp_path / "zero.json")
    with pytest.raises(InputError, match="has an architecture that takes no time, so a limit would mean nothing"):
        LatencyTable.load(tmp_path / "zero.json")
    with pytest.raises(InputError, match="is not a latency table; write one with"):
        LatencyTable.load(ROOT / "experiments/spaces/spos-tiny.costs.json")


# measuring


def test_few_networks_are_not_compared_with_themselves():
    """Of two networks, neither tells the pace of the other; both have a spread."""
    chain = spaces.describe("spos", "tiny")
    archs = [{label: values[number] for label, values in chain.choices.items()} for number in (0, 3)]
    timings = stopwatch.time_networks(
        [timing.calibrated_network(chain, arch) for arch in archs], 32, threads=1, rounds=20
    )
    assert all(timing.spread_ms > 0 < timing.median_ms for timing in timings)


def test_the_pace_of_the_machine_is_told_apart_from_what_things_take():
    """Times of known parts on a machine that is up to half slower for a while, with bursts that hit single parts."""
    draw = np.random.default_rng(0)
    true = draw.uniform(0.2e6, 3e6, 60)
    keys = np.stack([draw.permutation(60)[:20] for _ in range(600)])
    paces = 1 + 0.25 * (1 + np.sin(np.arange(600) / 40))
    times = true[keys] * paces[:, None] * draw.normal(1, 0.01, keys.shape)
    times[draw.random(keys.shape) < 0.05] += 4e6  # another process took over
    timings, found = passes.normalise_by_pace(times, keys)
    taken = np.array([timing.median_ms for timing in timings]) * 1e6
    scale = np.median(taken / true)
    error = np.abs(taken / true / scale - 1).max()
    assert error < 0.01
    assert scale == pytest.approx(np.quantile(paces, passes.QUIET_QUANTILE), rel=0.02)
    assert np.corrcoef(found, paces)[0, 1] > 0.99
    # medians alone, without telling paces apart, are no way to know it
    plain = np.array([np.median(times[keys == key]) for key in range(60)])
    assert np.abs(plain / true / np.median(plain / true) - 1).max() > 3 * error


def test_whole_networks_are_timed_equally_often_and_spread_out():
    for number, networks in ((400, 38), (30, 28), (4000, 38)):
        visits = passes.spread_visits(number, networks)
        counts = np.bincount(np.concatenate(visits).astype(int), minlength=networks)
        assert len(visits) == number
        assert counts.min() == counts.max() >= passes.MIN_VISITS
        assert max(map(len, visits)) - min(map(len, visits)) <= 1


# a table from elsewhere


def filled(path, table: LatencyTable, archs=()) -> list[list[str]]:
    """The form for a space, with the times of a table."""
    latency.main(f"--space spos --preset tiny --template {path}".split())
    rows = list(csv.reader(open(path)))
    for row in rows[1:]:
        if row[0] == "space":  # says which space it is, and takes no time
            continue
        pairs = dict(word.split("=") for word in row[1].split())
        if row[0] == "block":
            (block,) = [b for b in table.costs.blocks if set(b.choices) == set(pairs)]
            row[2] = str(block.macs[block.combination_index(pairs)] / 1e6)
        else:
            row[2] = "0.75" if row[0] in ("stem", "head") else str(table.ms(pairs) + 0.25)
    return rows


def test_a_csv_becomes_the_same_table(tmp_path, capsys):
    form, out = tmp_path / "phone.csv", tmp_path / "phone.json"
    expected = made()
    rows = filled(form, expected)
    with pytest.raises(InputError, match="phone.csv' already exists; it may be filled in; choose another name"):
        latency.main(f"--space spos --preset tiny --template {form}".split())
    csv.writer(open(form, "w", newline="")).writerows(rows)
    latency.main(f"--space spos --preset tiny --csv {form} --out {out}".split())
    read = LatencyTable.load(out, COSTS)
    share = round(250_000 / 22)  # of what the whole networks take beyond their parts
    assert [block.macs.tolist() for block in read.costs.blocks] == [
        (block.macs + share).tolist() for block in expected.costs.blocks
    ]
    assert read.check["mean_absolute_error_percent"] < 0.01
    csv.writer(open(form, "w", newline="")).writerows(row for row in rows if row[0] != "network")
    latency.main(f"--space spos --preset tiny --csv {form} --out {out}".split())
    plain = LatencyTable.load(out, COSTS)
    assert plain.check is None
    assert [block.macs.tolist() for block in plain.costs.blocks] == [b.macs.tolist() for b in expected.costs.blocks]
    assert plain.costs.base[0] == 1_500_000
    assert "not known: there are no times of whole networks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda rows: rows.pop(5),
            "lacks block block00=xception; give every row of the form that --template writes (1 of 82 is missing)",
        ),
        (lambda rows: rows[3].__setitem__(2, "fast"), "line 4: latency_ms is 'fast'; give milliseconds"),
        (lambda rows: rows[3].__setitem__(2, "-1"), "line 4: latency_ms is '-1'"),
        (lambda rows: rows[3].__setitem__(2, ""), "line 4: latency_ms is ''"),
        (lambda rows: rows[90].__setitem__(2, "0"), "line 91: network block00="),
        (lambda rows: rows[90].__setitem__(2, "0"), "takes 0 ms, which is no time; a skip alone may take none"),
        (lambda rows: rows[1].__setitem__(2, "0"), "line 2: stem takes 0 ms, which is no time"),
        (lambda rows: rows[3].__setitem__(2, "0.0000001"), "line 4: block block00=k5 takes 0.0000001 ms"),
        (lambda rows: rows[3].__setitem__(2, "nan"), "line 4: latency_ms is 'nan'"),
        (lambda rows: rows[3].__setitem__(1, "x" * 500), "line 4: this space has no block " + "x" * 100),
        (lambda rows: rows.append(rows[4]), "block block00=k7 is there twice; leave one out"),
        (lambda rows: rows.append(["block", "block77=k3", "1"]), "this space has no block block77=k3"),
        (lambda rows: rows[2].__setitem__(1, "block00=k4"), "line 3: this space has no block block00=k4"),
        (lambda rows: rows[0].__setitem__(0, "what"), "its first line must be: part,choice,latency_ms"),
        (lambda rows: rows.__delitem__(slice(100, None)), "networks; give at least 28"),
        (
            lambda rows: rows[90].__setitem__(1, "block00=k9"),
            "a network has block00=k9; give one of k3, k5, k7, xception",
        ),
    ],
)
def test_an_incomplete_csv_is_refused(tmp_path, change, says):
    form, out = tmp_path / "phone.csv", tmp_path / "phone.json"
    rows = filled(form, made())
    change(rows)
    csv.writer(open(form, "w", newline="")).writerows(rows)
    with pytest.raises(InputError, match=re.escape(says)):
        latency.main(f"--space spos --preset tiny --csv {form} --out {out}".split())
    assert not out.exists()


@pytest.mark.parametrize("space", ["fbnet", "single-path-nas"])
def test_a_skip_alone_takes_no_time(tmp_path, space):
    costs = CostTable.load(ROOT / f"experiments/spaces/{space}-tiny.costs.json")
    form = tmp_path / "phone.csv"
    latency_csv.write_template(str(form), costs, [])
    rows = list(csv.reader(open(form)))
    for row in rows[1:]:
        row[2] = "0" if row[1].endswith("=skip") or row[1].endswith("=0") else "0.5"
    csv.writer(open(form, "w", newline="")).writerows(rows)
    table = latency_csv.read(str(form), costs)
    assert sum(int((block.macs == 0).sum()) for block in table.costs.blocks) == sum(row[2] == "0" for row in rows) > 0
    csv.writer(open(form, "w", newline="")).writerows(
        [row if n == 0 else [*row[:2], "0"] for n, row in enumerate(rows)]
    )
    with pytest.raises(InputError, match="line 2: stem takes 0 ms, which is no time"):
        latency_csv.read(str(form), costs)


# a limit


@every_tuner
def test_tuners_keep_the_limit(name, table):
    latencies = LatencyTable.load(table)
    fastest, slowest = latencies.bounds_ms()
    limit = fastest + 0.3 * (slowest - fastest)
    tuner = make(name, latency_table=table, max_latency_ms=limit, max_macs="3.2M")
    archs = search(tuner, 40)
    assert all(latencies.ms(arch) <= limit for arch in archs)
    assert all(COSTS.macs(arch) <= 3_200_000 for arch in archs)
    assert len({json.dumps(arch) for arch in archs}) == 40


def test_draws_within_a_latency_are_uniform():
    """Against rejection from the whole space, which is uniform by construction."""
    choices = {f"block{place}": ["a", "b", "c"] for place in range(4)}
    costs = CostTable.additive({label: dict.fromkeys(candidates, (1, 1)) for label, candidates in choices.items()})
    draw = np.random.default_rng(0)
    blocks = [draw.integers(1_000_000, 9_000_000, 3) for _ in choices]
    table = LatencyTable({}, [block.choices for block in costs.blocks], 0, blocks)
    limit = 17.0
    feasible = FeasibleSpace(costs, Limits(max_latency_ms=limit), table)
    drawn = feasible.sample_many(60_000, np.random.default_rng(1))
    everyone = np.stack(np.meshgrid(*[range(3)] * 4, indexing="ij"), -1).reshape(-1, 4)
    within = everyone[feasible.satisfied_by(everyone)]
    assert 5 < len(within) < 76
    seen, counts = np.unique(drawn, axis=0, return_counts=True)
    assert seen.tolist() == within.tolist()
    expected = counts.sum() / len(within)
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
    assert feasible.share() == pytest.approx(len(within) / 81, rel=0.05)


def test_limits_that_cannot_be_met_or_measured(table):
    with pytest.raises(
        InputError, match="max_latency_ms 9 needs a latency_table; measure one with: python -m trials.latency"
    ):
        make("random", max_latency_ms=9)
    with pytest.raises(
        InputError,
        match="max_latency_ms 0.5 is out of reach: the space reaches .* to .* ms on .*; raise max_latency_ms",
    ):
        make("random", latency_table=table, max_latency_ms=0.5)
    with pytest.raises(
        InputError, match="max_latency_ms is 'fast'; give a positive number of milliseconds, such as 12.5"
    ):
        make("random", latency_table=table, max_latency_ms="fast")
    with pytest.raises(InputError, match="objective latency needs a latency_table"):
        make("pareto", objective="latency")


def test_the_shipped_experiment(tmp_path):
    """With a table where the user's run writes one."""
    costs = CostTable.load(ROOT / "experiments/spaces/spos-imagenet.costs.json")
    table = LatencyTable(costs.space, [b.choices for b in costs.blocks], 10**6, [b.macs // 12 for b in costs.blocks])
    table.save(tmp_path / "latency.json")
    tuner = yaml.safe_load((ROOT / "experiments/spos_latency.yml").read_text())["tuner"]
    costs.save(tmp_path / "cost_table.json")
    given = tuner["classArgs"] | {
        key: str(tmp_path / f"{name}.json")
        for key, name in (("latency_table", "latency"), ("cost_table", "cost_table"))
    }
    assert make_tuner(tuner["className"], given).feasible.limits == Limits(max_latency_ms=25)


def test_the_pareto_tuner_minimises_latency(table):
    tuner = make("pareto", latency_table=table, objective="latency")
    latencies = LatencyTable.load(table)
    archs = search(tuner, 60)
    assert np.mean([latencies.ms(arch) for arch in archs[30:]]) < np.mean([latencies.ms(arch) for arch in archs[:10]])


def test_paths_within_a_latency(tmp_path, table):
    latencies = LatencyTable.load(table)
    limit = sum(latencies.bounds_ms()) / 2
    config = supernet_config.Config(
        strategy="window", latency_table=table, max_latency_ms=str(limit), out="x", preset="tiny"
    ).fitted(1000)[0]
    feasible = FeasibleSpace(COSTS, config.limits(), latencies)
    chain = spaces.describe("spos", "tiny")

    class Images:
        def steps_per_epoch(self, part, size):
            return 10

    paths = supernet_plan.make_paths(config, chain, feasible, Images())
    assert all(latencies.ms(arch) <= limit for step in range(50) for arch in paths(step))


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("latency", "--space spos", "nowhere to write the table; give --out FILE.json"),
        ("latency", "--out x.json", "which space? give --space NAME, or --supernet RUN"),
        ("latency", "--space spso --out x.json", "unknown space 'spso'; did you mean 'spos'?"),
        ("latency", "--space spos --out x.json --networks 3", "--networks 3 is too few for a check; give 20 or more"),
        ("latency", "--space spos --out x.json --rounds 0", "--rounds 0 is not above 0"),
        ("latency", "--space spos --out x.json --device cuda", "--device cuda: no GPU is visible"),
        (
            "latency",
            "--space spos --out x.json --csv none.csv",
            "'none.csv' does not exist; write a form with --template",
        ),
        ("latency", "--space spos --fixed-arc arc.json --out x.json", "--table and --fixed-arc go together"),
        (
            "latency",
            "--space spos --supernet runs/x --out x.json",
            "--space has no effect with --supernet, which decides",
        ),
        ("latency", "--table x --fixed-arc y --threads 2", "--threads has no effect with --table, which decides"),
        ("latency", "--space spos --out x.svg", "--out 'x.svg' is no name for the file; give one that ends in .json"),
        ("latency", "--space spos --preset tiny --out /proc/none/x.json", "cannot write to '/proc/none/x.json'"),
        (
            "supernet",
            "--out runs/x --preset tiny --strategy gates --max-latency-ms 3",
            "--max-latency-ms needs --latency-table",
        ),
        (
            "supernet",
            "--out runs/x --preset tiny --latency-table x",
            "--latency-table has no effect without --max-latency-ms",
        ),
        ("evaluate", "--run runs/x --max-latency-ms 3", "--max-latency-ms and --latency-table go together"),
    ],
)
def test_mistakes_get_one_clear_line(command, arguments, says):
    assert_one_clear_line(onepath(command, *arguments.split()), says)
    assert not (ROOT / "x.json").exists()


@pytest.mark.parametrize(
    ("error", "spread", "tau", "said"),
    [
        (
            8.7,
            12,
            0.37,
            "cannot rank: it puts 68 of 100 pairs in the right order (error 8.7%, nine tenths of the space",
        ),
        (8.7, 12, None, "cannot rank: error 8.7%, nine tenths of the space lie within 12%; take MACs"),
        (8.7, 12, 0.9, "cannot rank: error 8.7%"),
        (2.0, 40, 0.9, "can rank: error 2.0%, nine tenths of the space lie within 40%"),
        (2.0, 40, -0.1, "cannot rank: it puts 45 of 100 pairs"),
        (2.0, 40, None, "can rank"),
        (6.0, 12, 0.5, "can rank"),
    ],
)
def test_a_table_that_cannot_rank_says_so(error, spread, tau, said):
    from trials.timing.table_report import verdict

    assert verdict(error, spread, tau).startswith(said)


def test_a_part_that_only_the_newer_exporter_writes_prints_no_graph(capfd):
    assert runtimes.onnx_bytes(torch.nn.ChannelShuffle(2), torch.zeros(1, 8, 4, 4))
    assert "graph" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("measured", "says"),
    [
        (
            {"device": "Xeon", "runtime": "torch", "threads": 2, "batch": 1},
            "Xeon, torch, 2 threads, batch 1",
        ),
        ({"device": "H100", "runtime": "torch", "threads": None, "batch": 8}, "H100, torch, batch 8"),
        ({"device": "that of phone.csv"}, "that of phone.csv (runtime, threads, batch not said)"),
        ({}, "an unknown device (runtime, threads, batch not said)"),
    ],
)
def test_a_table_says_how_it_was_measured_and_what_is_not_known(measured, says):
    table = LatencyTable({}, [{"block": ["a", "b"]}], 5, [[1, 2]], measured=measured)
    assert str(table) == says
