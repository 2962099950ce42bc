"""Search on the real NNI manager: nnictl to DONE, the guarded driver, the watchdog, bad input, the report."""

import json
import re
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch
import yaml

import spaces
from spaces.arch import arch_id, freeze, load_arch, save_arch
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import load_json, read_jsonl
from spaces.model_space import make_supernet
from tests.commands import ROOT, assert_one_clear_line, onepath
from tests.experiments import ENVIRONMENT, experiment, free_port, left_behind, metric, nnictl
from trials import report
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.networks.accuracy import topk_hits
from trials.networks.batchnorm import recalibrate_batchnorm
from trials.scoring.scorer import Scorer, Settings
from trials.search_driver.plan import make_tuner, plan_experiment

SETTINGS = Settings(calibration_images=256, scoring_images=128, batch_size=64)


# scoring


def test_score_is_that_of_the_frozen_network(own_run):
    """The trial's short way (no NNI, mapped files) equals recalibrating and testing the frozen network directly."""
    scorer = Scorer(own_run, SETTINGS)
    arch = {label: candidates[index % 4] for index, (label, candidates) in enumerate(scorer.chain.choices.items())}
    result = scorer.result(arch)
    data = load_data(DataOptions(data="digits"), 32, score_fraction=0.25)
    supernet = make_supernet(spaces.build("spos", "tiny"))
    supernet.load_state_dict(scorer.weights)
    network = freeze(supernet, arch).to(memory_format=torch.channels_last)
    images = torch.cat([images for images, _ in data.eval_batches("train", 64, count=256)])
    recalibrate_batchnorm(network, [data.normalise(batch) for batch in images.split(64)])
    scoring = list(data.eval_batches("score", 64, count=128))
    with torch.no_grad():
        hits = sum(topk_hits(network(data.normalise(images)), labels) for images, labels in scoring)
    assert [result["top1"], result["top5"]] == [100 * int(h) / 128 for h in hits]
    assert (result["macs"], result["calibration_images"]) == (scorer.table.macs(arch), 256)
    assert scorer.store.read(arch) == result
    assert Scorer(own_run, Settings(128, 128, 64)).store.read(arch) is None


def test_no_statistics_leak_between_candidates(own_run):
    scorer = Scorer(own_run, SETTINGS)
    choices = scorer.chain.choices
    a, b = ({label: candidates[k] for label, candidates in choices.items()} for k in (0, 2))
    [first] = scorer.score([a])
    scorer.score([b])
    [again] = scorer.score([a])
    keys = ("top1", "top5", "top1_before_recalibration")
    assert [first[key] for key in keys] == [again[key] for key in keys]


def test_top_1_and_top_5():
    logits = torch.tensor([[9.0, 8, 7, 6, 5, 4], [4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6]])
    assert topk_hits(logits, torch.tensor([0, 1, 0])).tolist() == [1, 2]


# NNI


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
            "top5": stored["top5"],
            "macs": stored["macs"],
            "params": stored["params"],
        }
        assert final == expected
        assert final["macs"] <= 3_200_000
        before = [m for m in metrics if m["trialJobId"] == job["trialJobId"] and m["type"] == "PERIODICAL"]
        assert [float(metric(m["data"])) for m in before] == [stored["top1_before_recalibration"]]
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


# bad input, before anything starts


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"classArgs": {"max_macs": 1000}},
            r"max_macs 1,000 is out of reach: the space reaches 2,630,272 to 4,065,536 MACs",
        ),
        (
            {"classArgs": {"populatoin": 5}},
            "unknown argument of EvolutionTuner 'populatoin'; did you mean 'population'\\?",
        ),
        ({"classArgs": {"population": 5}}, "population 5, top_k 4, mutation 5, crossover 3"),
        ({"classArgs": {"cost_table": "nowhere.json"}}, "cost table '.*nowhere.json' does not exist"),
        (
            {"classArgs": {"cost_table": "experiments/spaces/spos-cifar.costs.json"}},
            "python -m trials.space spos --preset tiny",
        ),
        ({"tuner": {"name": "Evoluton"}}, "unknown tuner of NNI 'Evoluton'; did you mean 'Evolution'"),
        ({"trainingService": {"platform": "locl"}}, "unknown platform 'locl'; did you mean 'local'"),
        ({"classArgs": {"seed": 1.5}}, "seed 1.5 is not a whole number"),
        ({"searchSpaceFile": "/nowhere.json"}, "search space '/nowhere.json' does not exist"),
        ({"trialCommand": "python train.py"}, "must be: python -m trials.evaluate --run RUN"),
        ({"trialCommand": "python -m trials.evaluate --run runs/none"}, "'.*none' holds no run; make one with"),
    ],
)
def test_bad_experiments(copy, changes, says):
    with pytest.raises(InputError, match=says):
        plan_experiment(experiment(copy, **changes))


