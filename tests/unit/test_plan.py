"""What is wrong with an experiment is said before anything starts; the shipped experiments are right."""

import http.server
import os
import socket
import sys
import threading

import pytest
import requests
import yaml
from nni.experiment import rest

from spaces.catalog import describe
from spaces.cost import CostTable, measure
from spaces.errors import InputError
from spaces.files import load_json
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from tests.answering_server import Answer
from tests.commands import ROOT, assert_one_clear_line, onepath
from tests.experiments import copy_run, experiment
from trials import report
from trials.common import machine
from trials.search_driver import experiment_file, experiment_yaml, nni_environment, ports
from trials.search_driver.experiment_yaml import seconds_of
from trials.search_driver.plan import make_tuner, plan_experiment


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"classArgs": {"max_macs": 1000}},
            r"max_macs 1,000 is out of reach: the space reaches 2,630,272 to 4,065,536 MACs",
        ),
        (
            {"classArgs": {"populatoin": 5}},
            "unknown argument of EvolutionTuner 'populatoin'; did you mean 'population'\\?",
        ),
        ({"classArgs": {"population": 5}}, "population 5, top_k 4, mutation 5, crossover 3"),
        ({"classArgs": {"cost_table": "nowhere.json"}}, "cost table '.*nowhere.json' does not exist"),
        (
            {"classArgs": {"cost_table": "experiments/spaces/spos-cifar.costs.json"}},
            "python -m trials.space spos --preset tiny",
        ),
        ({"tuner": {"name": "Evoluton"}}, "unknown tuner of NNI 'Evoluton'; did you mean 'Evolution'"),
        ({"trainingService": {"platform": "locl"}}, "unknown platform 'locl'; did you mean 'local'"),
        ({"classArgs": {"seed": 1.5}}, "seed 1.5 is not a whole number"),
        ({"searchSpaceFile": "/nowhere.json"}, "search space '/nowhere.json' does not exist"),
        ({"trialCommand": "python train.py"}, "must be: python -m trials.evaluate --run RUN"),
        ({"trialCommand": "python -m trials.evaluate --run runs/none"}, "'.*none' does not exist; make one with"),
    ],
)
def test_bad_experiments(own_run, changes, says):
    with pytest.raises(InputError, match=says):
        plan_experiment(experiment(own_run, **changes))


OLD = """authorName: default
experimentName: spos
trialConcurrency: 1
maxExecDuration: 24h
maxTrialNum: 100
trainingServicePlatform: local
searchSpacePath: spaces/spos-tiny.json
tuner: {codeDir: .., classFileName: evolution.py, className: Evolution}
trial: {command: python -m trials.evaluate --run runs/quickstart, codeDir: .., gpuNum: 0}
"""
LAUGHS = "a: &a [lol]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{f'*{chr(97 + n)}, ' * 9}]\n" for n in range(12))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty or no mapping"),
        ("- a\n- b\n", "is empty or no mapping"),
        ("a: [", "is not valid YAML"),
        ("a: " + "[" * 5000, "is not valid YAML: nested too deeply"),
        ("a: !!python/object/apply:os.system [ls]", "is not valid YAML: could not determine a constructor"),
        ("a: 1\na: 2\n", "key 'a' stands there twice"),
        ("a: \x00", "is not valid YAML"),
        ('a: "\\0"', "has a null byte"),
        (LAUGHS, "more than 10,000 values once its aliases"),
        ("a: " + "9" * 5000, "is not valid YAML"),
        ("a: &a [*a]", "more than 10,000 values once its aliases"),
        ("a: 2024-01-01", "2024, 1, 1.* a date; put it in quotes"),
        ("a: !!binary aGVsbG8=", "a bytes; put it in quotes"),
        ("a: !!int x", "is not valid YAML"),
        (OLD, "format of NNI 1.x; rename its keys .*searchSpacePath -> searchSpaceFile.* trial -> trialCommand"),
        ("experimentName: x", "lacks 'searchSpaceFile'; compare it"),
    ],
)
def test_texts_that_are_no_experiment(tmp_path, text, says):
    path = tmp_path / "e.yml"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        plan_experiment(path)
    assert len(str(caught.value)) < 900
    assert "\n" not in str(caught.value)


