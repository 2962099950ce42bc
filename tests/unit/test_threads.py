"""Threads on a CPU: one for each core that is free when a run begins, and the same number as long as the run lasts."""

import os
from typing import NamedTuple

import psutil
import pytest
import torch

from spaces.files import load_json, save_json
from tests.commands import Command
from trials.common import machine, threads


class Times(NamedTuple):
    """What psutil says of a core, percent."""

    user: float
    idle: float


@pytest.mark.parametrize(
    ("idle", "expected"),
    [
        ([100, 100], 2),
        ([100, 80], 2),
        ([100, 60], 1),  # a thread there would hold up the other one
        ([50, 50], 1),
        ([3, 0], 1),
        ([100, 100, 98, 0, 1, 100, 100, 99], 6),
    ],
)
def test_a_thread_for_each_free_core(monkeypatch, idle, expected):
    monkeypatch.setattr(psutil, "cpu_times_percent", lambda *_, **__: [Times(100 - share, share) for share in idle])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(len(idle))), raising=False)
    assert threads.free_cores() == expected


def test_cores_of_others_and_cores_that_nothing_is_counted_of(monkeypatch):
    monkeypatch.setattr(psutil, "cpu_times_percent", lambda *_, **__: [Times(0, 0), Times(0, 0), Times(0, 100)])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert threads.free_cores() == 2


def test_this_machine_has_free_cores():
    """By what psutil really says."""
    assert 1 <= threads.free_cores() <= machine.usable_cores()


@pytest.mark.parametrize(("content", "cores"), [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("", 8)])
def test_a_container_may_give_less_than_it_shows(monkeypatch, tmp_path, content, cores):
    (tmp_path / "cpu.max").write_text(content)
    monkeypatch.setattr(machine, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert machine.usable_cores() == cores


@pytest.fixture
def three_threads(monkeypatch):
    """Torch would take three threads by itself, and nobody said another number."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_most_threads", lambda: 3)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("stored", "expected"), [({"threads": 2}, 2), ({"threads": 64}, 3), ({}, 3), ({"threads": None}, 3)]
)
def test_a_run_keeps_its_threads(three_threads, tmp_path, stored, expected):
    """As many as this machine has; runs of older versions took them all."""
    save_json(tmp_path / "config.json", {"command": "supernet", "config": {}, **stored})
    threads.use_free_cores(tmp_path)
    assert torch.get_num_threads() == expected


def test_a_new_run_says_what_it_leaves_to_others(three_threads, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(threads, "free_cores", lambda: 2)
    threads.use_free_cores(tmp_path)
    assert torch.get_num_threads() == 2
    assert capsys.readouterr().out == "threads: 2 of 3, other programs use the rest; OMP_NUM_THREADS=3 takes them all\n"
    monkeypatch.setattr(threads, "free_cores", lambda: 5)
    threads.use_free_cores(tmp_path)
    assert torch.get_num_threads() == 3
    assert capsys.readouterr().out == ""


def test_the_users_word_counts(three_threads, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    save_json(tmp_path / "config.json", {"command": "supernet", "config": {}, "threads": 2})
    threads.use_free_cores(tmp_path)
    assert torch.get_num_threads() == 1


def test_a_resumed_run_computes_as_it_began(tmp_path):
    """Begun with one thread, it goes on with one where nothing says so but the run: bit for bit the run that was not stopped."""
    command = ["--preset", "tiny", "--data", "digits", "--epochs", "1", "--eval-paths", "0", "--batch-size", "256"]
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    unsaid = {name: value for name, value in one.items() if name != "OMP_NUM_THREADS"}
    steps = [(one, "whole", []), (one, "stopped", ["--stop-after", "2"]), (unsaid, "stopped", ["--resume"])]
    for environment, name, more in steps:
        process = Command("trials.supernet", *command, "--out", tmp_path / name, *more, environment=environment)
        output, errors = process.communicate()
        assert process.returncode == 0, output + errors
    assert load_json(tmp_path / "stopped/config.json", "")["threads"] == 1
    whole, stopped = (torch.load(tmp_path / name / "supernet.pt")["model"] for name in ("whole", "stopped"))
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)
