"""The look at the winner of a road with --minutes: when it is trained longer, and what becomes of the certificate."""

import dataclasses
import json
import re

import pytest

from trials import run
from trials.common import typed
from trials.evidence import gates
from trials.road import longer, record
from trials.road.longer import Trained

FOUND = "the network is undertrained: 46.10% [44.0, 48.2] is below the floor of 61.0% (random forest on 16x16 pixels)"
# two trainings at a time, of 12 epochs in 5 minutes, planned with a certificate of 3 random networks and the cheapest
TRAINED = Trained(epochs=12, usual=25, seconds=300, start=6, seeds=2, jobs=2, certify_jobs=2, random=3, most=8)


def test_without_time_for_a_certificate_all_of_it_goes_into_the_winner():
    """The four rounds of the certificate, of 300 seconds each, are four times the epochs."""
    assert TRAINED.certificate(12, 3) == 6 + 4 * (6 + 300)
    epochs, random = longer.longer_work(TRAINED, TRAINED.certificate(12, 3))
    assert (epochs, random) == (48, 0)
    assert TRAINED.winner(epochs) <= TRAINED.certificate(12, 3) < TRAINED.winner(epochs + 1)


def test_networks_are_trained_alike_or_not_compared():
    """A certificate of longer trained networks is planned only where all of them fit, with as many random ones as do."""
    both = TRAINED.winner(25) + TRAINED.certificate(25, 3)
    assert longer.longer_work(TRAINED, both) == (25, 3)
    assert longer.longer_work(TRAINED, both - 1)[1] == 0
    many = dataclasses.replace(TRAINED, random=8)
    assert longer.longer_work(many, both + TRAINED.certificate(25, 5) - TRAINED.certificate(25, 3)) == (25, 5)


def test_after_the_recipe_three_times_as_long_is_tried_and_never_more():
    whole = dataclasses.replace(TRAINED, epochs=25, seconds=600)
    both = whole.winner(75) + whole.certificate(75, 3)
    assert longer.longer_work(whole, both) == (75, 3)
    assert longer.longer_work(whole, both - 1) == (75, 0)


def test_too_little_time_leaves_the_road_as_planned():
    assert longer.longer_work(TRAINED, TRAINED.winner(18)) == (18, 0)
    assert longer.longer_work(TRAINED, TRAINED.winner(17)) is None
    assert longer.longer_work(TRAINED, -60) is None


def test_random_networks_that_were_asked_for_are_not_left_out():
    given = dataclasses.replace(TRAINED, given=True)
    both = TRAINED.winner(25) + TRAINED.certificate(25, 3)
    assert longer.longer_work(given, both) == (25, 3)
    assert longer.longer_work(given, both - 1) is None


def test_the_certificate_has_as_many_random_networks_as_fit_by_the_time_of_the_winner():
    assert longer.random_that_fit(TRAINED, TRAINED.certificate(12, 6)) == 6
    assert longer.random_that_fit(TRAINED, 1e9) == TRAINED.most
    assert longer.random_that_fit(TRAINED, 0) == 3
    slow = dataclasses.replace(TRAINED, random=7)
    assert longer.random_that_fit(slow, TRAINED.certificate(12, 5) + 1) == 5
    given = dataclasses.replace(TRAINED, given=True)
    assert {longer.random_that_fit(given, seconds) for seconds in (0, 1e9)} == {3}
    two = dataclasses.replace(TRAINED, random=2, most=2)  # of a space that holds no more
    assert {longer.random_that_fit(two, seconds) for seconds in (0, 1e9)} == {2}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def trained_winner(out, epochs, seconds, mean, gate=None):
    """What trials.retrain leaves of the winner."""
    folder = out / "retrain"
    write(folder / "config.json", {"command": "retrain", "config": {"data": "digits", "epochs": epochs, "jobs": 2}})
    result = {"macs": 1, "params": 1, "test_top1": [mean, mean], "mean": mean, "std": 0.0, "test_images": 400}
    result |= {"interval": [mean - 2, mean + 2], "seconds": [seconds, seconds]}
    write(folder / "result.json", result)
    write(folder / "arc.json", {"block0": "k3"})
    found = [{"from": "retrain", "gate": gate, "text": FOUND, "command": "python -m trials.retrain x"}] if gate else []
    write(folder / gates.FILE, found)


