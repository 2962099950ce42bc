"""Exported files: the same answers as the network they were made from, where only torch, or only ONNX Runtime, is there."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

import spaces
from spaces.errors import InputError, Stopped
from spaces.files import load_json, save_json
from tests.commands import ROOT, assert_one_clear_line, onepath
from tests.unit.test_module_source import drawn, import_file
from trials import export, retrain
from trials.common import run_dir
from trials.common.checkpoint import load_checkpoint
from trials.export_formats import model_card
from trials.export_formats.files import Description
from trials.export_formats.formats import run_module, run_onnx, run_program
from trials.images.folder import FolderData
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.networks import build

CARD = ("Network", "Accuracy", "Files", "How to use", "Classes", "Budget", "Certificate", "Intended use", "Made by")
GOOD = {"net.onnx": "the network's answer on each of 3 test images"}


def images_of(run, part="test"):
    """Normalised images of a run, and labels."""
    options = DataOptions.of(run_dir.load_run(run, "retrain"))
    data = load_data(options, 32, score_fraction=0.1, run=run)
    batches = [(data.normalise(images), labels) for images, labels in data.eval_batches(part, 64)]
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


@pytest.fixture(scope="module")
def digits(shared):
    """A retrained network of digits, exported in all formats: its run, test images, labels and logits."""
    run = shared("exported digits", export_digits) / "retrain"
    images, labels = images_of(run)
    with torch.no_grad():
        logits = build.load_network(run / "seed0" / "network.pt")(images)
    return run, images, labels, logits


def export_digits(folder):
    chain = spaces.describe("spos", "tiny")
    save_json(folder / "arc.json", {**dict.fromkeys(chain.choices, "k3"), "block01": "xception"})
    run = folder / "retrain"
    arguments = ["--fixed-arc", folder / "arc.json", "--preset", "tiny", "--epochs", "6", "--batch-size", "32"]
    retrain.main([*map(str, arguments), "--out", str(run)])
    export.main(["--fixed-arc", str(folder / "arc.json"), "--weights", str(run)])


def top1(logits, labels):
    return 100 * float((logits.argmax(1) == labels).float().mean())


def test_onnx_gives_the_networks_answers(digits):
    run, images, labels, logits = digits
    assert top1(logits, labels) > 90
    assert top1(logits, labels) == pytest.approx(load_json(run / "result.json", "")["test_top1"][0])
    session = run_onnx(run / "export" / "model.onnx")
    for size in (1, 7, len(images)):
        answers = session(images[:size])
        torch.testing.assert_close(answers, logits[:size], atol=1e-4, rtol=0)
        assert torch.equal(answers.argmax(1), logits[:size].argmax(1))
    assert not [*(run / "export").glob("*.data")]  # one file


def test_no_library_remembers_the_folder_of_drafts(digits):
    """PyTorch's compiler, which is imported during an export, keeps headers where temporary files were at that moment."""
    codecache = importlib.import_module("torch._inductor.codecache")  # not above, where it would come before the export
    assert digits[0].is_dir()
    assert str(digits[0]) not in codecache._HEADER_DIR
    assert codecache._HEADER_DIR.startswith(tempfile.gettempdir())


def test_a_model_card_lies_beside_the_files(digits):
    run, *_ = digits
    text = (run / "export" / "model.md").read_text()
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [f"## {title}" for title in CARD]
    assert "10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in text
    files = text.split("## Files\n")[1].split("\n")[0]
    assert (
        "`model.py`, `model.safetensors`, `model.pt2`, `model.onnx`: the network's answer on each of 359 test images"
        in files
    )
    table = {entry["format"]: entry for entry in load_json(run / "export" / "export.json", "")["formats"]}
    assert "; `model-int8.onnx`: the network's answer on " in files
    if table["int8"]["same_percent"] < 100:
        assert f"({table['int8']['same_percent']:.2f}%), top-1 {100 * table['int8']['correct'] / 359:.2f}%" in files
    assert "none for this architecture" in text


