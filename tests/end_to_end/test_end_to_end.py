"""Every space goes the whole road, on real photographs: cost table, supernet, a real NNI search, retraining, report."""

import importlib
import sys

import pytest
import yaml

from spaces.arch import save_arch
from spaces.arch_file import load_arch
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import load_json
from tests.commands import ROOT, onepath
from trials import report, retrain, supernet
from trials.networks import build
from trials.search_driver.plan import plan_experiment

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
    assert load_json(run / "config.json", "")["config"]["loader"] == "dali"
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
    network = build.load_network(run / "retrain" / "seed0" / "network.pt")
    assert sum(parameter.numel() for parameter in network.parameters()) == result["params"]
    report.main([str(run)])
    page = (run / "report.html").read_text()
    assert page.count("<svg") == 7  # training, search (3), architecture, retraining (2)
    if "--space-options" in flags:
        assert flags[flags.index("--space-options") + 1] in page


def test_a_space_that_changed_since_is_refused(photos, tmp_path, monkeypatch):
    source = (ROOT / "docs" / "own_space.py").read_text()
    (tmp_path / "changing.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    run = tmp_path / "run"
    data = ["--preset", "tiny", "--data", "folder", "--data-root", str(photos), "--batch-size", "8"]
    broken = source.replace('"separable": partial(separable, cin, cout, stride)', '"separable": partial(conv, cin, 7)')
    assert broken != source
    (tmp_path / "broken.py").write_text(broken)
    with pytest.raises(InputError, match="fails: TypeError|makes .C, H, W."):
        supernet.main(["--space", "broken:space", *data, "--epochs", "1", "--out", str(run)])
    assert not run.exists()  # so that the mended space can be tried again
    supernet.main(["--space", "changing:space", *data, "--epochs", "1", "--score-fraction", "0.25", "--out", str(run)])
    save_arch(run / "arc.json", dict.fromkeys(CostTable.load(run / "cost_table.json").choices, "plain3") | widths(run))

    (tmp_path / "changing.py").write_text(source.replace("(32, 3, 2)", "(24, 3, 2)"))
    monkeypatch.delitem(sys.modules, "changing")
    importlib.invalidate_caches()
    content = yaml.safe_load((ROOT / "experiments" / "own_space.yml").read_text())
    content |= {
        "searchSpaceFile": str(run / "search_space.json"),
        "trialCommand": f"python -m trials.evaluate --run {run}",
        "trialCodeDirectory": str(ROOT),
    }
    (tmp_path / "search.yml").write_text(yaml.safe_dump(content))
    says = "space changing:space is not what it was when supernet '.*' was trained; restore it"
    with pytest.raises(InputError, match=says):
        plan_experiment(tmp_path / "search.yml")
    flags = ["--fixed-arc", str(run / "arc.json"), "--supernet", str(run), "--batch-size", "8"]
    with pytest.raises(InputError, match=says):
        retrain.main(flags)
    with pytest.raises(InputError, match="--space fbnet: supernet '.*' has changing:space; leave --space out"):
        retrain.main([*flags, "--space", "fbnet"])
    with pytest.raises(InputError, match=r"unknown label 'width00'.*\(in space spos tiny; give --supernet RUN"):
        retrain.main(flags[:2])


def widths(run):
    choices = CostTable.load(run / "cost_table.json").choices
    return {label: values[0] for label, values in choices.items() if label.startswith("width")}