def certificate(sentence):
    verdict = {"code": "x", "sentence": sentence, "next": "python -m trials.certify x", "why": "why"}
    node = {"id": "a", "arch": {"block0": "k3"}, "macs": 1, "params": 1, "run": "retrain", "test_top1": [65.0]}
    node |= {"correct": [260], "mean": 65.0, "interval": [60.0, 70.0]}
    comparison = {"difference": 0.0, "interval": [-1.0, 1.0], "beaten": 1, "of": 3}
    found = {"verdict": verdict, "winner": node, "cheapest": None, "random": [node], "comparison": comparison}
    return found | {"ranking": {"n": 3}, "noise": {}, "seeds": 2, "test_images": 400}


@pytest.fixture
def road(tmp_path, monkeypatch):
    """A road of 37 minutes whose steps up to the search are complete; its other steps write what such steps leave."""
    plan = {
        "given": 37,
        "options": {"supernet": {"epochs": 6}, "retrain": {"epochs": 12, "jobs": 2}, "certify": {"random": 3}},
        "seconds": {"supernet": 150, "search": 90, "retrain": 306, "certify": 1206, "export": 46, "report": 14},
        "timing": 30,
        "work": {"random": 3},
        "usual": {"network_epochs": 25, "random": 8},
        "start": 6.0,
        "jobs": 2,
    }
    kept = {"images": "digits", "max_macs": "", "steps": {"supernet": {"epochs": 6}, "search": {}}, "minutes": plan}
    kept["taken"] = {"supernet": 150.0, "search": 90.0, "retrain": 306.0}
    for name in ("supernet.pt", "arc.json"):
        write(tmp_path / name, {"block0": "k3"})
    write(tmp_path / record.RECORD, kept)
    monkeypatch.setattr(typed, "_lines", {})
    began, after = [], {"mean": 65.0, "gate": None}

    def step(words, done):
        if words[0] != "supernet":  # which looks itself whether it is complete
            began.append(words[0])
        if words[0] == "retrain":
            epochs = int(words[words.index("--epochs") + 1])
            short = epochs == 12
            trained_winner(tmp_path, epochs, 25.0 * epochs, *(46.1, gates.BELOW) if short else after.values())
        elif words[0] == "certify":
            write(tmp_path / "certificate.json", certificate("not distinguishable"))
        elif done:
            write(done, {})

    monkeypatch.setattr(run, "run_step", step)
    return tmp_path, began, after


def go(out, *more):
    return run.main(["digits", "--out", str(out), "--minutes", "37", *more])


def test_a_winner_below_the_floor_is_trained_longer_and_nothing_is_certified(road, capsys):
    out, began, _ = road
    found = go(out)
    said = capsys.readouterr().out
    assert began == ["retrain", "retrain", "export", "report"]
    plan = json.loads((out / record.RECORD).read_text())["minutes"]
    epochs = plan["longer"]["epochs"]
    assert 40 < epochs <= 75
    assert json.loads((out / "retrain" / "config.json").read_text())["config"]["epochs"] == epochs
    aside = out / "undertrained-retrain-2" / "retrain" / "config.json"
    assert json.loads(aside.read_text())["config"]["epochs"] == 12
    assert f"{FOUND}; so the winner is trained anew, with {epochs} epochs instead of 12, in about " in said
    assert (
        f"verdict: none, for the minutes went into the winner: 65.00% [63.0, 67.0] with {epochs} epochs (with 12: "
        in said
    )
    assert f"next: python -m trials.certify {out} --random 3    # is it better than random networks that are " in said
    assert found["verdict"] is None
    assert found["next"] == f"python -m trials.certify {out} --random 3"
    assert [step["did"] for step in found["steps"]] == [
        *["ran", "was complete", "ran", "ran", "left out", "ran", "ran"]
    ]

    began.clear()  # the same command again trains nothing, and says the same
    assert go(out)["verdict"] is None
    assert began == ["report"]
    write(out / "certificate.json", certificate("better"))  # by its own command
    assert go(out)["verdict"]


