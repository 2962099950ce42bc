"""Folders for timm and Hugging Face: timm loads them from the disk, without Onepath, and gives the network's answers bit for bit."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from spaces.errors import InputError
from tests.end_to_end.test_export import export_digits, images_of
from trials import export
from trials.common import run_dir
from trials.common.checkpoint import load_checkpoint
from trials.export_formats import layouts
from trials.networks import build

LOADED = """
import sys
import torch
folder, name = sys.argv[1:]
sys.path.insert(0, folder)
__import__(name)
import timm
network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
other = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=5).eval()
features = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
assert "trials" not in sys.modules
images = torch.load("images.pt")
with torch.no_grad():
    torch.save([network(images), other(images).shape, features(images), other.state_dict()], "answers.pt")
    print(timm.is_model(name), network.pretrained_cfg["label_names"], network.num_features)
"""


@pytest.fixture(scope="module")
def run(shared):
    return shared("exported digits", export_digits) / "retrain"


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """A layout of the network of digits."""
    place = tmp_path_factory.mktemp("layout")
    export.main(["--weights", str(run), "--formats", "onnx", "--layout", "huggingface", "--out", str(place / "net")])
    return place / "net-huggingface"


def test_timm_loads_it_and_answers_bit_for_bit(run, folder, tmp_path):
    images, _ = images_of(run)
    torch.save(images[:50], tmp_path / "images.pt")
    (source,) = folder.glob("*.py")
    command = [sys.executable, "-c", LOADED, str(folder), source.stem]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    network = build.load_network(run / "seed0" / "network.pt")
    with torch.no_grad():
        expected = network(images[:50])
    answers, shape, features, weights = torch.load(tmp_path / "answers.pt")
    assert torch.equal(answers, expected)
    assert shape == (50, 5)
    classifier = json.loads((folder / "config.json").read_text())["pretrained_cfg"]["classifier"]
    assert features.shape == (50, network.get_submodule(classifier).in_features)
    for (
        name,
        tensor,
    ) in network.state_dict().items():  # what is fine-tuned begins with the weights, but for its classifier
        assert name.startswith(classifier) or torch.equal(weights[name], tensor)
    assert done.stdout.startswith("True ['0', '1', '2', ")


def test_its_files_say_what_it_is(run, folder):
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    (source,) = [name for name in names if name.endswith(".py")]
    assert names == {source, "model.safetensors", "config.json", "README.md", ".gitattributes", "onnx/model.onnx"}
    assert re.fullmatch(r"onepath_[0-9a-f]{12}\.py", source)
    stored = load_checkpoint(run / "seed0" / "network.pt", "")["preprocessing"]
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == source.removesuffix(".py")
    assert config["num_classes"] == 10
    assert config["label_names"] == stored["classes"]
    pretrained = config["pretrained_cfg"]
    assert pretrained["input_size"] == [3, 32, 32]
    assert (pretrained["interpolation"], pretrained["crop_mode"], pretrained["crop_pct"]) == ("bilinear", "squash", 1.0)
    assert (pretrained["mean"], pretrained["std"]) == (list(stored["mean"]), list(stored["std"]))
    _, header, text = (folder / "README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(header)
    assert (about["library_name"], about["pipeline_tag"]) == ("timm", "image-classification")
    metrics = about["model-index"][0]["results"][0]["metrics"]
    assert [metric["name"] for metric in metrics] == [
        *("top-1, seed 0, which this is", "top-1, mean of the seeds: 1", "balanced accuracy, all seeds")
    ]
    metric = metrics[0]
    result = json.loads((run / "seed0" / "result.json").read_text())
    assert metric["value"] == pytest.approx(result["test_top1"] / 100, abs=1e-4)
    for title in ("Network", "Accuracy", "How to use", "Classes", "Certificate", "Intended use", "How to load it"):
        assert f"\n## {title}\n" in text


def test_its_images_are_prepared_as_timm_does(folder):
    """timm's transform gives what the network's own `preprocess` gives, up to the rounding of two resizes."""
    import timm

    made = layouts.load_with_timm(folder)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=made))
    (source,) = folder.glob("*.py")
    ramp = np.add.outer(np.arange(80), np.arange(100)).astype(np.uint8)
    pixels = np.stack([ramp, ramp.T[:80, :80].repeat(2, 1)[:, :100], 255 - ramp], 2)
    ours = sys.modules[source.stem].preprocess(torch.from_numpy(pixels).permute(2, 0, 1))[0]
    theirs = transform(Image.fromarray(pixels))
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 2.1 / 255 / min(made.pretrained_cfg["std"])


@pytest.mark.parametrize("resolution", [32, 96, 128, 160, 224, 240, 299])
def test_timm_finds_the_short_side_again(resolution):
    for short in range(resolution, 2 * resolution):
        assert math.floor(resolution / layouts.crop_share(resolution, short)) == short


def test_what_timm_cannot_say_is_refused(run, tmp_path, monkeypatch):
    arguments = ["--weights", str(run), "--formats", "onnx", "--layout", "timm", "--out", str(tmp_path / "net")]
    (tmp_path / "net-timm").mkdir()
    (tmp_path / "net-timm" / "notes.txt").touch()
    with pytest.raises(InputError, match="--layout timm: '.*net-timm' holds something else; choose another --out"):
        export.main(arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["net-timm"]
    with pytest.raises(InputError, match="argument --layout: invalid choice: 'keras'"):
        export.main(["--weights", str(run), "--layout", "keras"])
    file = tmp_path / "retrain" / "seed0" / "network.pt"
    file.parent.mkdir(parents=True)
    for name in ("config.json", "images.csv.gz", "seed0/result.json"):
        if (run / name).exists():
            (tmp_path / "retrain" / name).write_bytes((run / name).read_bytes())
    stored = load_checkpoint(run / "seed0" / "network.pt", "")
    stored["preprocessing"]["channels"] = "BGR"
    run_dir.save_checkpoint(file, stored)
    with pytest.raises(InputError, match="takes BGR images resized as OpenCV does .* leave --layout out"):
        export.main(["--weights", str(tmp_path / "retrain"), "--layout", "huggingface"])
