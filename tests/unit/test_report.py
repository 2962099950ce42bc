"""The report at every stage of a run: what it says, that it stands alone, and that its commands work as they are printed."""

import base64
import dataclasses
import html
import importlib
import importlib.util
import io
import json
import random
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import spaces
from spaces.arch import arch_id, save_arch
from spaces.cost import measure, search_space
from spaces.files import save_json
from strategies.sampling import uniform_path
from tests.unit.test_options import config_of
from trials import report
from trials.common import cli, run_dir
from trials.evidence.classes import balanced_accuracy
from trials.evidence.intervals import accuracy_interval
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.networks import timm_rivals
from trials.networks.baselines import check_baseline
from trials.reporting import answers, data_view, page, plots
from trials.reporting.collect import collect_run
from trials.reporting.summary import summary_rows
from trials.reporting.verdict import what_was_found
from trials.training import retrain_config, supernet_config
from trials.training.retrain_result import collect_result

STAGES = ["supernet", "searched", "retrained", "certified", "learned"]
CLASSES = ["0", "<b>one</b> & co", "zwei ü", '"three"', *"456789"]
CHAIN = spaces.describe("spos", "tiny")
TABLE = measure(CHAIN)


def make_supernet(run: Path) -> None:
    """What trials.supernet leaves, but for the weights."""
    config = supernet_config.Config(data="digits", preset="tiny", score_fraction=0.25, out=str(run))
    stored = {"command": "supernet", "config": dataclasses.asdict(config), "typed": None, **run_dir.provenance()}
    save_json(run / "config.json", stored)
    TABLE.save(run / "cost_table.json")
    save_json(run / "search_space.json", search_space(TABLE.choices))
    run_dir.save_checkpoint(run / "supernet.pt", {"model": {}, "preprocessing": {"classes": CLASSES}})
    lines: list[dict[str, Any]] = [
        {"step": 16 * k, "epoch": k, "images_per_second": 600.0, "loss": 2.3 / k, "train_top1": 10.0 * k}
        for k in (1, 2, 3)
    ]
    lines += [{"step": 48, "epoch": 3, "fixed_paths": [80.0, 90.0], "fixed_paths_top1": 85.0}]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_search(run: Path, count: int = 6) -> list[dict]:
    """What a search leaves; the winner is not the architecture with the highest score, as after retrain --top."""
    draw = random.Random(0)
    archs = [uniform_path(TABLE.choices, draw) for _ in range(count)]
    for number, arch in enumerate(archs):
        score = {"arch": arch, "top1": 80.0 + number, "top5": 99.0, "top1_before_recalibration": 60.0 + number}
        costs = {"macs": TABLE.macs(arch), "params": TABLE.params(arch)}
        save_json(run / "search" / f"{arch_id(arch)}.json", {**score, **costs, "seconds": 2.0, "scoring_images": 359})
    history = [{"id": arch_id(arch), "generation": number // 3, "failures": 0} for number, arch in enumerate(archs)]
    summary = {"experiment": "in this process", "yaml": "search.yml", "tuner": "strategies.evolution.EvolutionTuner"}
    limits = {"max_macs": 3_500_000, "min_macs": None, "max_params": None, "max_latency_ms": None}
    save_json(run / "search.json", {**summary, "limits": limits, "share_of_space": 0.5, "history": history})
    save_arch(run / "arc.json", archs[-2])
    return archs


def make_network(run: Path, place: str, arch: dict, right: list[int], **options) -> dict:
    """What trials.retrain leaves for one seed per number of right answers of digits' 359 test images."""
    folder, labels = run / place, np.concatenate([labels for _, labels in digits().eval_batches("test", 359)])
    save_arch(run / place / "arc.json", arch)
    config = retrain_config.Config(
        fixed_arc=str(folder / "arc.json"), supernet=str(run), seeds=len(right), out=str(folder), **options
    )
    save_json(
        folder / "config.json", {"command": "retrain", "config": dataclasses.asdict(config), **run_dir.provenance()}
    )
    for seed, correct in enumerate(right):
        predicted = labels.copy()
        predicted[: 359 - correct] = (labels[: 359 - correct] + 1) % 10
        (folder / f"seed{seed}").mkdir()
        np.savez(
            folder / f"seed{seed}" / "answers.npz", labels=labels.astype(np.int32), predicted=predicted.astype(np.int32)
        )
        result = {"test_top1": 100 * correct / 359, "test_images": 359, "test_correct": correct, "seconds": 50.0}
        save_json(folder / f"seed{seed}" / "result.json", result)
        lines = [{"step": 22 * k, "epoch": k, "loss": 2 / k, "train_top1": 30.0 * k} for k in (1, 2, 3)]
        lines += [{"step": 66, "epoch": 3, "val_top1": 91.0}]
        (folder / f"seed{seed}" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = collect_result(
        folder, len(right), {"arch": arch, "macs": TABLE.macs(arch), "params": TABLE.params(arch)}, CLASSES
    )
    save_json(folder / "result.json", result)
    keys = ("arch", "macs", "params", "test_top1", "mean", "interval")
    return {"id": arch_id(arch), "run": place, "correct": right, "score": None} | {key: result[key] for key in keys}


def make_certificate(run: Path, archs: list[dict], winner: dict) -> None:
    """What trials.certify leaves, with figures that are easy to find again."""
    randoms = [
        make_network(run, f"controls/{arch_id(arch)}", arch, [340 + k, 341]) | {"score": 80.0 + k}
        for k, arch in enumerate(archs[:3])
    ]
    cheapest = make_network(run, "controls/cheapest", dict.fromkeys(TABLE.choices, "k3"), [335, 336])
    tau = {"tau": 0.33, "interval": [-0.4, 0.8], "needed": 41}
    sentence = "not distinguishable from random (1.23 points [-0.5, 3.0]): it beats 2 of 3 random architectures"
    certificate = {
        "verdict": {
            "code": "not distinguishable",
            "sentence": sentence,
            "next": cli.command("certify", run, "--random", 20, "--seeds", 2),
            "why": "the number of random architectures leaves most open",
        },
        "winner": winner | {"score": 84.0},
        "cheapest": cheapest,
        "random": randoms,
        "band": {"cost": "macs", "low": 2_900_000, "high": 3_200_000},
        "comparison": {"difference": 1.23, "interval": [-0.5, 3.0], "beaten": 2, "of": 3, "blind": 0.5},
        "ranking": {
            "n": 8,
            "score": tau,
            "macs": tau,
            "params": None,
            "seeds": None,
            "score_minus_macs": None,
            "given_up": 0.7,
        },
        "noise": {
            "seeds_sd": None,
            "score_sd": 1.9,
            "test_sd": 1.1,
            "seeds_needed": None,
            "images_needed": {"0.5": 9876, "1.0": 2345},
        },
        "seeds": 2,
        "test_images": 359,
    }
    save_json(run / "certificate.json", certificate)


def make_run(run: Path, stage: str) -> Path:
    """A run as it is at a stage, of small real files."""
    make_supernet(run)
    if stage == "learned":
        arch = dict.fromkeys(TABLE.choices, "k5")
        save_arch(run / "arc.json", arch)
        about = {"strategy": "gumbel", "max_macs": 3_000_000, "macs": TABLE.macs(arch), "params": TABLE.params(arch)}
        save_json(run / "most_probable.json", {"arch": arch, "log_probability": None, **about})
        moments = [{label: [0.25] * len(row) for label, row in TABLE.choices.items()}] * 2
        lines = [json.dumps({"step": 16 * k, "probabilities": moment}) + "\n" for k, moment in enumerate(moments)]
        (run / "probabilities.jsonl").write_text("".join(lines))
    if stage in ("searched", "retrained", "certified"):
        archs = make_search(run)
    if stage in ("retrained", "certified"):
        winner = make_network(run, "retrain", archs[-2], [350, 352])
        floor = {"top1": 97.21, "interval": [94.9, 98.5], "name": "random forest on 16x16 pixels", "fingerprint": 1}
        save_json(run / "floor.json", floor)
        warning = {"from": "search", "gate": "noisy scores", "text": "scores <differ> by less than noise"}
        save_json(run / "warnings.json", [warning | {"command": cli.command("search", run, "--in-process")}])
    if stage == "certified":
        make_certificate(run, archs, winner)
    return run


def digits():
    return load_data(DataOptions(data="digits"), 32, score_fraction=0.25)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A run of each stage; their paths need quotes in a shell and escapes in HTML."""
    folder = tmp_path_factory.mktemp("report")
    return {stage: make_run(folder / f"a <{stage}> & 'ü'", stage) for stage in STAGES}


@pytest.fixture(scope="module")
def pages(runs) -> dict[str, str]:
    return {stage: page.write_report(run).read_text(encoding="utf-8") for stage, run in runs.items()}


def commands(text: str) -> list[str]:
    """The commands of a page, as one copies them."""
    found = re.findall(r'<code class="command">(.*?)</code>', text, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]+>", "", command)) for command in found]


def words(text: str) -> str:
    """What one reads in a page."""
    text = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


class Elements(HTMLParser):
    """All elements of a page, with their attributes and the text right after their start; open ones in `path`."""

    VOID = ("meta", "img", "br", "hr", "link", "path", "use", "rect", "stop", "image")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), [*self.open, ""]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.found and not self.found[-1][2][-1]:
            self.found[-1][2][-1] = data.strip()


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_page_says_at_each_stage(stage, runs, pages):
    """The four answers, on the page and in the terminal."""
    text = words(pages[stage])
    printed = " ".join(cli.table(summary_rows(collect_run(runs[stage])), ("", ""), as_is=True).split())
    arch = collect_run(runs[stage]).winner
    for question in ("What was found?", "Did the search beat a random choice?", "Can this be trusted?", "What next?"):
        assert question in text
    if stage == "supernet":
        assert "Nothing yet: the supernet is trained and holds 1.1 trillion architectures" in text
        assert "searched not yet" in printed
    else:
        for shown in (text, printed):
            assert arch_id(arch) in shown
            assert f"{TABLE.macs(arch):,}" in shown
    for shown in (text, printed):
        assert ("Not known yet" in shown) == (stage != "certified")
        assert ("No warning." in shown) == (stage not in ("retrained", "certified"))
    if stage in ("retrained", "certified"):
        accuracy = accuracy_interval([350, 352], 359)
        for shown in (text, printed):
            assert f"97.77% [{accuracy.low:.1f}, {accuracy.high:.1f}] (2 seeds, 359 images)" in shown
            assert "random forest on 16x16 pixels" in shown
            assert "scores <differ> by less than noise" in shown
        for shown in (
            "Confusion matrix",
            "zwei ü",
            "Balanced accuracy 97.77%",
            "train the supernet 1,079",
            "Loss while",
        ):
            assert shown in text
    if stage == "certified":
        for shown in (text, printed):
            assert "The winner is not distinguishable from random (1.23 points [-0.5, 3.0]): it beats 2 of 3" in shown
        for shown in (
            "+1.23 [-0.50, +3.00] points",
            "2 of 3",
            "in 50 of 100 cases",
            "+0.33 [-0.40, +0.80]",
            "about 41 networks in all would settle it",
        ):
            assert shown in text
        for shown in (
            "0.70 points",
            "1.90 points",
            "9,876 test images",
            "2,345 test images",
            "random",
            "cheapest",
            "controls/cheapest/",
        ):
            assert shown in text
        assert pages[stage].count("<svg viewBox") == 9
    if stage == "learned":
        assert "most probable architecture" in text
        assert "step 16" in text


@pytest.mark.parametrize("stage", STAGES)
def test_every_command_can_be_typed(stage, runs, pages):
    """Each is of our modules, with options that this module takes, and paths that are there."""
    found = commands(pages[stage])
    assert found
    if stage in ("searched", "learned", "retrained"):
        assert cli.command("certify", runs[stage]) in found
    for command in found:
        python, dash_m, module, *arguments = shlex.split(command)
        assert (python, dash_m) == ("python", "-m")
        name = module.removeprefix("trials.")
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not there yet")
        config = cli.parse(config_of(name), arguments, None, module)
        assert any(str(runs[stage]) in str(value) for value in vars(config).values())


@pytest.mark.slow
def test_the_search_that_is_named_can_be_planned(tmp_path):
    """Also for a run of an older version, which left no search.yml."""
    from trials.search_driver.plan import plan_experiment

    run = make_run(tmp_path / "a run", "supernet")
    report.main([str(run)])
    assert plan_experiment(run).run == run


@pytest.mark.parametrize("stage", STAGES)
def test_a_page_stands_alone_and_its_pictures_have_names(stage, pages):
    text = pages[stage]
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    assert "url(#" in text or "url(" not in text
    elements = Elements(text)
    ids = [attributes["id"] for _, attributes, _ in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    pictures = 0
    for number, (tag, attributes, _) in enumerate(elements.found):
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/"))
        if tag == "svg":
            pictures += 1
            assert attributes["role"] == "img"
            title, description = elements.found[number + 1 : number + 3]
            assert (title[0], description[0]) == ("title", "desc")
            assert attributes["aria-labelledby"] == f"{title[1]['id']} {description[1]['id']}"
            assert min(len(title[2][-1]), len(description[2][-1])) > 10
        if tag == "img":
            pictures += 1
            assert re.fullmatch(r"An image of class .+ that was taken for .+", attributes["alt"] or "")
    assert pictures >= 1


def test_names_are_escaped(pages):
    """Names of classes and folders are text, never HTML."""
    assert "<b>one</b>" not in pages["retrained"]
    assert "&lt;b&gt;one&lt;/b&gt; &amp; co" in pages["retrained"]
    assert "<h1>a &lt;retrained&gt; &amp; &#39;ü&#39;</h1>" in pages["retrained"]
    assert "<retrained>" not in pages["retrained"]


@pytest.mark.slow
def test_a_page_is_small_and_the_same_again(runs, pages):
    assert len(pages["certified"]) < 400_000
    assert page.render_page(collect_run(runs["certified"])) == pages["certified"]


@pytest.mark.slow
def test_a_winner_that_is_not_above_the_floor_is_said_to_be_so(runs, tmp_path):
    """On top of the page and in the terminal, with the balanced accuracy that needs no deep learning."""
    run = shutil.copytree(runs["retrained"], tmp_path / "run")
    floor = {"top1": 98.05, "interval": [96.0, 99.1], "name": "random forest on 16x16 pixels", "fingerprint": 1}
    balanced = {"accuracy": 91.4, "interval": [88.0, 94.1]}
    more = {"forest": {"balanced": balanced}, "majority": {"class": "good", "balanced": 50.0}, "test_images": 359}
    save_json(run / "floor.json", floor | more)
    contents = collect_run(run)
    found = what_was_found(contents)
    assert found.state == "unclear"
    assert found.headline.endswith("That is not above the floor of 98.05%, which needs no deep learning.")
    said = "alanced accuracy without deep learning: 91.40% [88.0, 94.1] (random forest), 50.00% (always 'good')"
    shown = " ".join(" ".join(value.split()) for _, value in summary_rows(contents))
    assert f"b{said}" in shown
    assert "the winner is not above the floor: 97.77% beside 98.05% (random forest on 16x16 pixels)" in shown
    text = words(page.render_page(contents))
    assert found.headline in text
    assert text.count(f"B{said}.") == 2  # below the first answer, and below the table of networks
    save_json(run / "floor.json", floor | more | {"top1": 99.9})
    assert what_was_found(collect_run(run)).headline.endswith("That is below the floor: it is not trained enough.")


def test_the_winner_is_what_arc_json_holds(runs, tmp_path):
    """Not the highest score; what retrain/ holds of an earlier search is not the winner's, nor is its certificate."""
    run = tmp_path / "run"
    shutil.copytree(runs["certified"], run)
    contents = collect_run(run)
    assert contents.winner != max(contents.results, key=lambda result: result["top1"])["arch"]
    assert contents.retrained.place == "retrain"
    other = contents.results[0]["arch"]
    save_arch(run / "arc.json", other)
    contents = collect_run(run)
    assert contents.winner == other
    assert contents.retrained.place == f"controls/{arch_id(other)}"  # this very architecture was a control
    assert not contents.certified
    assert "the certificate is of an earlier winner" in dict(summary_rows(contents))["better than chance?"]
    unseen = dict.fromkeys(TABLE.choices, "k7")
    save_arch(run / "arc.json", unseen)
    contents = collect_run(run)
    assert contents.retrained is None
    again = next(command for command in commands(page.render_page(contents)) if "trials.retrain" in command)
    assert shlex.split(again)[-2:] == ["--out", str(run / f"retrain-{arch_id(unseen)}")]


@pytest.mark.slow
def test_a_run_of_an_older_version(runs, tmp_path):
    """Files that it did not write are absent, and nothing is said about them."""
    run = tmp_path / "run"
    shutil.copytree(runs["retrained"], run)
    for path in [*run.rglob("answers.npz"), *run.rglob("log.jsonl"), run / "floor.json", run / "warnings.json"]:
        path.unlink()
    for path in [run / "config.json", run / "retrain" / "config.json"]:
        stored = json.loads(path.read_text())
        for key in ("processor", "cores", "gpus", "typed"):
            stored.pop(key, None)
        save_json(path, stored)
    result = json.loads((run / "retrain" / "result.json").read_text())
    save_json(
        run / "retrain" / "result.json",
        {key: result[key] for key in ("arch", "macs", "params", "test_top1", "mean", "std")},
    )
    for seed in (0, 1):
        save_json(run / "retrain" / f"seed{seed}" / "result.json", {"test_top1": 97.5, "seconds": 1.0})
    (run / "retrain" / "export").mkdir()
    (run / "retrain" / "export" / "model-int8.onnx.failed").write_bytes(b"x" * 3000)
    text = words(page.write_report(run).read_text())
    assert "97.49%, 98.05%" in text
    assert "Confusion" not in text
    assert "int8 model-int8.onnx.failed failed it did not pass its check - - - 3" in text
    assert "floor" not in text.lower()
    assert "an older version, which did not look for mistakes" in text


@pytest.mark.slow
def test_what_cannot_be_opened_is_left_out(runs, tmp_path):
    """Without the images the page says why, and shows the rest."""
    run = tmp_path / "run"
    shutil.copytree(runs["retrained"], run)
    stored = json.loads((run / "config.json").read_text())
    stored["config"] |= {"data": "fashion-mnist", "data_root": str(tmp_path / "gone")}
    save_json(run / "config.json", stored)
    text = page.write_report(run).read_text()
    assert "<img" not in text
    assert f"data folder '{tmp_path / 'gone'}' does not exist" in words(text)
    assert "Confusion matrix" in text


@pytest.mark.slow
def test_exports_are_listed_with_their_checks(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["retrained"], run)
    good = {
        "format": "onnx",
        "files": ["model.onnx"],
        "bytes": 898_000,
        "largest_difference": 2.6e-6,
        "same_percent": 100.0,
    }
    bad = {
        "format": "int8",
        "files": ["model-int8.onnx.failed"],
        "bytes": 526_000,
        "largest_difference": 3.0,
        "same_percent": 90.25,
    }
    record = {
        "formats": [
            good | {"correct": 350, "images": 359, "problem": ""},
            bad | {"correct": 310, "images": 359, "problem": "it loses 11 points"},
        ],
        "network": {"correct": 350, "images": 359, "file": "network.pt"},
        **{"rounding": 1e-4, "int8_drop": 1.0, "seconds": 66.0},
    }
    save_json(run / "retrain" / "export" / "export.json", record)
    text = words(page.write_report(run).read_text())
    assert f"onnx model.onnx passed {accuracy_interval([350], 359)} 100.00 2.6e-06 898" in text
    failed = f"int8 model-int8.onnx.failed failed it loses 11 points {accuracy_interval([310], 359)} 90.25 3.0e+00 526"
    assert failed in text
    assert "1 min 6 s" in text


# answers


def test_classes_and_confusions_are_counted():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    predicted = np.array([[0, 0, 0, 1, 1, 1, 2, 2, 0, 0], [0, 0, 0, 1, 1, 0, 2, 2, 2, 0]])
    found = answers.Answers(labels, predicted, ["a", "b", "c"])
    assert found.confusion.tolist() == [[6, 2, 0], [1, 3, 0], [3, 0, 5]]
    rows = {row.name: row for row in found.rows}
    assert [row.name for row in found.rows] == ["c", "a", "b"]
    assert rows["c"].interval == accuracy_interval([2, 3], 4)
    assert (rows["c"].images, rows["c"].mistaken_for) == (4, "a (1.5 images per seed)")
    balanced = balanced_accuracy([*rows.values()])
    assert balanced.value == pytest.approx((75 + 75 + 62.5) / 3)
    assert balanced.low < balanced.value < balanced.high
    assert balanced.low > min(row.interval.low for row in rows.values())
    assert answers.frequent_confusions(found)[:2] == [("c", "a", 3), ("a", "b", 2)]
    assert answers.hardest_images(found, 2) == [(9, 2, "c", "a"), (3, 2, "a", "b")]
    assert [entry[0] for entry in answers.hardest_images(found, 10)] == [9, 8, 3, 5]


def test_a_rare_class_that_is_hardly_known_names_the_balanced_loss(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["retrained"], run)
    [config], labels = run.glob("retrain/config.json"), np.repeat([0, 1, 2], [40, 9, 30]).astype(np.int32)
    for path in run.glob("retrain/seed*/answers.npz"):
        np.savez(path, labels=labels, predicted=np.where(labels == 1, 0, labels).astype(np.int32))
    text = words(page.write_report(run).read_text())
    assert text.count("--class-weights balanced") == 1
    assert "has few images, and an accuracy below half of the mean of the classes." in text
    stored = json.loads(config.read_text())
    stored["config"]["class_weights"] = "balanced"
    config.write_text(json.dumps(stored))
    assert "has few images, and an accuracy" not in words(page.write_report(run).read_text())


def test_wrong_answers_are_those_of_all_classes():
    """A class that comes first and errs often leaves places for the others, which get them in the order of their accuracy."""
    labels = np.repeat([0, 1, 2], [60, 20, 10])
    predicted = np.stack([labels, labels])
    predicted[:, :50] = 1  # 50 of 60 of class 0, by both seeds
    predicted[:, 80:83] = 0  # 3 of 10 of class 2, by both seeds
    predicted[0, 60:65] = 2  # 5 of 20 of class 1, by one
    found = answers.Answers(labels, predicted, ["a", "b", "c"])
    chosen = answers.hardest_images(found, 12)
    assert [name for _, _, name, _ in chosen] == ["a"] * 5 + ["c"] * 3 + ["b"] * 4
    assert [position for position, *_ in chosen] == [0, 1, 2, 3, 4, 80, 81, 82, 60, 61, 62, 63]
    assert len(answers.hardest_images(found, 100)) == 58


def test_the_sheet_shows_the_images_that_were_answered_wrongly(photos, tmp_path):
    """Image and label belong together, for images in memory and in folders."""
    folder = load_data(
        DataOptions(data="folder", data_root=str(photos), loader="torchvision", workers=0), 64, score_fraction=0.25
    )
    for data in (digits(), folder):
        images, labels = (torch.cat(parts) for parts in zip(*data.eval_batches("test", 100), strict=True))
        predicted = labels.numpy().copy()
        wrong = [len(labels) - 1, 2]
        predicted[wrong] = (predicted[wrong] + 1) % len(data.classes)
        found = answers.Answers(labels.numpy(), predicted[None], data.classes)
        sheet = data_view.wrong_images(found, data)
        assert [image.true for image in sheet] == [data.classes[labels[number]] for number in sorted(wrong)]
        for image, number in zip(sheet, sorted(wrong), strict=True):
            kind, _, coded = image.source.partition(";base64,")
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(coded))).convert("RGB")).astype(int)
            difference = np.abs(pixels - images[number].numpy().transpose(1, 2, 0)).mean()
            assert difference == 0 if kind == "data:image/png" else difference < 8
        other = answers.Answers(np.roll(labels.numpy(), 3), predicted[None], data.classes)
        assert data_view.wrong_images(other, data) == []  # another test part