def test_a_model_card_has_the_certificate_of_its_own_network_alone(tmp_path):
    metadata = {"classes": ["a", "b"], "architecture": {"id": "abc"}, "made_by": "Onepath", "preprocessing": {}}
    search = {"limits": {"max_macs": 100_000_000, "min_macs": None}}
    for winner, said in (("abc", "the winner is better"), ("other", "none for this architecture")):
        certificate = {"winner": {"id": winner}, "verdict": {"sentence": "better"}}
        text = model_card.card("net", ["A network."], metadata, GOOD, search=search, certificate=certificate)
        assert f"## Certificate\n{said}" in text
        assert "## Budget\nmax_macs 100,000,000\n" in text
    (tmp_path / "search.json").write_text("{}")
    with pytest.raises(InputError, match="search summary '.*' is damaged"):
        model_card.read_card(Description(metadata, [], ["A network."], {}, "digits"), tmp_path, 0, tmp_path)
    model_card.write_card(tmp_path / "none", "A network.", [])
    assert not (tmp_path / "none.md").exists()


def test_onnx_says_what_it_is(digits):
    import onnxruntime

    run, *_ = digits
    for name in ("model.onnx", "model-int8.onnx"):
        session = onnxruntime.InferenceSession(run / "export" / name, providers=["CPUExecutionProvider"])
        about = session.get_modelmeta().custom_metadata_map
        stored = load_checkpoint(run / "seed0" / "network.pt", "")
        kept = {**json.loads(about["preprocessing"]), "classes": json.loads(about["classes"])}
        assert kept == stored["preprocessing"]
        assert json.loads(about["architecture"])["arch"] == stored["arch"]
        assert about["made_by"].startswith("Onepath ")
        assert [node.name for node in (*session.get_inputs(), *session.get_outputs())] == ["images", "logits"]


def test_int8_loses_less_than_a_point(digits):
    run, images, labels, logits = digits
    answers = run_onnx(run / "export" / "model-int8.onnx")(images)
    assert top1(logits, labels) - top1(answers, labels) < 1
    assert not torch.equal(answers, logits)
    sizes = [(run / "export" / name).stat().st_size for name in ("model-int8.onnx", "model.onnx")]
    assert sizes[0] < 0.7 * sizes[1]


def test_program_gives_the_networks_answers(digits):
    run, images, _, logits = digits
    extra = {"metadata.json": ""}
    torch.export.load(run / "export" / "model.pt2", extra_files=extra)
    assert json.loads(extra["metadata.json"])["classes"] == [str(digit) for digit in range(10)]
    program = run_program(run / "export" / "model.pt2")
    with torch.no_grad():
        for size in (1, 7, len(images)):
            torch.testing.assert_close(program(images[:size]), logits[:size], atol=1e-4, rtol=0)


def required(names):
    """Distributions and all that they require, without extras."""
    found, todo = {}, [*names]
    while todo:
        name = todo.pop()
        if name.lower() in found:
            continue
        found[name.lower()] = distribution(name)
        for line in found[name.lower()].requires or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                todo.append(need.name)
    return found.values()


def test_module_runs_with_torch_and_safetensors_alone(digits, tmp_path):
    run, images, _, logits = digits
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    for needed in required(["torch", "safetensors"]):
        tops = {file.parts[0] for file in needed.files if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(needed.locate_file(top))
    for name in ("model.py", "model.safetensors"):
        shutil.copy(run / "export" / name, tmp_path)
    torch.save({"images": images.contiguous(), "logits": logits}, tmp_path / "expected.pt")
    code = """
import importlib.util
for name in ("numpy", "nni", "torchvision", "onnx", "onnxruntime", "spaces"):
    assert importlib.util.find_spec(name) is None, name
import torch, model
torch.set_num_threads(1)
stored = torch.load("expected.pt")
network = model.load()
assert not network.training
with torch.no_grad():
    print(float((network(stored["images"]) - stored["logits"]).abs().max()))
    image = torch.randint(0, 256, (3, 50, 41), dtype=torch.uint8)
    print(network(model.preprocess(image)).shape, model.CLASSES[3])
"""
    line = [tmp_path / "env" / "bin" / "python", "-W", "ignore", "-c", code]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, env={"PATH": "/usr/bin"})
    assert done.returncode == 0, done.stderr
    difference, rest = done.stdout.split(maxsplit=1)
    assert float(difference) < 1e-5
    assert rest.strip() == "torch.Size([1, 10]) 3"


# image folders


@pytest.fixture(scope="module")
def folder_run(tree, shared):
    """A network of an image folder, in a space of one's own."""
    return shared("exported folder", lambda folder: export_folder(folder, tree))


