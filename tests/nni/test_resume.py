"""Searches that are killed, and searches whose tuner, trials or disk fail: resumed without loss, or stopped with the cause."""

import contextlib
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from spaces.errors import Stopped
from spaces.files import load_json, read_jsonl
from tests.commands import ROOT, Command
from tests.experiments import ENVIRONMENT, SMALL, copy_run, experiment, free_port, left_behind, scores
from trials import search
from trials.search_driver import nni_manager, watchdog
from trials.search_driver.plan import plan_experiment

WATCHED = "python -m tests.watched_trial '{}' trials.evaluate"


def start(path: Path, *options: object) -> Command:
    return Command("trials.search", path, "--port", free_port(), *options, environment=ENVIRONMENT)


def parts_of(process: Command) -> dict[str, list[psutil.Process]]:
    """The processes of a search by their role."""
    parts: dict[str, list[psutil.Process]] = {"driver": [psutil.Process(process.pid)]}
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = " ".join(child.cmdline())
            roles = {"manager": "nni_node/main.js", "tuner": "--exp_params", "trial": "tests.watched_trial"}
            for role, mark in roles.items():
                if mark in command and "bash" not in child.name():
                    parts.setdefault(role, []).append(child)
    return parts


@pytest.mark.timeout(3600)
def test_killed_at_random_moments(copy, run, tmp_path):
    """Manager, tuner, trial and driver are killed, each at a random moment: the search that was resumed is the search that
    was never killed, and no score is computed twice."""
    reference = copy_run(run, tmp_path / "reference")
    search.main([str(experiment(reference, classArgs=SMALL, maxTrialNumber=10)), "--in-process"])

    path = experiment(copy, trial=WATCHED, classArgs=SMALL, maxTrialNumber=10)
    draw = random.Random(7)
    for victim in ("tuner", "manager", "trial", "driver"):
        before = len(scores(copy))
        process = start(path, "--resume")
        while len(scores(copy)) == before and process.poll(0.1) is None:
            pass
        time.sleep(draw.uniform(0, 5))
        assert process.poll() is None, (victim, process.written())
        parts = parts_of(process)
        while victim not in parts and process.poll() is None:
            time.sleep(0.05)
            parts = parts_of(process)
        for target in parts.get(victim, []):
            with contextlib.suppress(psutil.NoSuchProcess):
                target.kill()
        if victim == "trial":  # the search goes on by itself; stop it as a user does
            time.sleep(3)
            process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
        expected = {"driver": -signal.SIGKILL, "trial": 130}.get(victim, 3)
        assert process.returncode == expected, (victim, output, errors)
        assert "Traceback" not in errors
        if victim == "driver":  # the manager notices that nobody watches it
            deadline = time.monotonic() + 300
            while left_behind(copy) and time.monotonic() < deadline:
                time.sleep(0.5)
            assert not left_behind(copy)
    process = start(path, "--resume")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert not left_behind(copy)

    def history(of):
        return [entry["id"] for entry in load_json(of / "search.json", "")["history"]]

    assert history(copy) == history(reference)
    assert {name: score["top1"] for name, score in scores(copy).items()} == {
        name: score["top1"] for name, score in scores(reference).items()
    }
    computed = [line["id"] for line in read_jsonl(copy / "computed.jsonl")]
    assert sorted(computed) == sorted(set(computed)) == sorted(history(copy))
    assert load_json(copy / "arc.json", "") == load_json(reference / "arc.json", "")
    names = [path.name for path in (copy / "nni").iterdir() if not path.is_symlink()]
    assert len(names) == 1  # one experiment, resumed