LONG = "k" * 10_000
OF_ANOTHER_KIND = [
    *({key: value} for key in ("trialCommand", "trialCodeDirectory", "experimentWorkingDirectory", "searchSpaceFile")
      for value in (3, [LONG], {"a": LONG}, None)),
    *({key: value} for key in ("tuner", "trainingService") for value in (3, LONG, [1], None, {}, {"name": [LONG]})),
    *({"experimentName": value} for value in (3, [LONG])),
    *({"maxTrialNumber": value} for value in (0, -1, 1.5, True, "3", LONG, [LONG], float("nan"), None)),
    *({"trialConcurrency": value} for value in (0, "1", LONG, {})),
    *({key: value} for key in ("maxExperimentDuration", "maxTrialDuration")
      for value in ("10 minutes", "10 minute", "m", "-3m", "0s", "10", -1, 1.5, True, [LONG], "1e3s", LONG, "9" * 5000 + "h")),
    *({"trialGpuNumber": value} for value in (1, "1", -1, LONG)),
    *({"logLevel": value} for value in (3, "loud", LONG)),
    *({"debug": value} for value in ("yes please", LONG)),
    *({"nniManagerIp": value} for value in (3, [LONG])),
    *({"searchSpace": value} for value in (3, LONG, {}, {"block00": 3}, {"block00": {"_type": "choice"}}, [LONG])),
    *({"tuner": {"codeDirectory": str(ROOT), "className": value}}
      for value in ("x", "", "..x", LONG, "strategies.tuner", "strategies.tuner.Score", "os.system", 3, None, [LONG])),
    *({"tuner": {"codeDirectory": value, "className": "strategies.random_search.RandomTuner"}} for value in (3, None, "")),
    *({"tuner": {"name": value}} for value in ("GP", "Metis", "Batch", "PBT", "Hyperband", "SMAC", "BOHB", "TPE ", LONG, 3)),
    {"tuner": {"name": "TPE", "classArgs": {"optimise_mode": "maximize"}}},
    {"tuner": {"name": "Evolution", "classArgs": {"optimize_mode": LONG}}},
    {"tuner": {"name": "Evolution", "className": "x", "codeDirectory": "x"}},
    *({"classArgs": {key: value}} for key in ("cost_table", "seed", "population", "max_macs", "latency_table", "tries")
      for value in ("0", [LONG], {"a": 1}, -1, True, float("inf"), 10**400) if (key, value) not in [("seed", 10**400), ("tries", 10**400), ("population", 10**400)]),
    {"unknownKey": LONG},
    {LONG: 1},
]  # fmt: skip


@pytest.mark.parametrize("changes", OF_ANOTHER_KIND, ids=range(len(OF_ANOTHER_KIND)))
def test_values_of_another_kind_are_refused_in_one_short_line(own_run, changes):
    with pytest.raises(InputError) as caught:
        plan_experiment(experiment(own_run, **changes))
    said = str(caught.value)
    assert "\n" not in said
    assert "k" * 220 not in said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"classArgs": {"seed": "0"}}, "seed '0' is not a whole number of at least 0; write seed: 0, without quotes"),
        ({"maxExperimentDuration": "10 minutes"}, "maxExperimentDuration of .* '10 minutes'; give a number and s, m, h or d"),
        ({"tuner": {"name": "GP"}}, "GP cannot search these spaces.*choose from: Evolution, GridSearch, Random, TPE"),
        ({"tuner": {"name": "TPE", "classArgs": {"seeed": 1}}}, "TPE refuses its classArgs .*seeed"),
    ],
)  # fmt: skip
def test_messages_name_the_fix(own_run, changes, says):
    with pytest.raises(InputError, match=says):
        plan_experiment(experiment(own_run, **changes))