def export_folder(folder, tree):
    save_json(folder / "arc.json", drawn(spaces.describe("docs.own_space:space", "tiny"), 0))
    arguments = ["--fixed-arc", folder / "arc.json", "--space", "docs.own_space:space", "--preset", "tiny"]
    data = ["--data", "folder", "--data-root", tree, "--loader", "torchvision", "--workers", "0"]
    more = ["--epochs", "6", "--batch-size", "16", "--out", folder / "run"]
    retrain.main([*map(str, [*arguments, *data, *more])])
    export.main(
        ["--weights", str(folder / "run"), "--formats", "module,onnx", "--out", str(folder / "out" / "net.onnx")]
    )


def test_classify_onnx_sees_what_the_pipeline_sees(folder_run, tree):
    options = DataOptions.of(run_dir.load_run(folder_run / "run", "retrain"))
    data = load_data(options, 32, score_fraction=0.1, run=folder_run / "run")
    network = build.load_network(folder_run / "run" / "seed0" / "network.pt")
    module = import_file(folder_run / "out" / "net.py")
    from trials.images.torch_loader import decode

    assert isinstance(data, FolderData)
    files = [data.files[number] for number in data.parts["test"]]
    pixels = torch.cat([images for images, _ in data.eval_batches("test", 8)])
    with torch.no_grad():
        answers = [data.classes[k] for k in network(data.normalise(pixels)).argmax(1)]
        prepared = torch.cat([module.preprocess(decode(path)) for path in files])
        assert [module.CLASSES[k] for k in run_module(folder_run / "out" / "net.py")(prepared).argmax(1)] == answers
    grey_level = 1 / 255 / torch.tensor(module.PREPROCESSING["std"]).view(3, 1, 1)
    assert float(((prepared - data.normalise(pixels)) / grey_level).abs().max()) < 1.5

    command = [sys.executable, ROOT / "docs" / "classify_onnx.py", folder_run / "out" / "net.onnx", *files]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True)
    said, shares = zip(*(line.rpartition(": ")[2].split(" (") for line in done.stdout.splitlines()), strict=True)
    for one, text in zip(said, shares, strict=True):  # such as "china 97.1%, flower 2.0%, cell a 0.7%)"
        assert text.startswith(f"{one} ")
        percents = [float(percent) for percent in re.findall(r" ([\d.]+)%", text)]
        assert percents == sorted(percents, reverse=True)
        assert len(percents) == 3
        assert 33 < sum(percents) < 100.2
    assert len(said) == len(files), done.stderr
    assert sum(one == other for one, other in zip(said, answers, strict=True)) >= 0.95 * len(files)
    assert len({*answers}) > 1
    some = subprocess.run([*command[:3], "/nowhere.png", files[0]], cwd="/", capture_output=True, text=True)
    assert (some.returncode, some.stderr) == (1, "error: /nowhere.png: No such file or directory\n")
    assert some.stdout == done.stdout.splitlines(keepends=True)[0]  # the others are named
    assert_one_clear_line(
        subprocess.run(command[:2], cwd="/", capture_output=True, text=True), "give a network and pictures"
    )
    missing = [*command[:2], "gone.onnx", files[0]]
    assert_one_clear_line(
        subprocess.run(missing, cwd="/", capture_output=True, text=True), "there is no network 'gone.onnx'"
    )


# mistakes, and files that fail


def test_mistakes_get_one_clear_line(digits, tmp_path):
    run, *_ = digits
    other = {**load_json(run / "arc.json", ""), "block00": "k7"}
    save_json(tmp_path / "other.json", other)
    (tmp_path / "unfinished").mkdir()
    shutil.copy(run / "config.json", tmp_path / "unfinished")
    for arguments, *says in (
        (["--weights", tmp_path / "none"], "none' does not exist; make one with: python -m trials.retrain"),
        (["--weights", tmp_path / "none.pt"], "network '", "none.pt' does not exist"),
        (
            ["--weights", tmp_path / "unfinished"],
            "has no trained network of seed 0; finish it with: python -m trials.retrain --",
            " --resume",
        ),
        (["--weights", run, "--seed", "3"], "has no trained network of seed 3; choose another --seed: 0"),
        (["--weights", run, "--fixed-arc", tmp_path / "other.json"], "the weights are of", "(block00: k7, not k3)"),
        (["--weights", run, "--formats", "onnx,torchscript"], "unknown format 'torchscript'; choose from: module"),
        (["--weights", run, "--out", tmp_path / "my-net.onnx"], "'my-net' is no name for a Python module; use letters"),
        (["--weights", run, "--calibration-images", "0"], "--calibration-images 0 is not above 0"),
    ):
        with pytest.raises(InputError) as caught:
            export.main([*map(str, arguments)])
        message = str(caught.value)
        assert "\n" not in message
        for part in says:
            assert part in message
    assert_one_clear_line(onepath("export"), "the following arguments are required: --weights")
    assert not [*tmp_path.glob("*net*")]