def test_a_winner_that_stays_below_the_floor_is_said_to(road, capsys):
    out, _, after = road
    after.update(mean=50.0, gate=gates.BELOW)
    assert go(out)["next"] == "python -m trials.retrain x"
    assert f"next: python -m trials.retrain x    # {FOUND}" in capsys.readouterr().out


@pytest.mark.parametrize("killed", ["before it was moved", "after it was moved", "while it was trained"])
def test_a_road_that_was_killed_goes_on_with_the_longer_training(road, monkeypatch, killed):
    out, began, _ = road
    step = run.run_step

    def stop(*_):
        raise KeyboardInterrupt

    def ends(words, done):
        if words[0] == "retrain" and began:
            if killed == "while it was trained":
                write(out / "retrain" / "checkpoints" / "last.pt", {})
            stop()
        step(words, done)

    monkeypatch.setattr(run, "run_step", ends)
    if killed == "before it was moved":
        monkeypatch.setattr(longer, "put_short_aside", lambda *_: stop() if began else None)
    with pytest.raises(KeyboardInterrupt):
        go(out)
    monkeypatch.undo()
    monkeypatch.setattr(run, "run_step", step)
    assert go(out)["verdict"] is None
    assert began == ["retrain", "retrain", "export", "report"]
    assert [path.name for path in out.glob("undertrained*")] == ["undertrained-retrain-2"]


def test_a_faster_winner_leaves_time_for_more_random_networks(road, capsys):
    out, began, _ = road
    trained_winner(out, 12, 100.0, 70.0)
    kept = json.loads((out / record.RECORD).read_text())
    kept["steps"]["retrain"] = {"epochs": 12, "jobs": 2}
    kept["taken"]["retrain"] = 106.0
    write(out / record.RECORD, kept)
    found = go(out)
    said = capsys.readouterr().out
    assert began == ["certify", "export", "report"]
    many = json.loads((out / record.RECORD).read_text())["minutes"]["options"]["certify"]["random"]
    assert 3 < many <= 8
    assert f"so the certificate has {many} random networks, not 3: beating all {many} happens by luck in 1 of" in said
    assert f"--random {many}" in found["steps"][3]["command"]
    assert re.search(r"1[0-9]\.[0-9] are planned for certify\n", said)  # by the time of the winner


@pytest.mark.parametrize("gate", [None, gates.FEW_STEPS])
def test_a_winner_at_or_above_the_floor_is_certified_as_planned(road, monkeypatch, gate):
    out, began, _ = road
    trained_winner(out, 12, 300.0, 70.0, gate)
    kept = json.loads((out / record.RECORD).read_text())
    kept["steps"]["retrain"] = {"epochs": 12, "jobs": 2}
    write(out / record.RECORD, kept)
    assert go(out)["verdict"]["sentence"] == "not distinguishable"
    assert began == ["certify", "export", "report"]


def test_epochs_that_were_given_stay(road):
    out, began, _ = road
    kept = json.loads((out / record.RECORD).read_text())
    del kept["minutes"]["options"]["retrain"]["epochs"]
    del kept["steps"]["supernet"]
    write(out / record.RECORD, kept)
    assert go(out, "--epochs", "12")["verdict"]
    assert began.count("retrain") == 1


def test_a_longer_road_has_a_longer_training_and_a_certificate(road):
    out, began, _ = road
    kept = json.loads((out / record.RECORD).read_text())
    kept["minutes"]["given"] = 370
    write(out / record.RECORD, kept)
    found = run.main(["digits", "--out", str(out), "--minutes", "370"])
    assert began == ["retrain", "retrain", "certify", "export", "report"]
    assert "--epochs 25" in found["steps"][3]["command"]
    assert "--random 3" in found["steps"][4]["command"]
    assert found["verdict"]
