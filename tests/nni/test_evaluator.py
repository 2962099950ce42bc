"""The warm evaluator: found or started by trials, shared, private, replaced when it dies, gone when nobody needs it."""

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from spaces.arch import arch_id
from spaces.errors import InputError
from spaces.files import load_json, read_jsonl
from tests.commands import ROOT, Command, assert_one_clear_line, onepath
from tests.experiments import ENVIRONMENT, IMAGES, SMALL, copy_run, experiment, left_behind
from trials.common import run_dir
from trials.scoring import evaluator_client
from trials.scoring.score_store import ScoreStore
from trials.scoring.scorer import Scorer, Settings

SETTINGS = Settings(256, 128, 128)


@pytest.fixture
def copy(run, tmp_path):
    """A run of its own, whose evaluators are ended afterwards."""
    copy = copy_run(run, tmp_path / "run")
    yield copy
    for process in evaluators(tmp_path):
        process.kill()


def evaluators(folder: Path) -> list[psutil.Process]:
    """Warm evaluators of the runs in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "trials.scoring.evaluator_server" in command and any(word.startswith(str(folder)) for word in command):
            found.append(process)
    return found


def gone(folder: Path, seconds: float = 400) -> bool:
    """Whether all evaluators leave; one that was started for a trial that died knows of no experiment, and idles first."""
    _, alive = psutil.wait_procs(evaluators(folder), timeout=seconds)
    return not alive


def log_of(run: Path) -> list[dict]:
    return [line for path in (run / evaluator_client.FOLDER).glob("*.log") for line in read_jsonl(path)]


def archs_of(scorer: Scorer, number: int, seed: int = 0) -> list[dict]:
    generator = random.Random(seed)
    return [{label: generator.choice(v) for label, v in scorer.chain.choices.items()} for _ in range(number)]


def ask(run: Path, arch: dict) -> dict | None:
    store = ScoreStore(run, run_dir.file_hash(run / "supernet.pt"), SETTINGS)
    return evaluator_client.request_score(store, "cpu", arch)


def expected(run: Path, to: Path, archs: list[dict]) -> list[float]:
    """Their scores, computed here, one by one."""
    scorer = Scorer(copy_run(run, to), SETTINGS, reference=True)
    return [scorer.result(arch)["top1"] for arch in archs]


def test_many_ask_at_once_one_evaluator_answers(copy, run, tmp_path):
    """Twelve start it at the same moment; what waits is scored together; killed requests do no harm."""
    archs = archs_of(Scorer(run, SETTINGS), 12)
    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(lambda arch: ask(copy, arch), archs))
    assert [result["arch"] for result in results] == archs
    assert [result["top1"] for result in results] == expected(run, tmp_path / "again", archs)
    lines = log_of(copy)
    assert len({line["pid"] for line in lines}) == 1
    assert sum(len(line.get("scored", ())) for line in lines) == 12
    assert max(len(line.get("scored", ())) for line in lines) > 1
    assert load_json(copy / "search" / f"{arch_id(archs[0])}.json", "") == results[0]
    with (
        evaluator_client.socket_folder(copy) as short,
        socket.socket(socket.AF_UNIX) as link,
    ):  # a trial that is killed while it waits
        link.connect(f"{short}/{next((copy / evaluator_client.FOLDER).glob('*.sock')).name}")
        link.sendall(b'{"arch": ')
    again = archs_of(Scorer(run, SETTINGS), 1, seed=5)[0]
    assert ask(copy, again)["arch"] == again
    assert len({line["pid"] for line in log_of(copy)}) == 1


def test_killed_at_any_moment(copy, run, tmp_path):
    """A kill of the evaluator costs time alone: a fresh one is started, and after two the trial is on its own."""
    ask(copy, archs_of(Scorer(run, SETTINGS), 1, seed=9)[0])
    archs = archs_of(Scorer(run, SETTINGS), 8, seed=1)
    done, kills = threading.Event(), []
    generator = random.Random(7)

    def kill():
        while not done.is_set() and len(kills) < 3:
            for process in evaluators(tmp_path):
                process.kill()
                kills.append(process.pid)
            done.wait(generator.uniform(0.5, 4))

    killer = threading.Thread(target=kill)
    killer.start()
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda arch: ask(copy, arch) or Scorer(copy, SETTINGS).result(arch), archs))
    done.set()
    killer.join()
    assert kills
    assert [result["top1"] for result in results] == expected(run, tmp_path / "again", archs)


def test_one_that_hangs_is_replaced(copy, run, monkeypatch, capfd):
    first, second = archs_of(Scorer(run, SETTINGS), 2)
    assert ask(copy, first)
    [old] = evaluators(copy)
    old.suspend()
    end_peer = evaluator_client.end_peer

    def end_and_be_patient(*arguments):
        end_peer(*arguments)
        monkeypatch.undo()

    monkeypatch.setattr(evaluator_client, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(evaluator_client, "end_peer", end_and_be_patient)
    answer = ask(copy, second)
    assert answer is not None
    assert answer["arch"] == second
    assert old.pid not in [process.pid for process in evaluators(copy)]
    assert "s, ended; asking a fresh one" in capfd.readouterr().err


def test_what_is_wrong_is_said(copy, run):
    (copy / "cost_table.json").unlink()
    with pytest.raises(InputError, match="cost_table"):
        ask(copy, archs_of(Scorer(run, SETTINGS), 1)[0])


def test_no_socket_no_evaluator(copy, run, monkeypatch):
    """Where it cannot be started, the trial works alone."""
    monkeypatch.setattr(evaluator_client, "start", lambda *_: subprocess.Popen([sys.executable, "-c", "exit(1)"]))
    assert ask(copy, archs_of(Scorer(run, SETTINGS), 1)[0]) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_cannot_connect(copy, run):
    """Neither through the path nor with a handle of the open folder."""
    arch = archs_of(Scorer(run, SETTINGS), 1)[0]
    ask(copy, arch)
    place = next((copy / evaluator_client.FOLDER).glob("*.sock"))
    assert [oct(path.stat().st_mode & 0o777) for path in (place.parent, place)] == ["0o700", "0o600"]
    code = (
        "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try: s.connect(sys.argv[1])\n"
        "except PermissionError: sys.exit('not allowed')\n"
        "try: s.sendall(sys.argv[2].encode() + b'\\n'); print('answer', s.recv(1000))\n"
        "except OSError: sys.exit('cut off')"
    )
    request = json.dumps({"arch": arch, "owner": None})

    def other(path: str) -> str:
        line = [sys.executable, "-c", code, path, request]
        done = subprocess.run(line, capture_output=True, text=True, cwd=copy / evaluator_client.FOLDER)
        return done.stdout.strip() or done.stderr.strip()

    for folder in place.resolve().parents:
        if folder != place.parent and folder != Path("/"):
            folder.chmod(0o755)
    assert other(place.name) == "not allowed"
    place.parent.chmod(0o755)
    place.chmod(0o777)  # even then
    assert other(place.name) in ("answer b''", "cut off")
    place.parent.chmod(0o700)


def test_it_leaves_with_its_owner_and_when_idle(copy, run, monkeypatch):
    arch = archs_of(Scorer(run, SETTINGS), 1)[0]
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    monkeypatch.setattr(evaluator_client, "owner", lambda: [owner.pid, psutil.Process(owner.pid).create_time()])
    ask(copy, arch)
    [process] = evaluators(copy)
    time.sleep(1.5)
    assert process.is_running()
    owner.kill()
    assert gone(copy)  # while the owner is a zombie
    owner.wait()
    assert not list((copy / evaluator_client.FOLDER).glob("*.sock"))
    monkeypatch.setattr(evaluator_client, "owner", lambda: None)
    idle = "import sys; from trials.scoring import evaluator_server as w; w.IDLE_SECONDS = 1.0; w.main(sys.argv[1:])"

    def start(run, name, arguments):
        log = open(run / evaluator_client.FOLDER / f"{name}.log", "ab")
        return subprocess.Popen([sys.executable, "-c", idle, name, *arguments], stdout=log, stderr=log, cwd=ROOT)

    monkeypatch.setattr(evaluator_client, "start", start)
    assert ask(copy, archs_of(Scorer(run, SETTINGS), 1, seed=2)[0])
    end = time.monotonic() + 120
    while list((copy / evaluator_client.FOLDER).glob("*.sock")) and time.monotonic() < end:
        time.sleep(0.2)
    assert not list((copy / evaluator_client.FOLDER).glob("*.sock"))


def scores_of(run: Path) -> dict[str, float]:
    return {path.stem: load_json(path, "")["top1"] for path in (run / "search").glob("*.json")}


def test_nni_experiment_whose_evaluator_is_killed(copy, run, tmp_path):
    """Killed again and again under a running experiment: it ends, every score right, nothing left behind."""
    path = experiment(copy, classArgs=SMALL, maxTrialNumber=8, trialConcurrency=2)
    running = Command("trials.search", path, environment=ENVIRONMENT)
    generator = random.Random(11)
    kills = 0
    while running.poll() is None:
        time.sleep(generator.uniform(1, 4))
        for process in evaluators(copy) if kills < 4 else ():
            process.kill()
            kills += 1
    output = running.communicate()
    assert running.returncode == 0, output
    assert kills
    summary = load_json(copy / "search.json", "")
    assert len(summary["history"]) == 8
    assert set(summary["trials"]) == {"SUCCEEDED"}
    found = scores_of(copy)
    archs = [load_json(path, "")["arch"] for path in sorted((copy / "search").glob("*.json"))]
    assert [found[arch_id(arch)] for arch in archs] == expected(run, tmp_path / "again", archs)
    assert gone(copy)
    assert not left_behind(copy)


def test_two_experiments_at_once(copy, run, tmp_path):
    """On two runs, each has its own; on the same run they share one, and it stays until the later one ends."""
    other = copy_run(run, tmp_path / "other")
    ours = experiment(copy, trial="python -X importtime -m trials.evaluate", classArgs=SMALL, maxTrialNumber=5)
    theirs = experiment(other, classArgs=SMALL | {"seed": 1}, maxTrialNumber=5)
    both = [Command("trials.search", path, environment=ENVIRONMENT) for path in (ours, theirs)]
    outputs = [one.communicate() for one in both]
    assert [one.returncode for one in both] == [0, 0], outputs
    for folder in (copy, other):
        lines = log_of(folder)
        assert len({line["pid"] for line in lines}) == 1
        scored = {name for line in lines for name in line.get("scored", ())}
        assert scored == {entry["id"] for entry in load_json(folder / "search.json", "")["history"]}
    imports = [path.read_text() for path in copy.glob("nni/*/environments/*/trials/*/trial.stderr")]
    assert imports
    for text in imports:  # what makes a trial start fast
        modules = {line.rpartition("|")[2].strip() for line in text.splitlines()}
        assert {"nni", "numpy", "trials.scoring.evaluator_client"} <= modules
        assert {"torch", "pandas.core", "scipy.stats"} & modules == set()
    archs = [load_json(path, "")["arch"] for path in sorted((other / "search").glob("*.json"))]
    assert [scores_of(other)[arch_id(arch)] for arch in archs] == expected(run, tmp_path / "again", archs)


def test_trial_by_hand_and_reference(copy):
    """By hand no evaluator is started; the reference prints the same score."""
    from spaces.arch import save_arch

    arch = archs_of(Scorer(copy, SETTINGS), 1, seed=3)[0]
    save_arch(copy / "one.json", arch)
    arguments = ["--run", copy, "--arch", copy / "one.json", *IMAGES.split()]
    first = onepath("evaluate", *arguments, check=True).stdout
    (copy / "search" / f"{arch_id(arch)}.json").unlink()
    assert onepath("evaluate", *arguments, "--reference", check=True).stdout == first
    assert not (copy / evaluator_client.FOLDER).exists()
    done = onepath("evaluate", "--run", copy, *IMAGES.split(), "--self-check", 3, check=True)
    assert "bit for bit" in done.stdout
    assert "other answers than 'exact'" in done.stdout


def test_gpus_that_nni_would_never_give_again(copy):
    """NNI gives no GPU to a trial that another process uses, and the evaluator stays on it."""
    worker = {"host": "127.0.0.1", "user": "me", "port": 22, "password": "x"}
    service = {"platform": "remote", "trialGpuNumber": 1, "machineList": [worker]}
    path = experiment(copy, trainingService=service, nniManagerIp="127.0.0.1")
    assert_one_clear_line(onepath("search", path, "--check"), "useActiveGpu", "--no-warm")