def test_a_file_that_fails_gets_no_good_name(digits, tmp_path):
    run, *_ = digits
    (tmp_path / "net-int8.onnx").write_text("of an earlier export")
    arguments = ["--weights", run, "--formats", "int8", "--int8-drop", "-100", "--out", tmp_path / "net"]
    with pytest.raises(
        Stopped, match="int8: it loses .* points .*of top-1 .* kept as '.*net-int8.onnx.failed'"
    ) as caught:
        export.main([*map(str, arguments), "--calibration-images", "32"])
    assert caught.value.exit_code == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.json", "net-int8.onnx.failed"]
    (entry,) = load_json(tmp_path / "export.json", "")["formats"]
    assert entry["files"] == ["net-int8.onnx.failed"]
    assert entry["problem"].startswith("it loses")


def test_weights_that_are_not_what_was_tested(digits, tmp_path):
    """The accuracy after loading must be that after training, to the last image."""
    run, *_ = digits
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("export", "checkpoints", "tensorboard"))
    file = tmp_path / "run" / "seed0" / "network.pt"
    stored = load_checkpoint(file, "")
    for name in stored["model"]:
        if name.endswith("running_mean"):
            stored["model"][name].zero_()
    run_dir.save_checkpoint(file, stored)
    done = onepath("export", "--weights", tmp_path / "run", "--formats", "module")
    assert done.returncode == 3
    assert "of 359 test images rightly, right after training it was" in done.stderr.splitlines()[-1]
    assert not [*(Path(tmp_path) / "run" / "export").iterdir()]


def test_the_loss_of_int8_is_judged_by_its_interval():
    """One wrong answer of 89 is 1.12 points, and says nothing about a limit of 1; nine of 89 do."""
    from trials.export_formats.compare import Comparison, FileComparison

    def problem(images, lost, gained=0, drop=1.0):
        file = FileComparison(largest=0.1, correct=images - lost, lost=lost, gained=gained)
        return Comparison({"int8": file}, images, images - gained, torch.ones(images), 1.0).int8_problem("int8", drop)

    assert problem(89, 1) == problem(89, 2) == problem(89, 3) == ""
    assert problem(89, 9).startswith("it loses 10.11 points [3.4, 16.4] of top-1")
    assert problem(89, 9).endswith("and 1 are allowed")
    assert problem(10_000, 90) == ""
    assert "it loses 1.60 points" in problem(10_000, 160)
    assert problem(10_000, 300, 200) == ""  # answers that change in both directions
    assert problem(10_000, 20, drop=0.0) != ""
    assert problem(1, 1) == ""  # one image says nothing, and the table shows how few there were


@pytest.mark.parametrize(("opset", "ir"), [(18, 8), (20, 9), (21, 10)])
def test_an_onnx_file_asks_a_runtime_for_no_more_than_it_needs(tmp_path, opset, ir):
    """ONNX Runtime 1.17 knows opset 20 and files of IR version 9; the exporter alone writes IR version 10."""
    import onnx

    from trials.export_formats import formats

    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.BatchNorm2d(8),
        torch.nn.Hardswish(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    ).eval()
    images = torch.randn(4, 3, 16, 16)
    formats.write_onnx(network, tmp_path / "model.onnx", 16, {"made_by": "x"}, opset=opset)
    formats.write_int8(tmp_path / "model.onnx", tmp_path / "model-int8.onnx", [images])
    for name, tolerance in (("model.onnx", 1e-5), ("model-int8.onnx", 0.1)):
        model = onnx.load(tmp_path / name)
        assert model.ir_version == ir
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
        onnx.checker.check_model(model)
        assert torch.allclose(formats.run_onnx(tmp_path / name)(images), network(images), atol=tolerance)
