"""Searches without NNI, in one process: resumed, and what they refuse."""

import json
import math

import pytest
import torch

from spaces.arch import arch_id
from spaces.errors import InputError, Stopped
from spaces.files import load_json
from tests.commands import ROOT, assert_one_clear_line, onepath
from tests.experiments import IMAGES, SMALL, copy_run, events, experiment, scores
from trials import search
from trials.choosing.candidates import best_of
from trials.common.commands import IN_ROAD
from trials.common.supernet_run import SupernetRun
from trials.search_driver import session
from trials.search_driver.plan import plan_experiment


def test_in_process_resumes_and_goes_on(own_run, run, tmp_path):
    """The same search in two parts, cut off in the middle of a line of its journal, and then made longer."""
    path = experiment(own_run, classArgs=SMALL, maxTrialNumber=9)
    search.main([str(path), "--in-process", "--max-trials", "6"])
    journal = own_run / "in_process" / "tuner.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    search.main([str(path), "--in-process", "--resume"])
    whole = copy_run(run, tmp_path / "whole")
    search.main([str(experiment(whole, classArgs=SMALL, maxTrialNumber=9)), "--in-process"])
    first, second = (load_json(of / "search.json", "") for of in (own_run, whole))
    assert first["history"] == second["history"]
    assert len(first["history"]) == 9
    assert first["frontier"] == second["frontier"]
    assert {path.name for path in (own_run / "frontier").iterdir()} == {
        path.name for path in (whole / "frontier").iterdir()
    }
    assert (own_run / "report.html").exists()
    curves = events(own_run / "tensorboard" / "search")
    assert all(
        curves[tag] == list(range(1, 10)) for tag in ("score/top1", "score/loss", "score/best", "arch/million_macs")
    )
    assert curves["score/over_cost"] == [6, 7, 8, 9]  # of the second process; the journal had five whole lines
    costs = curves["score/best_by_macs"]
    assert costs == sorted(set(costs))
    assert set(costs) <= {score["macs"] for score in scores(own_run).values()}


def test_a_search_by_the_loss(own_run, capsys):
    """The winner, the front, the tuner's journal and what retrain --top takes go by cross-entropy; the table has both figures."""
    command = f"python -m trials.evaluate --run {own_run} {IMAGES} --score-by loss"
    search.main([str(experiment(own_run, classArgs=SMALL, maxTrialNumber=6, trialCommand=command)), "--in-process"])
    found = scores(own_run)
    order = sorted(found, key=lambda name: found[name]["loss"])
    assert load_json(own_run / "arc.json", "") == found[order[0]]["arch"]
    summary = load_json(own_run / "search.json", "")
    assert summary["score_by"] == "loss"
    assert summary["frontier"][-1] == order[0]
    told = [json.loads(line) for line in (own_run / "in_process" / "tuner.jsonl").read_text().splitlines()]
    assert sorted(entry["score"] for entry in told if "scored" in entry) == pytest.approx(
        sorted(100 * math.exp(-score["loss"]) for score in found.values())
    )
    assert [arch_id(one.arch) for one in best_of(SupernetRun.open(own_run), 3)] == order[:3]
    assert f"{found[order[0]]['loss']:.4f}" in capsys.readouterr().out
    assert "mean probability of the right class" in (own_run / "report.html").read_text()


def test_in_process_marks_what_cannot_be_scored(own_run, monkeypatch, capsys):
    """An architecture that fails every time is given up, the others are scored."""
    from trials.scoring.scorer import Scorer

    score, broken, calls = Scorer.score, [], []

    def fails(self, archs, tick):
        if not broken:
            broken.append(archs[0])
        if broken[0] in archs:
            if len(archs) == 1:
                calls.append(archs)
            raise RuntimeError("CUDA out of memory")
        return score(self, archs, tick)

    monkeypatch.setattr(Scorer, "score", fails)
    search.main([str(experiment(own_run, classArgs=SMALL | {"tries": 2}, maxTrialNumber=5)), "--in-process"])
    assert len(calls) == 2
    summary = load_json(own_run / "search.json", "")
    assert len(summary["history"]) == 5
    assert len(summary["failed"]) == 1
    assert "failed 2 times and were left out" in capsys.readouterr().out
    monkeypatch.setattr(Scorer, "score", lambda self, *_: (_ for _ in ()).throw(RuntimeError("CUDA out of memory")))
    other = copy_run(own_run, own_run.parent / "other")
    with pytest.raises(
        Stopped, match="the last .* architectures failed 3 times each: RuntimeError: CUDA out of memory"
    ):
        search.main([str(experiment(other, classArgs=SMALL)), "--in-process"])


def test_a_tuner_that_cannot_be_made(own_run):
    path = experiment(own_run, tuner={
        "codeDirectory": str(ROOT), "className": "tests.raising_tuner.RaisingTuner",
        "classArgs": {"cost_table": "experiments/spaces/spos-tiny.costs.json", "where": "__init__"},
    })  # fmt: skip
    with pytest.raises(InputError, match="cannot be made: RuntimeError: raised in __init__"):
        plan_experiment(path)


def test_one_search_of_a_run_at_a_time(own_run):
    path = experiment(own_run)
    with session.search_lock(own_run):
        done = onepath("search", path, "--in-process")
    assert_one_clear_line(done, f"another search of '{own_run}' is going on (process ")


def test_resume_of_another_search(own_run, monkeypatch):
    path = experiment(own_run, classArgs=SMALL, maxTrialNumber=1)
    search.main([str(path), "--in-process"])
    with pytest.raises(InputError, match="was begun with --in-process; continue it so, or leave --resume out"):
        search.main([str(path), "--resume"])
    with monkeypatch.context() as road, pytest.raises(InputError, match="with --in-process; continue it so$"):
        road.setenv(IN_ROAD, "1")  # trials.run has nothing to leave out
        search.main([str(path), "--resume"])
    checkpoint = torch.load(own_run / "supernet.pt", weights_only=True)
    torch.save(checkpoint | {"model": {k: v * 1.5 for k, v in checkpoint["model"].items()}}, own_run / "supernet.pt")
    with pytest.raises(InputError, match="supernet of '.*' is not what it was when the search of '.*' began"):
        search.main([str(path), "--in-process", "--resume"])
    search.main([str(path), "--in-process"])  # anew: the old score does not count
    (score,) = scores(own_run).values()
    assert score["supernet"] == plan_experiment(path).supernet
    experiment(own_run, classArgs=SMALL | {"seed": 5}, maxTrialNumber=1).rename(path)
    with pytest.raises(InputError, match="tuner of '.*' is not what it was when the search of '.*' began"):
        search.main([str(path), "--in-process", "--resume"])
