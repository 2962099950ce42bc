"""NNI's manager with the guard: own architecture for every trial, closed to strangers, a portal that shows the truth."""

import base64
import http.client
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests

from spaces.arch import arch_id
from spaces.catalog import describe
from spaces.cost import measure
from spaces.errors import InputError
from spaces.files import load_json, read_jsonl
from strategies import manager_guard
from strategies.evolution import EvolutionTuner
from tests.commands import ROOT
from tests.experiments import experiment, free_port, metric, nnictl
from trials.search_driver import nni_manager, watchdog
from trials.search_driver.nni_environment import GUARD
from trials.search_driver.plan import plan_experiment

TRIAL = """python -m tests.watched_trial '{"sleep": 3, "before": [2], "after": [5]}' trials.evaluate"""


@pytest.fixture
def scheduler_that_defers(monkeypatch) -> None:
    monkeypatch.setenv("NODE_OPTIONS", f"--require {ROOT / 'tests' / 'defer_trials.js'} --require {GUARD}")


def run_to_the_end(plan, port, body, resume=None):
    with nni_manager.running_manager(plan, port, resume) as running:
        jobs = watchdog.watch_experiment(running, plan, lambda job, old: None, stall_minutes=5)
        body(running, jobs)
        return running.id


@pytest.mark.timeout(3600)
def test_pairs_at_concurrency_4(copy, tmp_path, scheduler_that_defers):
    """Four trials at a time of random length, two that die, a scheduler that defers: nothing is mixed up, also after
    `nnictl experiment export`, and after a resume; the port refuses strangers; the portal shows the best trial."""
    path = experiment(copy, trial=TRIAL, classArgs={"population": 4, "top_k": 2, "mutation": 2, "crossover": 1})
    port = free_port()

    def pairs(running, jobs, number):
        record = {line["trial"]: line["arch"] for line in read_jsonl(copy / "record.jsonl")}
        done = [job for job in jobs if job["status"] == "SUCCEEDED"]
        assert len(done) == number
        assert len({job["sequenceId"] for job in jobs}) == len(jobs)
        for job in done:
            given = json.loads(job["hyperParameters"][0])["parameters"]
            assert given == record[job["trialJobId"]]
            stored = load_json(copy / "search" / f"{arch_id(given)}.json", "")
            assert metric(job["finalMetricData"][0]["data"])["default"] == stored["top1"]
            assert metric(job["finalMetricData"][0]["data"])["macs"] == stored["macs"]
        nnictl("experiment", "export", running.id, "--type", "json", "--filename", tmp_path / "export.json")
        exported = load_json(tmp_path / "export.json", "")
        assert len(exported) == number
        for entry in exported:
            given = entry["parameter"] if isinstance(entry["parameter"], dict) else json.loads(entry["parameter"])
            stored = load_json(copy / "search" / f"{arch_id(given)}.json", "")
            value = entry["value"] if isinstance(entry["value"], dict) else json.loads(entry["value"])
            assert (value["default"], value["macs"]) == (stored["top1"], stored["macs"])
        told = {
            e["scored"]: e["score"] for e in read_jsonl(running.folder / "checkpoint" / "tuner.jsonl") if "scored" in e
        }
        assert told == {name: load_json(copy / "search" / f"{name}.json", "")["top1"] for name in told}
        assert len(told) == number
        computed = [line["id"] for line in read_jsonl(copy / "computed.jsonl")]
        assert len(computed) == len(set(computed)) == number  # nothing is evaluated twice

    def first(running, jobs):
        pairs(running, jobs, 9)
        assert sorted(job["sequenceId"] for job in jobs if job["status"] == "FAILED") == [2, 5]
        failed = next(job["trialJobId"] for job in jobs if job["sequenceId"] == 5)
        assert "error: died after it asked" in ask(port, f"/api/v1/nni/trial-file/{failed}/stderr")[1]
        refusals(running, jobs[0]["trialJobId"])
        portal(port, copy, tmp_path)

    name = run_to_the_end(plan_experiment(path, concurrency=4, max_trials=9), port, first)
    resumed = plan_experiment(path, concurrency=4, max_trials=12)
    run_to_the_end(resumed, free_port(), lambda running, jobs: pairs(running, jobs, 12), resume=name)