@pytest.mark.parametrize(
    "where",
    [
        "update_search_space",
        "generate_parameters",
        "receive_trial_result",
        "trial_end",
        "load_checkpoint",
        "import_data",
    ],
)
def test_a_tuner_that_raises(copy, where):
    """NNI itself would stay RUNNING for ever."""
    tuner = {"codeDirectory": str(ROOT), "className": "tests.raising_tuner.RaisingTuner"}
    arguments = {"cost_table": "experiments/spaces/spos-tiny.costs.json", "max_macs": 3_200_000}
    resumed = where in ("load_checkpoint", "import_data")

    def plan(where, number):
        path = experiment(copy, trial=WATCHED, tuner=tuner | {"classArgs": arguments | {"where": where}})
        return plan_experiment(path, max_trials=number)

    port, name = free_port(), None
    if resumed:
        with nni_manager.running_manager(plan("nowhere", 1), port) as running:
            watchdog.watch_experiment(running, plan("nowhere", 1), lambda job, old: None, stall_minutes=5)
            name = running.id
        port = free_port()
    with pytest.raises(Stopped, match=f"(the tuner failed|the experiment failed): .*RuntimeError: raised in {where}"):
        with nni_manager.running_manager(plan(where, 3), port, name) as running:
            watchdog.watch_experiment(running, plan(where, 3), lambda job, old: None, stall_minutes=5)
    assert not left_behind(copy)


def test_a_trial_command_that_does_not_exist(copy):
    process = start(experiment(copy, trial="pyhton -m trials.evaluate"))
    _, errors = process.communicate()
    assert process.returncode == 3
    assert "error: the first 3 trials failed: " in errors.splitlines()[-1]
    assert "pyhton: command not found" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert not left_behind(copy)


def test_failing_trials_stop_the_search_with_their_reason(copy):
    plan = plan_experiment(experiment(copy, maxTrialNumber=9))
    (copy / "config.json").unlink()
    with pytest.raises(Stopped, match="the first 3 trials failed: '.*' holds no run"):
        with nni_manager.running_manager(plan, free_port()) as running:
            watchdog.watch_experiment(running, plan, lambda job, old: None, stall_minutes=5)
    assert not left_behind(copy)


@pytest.mark.timeout(3600)
def test_a_full_disk(copy, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        process = start(experiment(copy, trial=WATCHED, maxTrialNumber=30, experimentWorkingDirectory=str(disk)))
        while not scores(copy):
            assert process.poll(0.1) is None, process.written()
        with contextlib.suppress(OSError), open(disk / "filler", "wb") as file:
            while True:
                file.write(b"0" * 4096)
        full = time.monotonic()
        _, errors = process.communicate()
        print(f"stopped {time.monotonic() - full:.1f} s after the disk was full")
        assert process.returncode == 3
        assert "no space left on device" in errors.splitlines()[-1].lower()
        assert "Traceback" not in errors
        assert not [p for path in disk.iterdir() if path.is_dir() for p in nni_manager.processes_of(path.name)]
        (disk / "filler").unlink()
        process = start(check_path(copy), "--resume", "--max-trials", "3")
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        assert len(load_json(copy / "search.json", "")["history"]) >= 3
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def check_path(copy: Path) -> Path:
    return next(copy.glob("test-*.yml"))


def test_killed_before_nni_knew_of_it(copy):
    """A resume of such an experiment fails in NNI for ever; it begins anew."""
    path = experiment(copy, trial=WATCHED, classArgs=SMALL, maxTrialNumber=1)
    process = start(path)
    while not list((copy / "nni").glob("*/log")):
        assert process.poll(0.01) is None, process.written()
    process.kill()
    process.communicate()
    first = load_json(copy / "experiment.json", "")["id"]
    nni_manager.end_leftovers(first)
    assert not nni_manager.can_be_resumed(copy / "nni" / first)
    process = start(path, "--resume")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert load_json(copy / "experiment.json", "")["id"] != first


def test_exhausted_limits_end_the_search_in_nni(copy):
    """NNI would wait for more trials for ever."""
    table = plan_experiment(experiment(copy)).table
    least = table.bounds().min_macs
    plan = plan_experiment(experiment(copy, trial=WATCHED, classArgs=SMALL | {"max_macs": least}), max_trials=50)
    with nni_manager.running_manager(plan, free_port()) as running:
        jobs = watchdog.watch_experiment(running, plan, lambda job, old: None, stall_minutes=5)
    assert 0 < len(jobs) < 50
    assert {job["status"] for job in jobs} == {"SUCCEEDED"}
    assert len(jobs) == len(read_jsonl(copy / "computed.jsonl"))
