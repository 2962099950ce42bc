"""How reports and certificates name the networks that were not trained alike."""

import shutil
import subprocess

import pytest

from spaces.files import load_json, save_json
from tests.unit import test_report
from trials.certifying.rivals import rivals_of
from trials.common import typed
from trials.reporting import baselines_table, certificate_view, page
from trials.reporting.collect import collect_run
from trials.reporting.summary import summary_rows


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A certified run with a fine-tuned winner, a pretrained baseline, and another one from scratch."""
    run = test_report.make_run(tmp_path_factory.mktemp("report") / "run", "certified")
    arch = load_json(run / "arc.json", "")
    for place, start in (
        ("retrain-from-supernet", "supernet"),
        ("baselines/timm-a-pretrained", "pretrained"),
        ("baselines/timm-b", ""),
    ):
        test_report.make_network(run, place, arch, [355])
        folder = run / place
        stored, result = load_json(folder / "config.json", ""), load_json(folder / "result.json", "")
        if start:
            result["start"] = {"kind": start, "file": "f", "hash": "0" * 16}
        if place.startswith("baselines"):
            (folder / "arc.json").unlink(missing_ok=True)
            result |= {"arch": None, "baseline": f"timm:{place[15]}"}
            stored["config"] |= {"baseline": result["baseline"], "fixed_arc": None}
        save_json(folder / "config.json", stored)
        save_json(folder / "result.json", result)
    certificate = load_json(run / "certificate.json", "")
    choice = {"by": "search", "candidate_epochs": 0, "supernet_epochs": 20, "scored": 123}
    choice |= {"sentence": "chosen by the search: 123 scores of a supernet of 20 epochs"}
    save_json(run / "certificate.json", certificate | {"choice": choice, "rivals": rivals_of(run)})
    return run


def test_rivals_are_named_and_not_counted(reported):
    rivals = {entry["run"]: entry for entry in rivals_of(reported)}
    assert [(entry["start"], entry["network"]) for entry in rivals.values()] == [
        ("supernet", f"{load_json(reported / 'certificate.json', '')['winner']['id']} (from supernet)"),
        ("pretrained", "timm:a (pretrained)"),
        ("", "timm:b"),
    ]
    contents = collect_run(reported)
    assert contents.retrained.place == "retrain"
    roles = certificate_view.roles(contents)
    assert roles["retrain"] == "winner"
    assert roles["retrain-from-supernet"] == "fine-tuned from the supernet"
    assert roles["baselines/timm-a-pretrained"] == "pretrained, fine-tuned"
    assert roles["baselines/timm-b"] == "baseline"
    rows = {row.run.removeprefix(f"{reported}/"): row for row in baselines_table.collect_networks(reported)}
    assert rows["baselines/timm-a-pretrained"].network == "timm:a (pretrained)"
    assert rows["retrain-from-supernet"].network.endswith(" (from supernet)")
    assert rows["retrain"].balanced != "-"


def test_the_report_shows_choice_and_rivals(reported):
    text = test_report.words(page.write_report(reported).read_text(encoding="utf-8"))
    assert "How was the winner chosen? How chosen by the search: 123 scores of a supernet of 20 epochs" in text
    assert "Epochs of the supernet 20 Scores 123" in text
    assert "Beside them, not counted: " in text
    assert "timm:a (pretrained) pretrained, fine-tuned, baselines/" in text
    assert "did not start from fresh weights" in text
    said = dict(summary_rows(collect_run(reported)))
    assert said["its balanced accuracy"].count("%") == 1
    assert "baseline timm:a (pretrained)" in said


def test_without_a_training_from_scratch_a_fine_tuned_winner_is_not_retrained(reported, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(reported, run)
    shutil.rmtree(run / "retrain")
    assert collect_run(run).retrained is None


def test_a_baseline_that_is_put_aside_is_not_compared_any_more(reported, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(reported, run)
    made, moved, _ = typed.anew(run / "baselines" / "timm-b", {}).split(" && ")
    assert moved.split()[:2] == ["mv", str(run / "baselines" / "timm-b")]
    subprocess.run(f"{made} && {moved}", shell=True, check=True)
    assert [row.network for row in baselines_table.collect_networks(run)][-1] == "timm:a (pretrained)"