def test_more_trials_at_a_time_than_any_machine_runs(own_run, monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    path = experiment(own_run, trialConcurrency=100_000)
    says = "100000 is too many: each is a process of its own, and this machine has 2 cores; give at most 64"
    with pytest.raises(InputError, match=f"^trialConcurrency of '.*' {says}$"):
        plan_experiment(path)
    with pytest.raises(InputError, match=f"^--concurrency {says}$"):
        plan_experiment(experiment(own_run), concurrency=100_000)
    assert plan_experiment(path, concurrency=64).concurrency == 64
    with pytest.raises(InputError, match="^--concurrency 100000 is too many: NNI's manager .*; give at most 1,000$"):
        experiment_yaml.check_concurrency("--concurrency", 100_000, "remote")
    experiment_yaml.check_concurrency("--concurrency", 1_000, "remote")  # other machines have cores of their own


def test_gpus_at_the_top_level(own_run, monkeypatch):
    """NNI's documentation puts trialGpuNumber there."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    path = experiment(own_run, trialGpuNumber=1, trainingService={"platform": "local", "useActiveGpu": True})
    with pytest.raises(InputError, match="trialGpuNumber of .* is 1, and NNI sees no GPU here"):
        plan_experiment(path)


def test_a_search_space_that_stands_in_the_yaml(own_run):
    space = load_json(ROOT / "experiments/spaces/spos-tiny.json", "")
    path = experiment(own_run, searchSpace=space)
    content = yaml.safe_load(path.read_text())
    del content["searchSpaceFile"]
    path.write_text(yaml.safe_dump(content))
    assert plan_experiment(path).nni.search_space == space
    first = next(iter(space))
    path = experiment(own_run, searchSpace=space | {first: {"_type": "choice", "_value": ["k3"]}})
    with pytest.raises(InputError, match="searchSpace of .* is not the space of supernet"):
        plan_experiment(path)


@pytest.mark.parametrize("maximal", ["TPE", "Random", "Evolution", "GridSearch"])
def test_tuners_of_nni_that_can(own_run, maximal):
    assert plan_experiment(experiment(own_run, tuner={"name": maximal})).tuner is None


@pytest.mark.parametrize("place", ["HOME", "experimentWorkingDirectory", "NNI_CONFIG_DIR"])
def test_folders_that_nni_cannot_write_to_are_said_before_it_starts(own_run, tmp_path, monkeypatch, place):
    """A tuner died without a word where HOME could not be written to."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("")
    nowhere = str(tmp_path / "file" / "x")
    changes = {"experimentWorkingDirectory": nowhere} if place == "experimentWorkingDirectory" else {}
    plan = plan_experiment(experiment(own_run, **changes))
    if not changes:
        nni_environment.check_folders(plan)
        monkeypatch.setenv(place, nowhere)
    with pytest.raises(InputError, match=f"NNI cannot .* folder '{nowhere}.* {place}"):
        nni_environment.check_folders(plan)


def test_a_proxy_does_not_stand_before_this_machine(own_run, monkeypatch):
    """Case: http_proxy in the environment, and NNI asks its own manager through it."""
    for name in ("NODE_OPTIONS", "ONEPATH_OWNER", "ONEPATH_CONFIG", "NNI_LISTEN_HOST", "PATH", "NO_PROXY"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("NNI_LISTEN_HOST", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "intra.example")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(requests.exceptions.ProxyError):
            rest.get(server.server_port, "/check-status")
        nni_environment.prepare_environment(plan_experiment(experiment(own_run)))
        assert rest.get(server.server_port, "/check-status") == {}
        server.shutdown()
    assert os.environ["no_proxy"] == "intra.example,localhost,127.0.0.1"


def test_a_folder_without_an_experiment(tmp_path):
    with pytest.raises(InputError, match=f"folder '{tmp_path}' holds no search.yml, which trials.supernet writes"):
        plan_experiment(tmp_path)


def test_durations():
    said = {"10m": 600, "2h": 7200, "1.5H": 5400, "1d": 86400, 30: 30, "30s": 30}
    assert {value: seconds_of(ROOT, "maxExperimentDuration", value) for value in said} == said


def test_shipped_experiments_agree_with_the_code():
    names = [path.stem for path in (ROOT / "experiments").glob("*.yml")]
    assert len(names) >= 11
    for name in set(names) - {"own_space", "spos_latency"}:  # those use files that the user's run writes
        content = yaml.safe_load((ROOT / "experiments" / f"{name}.yml").read_text())
        assert content["trialConcurrency"] == (2 if name == "spos_evo_remote" else 1)  # plain nnictl can do no more
        assert (ROOT / "experiments" / content["searchSpaceFile"]).exists()
        tuner = content["tuner"]
        if "className" in tuner:
            run = (
                "runs/spos-imagenet"
                if name == "spos_evo_remote"
                else content["trialCommand"].split("--run ")[1].split()[0]
            )
            assert tuner["classArgs"]["cost_table"] == f"{run}/cost_table.json"  # whatever its classes and resolution
            costs = f"experiments/{content['searchSpaceFile'].removesuffix('.json')}.costs.json"
            assert make_tuner(tuner["className"], tuner["classArgs"] | {"cost_table": costs}).feasible.limits.max_macs


def test_the_shipped_limit_of_fbnet_excludes_most_of_the_space():
    """375M left 99.9 % of it."""
    limits = yaml.safe_load((ROOT / "experiments" / "fbnet_evo.yml").read_text())["tuner"]["classArgs"]["max_macs"]
    table = CostTable.load(ROOT / "experiments" / "spaces" / "fbnet-imagenet.costs.json")
    assert FeasibleSpace(table, Limits(max_macs=limits)).share() == pytest.approx(0.25, abs=0.01)


def test_a_supernet_of_other_classes_is_searched_by_a_shipped_experiment(own_run):
    """The road of docs/imagenet.md with --classes 100: the cost table is the run's own, not that of 1,000 classes."""
    shipped = CostTable.load(own_run / "cost_table.json")
    fewer = measure(describe("spos", "tiny", classes=7))
    fewer.save(own_run / "cost_table.json")
    assert plan_experiment(experiment(own_run)).table.space == fewer.space
    shipped.save(own_run / "shipped.json")
    with pytest.raises(
        InputError, match="cost_table of .*'classes': 10.*'classes': 7.* give cost_table: .*cost_table.json"
    ):
        plan_experiment(experiment(own_run, classArgs={"cost_table": str(own_run / "shipped.json")}))


def test_a_supernet_leaves_an_experiment_that_is_ready(own_run, tmp_path, monkeypatch):
    plan = plan_experiment(own_run / "search.yml", run=str(own_run))
    assert plan.wanted == 100
    assert 0.2 < plan.feasible.share() < 0.3

    # under other limits, in a folder with a name that must be quoted, within the clone
    monkeypatch.setattr(experiment_file, "CLONE", tmp_path)
    run = copy_run(own_run, tmp_path / "runs" / "own $run")
    (run / "search.yml").unlink()
    table = plan.table
    experiment_file.write_experiment(run, FeasibleSpace(table, Limits(min_macs=3_000_000, max_macs=3_500_000)))
    content = yaml.safe_load((run / "search.yml").read_text())
    assert content["trialCommand"] == "python -m trials.evaluate --run 'runs/own $run'"
    assert (run / content["trialCodeDirectory"]).resolve() == tmp_path
    assert (tmp_path / content["tuner"]["classArgs"]["cost_table"]).exists()
    assert content["tuner"]["classArgs"]["min_macs"] == 3_000_000

    # what a user wrote stays
    (run / "search.yml").write_text("edited")
    assert experiment_file.write_experiment(run, FeasibleSpace(table, Limits())).read_text() == "edited"


def test_builtin_tuner_with_a_limit(own_run):
    path = experiment(
        own_run, "spos_evo_builtin.yml", trialCommand=f"python -m trials.evaluate --run {own_run} --max-macs 3.2M"
    )
    assert plan_experiment(path).limits.max_macs == 3_200_000
    path = experiment(
        own_run, "spos_random_builtin.yml", trialCommand=f"python -m trials.evaluate --run {own_run} --max-macs 1k"
    )
    with pytest.raises(InputError, match="max_macs 1,000 is out of reach"):
        plan_experiment(path)


def test_port_in_use(own_run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = onepath("search", experiment(own_run), "--port", port)
        assert_one_clear_line(done, f"--port {port} is in use; give another")


def test_an_interrupted_supernet_is_not_searched(own_run):
    (own_run / "supernet.pt").unlink()
    with pytest.raises(InputError, match="is not trained to the end; first: .*trials.supernet .* --resume$"):
        plan_experiment(experiment(own_run))


def test_report_of_a_run_that_was_not_searched(own_run, capsys):
    """It shows the training, and says what comes next."""
    report.main([str(own_run)])
    assert f"python -m trials.search {own_run} --in-process" in capsys.readouterr().out
    assert (own_run / "report.html").read_text().count("<svg") == 1


def test_a_port_that_a_killed_search_lets_go_of_is_waited_for():
    """The manager of a killed search ends by itself, seconds later; only who resumes waits."""
    with socket.socket() as earlier:
        earlier.bind(("127.0.0.1", 0))
        earlier.listen()
        port = earlier.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port} is in use"):
            ports.choose_port(port)
        threading.Timer(0.5, earlier.close).start()
        assert ports.choose_port(port, wait=20) == port