@pytest.mark.slow
def test_a_phone_shows_it_without_scrolling_sideways(runs, pages):
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=300_000)
        for run in runs.values():  # where `pages` has written it
            view = browser.new_page(viewport={"width": 390, "height": 844})
            view.goto((run / "report.html").as_uri(), timeout=300_000)
            assert view.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), run
            # text of pictures stays readable, and no picture is wider than its box
            heights = view.evaluate(
                "[...document.querySelectorAll('svg text')].map(text => text.getBoundingClientRect().height)"
            )
            assert min(heights) >= 8
        browser.close()


@pytest.mark.parametrize(
    ("macs", "resolution", "model"),
    [
        (8_000_000, 64, "timm:mobilenetv2_050"),
        (3_400_000, 32, "timm:mobilenetv2_035,output_stride=8"),  # wider than the network, and the narrowest there is
        (330_000_000, 224, "timm:mobilenetv2_100"),
        (100_000_000, 128, "timm:mobilenetv2_100"),
        (2_000_000, 64, "timm:mobilenetv3_small_050"),  # no MobileNetV2 is within a factor of 2
    ],
)
def test_the_rival_that_is_advised_costs_what_the_winner_costs(macs, resolution, model):
    assert timm_rivals.rival(macs, resolution) == model
    found, _ = check_baseline(model, 10, resolution)
    assert found / 1e6 == pytest.approx(timm_rivals.approximate(resolution)[model], rel=0.03)


