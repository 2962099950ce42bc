"""Every space goes the whole road, on real photographs: cost table, supernet, a real NNI search, retraining, report."""

import pytest
import yaml

from spaces.arch import load_arch
from spaces.cost import CostTable
from spaces.files import load_json
from tests.conftest import ROOT, onepath
from trials import report, retrain, supernet

ROADS = {
    "fbnet": [],
    "proxylessnas": ["--warm-start", "0.4"],
    "single-path-nas": ["--warm-start", "0.4"],
    "spos-channel": ["--space", "spos", "--space-options", "variant=channel", "--warm-start", "0.4"],
    "spos-plus": ["--space", "spos", "--space-options", "variant=plus,last_width=64"],
    "docs.own_space:space": [],
}


@pytest.mark.parametrize("name", ROADS)
def test_road(name, photos, tmp_path):
    flags = ROADS[name] if "--space" in ROADS[name] else ["--space", name, *ROADS[name]]
    run = tmp_path / "run"
    data = ["--preset", "tiny", "--data", "folder", "--data-root", str(photos), "--batch-size", "8"]
    supernet.main([*flags, *data, "--epochs", "2", "--score-fraction", "0.25", "--out", str(run)])
    table = CostTable.load(run / "cost_table.json")

    content = yaml.safe_load((ROOT / "experiments" / "own_space.yml").read_text())
    content |= {
        "searchSpaceFile": str(run / "search_space.json"),
        "trialCommand": f"python -m trials.evaluate --run {run} --batch-size 8",
        "trialCodeDirectory": str(ROOT),
        "experimentWorkingDirectory": str(tmp_path / "nni"),
        "maxTrialNumber": 2,
    }
    bounds = table.bounds()
    limit = (bounds.min_macs + bounds.max_macs) // 2
    content["tuner"]["codeDirectory"] = str(ROOT)
    content["tuner"]["classArgs"] = {"cost_table": str(run / "cost_table.json"), "max_macs": limit, "seed": 0}
    (tmp_path / "search.yml").write_text(yaml.safe_dump(content))
    onepath("search", tmp_path / "search.yml", "--concurrency", "2", check=True)
    arch = load_arch(run / "arc.json", table.choices)
    scores = [load_json(path, "") for path in (run / "search").glob("*.json")]
    assert len(scores) == 2
    assert all(score["macs"] == table.macs(score["arch"]) <= limit for score in scores)
    best = max(score["top1"] for score in scores)
    assert arch in [score["arch"] for score in scores if score["top1"] == best]

    retrain.main(["--fixed-arc", str(run / "arc.json"), "--supernet", str(run), "--epochs", "1", "--batch-size", "8"])
    result = load_json(run / "retrain" / "result.json", "")
    assert (result["arch"], result["macs"], result["params"]) == (arch, table.macs(arch), table.params(arch))
    assert result["test_images"] == 8
    report.main([str(run)])
    assert (run / "report.html").read_text().count("<svg") == 4
