"""Runs that were moved or copied: their files name the old place, and every command goes on at the new one."""

import shutil

import pytest
import torch
import yaml

from spaces.files import CLONE, load_json, save_json
from tests.experiments import scores
from trials import search
from trials.common import places, run_dir
from trials.evidence.gates import GateWarning, keep_warnings, read_warnings
from trials.search_driver import experiment_file


@pytest.mark.parametrize(
    ("command", "then"),
    [
        ("python -m trials.search runs/old --in-process", "python -m trials.search runs/new --in-process"),
        ("python -m trials.search runs/old/search.yml", "python -m trials.search runs/new/search.yml"),
        ("mv runs/old/retrain runs/old/undertrained-2 && x", "mv runs/new/retrain runs/new/undertrained-2 && x"),
        ("python -m trials.supernet --out runs/old-2", "python -m trials.supernet --out runs/old-2"),
        ("A=$B python -m trials.evaluate --run runs/old", "A=$B python -m trials.evaluate --run runs/new"),
        ("python -m trials.data check 'runs/old/my images'", "python -m trials.data check 'runs/new/my images'"),
        ("it's no command line: runs/old", "it's no command line: runs/old"),
    ],
)
def test_commands_follow_their_run(command, then):
    assert places.follow(command, "runs/old", "runs/new") == then
    assert places.follow(command, None, "runs/new") == command


def test_a_retraining_finds_its_supernet(tmp_path):
    stored = {"supernet": "runs/old", "out": "runs/old/retrain"}
    assert str(places.supernet_of(tmp_path / "retrain", stored)) == "runs/old"
    save_json(tmp_path / "config.json", {})
    assert places.supernet_of(tmp_path / "retrain", stored) == tmp_path
    assert str(places.supernet_of(tmp_path / "retrain", stored | {"out": "runs/elsewhere"})) == "runs/old"
    assert places.supernet_of(tmp_path / "retrain", {"out": "runs/old/retrain"}) is None


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_a_moved_run_is_searched_where_it_is(own_run, tmp_path, how, capsys):
    """A copy would otherwise search the run that it was copied from, without a word; a moved one could not be resumed."""
    (own_run / "search.yml").unlink()
    contents = run_dir.load_run(own_run, "supernet") | {"out": str(own_run)}
    save_json(own_run / "config.json", {"command": "supernet", "config": contents})
    keep_warnings(
        own_run, "supernet", [GateWarning("few steps", "few", f"python -m trials.supernet --out {own_run}/2")]
    )
    from strategies.feasible import FeasibleSpace
    from strategies.limits import Limits
    from trials.common.supernet_run import SupernetRun

    experiment_file.write_experiment(own_run, FeasibleSpace(SupernetRun.open(own_run).table, Limits()))
    search.main([str(own_run), "--in-process", "--max-trials", "2"])
    first = load_json(own_run / "search.json", "")["history"]
    place = tmp_path / "deeper" / "other run"
    place.parent.mkdir()
    how(own_run, place)
    if how is shutil.copytree:  # another supernet stands where it was copied from
        weights = torch.load(own_run / "supernet.pt", weights_only=True)
        torch.save(weights | {"model": {k: v * 1.5 for k, v in weights["model"].items()}}, own_run / "supernet.pt")
    capsys.readouterr()

    search.main([str(place), "--in-process", "--resume", "--max-trials", "3"])
    said = capsys.readouterr().out
    assert f"'{place}/search.yml' named '{own_run}'; its paths were written anew" in said
    history = load_json(place / "search.json", "")["history"]
    assert history[:2] == first
    assert len(history) == len(scores(place)) == 3
    assert read_warnings(place)[0]["command"] == f"python -m trials.supernet --out '{place}/2'"
    content = yaml.safe_load((place / "search.yml").read_text())
    assert content["trialCommand"] == f"python -m trials.evaluate --run '{place}'"
    assert content["tuner"]["classArgs"]["cost_table"] == f"{place}/cost_table.json"
    assert content["trialCodeDirectory"] == content["tuner"]["codeDirectory"] == str(CLONE)
    assert f"python -m trials.search '{place}/search.yml' --in-process" in (place / "search.yml").read_text()

    search.main([str(place), "--check"])
    assert "written anew" not in capsys.readouterr().out


def test_a_run_that_moves_within_its_clone_keeps_its_form(own_run, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment_file, "CLONE", tmp_path)
    text = (own_run / "search.yml").read_text()
    old, new = tmp_path / "runs" / "old", tmp_path / "runs" / "kept" / "new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    content = yaml.safe_load(text) | {
        "trialCommand": "python -m trials.evaluate --run runs/old --latency-table runs/old/latency.json",
        **{"trialCodeDirectory": "../..", "experimentWorkingDirectory": "nni"},
    }
    content["tuner"] |= {
        "codeDirectory": "../..",
        "classArgs": {"cost_table": "runs/old/cost_table.json", "latency_table": "l.json"},
    }
    (new / "search.yml").write_text("# mine\n" + yaml.safe_dump(content))
    experiment_file.follow_run(new)
    text = (new / "search.yml").read_text()
    assert text.startswith("# mine\n")
    now = yaml.safe_load(text)
    assert (
        now["trialCommand"]
        == "python -m trials.evaluate --run runs/kept/new --latency-table runs/kept/new/latency.json"
    )
    assert now["trialCodeDirectory"] == now["tuner"]["codeDirectory"] == "../../.."
    assert now["experimentWorkingDirectory"] == "nni"
    assert now["tuner"]["classArgs"] == {"cost_table": "runs/kept/new/cost_table.json", "latency_table": "l.json"}
    experiment_file.follow_run(new)
    assert (new / "search.yml").read_text() == text
