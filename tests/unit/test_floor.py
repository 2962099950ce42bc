"""The floor: majority class and random forest, measured once for each data set."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.commands import ROOT
from trials.evidence import floor as floors
from trials.evidence.floor import balanced_text, floor_of, floor_text, measure_floor, small_images
from trials.images.load import load_data
from trials.images.options import DataOptions


def digits(resolution: int = 32, fraction: float = 0.1):
    return load_data(DataOptions(data="digits"), resolution, score_fraction=fraction)


@pytest.fixture
def few_trees(monkeypatch):
    monkeypatch.setattr(floors, "TREES", 20)


def test_the_floor_of_digits(few_trees, tmp_path):
    data = digits()
    floor = floor_of(tmp_path, data)
    assert 90 < floor["top1"] < 99
    low, high = floor["interval"]
    assert low < floor["top1"] < high
    forest, majority = floor["forest"], floor["majority"]
    assert (forest["train_images"], forest["test_images"], forest["pixels"], forest["trees"]) == (1438, 359, 16, 20)
    counts = data.class_counts("test")
    assert majority["top1"] == pytest.approx(100 * counts[majority["class"]] / 359)
    low, high = forest["balanced"]["interval"]
    assert low < forest["balanced"]["accuracy"] < high
    assert forest["balanced"]["accuracy"] == pytest.approx(forest["top1"], abs=1)  # classes of one size
    assert majority["balanced"] == 10
    said = f"balanced accuracy without deep learning: {forest['balanced']['accuracy']:.2f}% [{low:.1f}, {high:.1f}]"
    assert balanced_text(floor) == f"{said} (random forest), 10.00% (always '{majority['class']}')"
    assert balanced_text({key: value for key, value in floor.items() if key != "forest"}) == ""  # of an older version
    low, high = floor["interval"]
    assert data.class_counts("all")[majority["class"]] == max(data.class_counts("all").values())
    assert floor_text(floor) == (f"floor {floor['top1']:.2f}% [{low:.1f}, {high:.1f}] (random forest on 16x16 pixels)")
    again = measure_floor(digits())  # the same to the last bit
    assert {**again, "forest": {}} == {**floor, "forest": {}}


def test_it_is_measured_once_for_the_same_images(few_trees, tmp_path, monkeypatch):
    assert floor_of(tmp_path) is None
    floor = floor_of(tmp_path, digits())
    assert json.loads((tmp_path / "floor.json").read_text()) == floor
    monkeypatch.setattr(floors, "measure_floor", lambda data: {"fingerprint": floors.fingerprint(data), "new": True})
    assert floor_of(tmp_path) == floor
    assert (
        floor_of(tmp_path, digits(fraction=0.25)) == floor
    )  # another scoring part changes neither training nor test images
    assert "new" in floor_of(tmp_path, digits(resolution=8))


def test_a_majority_may_be_the_floor(few_trees):
    """Where pixels say nothing, the most frequent class wins."""
    data = digits()
    data._class_numbers = np.where(np.arange(len(data._class_numbers)) % 10 == 0, 1, 0)
    noise = np.random.default_rng(0).integers(2, size=359)
    data._stores["train"] = (
        data._stores["train"][0],
        torch.from_numpy(np.random.default_rng(1).permutation(data._class_numbers)),
    )
    data._get("test", data.parts["test"][:0])
    data._stores["test"] = (data._stores["test"][0], torch.from_numpy(np.minimum(noise, noise[::-1]) * 1))
    floor = measure_floor(data)
    assert floor["name"] == "always '0'"
    assert floor["top1"] == floor["majority"]["top1"] >= floor["forest"]["top1"]


def test_small_images_are_small(photos):
    pixels, labels = small_images(digits(8), "test", 50)
    assert (pixels.shape, pixels.dtype.name, labels.shape) == ((50, 3, 8, 8), "uint8", (50,))
    folder = load_data(DataOptions(data="folder", data_root=str(photos), workers=1), 32, score_fraction=0.1)
    pixels, labels = small_images(folder, "all", 1000)
    assert pixels.shape == (folder.size("all"), 3, 16, 16)
    whole = next(iter(folder.eval_batches("all", 256)))[0].float().mean()
    assert pixels.mean() == pytest.approx(whole, abs=1)  # shrunk, not cut


def test_many_classes_get_fewer_trees_a_few_at_a_time(monkeypatch):
    """The votes of forests that are grown one after the other are those of one; memory and work have a limit."""
    data = digits()
    monkeypatch.setattr(floors, "TREES", 12)
    monkeypatch.setattr(floors, "CLASS_BYTES", 8 * 10 * 2 * 1438 * 5)  # five trees
    apart = measure_floor(data)["forest"]
    assert apart["trees"] == 12
    assert 85 < apart["top1"] < 98
    monkeypatch.setattr(floors, "CLASS_WORK", 10 * 1438 * 3)
    assert measure_floor(data)["forest"]["trees"] == 3


def test_class_counts_are_those_of_the_images(photos):
    data = digits(fraction=0.25)
    for part in ("train", "score", "test", "all"):
        labels = torch.cat([labels for _, labels in data.eval_batches(part, 256)])
        assert list(data.class_counts(part).values()) == torch.bincount(labels, minlength=10).tolist()
    folder = load_data(DataOptions(data="folder", data_root=str(photos), workers=1), 32, score_fraction=0.1)
    assert folder.class_counts("test") == {"china": 4, "flower": 4}
    assert sum(folder.class_counts("train").values()) == folder.size("train")


def test_the_floor_is_light_to_import():
    """The commands read it before torch and scikit-learn are needed."""
    code = "import sys, trials.evidence.floor, trials.evidence.gates; print([n for n in ('torch', 'sklearn', 'scipy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
