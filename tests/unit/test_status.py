"""trials.status: where a run is on the road, by its files, whoever works on it and however that ended."""

import json
import os
import subprocess
import sys
import time

import pytest

from spaces.errors import InputError
from tests.commands import ROOT
from tests.unit.test_longer import certificate, trained_winner, write
from trials import run, status
from trials.common import locks, typed
from trials.evidence import gates
from trials.road import record

PLAN = {
    "given": 40,
    "options": {"retrain": {"epochs": 12}, "certify": {"random": 3}},
    "seconds": {"supernet": 150, "search": 90, "retrain": 300, "certify": 1200, "export": 46, "report": 14},
    "timing": 30,
    "work": {"random": 3},
    "usual": {"network_epochs": 25, "random": 8},
    "start": 6.0,
    "jobs": 2,
}


@pytest.fixture
def road(tmp_path):
    """A road whose supernet is half trained: its process was killed."""
    line = "python -m trials.run digits --minutes 40 --out runs/digits"
    kept = {"images": "digits", "max_macs": "", "steps": {}, "minutes": PLAN, "typed": line, "out": "runs/digits"}
    write(tmp_path / record.RECORD, kept | {"began": {"step": "supernet", "at": time.time() - 60}})
    write(tmp_path / "config.json", {"command": "supernet", "config": {"epochs": 20, "data": "digits"}})
    lines = [{"step": 5 * epoch, "epoch": epoch, "loss": 1.0} for epoch in (1, 2.5)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_a_winner_that_is_learned_is_not_searched(road):
    write(
        road / "config.json", {"command": "supernet", "config": {"epochs": 20, "data": "digits", "strategy": "gumbel"}}
    )
    assert "search" not in states(status.main([str(road)]))
    (road / "search").mkdir()  # in which the certificate keeps its scores
    assert "search" not in states(status.main([str(road)]))
    kept = json.loads((road / record.RECORD).read_text())
    write(road / record.RECORD, kept | {"strategy": "gumbel"})
    (road / "config.json").unlink()  # killed before its supernet had begun
    assert "search" not in states(status.main([str(road)]))


def states(found):
    return {entry["step"]: (entry["state"], entry["what"]) for entry in found["steps"]}


def test_a_killed_attempt_counts_up_to_its_last_trace(road):
    """A road that is killed cannot write how long its step took."""
    kept = json.loads((road / record.RECORD).read_text())
    kept["taken"] = {"supernet": 100.0}
    write(road / record.RECORD, kept)
    os.utime(road / "log.jsonl", (0, kept["began"]["at"] + 45))
    assert record.seconds_of_killed(road, kept) == {"supernet": pytest.approx(145.0)}
    assert status.main([str(road)])["gone"] == pytest.approx((30 + 145) / 60)
    os.utime(road / "log.jsonl", (0, kept["began"]["at"] - 45))  # of an attempt before it
    assert record.seconds_of_killed(road, kept) == {"supernet": 100.0}


def test_a_killed_road_is_begun_and_goes_on_with_its_command(road, capsys):
    os.utime(road / "log.jsonl", (0, 0))
    found = status.main([str(road)])
    assert states(found)["supernet"] == ("begun", "2.5 of 20 epochs")
    assert {state for state, _ in states(found).values()} == {"begun", "to come"}
    assert not found["running"]
    assert found["next"] == f"python -m trials.run digits --minutes 40 --out {road}"  # where the run is now
    out = capsys.readouterr().out
    assert "0.0 of 2.5" in out
    assert "0.5 of 40 minutes are gone, 39.5 are left" in out
    assert out.endswith(f"next: {found['next']}    # goes on with supernet\n")


def test_a_road_that_another_process_goes_on_with(road, capsys, monkeypatch):
    code = (
        f"import sys, time\nfrom pathlib import Path\nfrom trials.common import locks\n"
        f"with locks.exclusive(Path({str(road)!r}), 'road'):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as other:
        assert other.stdout.readline() == b"held\n"
        found = status.main([str(road)])
        (road / "config.json").unlink()  # the options of a real supernet would be read before the refusal
        monkeypatch.setattr(run, "run_step", lambda *_: pytest.fail("a step was begun"))
        with pytest.raises(InputError, match="another road of '.*' is going on"):
            run.main(["digits", "--out", str(road), "--minutes", "40"])
        other.stdin.close()
    assert found["running"]
    assert states(found)["supernet"] == ("going on", "2.5 of 20 epochs")
    assert found["next"] is None
    seconds = found["steps"][0]["seconds"]
    assert seconds >= 60
    assert found["gone"] == pytest.approx((30 + seconds) / 60)
    assert not status.main([str(road)])["running"]


def test_a_road_at_its_certificate_and_at_its_end(road, capsys):
    kept = json.loads((road / record.RECORD).read_text())
    del kept["began"]
    kept["taken"] = {"supernet": 160.0, "search": 90.0, "retrain": 290.0}
    write(road / record.RECORD, kept)
    for name in ("supernet.pt", "arc.json"):
        write(road / name, {"block0": "k3"})
    for name in "ab":
        write(road / "search" / f"{name}.json", {})
        write(road / "controls" / name / "config.json", {"command": "retrain", "config": {"seeds": 2}})
    write(road / "controls" / "a" / "seed0" / "result.json", {})
    trained_winner(road, 12, 290.0, 65.0)
    found = status.main([str(road)])
    assert states(found)["search"] == ("complete", "2 architectures scored")
    assert states(found)["retrain"] == ("complete", "test top-1 65.00% [63.0, 67.0], 2 seeds")
    assert states(found)["certify"] == ("begun", "1 of 4 trainings beside the winner's")
    assert states(found)["export"] == ("to come", "")
    assert "4.8 of 5.0" in capsys.readouterr().out

    write(road / "certificate.json", certificate("not distinguishable"))
    write(road / "retrain" / "export" / "export.json", {})
    (road / "report.html").write_text("")
    found = status.main([str(road)])
    assert {state for state, _ in states(found).values()} == {"complete"}
    assert states(found)["certify"][1] == "the winner is not distinguishable"
    assert found["next"] == "python -m trials.certify x"

    (road / "certificate.json").unlink()  # its minutes went into the winner
    kept["minutes"] = PLAN | {"longer": {"epochs": 50, "random": 0, "instead_of": 12, "found": "x"}}
    write(road / record.RECORD, kept)
    assert states(status.main([str(road)]))["retrain"][0] == "begun"  # the short training still stands in its place
    trained_winner(road, 50, 290.0, 65.0)
    found = status.main([str(road)])
    assert states(found)["certify"][0] == "left out"
    assert found["next"] == f"python -m trials.certify {road} --random 3"

    # it stayed below the floor; the command is of the place where the run was then
    command = (
        "mkdir runs/digits/x && mv runs/digits/retrain runs/digits/x && python -m trials.retrain --supernet runs/digits"
    )
    warning = {"from": "retrain", "gate": gates.BELOW, "text": "low", "command": command}
    write(road / "retrain" / gates.FILE, [warning])
    write(
        road / "config.json", {"command": "supernet", "config": {"epochs": 20, "data": "digits", "out": "runs/digits"}}
    )
    assert status.main([str(road)])["next"] == command.replace("runs/digits", str(road))


def test_steps_that_were_typed_one_by_one(road, capsys):
    (road / record.RECORD).unlink()
    config = {
        "command": "supernet",
        "config": {"epochs": 20, "data": "digits"},
        "typed": "python -m trials.supernet --out x",
    }
    write(road / "config.json", config)
    following = []
    following.append(status.main([str(road)])["next"])
    write(road / "supernet.pt", {})
    following.append(status.main([str(road)])["next"])
    write(road / "arc.json", {"block0": "k3"})
    following.append(status.main([str(road)])["next"])
    trained_winner(road, 12, 290.0, 65.0)
    following.append(status.main([str(road)])["next"])
    assert following == [
        "python -m trials.supernet --out x --resume",
        f"python -m trials.search {road}",
        f"python -m trials.retrain --fixed-arc {road}/arc.json --supernet {road}",
        f"python -m trials.certify {road}",
    ]
    assert "minutes are gone" not in capsys.readouterr().out


def test_what_is_no_road_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"'.*none' does not exist; make one with"):
        status.main([str(tmp_path / "none")])
    write(tmp_path / "config.json", {"command": "retrain", "config": {"data": "digits"}})
    with pytest.raises(InputError, match="holds a run of retrain, not of supernet"):
        status.main([str(tmp_path)])
    (tmp_path / "config.json").unlink()
    write(tmp_path / record.RECORD, {"images": 3})
    with pytest.raises(InputError, match=r"record of a road '.*' is damaged"):
        status.main([str(tmp_path)])


def test_nothing_is_written(road):
    before = sorted((str(path), path.stat().st_mtime_ns) for path in road.rglob("*"))
    status.main([str(road)])
    assert sorted((str(path), path.stat().st_mtime_ns) for path in road.rglob("*")) == before


def test_a_road_keeps_what_its_status_is_read_from(tmp_path, monkeypatch):
    seen = []

    def stopped(words, done):
        seen.append(status.main([str(tmp_path / "new")]))
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_step", stopped)
    monkeypatch.setattr(run, "say_hours", lambda *_: None)
    monkeypatch.setattr(typed, "_lines", {})
    with pytest.raises(KeyboardInterrupt):
        run.main(["digits", "--out", str(tmp_path / "new"), "--resume"])
    assert seen[0]["running"]
    assert states(seen[0])["supernet"][0] == "going on"
    found = status.main([str(tmp_path / "new")])
    assert states(found)["supernet"][0] == "begun"
    assert found["next"] == f"python -m trials.run digits --out {tmp_path / 'new'}"
    assert not locks.is_held(tmp_path / "new" / ".road.lock")
