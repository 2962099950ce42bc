"""What is wrong with an experiment is said before anything starts; the shipped experiments are right."""

import socket

import pytest
import yaml

from spaces.errors import InputError
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from tests.commands import ROOT, assert_one_clear_line, onepath
from tests.experiments import copy_run, experiment
from trials import report
from trials.search_driver import experiment_file
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
        ({"trialCommand": "python -m trials.evaluate --run runs/none"}, "'.*none' holds no run; make one with"),
    ],
)
def test_bad_experiments(own_run, changes, says):
    with pytest.raises(InputError, match=says):
        plan_experiment(experiment(own_run, **changes))


def test_shipped_experiments_agree_with_the_code():
    names = [path.stem for path in (ROOT / "experiments").glob("*.yml")]
    assert len(names) >= 11
    for name in set(names) - {"own_space", "spos_latency"}:  # those use files that the user's run writes
        content = yaml.safe_load((ROOT / "experiments" / f"{name}.yml").read_text())
        assert content["trialConcurrency"] == (2 if name == "spos_evo_remote" else 1)  # plain nnictl can do no more
        assert (ROOT / "experiments" / content["searchSpaceFile"]).exists()
        tuner = content["tuner"]
        if "className" in tuner:
            assert make_tuner(tuner["className"], tuner["classArgs"]).feasible.limits.max_macs


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
    with pytest.raises(InputError, match="is not trained to the end; run trials.supernet with --resume first"):
        plan_experiment(experiment(own_run))


def test_report_of_a_run_that_was_not_searched(own_run, capsys):
    """It shows the training, and says what comes next."""
    report.main([str(own_run)])
    assert f"python -m trials.search {own_run} --in-process" in capsys.readouterr().out
    assert (own_run / "report.html").read_text().count("<svg") == 1
