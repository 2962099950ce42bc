"""Search on the real NNI manager: nnictl to DONE, the guarded driver, the report."""

import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil

from spaces.arch import arch_id
from spaces.arch_file import load_arch
from spaces.cost import CostTable
from spaces.files import load_json, read_jsonl
from tests.commands import ROOT
from tests.experiments import ENVIRONMENT, experiment, free_port, left_behind, metric, nnictl, scores
from trials import report
from trials.scoring import best_of_experiment


def test_nnictl_create_to_done(copy):
    """Plain nnictl, without the guard: the experiment reaches DONE, with the metrics the portal shows."""
    port = free_port()
    path = experiment(copy)
    nnictl("create", "--config", path, "--port", port)
    try:
        from nni.experiment import rest

        while (status := rest.get(port, "/check-status")["status"]) not in ("DONE", "ERROR"):
            time.sleep(0.5)
        jobs = rest.get(port, "/trial-jobs")
        metrics = rest.get(port, "/metric-data")
    finally:
        nnictl("stop", "--port", port)
    assert status == "DONE"
    assert [job["status"] for job in jobs] == ["SUCCEEDED"] * 3
    for job in jobs:
        arch = json.loads(job["hyperParameters"][0])["parameters"]
        final = metric(job["finalMetricData"][0]["data"])
        stored = load_json(copy / "search" / f"{arch_id(arch)}.json", "")
        expected = {
            "default": stored["top1"],
            "top1": stored["top1"],
            "top5": stored["top5"],
            "loss": stored["loss"],
            "macs": stored["macs"],
            "params": stored["params"],
            "scoring_images": stored["scoring_images"],
        }
        assert stored["scoring_images"] == 128
        assert final == expected
        assert final["macs"] <= 3_200_000
        before = [m for m in metrics if m["trialJobId"] == job["trialJobId"] and m["type"] == "PERIODICAL"]
        assert [float(metric(m["data"])) for m in before] == [stored["top1_before_recalibration"]]
    log = next((copy / "nni").glob("*/log/dispatcher.log")).read_text()
    assert "this NNI manager runs without Onepath's guard" in log
    # the best is left for --fixed-arc, whatever the tuner
    choices = CostTable.load(copy / "cost_table.json").choices
    best = load_arch(next((copy / "nni").glob("*/best.json")), choices)
    stored = [load_json(file, "") for file in (copy / "search").glob("*.json")]
    assert arch_id(best) in {arch_id(s["arch"]) for s in stored if s["top1"] == max(s["top1"] for s in stored)}
    checkpoint = next((copy / "nni").glob("*/checkpoint/generation-000.json"))
    assert load_arch(checkpoint, CostTable.load(copy / "cost_table.json").choices)


def test_driver_and_report(copy, capsys):
    """trials.search at concurrency 3: right pairing, loopback only, arc.json, nothing left running; then the report."""
    path = experiment(copy, maxTrialNumber=6)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "trials.search", path, "--port", str(port), "--concurrency", "3"],
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    listening = set()
    while process.poll() is None:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                listening.add(connection.laddr.ip)
        time.sleep(1)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert listening == {"127.0.0.1"}
    assert f"portal http://127.0.0.1:{port}" in output
    assert "Warning" not in output
    assert not left_behind(copy)

    choices = CostTable.load(copy / "cost_table.json").choices
    best = load_arch(copy / "arc.json", choices)
    scores = [load_json(file, "") for file in (copy / "search").glob("*.json")]
    assert len(scores) == 6
    assert arch_id(best) in {arch_id(s["arch"]) for s in scores if s["top1"] == max(s["top1"] for s in scores)}
    summary = load_json(copy / "search.json", "")
    assert len(summary["history"]) == 6
    assert summary["trials"] == {"SUCCEEDED": 6}
    assert {entry["generation"] for entry in summary["history"]} == {0}
    # the tuner got every architecture's own score, although three trials ran at a time
    journal = read_jsonl(next((copy / "nni").glob("*/checkpoint/tuner.jsonl")))
    told = {event["scored"]: event["score"] for event in journal if "scored" in event}
    assert {arch_id(s["arch"]): s["top1"] for s in scores} == told

    report.main([str(copy)])
    page = (copy / "report.html").read_text()
    assert page.count("<svg") == 5  # four of the search, one of the fixed paths over training
    assert not re.search(r'(src|href)="(http|/)', page)
    mean = sum(s["top1"] for s in scores) / 6
    before = sum(s["top1_before_recalibration"] for s in scores) / 6
    for text in (page, capsys.readouterr().out):
        assert f"{mean:.2f}%" in text
        assert f"{before:.2f}%" in text
        assert arch_id(best) in text


def test_the_best_score_of_an_experiment_is_left_for_fixed_arc(tmp_path, monkeypatch):
    """NNI's own tuners leave no architecture, so each trial keeps the best one."""
    choices = CostTable.load(ROOT / "experiments/spaces/spos-tiny.costs.json").choices
    folder = tmp_path / "abc12345"
    (folder / "environments" / "local-env" / "trials" / "T").mkdir(parents=True)
    monkeypatch.setenv("NNI_EXP_ID", "abc12345")
    monkeypatch.setenv("NNI_SYS_DIR", str(folder / "environments" / "local-env" / "trials" / "T"))
    assert best_of_experiment.experiment_folder() == folder
    archs = [{label: values[number % len(values)] for label, values in choices.items()} for number in range(4)]
    records = [
        {"arch": arch, "top1": top1, "loss": loss}
        for arch, top1, loss in zip(archs, (50.0, 70.0, 69.0, 60.0), (2.0, 1.5, 1.0, 1.8), strict=True)
    ]
    for score_by, best in (("top1", 1), ("loss", 2)):
        (folder / "best.json").unlink(missing_ok=True)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(best_of_experiment.keep_best, [folder] * 4, records, [score_by] * 4))
        assert load_arch(folder / "best.json", choices) == archs[best]
    (folder / "best.json").write_text('{"top1": ')  # damaged: it costs itself alone
    best_of_experiment.keep_best(folder, records[0], "top1")
    assert load_arch(folder / "best.json", choices) == archs[0]
    assert sorted(path.name for path in folder.iterdir()) == ["best.json", "environments"]
    monkeypatch.delenv("NNI_EXP_ID")
    assert best_of_experiment.experiment_folder() is None


def test_plain_nnictl_with_a_tuner_of_nni_leaves_the_best(copy):
    """NNI's own TPE, which knows nothing of our files, in a real manager without our command."""
    choices = CostTable.load(copy / "cost_table.json").choices
    path = experiment(copy, "spos_random_builtin.yml", tuner={"name": "TPE"}, maxTrialNumber=2)
    port = free_port()
    nnictl("create", "--config", path, "--port", port)
    try:
        from nni.experiment import rest

        while (status := rest.get(port, "/check-status")["status"]) not in ("DONE", "ERROR"):
            time.sleep(0.5)
    finally:
        nnictl("stop", "--port", port)
    assert status == "DONE"
    stored = list(scores(copy).values())
    best = load_arch(next((copy / "nni").glob("*/best.json")), choices)
    assert best in [score["arch"] for score in stored if score["top1"] == max(score["top1"] for score in stored)]
