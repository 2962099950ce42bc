"""A search over SSH: a real sshd on the loopback address, a throw-away key, a worker with a home and a run of its own."""

import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from spaces.errors import InputError
from spaces.files import load_json
from tests.commands import ROOT, assert_one_clear_line, onepath
from tests.experiments import IMAGES, copy_run, experiment, free_port, left_behind
from trials.scoring.scorer import Scorer, Settings
from trials.search_driver import nni_manager, watchdog, workers
from trials.search_driver.plan import plan_experiment

pytestmark = pytest.mark.ssh
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


@pytest.fixture
def worker(tmp_path):
    """A machine of machineList."""
    if not SSHD or os.geteuid():
        pytest.skip("sshd is not installed (apt-get install openssh-server), or this is not root")
    key, home, port = tmp_path / "key", tmp_path / "worker", free_port()
    home.mkdir()
    for name, kind in (("host", []), ("key", ["-m", "PEM"])):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", *kind, "-N", "", "-f", tmp_path / name], check=True
        )
    shutil.copy(f"{key}.pub", tmp_path / "authorized")
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nSetEnv HOME={home}\n"
        f"Subsystem sftp internal-sftp\nPidFile none\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    daemon = subprocess.Popen([SSHD, "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.1)
        yield {
            "host": "127.0.0.1", "port": port, "user": getpass.getuser(), "sshKeyFile": str(key),
            "pythonPath": str(Path(sys.executable).parent),
        }  # fmt: skip
    finally:
        daemon.terminate()
        daemon.wait()


def remote(run: Path, there: Path, machine: dict, dies: str = "", **changes) -> Path:
    """An experiment whose supernet is in `run` here, and in `there` on the worker."""
    return experiment(
        run,
        trialCommand=f"{dies} python -m trials.evaluate --run {there} {IMAGES}",
        nniManagerIp="127.0.0.1",
        trainingService={"platform": "remote", "machineList": [machine]},
        classArgs={"population": 4, "top_k": 2, "mutation": 2, "crossover": 1},
        **changes,
    )


@pytest.mark.timeout(3600)
def test_search_over_ssh(run, worker, tmp_path):
    """Eight trials on the worker, after a look at it; the scores are those that this machine computes."""
    here, there = copy_run(run, tmp_path / "here"), copy_run(run, tmp_path / "there")
    path = remote(here, there, worker, maxTrialNumber=8)
    looked = onepath("search", path, "--run", here, "--check", check=True)
    assert f"127.0.0.1:{worker['port']}" in looked.stdout
    assert "is ready: 8 architectures" in looked.stdout
    assert not (here / "nni").exists()

    done = onepath("search", path, "--run", here, "--port", free_port(), "--concurrency", 2, check=True)
    assert "8 architectures scored" in done.stdout
    scores = {file.stem: load_json(file, "") for file in (here / "search").glob("*.json")}
    copies = {file.stem: load_json(file, "") for file in (there / "search").glob("*.json")}
    assert len(scores) == 8
    keys = ("arch", "top1", "top5", "top1_before_recalibration", "macs", "params", "supernet", "settings")
    for name, score in scores.items():
        assert {key: score[key] for key in keys} == {key: copies[name][key] for key in keys}
    scorer = Scorer(copy_run(run, tmp_path / "again"), Settings(256, 128, 128))
    best = max(scores.values(), key=lambda score: score["top1"])
    assert scorer.result(best["arch"])["top1"] == best["top1"]
    assert {e["id"] for e in load_json(here / "search.json", "")["history"]} == set(scores)
    assert (here / "arc.json").exists()
    assert not left_behind(here)
    # the code came over the wire, without what .nniignore names; nothing was installed
    code = next((tmp_path / "worker" / "nni-experiments").glob("*/environments/*/upload/trial_code"))
    assert (code / "trials" / "evaluate.py").exists()
    assert not (code / ".venv").exists()
    assert "pip" not in (next((here / "nni").glob("[!_]*")) / "log" / "nnimanager.log").read_text()


@pytest.mark.timeout(3600)
def test_a_worker_that_fails_a_trial(run, worker, tmp_path):
    """A trial that dies over there is tried again; the reason is told when all die."""
    here, there = copy_run(run, tmp_path / "here"), copy_run(run, tmp_path / "there")
    dies = "if [ $NNI_TRIAL_SEQ_ID = 0 ]; then echo error: died over there >&2; exit 1; fi;"
    path = remote(here, there, worker, maxTrialNumber=3, dies=dies)
    plan = plan_experiment(path, run=str(here))
    with nni_manager.running_manager(plan, free_port()) as running:
        jobs = watchdog.watch_experiment(running, plan, lambda job, old: None, stall_minutes=5)
        failed = next(job for job in jobs if job["status"] == "FAILED")
        assert watchdog.trial_error(running, failed["trialJobId"]) == "died over there"
    assert sorted(job["status"] for job in jobs) == ["FAILED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"]
    assert len(list((there / "search").glob("*.json"))) == 3


def test_workers_that_are_not_ready(run, worker, tmp_path):
    here, there = copy_run(run, tmp_path / "here"), copy_run(run, tmp_path / "there")

    def refused(says, **changes):
        with pytest.raises(InputError, match=says):
            workers.check_workers(plan_experiment(remote(here, there, worker | changes), run=str(here)))

    name = re.escape(f"{worker['user']}@127.0.0.1:{worker['port']}")
    refused('You must either provide password or a valid SSH key file "/nowhere"', sshKeyFile="/nowhere")
    refused("cannot log in to worker .*; check host, port, user and key", port=free_port())
    refused(f"'/nowhere/python' does not run on worker {name}: .*; check pythonPath", pythonPath="/nowhere")
    with open(there / "supernet.pt", "ab") as file:
        file.write(b"0")
    refused(f"worker {name} has another supernet in '{there}' .*; copy it there: rsync -a")
    (there / "supernet.pt").unlink()
    refused(f"worker {name} lacks supernet.pt in '{there}'; copy it there: rsync -a")
    shutil.rmtree(there)
    refused(f"worker {name} lacks '{there}'; copy it there: rsync -a")
    path = remote(here, Path("runs/x"), worker)
    refusal = onepath("search", path, "--run", here, "--check")
    assert_one_clear_line(refusal, "--run runs/x of trialCommand is a relative path")
    service = yaml.safe_load(path.read_text())
    del service["nniManagerIp"]
    path.write_text(yaml.safe_dump(service))
    with pytest.raises(InputError, match="lacks nniManagerIp, where the workers reach this machine"):
        plan_experiment(path, run=str(here))


@pytest.mark.parametrize("path", sorted((ROOT / "experiments" / "clusters").glob("*.yml")), ids=lambda path: path.stem)
def test_nni_reads_the_files_for_clusters(path):
    """They are not run here."""
    from nni.experiment.config import ExperimentConfig

    settings = ExperimentConfig.load(path).canonical_copy()
    assert settings.training_service.platform == path.stem
    assert "NOT TESTED" in path.read_text()
    assert "trials.evaluate --run /data/onepath/spos-imagenet" in settings.trial_command