@pytest.mark.parametrize("macs", [1_000_000, 3_000_000, 3_200_000])
def test_no_rival_is_advised_where_no_list_has_one(macs):
    """The report and trials.space --rivals have one rule."""
    assert timm_rivals.rival(macs, 32) == ""
    assert timm_rivals.rivals_near(macs, 32, 10) == []


@pytest.mark.parametrize(("macs", "resolution"), [(8_000_000, 64), (15_000_000, 32), (100_000_000, 128)])
def test_rivals_of_a_budget_are_counted_exactly(macs, resolution):
    """They are chosen by a table of about what they cost, and shown with what they do cost."""
    found = timm_rivals.rivals_near(macs, resolution, 10)
    assert 3 <= len(found) <= timm_rivals.MOST
    assert [one.macs for one in found] == sorted(one.macs for one in found)
    assert all(macs / 2 <= one.macs <= 2 * macs for one in found)
    for one in found:
        assert (one.macs, one.params) == check_baseline(one.baseline, 10, resolution)
    assert not timm_rivals.rivals_near(1000, resolution, 10)


def test_the_line_over_the_scores_rises_with_the_cost():
    points = [(7.06, 46.0), (7.22, 34.0), (7.25, 44.0), (7.53, 48.0), (7.53, 40.0), (7.85, 48.0), (7.6, 48.0)]
    assert plots.highest_so_far(points) == [(7.06, 46.0), (7.53, 48.0)]
    assert plots.highest_so_far([(1.0, -2.0)]) == [(1.0, -2.0)]