def ask(port, path, method="GET", headers=None, host="127.0.0.1", connect="127.0.0.1"):
    """A request as it stands: no client tidies its path. Returns status and text."""
    connection = http.client.HTTPConnection(connect, port, timeout=120)
    connection.putrequest(method, path, skip_host=True)
    for key, value in ({"Host": f"{host}:{port}"} | (headers or {})).items():
        connection.putheader(key, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace")


def refusals(running, trial):
    port = running.port
    listening = {
        c.laddr.ip for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port
    }
    assert listening == {"127.0.0.1"}
    secret = running.folder / "secret.txt"
    secret.write_text("secret")
    up = "..%2F" * 4
    for path in (
        f"/api/v1/nni/trial-file/{trial}/{up}secret.txt",
        f"/api/v1/nni/trial-file/{trial}/..%2f..%2f..%2f..%2fsecret.txt",
        f"/api/v1/nni/trial-file/{trial}/%252e%252e%252f{up}secret.txt",
        "/api/v1/nni/trial-file/..%2F..%2F../secret.txt",
        f"/api/v1/nni/trial-file/{trial}/{up}{str(Path('/etc/passwd'))[1:].replace('/', '%2F')}",
        "/logs/..%2Fsecret.txt",
        "/logs/../secret.txt",
        "/logs/%2e%2e/secret.txt",
        "/logs/..%5Csecret.txt",
        "/netron/",
        "/NETRON/x",
        "/netron#/x",
        f"/api/v1/nni/TRIAL-FILE/{trial}/sub%2Ffile",
        "/%E0",
    ):
        status, text = ask(port, path)
        assert status in (400, 403), (path, status, text)
        assert "secret" not in text.replace("secret.txt", "")
    assert ask(port, f"/api/v1/nni/trial-file/{trial}/trial.log")[0] == 200
    assert ask(port, "/logs/dispatcher.log")[0] == 200

    change = "/api/v1/nni/experiment?update_type=TRIAL_CONCURRENCY"
    assert ask(port, "/api/v1/nni/check-status", host="evil.example")[0] == 403  # DNS rebinding
    assert ask(port, change, "PUT", {"Origin": "http://evil.example"})[0] == 403
    assert ask(port, change, "PUT", {"Origin": "null"})[0] == 403
    assert ask(port, "/api/v1/nni/trial-jobs", "POST", {"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert ask(port, "/api/v1/nni/experiment", "DELETE", {"Origin": "https://evil.example"})[0] == 403
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode()}  # fmt: skip
    assert ask(port, "/tuner", headers=upgrade | {"Origin": "http://evil.example"})[0] == 403
    assert ask(port, "/api/v1/nni/check-status", host="localhost")[0] == 200
    assert ask(port, "/api/v1/nni/check-status", headers={"Host": ""})[0] == 403
    assert ask(port, "/api/v1/nni/check-status", headers={"Origin": f"http://127.0.0.1:{port}"})[0] == 200


def portal(port, copy, tmp_path):
    """What one sees in a browser; the picture is kept beside the reports of CI."""
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    best = max((load_json(file, "") for file in (copy / "search").glob("*.json")), key=lambda score: score["top1"])
    picture = ROOT / "runs" / "ci" / "portal.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=300_000)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(300_000)
        page.goto(f"http://127.0.0.1:{port}/oview")
        page.wait_for_selector("text=quickstart")
        page.wait_for_selector(f"text={best['top1']:.6f}".rstrip("0").rstrip("."))
        text = page.inner_text("body")
        page.screenshot(path=str(picture))
        page.goto(f"http://127.0.0.1:{port}/detail")
        page.click("text=Hyper-parameter")
        page.wait_for_timeout(2000)
        detail = page.inner_text("body")
        browser.close()
    (tmp_path / "portal.txt").write_text(text + detail)
    shown = [float(number) for number in re.findall(r"\d+\.\d+", text)]
    assert any(abs(number - best["top1"]) < 1e-4 for number in shown)
    assert picture.stat().st_size > 10_000


@pytest.fixture
def network():
    """A network namespace of the test's own, joined by a cable: the address of this side, and how to run there."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("a network namespace needs root and iproute2")
    space, here, there = f"onepath{os.getpid()}", f"opa{os.getpid()}", f"opb{os.getpid()}"
    ip = lambda *words: subprocess.run(["ip", *words], check=True, capture_output=True)  # noqa: E731
    try:
        ip("netns", "add", space)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode()}")
    try:
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", space)
        ip("addr", "add", "10.203.7.1/30", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", space, "addr", "add", "10.203.7.2/30", "dev", there)
        ip("-n", space, "link", "set", there, "up")
        ip("-n", space, "link", "set", "lo", "up")
        yield "10.203.7.1", ["ip", "netns", "exec", space]
    finally:
        ip("netns", "del", space)


def ask_from(there, host, port, path, headers=""):
    """Status of a request from the other side of the cable; 0: no connection."""
    code = f"""
import http.client
try:
    connection = http.client.HTTPConnection({host!r}, {port}, timeout=120)
    connection.request("GET", {path!r}, headers=dict({headers or "{}"}))
    print(connection.getresponse().status)
except OSError:
    print(0)
"""
    done = subprocess.run([*there, sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    return int(done.stdout)


def test_from_another_machine(copy, network, monkeypatch):
    """Loopback only by default; on another address with a token, and nothing without it."""
    address, there = network
    plan = plan_experiment(experiment(copy, trial=TRIAL))
    with nni_manager.running_manager(plan, free_port()) as running:
        assert ask_from(there, address, running.port, "/api/v1/nni/check-status") == 0
        assert running.get("/check-status")["status"] in ("INITIALIZED", "RUNNING")
    monkeypatch.setenv("NNI_LISTEN_HOST", address)
    monkeypatch.setenv("NNI_TOKEN", "wonder land")
    with nni_manager.running_manager(plan, free_port()) as running:
        status = lambda path, headers="": ask_from(there, address, running.port, path, headers)  # noqa: E731
        assert status("/api/v1/nni/check-status") == 401
        assert status("/api/v1/nni/check-status", {"Authorization": "Bearer wonder land"}) == 200
        assert status("/api/v1/nni/check-status", {"Authorization": "Bearer wonderland"}) == 401
        assert status("/oview?token=wonder%20land") == 302  # a browser gets a cookie
        assert status("/api/v1/nni/check-status", {"Cookie": "nni_token=wonder%20land"}) == 200
        assert status("/logs/dispatcher.log") == 401
        assert status("/api/v1/nni/check-status", {"Cookie": "nni_token=%E0"}) == 400  # and the manager lives
        assert running.get("/check-status")["status"] in ("INITIALIZED", "RUNNING")  # this machine needs none
        ends = {
            c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == running.port
        }
        assert ends == {"127.0.0.1", address}


def test_tuners_refuse_concurrency_without_the_guard(monkeypatch):
    monkeypatch.delenv("ONEPATH_GUARD", raising=False)
    with pytest.raises(InputError, match=f"trialConcurrency 4: .* export NODE_OPTIONS='--require \"{GUARD}\"'"):
        manager_guard.refuse_without_guard({"trialConcurrency": 4})
    monkeypatch.setenv("ONEPATH_GUARD", "1")
    manager_guard.refuse_without_guard({"trialConcurrency": 4})


def as_tuner_of(monkeypatch, **experiment):
    """Let this process look like the tuner of an experiment."""
    parameters = base64.b64encode(json.dumps(experiment).encode()).decode()
    monkeypatch.setattr(sys, "argv", ["nni", "--exp_params", parameters])


def test_tuners_refuse_the_costs_of_another_space(monkeypatch, tmp_path):
    """Plain nnictl judged a limit of 330M by a table of 224 pixels, with trials of 26M."""
    monkeypatch.setenv("ONEPATH_GUARD", "1")
    small, large = (measure(describe("spos", "tiny", classes=classes)) for classes in (10, 7))
    for name, table in (("run", small), ("own", small), ("other", large)):
        table.save(tmp_path / name / "cost_table.json")
    for command in ("--run run", "--run=run"):
        as_tuner_of(monkeypatch, trialCommand=f"python -m trials.evaluate {command}", trialCodeDirectory=str(tmp_path))
        EvolutionTuner(str(tmp_path / "own" / "cost_table.json"))
        with pytest.raises(InputError, match="cost_table of the tuner is of .*'classes': 7.* cost_table: .*/run/cost_"):
            EvolutionTuner(str(tmp_path / "other" / "cost_table.json"))


def test_tuners_refuse_a_trial_that_counts_other_costs():
    """The run of a remote worker cannot be read here; what its trials count can."""
    tuner = EvolutionTuner("experiments/spaces/spos-tiny.costs.json")
    arch = tuner.generate_parameters(0)
    tuner.receive_trial_result(0, arch, {"default": 50.0, "macs": tuner.table.macs(arch)})
    with pytest.raises(InputError, match="the trial counts 26,000,000 MACs, the tuner's cost_table "):
        tuner.receive_trial_result(1, tuner.generate_parameters(1), {"default": 50.0, "macs": 26_000_000})


def test_guard_leaves_other_programs_alone():
    """NODE_OPTIONS reaches every node process of a shell."""
    import nni_node

    node = Path(nni_node.__path__[0]) / "node"
    code = "const s = require('http').createServer().listen(0, () => { console.log(s.address().address); s.close(); })"
    done = subprocess.run([node, "-e", code], env={**os.environ, "NODE_OPTIONS": f"--require {GUARD}"}, capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.strip() in ("::", "0.0.0.0")


def test_a_manager_may_take_its_time_to_answer(monkeypatch):
    """NNI's launcher asks four times in three seconds; ours waits for a manager that lives, and not for one that ended."""
    from nni.experiment import launcher

    def start(port, *command):
        monkeypatch.setattr(launcher, "_start_rest_server", lambda: subprocess.Popen([sys.executable, *command]))
        with nni_manager.patient_launcher():
            process = launcher._start_rest_server()
            began = time.monotonic()
            try:
                launcher._check_rest_server(port)
            finally:
                process.kill()
                process.wait()
            return time.monotonic() - began

    port = free_port()
    assert start(port, "-m", "tests.answering_server", str(port), "6") > 4
    began = time.monotonic()
    with pytest.raises(requests.ConnectionError):
        start(free_port(), "-c", "raise SystemExit(1)")
    assert time.monotonic() - began < 60
    assert launcher._check_rest_server.__module__ == launcher.__name__


ECHO = """
const http = require('http');
const port = Number(process.argv[process.argv.indexOf('--port') + 1]);
const end = Date.now() + 1000 * Number(process.argv[process.argv.indexOf('--busy') + 1]);
while (Date.now() < end);
const server = http.createServer((request, response) => {
    const answer = () => { response.statusCode = request.url.includes('bad') ? 500 : 200; response.end('"' + request.url + '"'); };
    setTimeout(answer, request.method === 'POST' ? 1000 * Number(process.argv[process.argv.indexOf('--think') + 1]) : 0);
}).listen(port, () => console.log(JSON.stringify(server.address())));
"""


@pytest.fixture
def manager(tmp_path):
    """Starts a program that node and the guard take for NNI's manager, and that answers every request."""
    import nni_node

    folder, started = tmp_path / "nni_node", []
    folder.mkdir()
    (folder / "main.js").write_text(ECHO)

    def start(port, busy=0.0, think=0.0, **environment):
        node = Path(nni_node.__path__[0]) / "node"
        line = [node, folder / "main.js", "--port", str(port), "--busy", str(busy), "--think", str(think)]
        variables = {**os.environ, "NODE_OPTIONS": f"--require {GUARD}", **environment}
        started.append(subprocess.Popen(line, env=variables, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_nnictl_is_let_wait_while_the_manager_loads(manager):
    """NNI's own launcher, which knocks four times in three seconds and waits 20 for the answer to its start."""
    from nni.experiment import launcher, rest

    port = free_port()
    process = manager(port, busy=8, think=12)
    began = time.monotonic()
    while time.monotonic() - began < 60:  # until node runs
        if any(c.status == "LISTEN" and c.laddr.port == port for c in psutil.net_connections("tcp")):
            break
        time.sleep(0.05)
    assert time.monotonic() - began < 8
    launcher._check_rest_server(port)
    assert json.loads(process.stdout.readline())["address"] == "127.0.0.1"
    assert rest.get(port, "/x") == "/api/v1/nni/x"
    began, before = time.monotonic(), rest.timeout
    rest.timeout = 7  # the wait without a word; the guard says something every five seconds
    try:
        assert rest.post(port, "/experiment", {}) == "/api/v1/nni/experiment"
    finally:
        rest.timeout = before
    assert time.monotonic() - began > 11


def test_a_port_that_is_taken_is_nnis_own_error(manager):
    port = free_port()
    manager(port).stdout.readline()
    second = manager(port)
    assert second.wait(60) != 0


CLOSED = [
    ("POST", "/api/v1/nni/tensorboard"),
    ("POST", "/api/v1/nni/TensorBoard/"),
    ("PUT", "/api/v1/nni/tensorboard/abc"),
    ("DELETE", "/api/v1/nni/tensorboard/abc"),
    ("DELETE", "/api/v1/nni/tensorboard-tasks"),
    ("PUT", "/api/v1/nni/experiment/cluster-metadata"),
    ("GET", "/netron/x"),
    ("GET", "/logs/../x"),
    ("GET", "/api/v1/nni/trial-file/..%2f../x"),
]


def test_routes_that_run_programs_or_leave_the_experiment_are_closed(manager):
    """Each route of NNI's manager is in the table of docs/search.md; these are closed."""
    port = free_port()
    manager(port).stdout.readline()
    for method, path in CLOSED:
        assert ask(port, path, method)[0] == 403, (method, path)
    assert ask(port, "/api/v1/nni/tensorboard-tasks")[0] == 200  # the portal asks for this list, which stays empty
    # an experiment is started once; after a failed start once more
    assert ask(port, "/api/v1/nni/experiment?bad", "POST", {"Content-Length": "0"})[0] == 500
    assert ask(port, "/api/v1/nni/experiment", "POST", {"Content-Length": "0"})[0] == 200
    status, text = ask(port, "/api/v1/nni/experiment", "POST", {"Content-Length": "0"})
    assert status == 403
    assert "the experiment was started" in text
    assert ask(port, "/api/v1/nni/experiment")[0] == 200
    assert ask(port, "/api/v1/nni/experiment/import-data", "POST", {"Content-Length": "0"})[0] == 200


def test_the_table_of_routes_is_whole():
    """A route that NNI has and docs/search.md does not speak of would be one that nobody looked at."""
    import nni_node

    code = (Path(nni_node.__path__[0]) / "rest_server" / "restHandler.js").read_text()
    routes = set(re.findall(r"router\.(get|put|post|delete)\('([^']+)'", code))
    table = (ROOT / "docs" / "search.md").read_text()
    assert len(routes) == 27
    missing = [f"{method.upper()} {path}" for method, path in routes if f"`{path}`" not in table]
    assert not missing


TUNER = """
import sys, time
from strategies import manager_guard
from spaces.cost import CostTable
manager_guard.enter_tuner_process(CostTable.load("experiments/spaces/spos-tiny.costs.json"))
print("tuner", flush=True)
time.sleep(600)
"""
# NNI's manager, which starts its tuner through a shell; and nnictl, which has ended by then
MANAGER = """import os, shlex, subprocess, sys, time
subprocess.Popen(f"{shlex.join([sys.executable, '-c', *sys.argv[1:4]])}; true", shell=True)
time.sleep(600)"""
CREATE = "import os, subprocess, sys; print(subprocess.Popen([sys.executable, '-c', *sys.argv[1:]], preexec_fn=os.setpgrp).pid)"


def test_a_tuner_without_the_guard_says_so_in_nnictls_terminal_and_ends_with_its_manager():
    """What stands in for nnictl starts what stands in for its manager, which starts a tuner."""
    parameters = base64.b64encode(json.dumps({"trialConcurrency": 1}).encode()).decode()
    line = [sys.executable, "-c", CREATE, MANAGER, TUNER, "--exp_params", parameters, "--experiment-id", "abc"]
    shell = f"export PYTHONPATH={ROOT}; cd {ROOT}; unset ONEPATH_GUARD; {shlex.join(line)}; sleep 600"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("bash", ["bash", "-c", shell])
    said = ""
    try:
        while not said.rstrip().endswith("tuner"):
            assert select.select([terminal], [], [], 120)[0], said
            said += os.read(terminal, 10_000).decode()
        manager = psutil.Process(int(said.split()[0]))
        [tuner] = [child for child in manager.children(recursive=True) if not child.children()]
        manager.kill()
        psutil.wait_procs([tuner], timeout=60)
        assert not tuner.is_running()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    said = " ".join(said.split())
    assert "WARNING: this NNI manager runs without Onepath's guard: its port is open to everybody" in said
    assert f"export NODE_OPTIONS='--require \"{GUARD}\"'" in said


def test_a_tuner_may_take_its_time_to_connect(tmp_path):
    """NNI gives a tuner ten seconds; the guard waits for one that lives, and not for one that ended."""
    import nni_node

    folder = tmp_path / "nni_node"
    folder.mkdir()
    (folder / "manager.js").write_text(
        """
class Deferred {
    settled = false;
    promise = new Promise((resolve, reject) => {
        this.resolve = () => { this.settled = true; resolve(); };
        this.reject = error => { this.settled = true; reject(error); };
    });
}
exports.NNIManager = class {
    async setupTuner(pid) {
        this.dispatcher = { connect: new Deferred(), init() { throw new Error('the stock code'); } };
        this.dispatcherPid = pid;
    }
};
"""
    )
    (folder / "main.js").write_text(
        """
const { NNIManager } = require('./manager.js');
const ended = require('child_process').spawnSync('true').pid;
async function connect(pid) {
    const manager = new NNIManager();
    await manager.setupTuner(pid);
    setTimeout(() => manager.dispatcher.connect.resolve(), 13000);
    return manager.dispatcher.init().then(() => 'connected', error => error.message);
}
Promise.all([connect(process.pid), connect(ended)]).then(said => console.log(JSON.stringify(said)));
"""
    )
    node = Path(nni_node.__path__[0]) / "node"
    environment = {**os.environ, "NODE_OPTIONS": f"--require {GUARD}"}
    done = subprocess.run([node, folder / "main.js"], env=environment, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said[0] == "connected"
    assert re.fullmatch(r"tuner_command_channel: Tuner did not connect in 1\d seconds\. Please check .* log\.", said[1])