def test_shipped_experiments_agree_with_the_code():
    names = [path.stem for path in (ROOT / "experiments").glob("*.yml")]
    assert len(names) >= 11
    for name in set(names) - {"own_images", "own_space", "spos_latency"}:  # those use files that the user's run writes
        content = yaml.safe_load((ROOT / "experiments" / f"{name}.yml").read_text())
        assert content["trialConcurrency"] == (2 if name == "spos_evo_remote" else 1)  # plain nnictl can do no more
        assert (ROOT / "experiments" / content["searchSpaceFile"]).exists()
        tuner = content["tuner"]
        if "className" in tuner:
            assert make_tuner(tuner["className"], tuner["classArgs"]).feasible.limits.max_macs


def test_builtin_tuner_with_a_limit(copy):
    path = experiment(
        copy, "spos_evo_builtin.yml", trialCommand=f"python -m trials.evaluate --run {copy} --max-macs 3.2M"
    )
    assert plan_experiment(path).limits.max_macs == 3_200_000
    path = experiment(
        copy, "spos_random_builtin.yml", trialCommand=f"python -m trials.evaluate --run {copy} --max-macs 1k"
    )
    with pytest.raises(InputError, match="max_macs 1,000 is out of reach"):
        plan_experiment(path)


def test_port_in_use(copy):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = onepath("search", experiment(copy), "--port", port)
        assert_one_clear_line(done, f"--port {port} is in use; give another")


def test_an_interrupted_supernet_is_not_searched(copy):
    (copy / "supernet.pt").unlink()
    with pytest.raises(InputError, match="is not trained to the end; run trials.supernet with --resume first"):
        plan_experiment(experiment(copy))


def test_evaluate_by_hand(copy, tmp_path):
    choices = CostTable.load(copy / "cost_table.json").choices
    arch = {label: candidates[0] for label, candidates in choices.items()}
    save_arch(tmp_path / "arc.json", arch)
    done = onepath("evaluate", "--run", copy, "--arch", tmp_path / "arc.json", check=True)
    assert "2,685,056" in done.stdout  # all k3; its MACs are checked against hooks in test_spos.py
    assert CostTable.load(copy / "cost_table.json").macs(arch) == 2_685_056
    stored = load_json(copy / "search" / f"{arch_id(arch)}.json", "")
    assert f"{stored['top1']:.2f}%" in done.stdout
    save_arch(tmp_path / "arc.json", {**arch, "block03": "k4"})
    assert_one_clear_line(
        onepath("evaluate", "--run", copy, "--arch", tmp_path / "arc.json"), "'k4'", "choose from: k3, k5"
    )
    assert_one_clear_line(onepath("evaluate", "--run", copy), "give --arch FILE")


def test_checkpoint_of_another_space(copy, tmp_path):
    checkpoint = torch.load(copy / "supernet.pt", weights_only=True)
    checkpoint["model"] = {name.replace("xception", "conv"): tensor for name, tensor in checkpoint["model"].items()}
    torch.save(checkpoint, copy / "supernet.pt")
    scorer = Scorer(copy, SETTINGS)
    arch = dict.fromkeys(scorer.chain.choices, "xception")
    with pytest.raises(
        InputError,
        match="these weights are of another space than spos tiny: blocks.0.xception.* has shape none instead of",
    ):
        scorer.result(arch)


def test_report_of_a_run_that_was_not_searched(copy, capsys):
    """It shows the training, and says what comes next."""
    report.main([str(copy)])
    assert "not yet: python -m trials.search EXPERIMENT.yml" in capsys.readouterr().out
    assert (copy / "report.html").read_text().count("<svg") == 1
