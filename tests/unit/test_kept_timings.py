"""The timings of a road that are kept beside its run: read again for the same steps, images and machine, and for an hour."""

import dataclasses
import json
import os
import re

import pytest

from spaces.errors import InputError
from tests.unit.test_minutes import RATES, WHOLE
from trials import run
from trials.common import machine
from trials.road import hours, kept_timings


@pytest.fixture
def asked(monkeypatch):
    """How often a few steps were timed; the answer is the same each time."""
    times = []

    def ask(steps):
        times.append(steps)
        return RATES, WHOLE

    monkeypatch.setattr(hours, "ask", ask)
    return times


@pytest.fixture
def pics(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "pics" / "train" / name).mkdir(parents=True)
    return tmp_path / "pics"


def timed(pics, *words, out="one", file=""):
    run = str(pics.parent / out)
    return kept_timings.timed([["supernet", "--out", run, *words]], run, str(pics), file)


def test_the_same_steps_are_timed_once(pics, asked, capsys):
    assert timed(pics) == (RATES, WHOLE)
    assert timed(pics, out="two") == (dataclasses.replace(RATES, taken=0.0), WHOLE)  # the name of a run changes nothing
    assert len(asked) == 1
    said = capsys.readouterr().out
    assert said.count("timing a few steps") == 1
    assert re.search(r"timed just now.*; this counts for 60 minutes more\n$", said)


def test_other_options_images_threads_and_files_are_timed_anew(pics, asked, monkeypatch):
    timed(pics)
    timed(pics, "--batch-size", "32")
    (pics / "train" / "c").mkdir()
    timed(pics)
    (pics / "train" / "c" / "one.png").touch()
    timed(pics)
    file = pics.parent / "run.yml"
    for text in ("supernet: {preset: tiny}", "supernet: {preset: small}"):
        file.write_text(text)
        timed(pics, file=str(file))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    timed(pics)
    assert len(asked) == 7
    timed(pics)
    assert len(asked) == 7


def test_after_an_hour_it_is_timed_anew(pics, asked, capsys):
    timed(pics)
    path = pics.parent / kept_timings.FILE
    for seconds, times in ((3500, 1), (3700, 2)):
        entries = json.loads(path.read_text())
        for entry in entries.values():
            entry["at"] -= seconds
        path.write_text(json.dumps(entries))
        capsys.readouterr()
        timed(pics)
        assert len(asked) == times
        if times == 1:
            assert "timed 58 minutes ago" in capsys.readouterr().out
            for entry in entries.values():
                entry["at"] += seconds
            path.write_text(json.dumps(entries))
    assert len(json.loads(path.read_text())) == 1  # the old one is gone


@pytest.mark.parametrize("text", ["", "[1]", '{"x": 1}', "{", None])
def test_a_damaged_file_is_made_anew(pics, asked, text):
    timed(pics)
    path = pics.parent / kept_timings.FILE
    if text is None:  # the right key, with the rates of another version
        entries = json.loads(path.read_text())
        for entry in entries.values():
            entry["rates"] = {"other": 1}
        text = json.dumps(entries)
    path.write_text(text)
    assert timed(pics) == (RATES, WHOLE)
    assert timed(pics)[0].taken == 0
    assert len(asked) == 2


def test_what_could_not_be_timed_is_not_kept(pics, monkeypatch):
    monkeypatch.setattr(hours, "ask", lambda _: "too large")
    assert timed(pics) == "too large"
    assert not (pics.parent / kept_timings.FILE).exists()


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_file(pics, asked):
    assert kept_timings.timed([["supernet"]], "/proc/none/run", str(pics), "") == (RATES, WHOLE)


def test_other_work_is_said(pics, asked, capsys, monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    for load, says in ((0.5, False), (5.0, True)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0, 0))
        timed(pics, "--seed", str(load))
        timed(pics, "--seed", str(load))
        assert capsys.readouterr().out.count("beside other work (2.5 processes for each core)") == 2 * says


def test_the_least_that_a_refusal_names_is_not_refused(tmp_path, asked, capsys):
    """Steps that would be timed anew could take longer then, and the answer would be another least."""
    words = ["digits", "--preset", "tiny", "--out", str(tmp_path / "new"), "--dry-run", "--minutes"]
    with pytest.raises(InputError) as refused:
        run.main([*words, "1"])
    least = re.search(r"--minutes (\d+)$", str(refused.value))[1]
    assert run.main([*words, least])["steps"]
    assert len(asked) == 1
    assert not (tmp_path / "new").exists()
