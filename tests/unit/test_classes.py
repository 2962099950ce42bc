"""Classes: how well each is known, and weights that let all of them count alike."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score, recall_score

from tests.unit.test_recipes import configured
from trials import supernet
from trials.common.checkpoint import load_checkpoint
from trials.evidence.classes import balanced_accuracy, class_rows, neglected_class
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.training import retrain_trainer, supernet_config
from trials.training.trainer import classification_loss

MODEL = "timm:test_resnet"
SMALL = ["--preset", "tiny", "--data", "digits", "--resolution", "16", "--batch-size", "128", "--epochs", "2"]
SMALL += ["--device", "cpu", "--checkpoint-every", "5"]


def test_the_figures_of_classes_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 3], [60, 30, 5])  # class 2 has no test image
    seeds = np.stack([np.where(generator.random(95) < rate, labels, 2) for rate in (0.9, 0.6)])
    rows = class_rows(labels, seeds, ["a", "b", "c", "d"])
    recalls = np.mean([recall_score(labels, one, labels=[0, 1, 3], average=None) for one in seeds], axis=0)
    assert {row.name: row.interval.value for row in rows} == pytest.approx(dict(zip("abd", 100 * recalls, strict=True)))
    assert [row.images for row in rows if row.name == "d"] == [5]
    assert [row.interval.value for row in rows] == sorted(row.interval.value for row in rows)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = 100 * np.mean([balanced_accuracy_score(labels, one) for one in seeds])
    assert balanced_accuracy(rows).value == pytest.approx(expected)
    assert rows[0].mistaken_for.startswith("c (")
    times = {int(label): (seeds[:, labels == label] == 2).sum(1) for label in (0, 1, 3)}
    assert {row.name: row.mistaken_for for row in rows} == {
        name: f"c ({times[label].mean():g} images per seed)" for name, label in zip("abd", (0, 1, 3), strict=True)
    }
    one = class_rows(labels, seeds[:1], ["a", "b", "c", "d"])
    assert {row.name: row.mistaken_for for row in one}["a"] == f"c ({times[0][0]} images)"
    assert class_rows(labels[59:61], np.array([[1, 1]]), ["a", "b"])[0].mistaken_for == "b (1 image)"


def test_a_class_that_is_neglected_is_rare_and_little_known():
    labels = np.repeat([0, 1, 2], [40, 19, 20])
    answers = labels.copy()
    answers[40:52] = 0  # 7 of 19 right, of the mean of 79 %
    names = ["a", "b", "c"]
    assert neglected_class(class_rows(labels, answers[None], names)).name == "b"
    better = np.where(np.arange(79) < 51, labels, answers)  # 18 of 19
    assert neglected_class(class_rows(labels, better[None], names)) is None
    swapped = np.repeat([0, 2, 1], [40, 19, 20])  # 20 are half of 40: not few
    answers = np.where((swapped == 1) & (np.arange(79) < 75), 0, swapped)
    assert neglected_class(class_rows(swapped, answers[None], names)) is None


def test_weights_let_every_class_count_alike():
    data = load_data(DataOptions(data="digits"), 16, score_fraction=0.25)
    numbers = data.parts["train"]
    labels = data._class_numbers[numbers]
    kept = np.concatenate([numbers[labels == 0], *(numbers[labels == k][:10] for k in range(1, 9))])  # none of class 9
    data.parts["train"] = kept
    weights = data.class_weights("train")
    counts = np.bincount(data._class_numbers[kept], minlength=10)
    assert weights[9] == 1
    torch.testing.assert_close(weights[:9], torch.tensor(len(kept) / (9 * counts[:9])).float())
    per_image = weights[torch.from_numpy(data._class_numbers[kept])]
    assert per_image.mean().item() == pytest.approx(1, abs=1e-5)
    totals = [per_image[data._class_numbers[kept] == k].sum().item() for k in range(9)]
    assert totals == pytest.approx([totals[0]] * 9, rel=1e-5)


def test_a_weighted_loss_is_the_mean_of_its_shares():
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(12, 4), torch.randint(0, 4, (12,)), torch.tensor([0.2, 3.0, 1.0, 0.5])
    whole = classification_loss(logits, labels, label_smoothing=0.0, class_weights=weights)
    shares = [
        classification_loss(x, y, label_smoothing=0.0, class_weights=weights)
        for x, y in zip(logits.chunk(3), labels.chunk(3), strict=True)
    ]
    torch.testing.assert_close(whole, torch.stack(shares).mean())
    by_hand = (F.cross_entropy(logits, labels, reduction="none") * weights[labels]).mean()
    torch.testing.assert_close(whole, by_hand)
    mixed = classification_loss(logits, F.one_hot(labels, 4).float(), label_smoothing=0.0, class_weights=weights)
    torch.testing.assert_close(whole, mixed)
    plain = classification_loss(logits, labels, label_smoothing=0.1, class_weights=None)
    assert torch.equal(plain, F.cross_entropy(logits, labels, label_smoothing=0.1))


def test_class_weights_are_an_option_of_both_trainings(arc):
    config = configured("--fixed-arc", arc, *SMALL, "--class-weights", "balanced", images=1438)
    description = {"arch": None, "space": None, "baseline": MODEL, "classes": 10}
    trainer = retrain_trainer.NetworkTrainer(config, description, 0, retrain_trainer.open_data(config))
    expected = trainer.data.class_weights("all")
    assert torch.equal(trainer.loss_of.keywords["class_weights"], expected)
    assert expected.std() > 0
    assert supernet_config.Config(data="digits", preset="tiny", out="x", class_weights="balanced").class_weights
    assert supernet_config.Config(data="digits", preset="tiny", out="x", class_weights="none").class_weights is None


def test_a_weighted_supernet_resumes_bitwise(tmp_path):
    flags = ["--space", "spos", "--preset", "tiny", "--data", "digits", "--resolution", "16", "--epochs", "1"]
    flags += [
        "--batch-size",
        "128",
        "--warm-start",
        "0",
        "--eval-paths",
        "0",
        "--checkpoint-every",
        "2",
        "--device",
        "cpu",
    ]
    flags += ["--class-weights", "balanced", "--resume", "--out"]
    supernet.main([*flags, str(tmp_path / "cut"), "--stop-after", "4"])
    for name in ("cut", "whole"):
        supernet.main([*flags, str(tmp_path / name)])
    cut, whole = (load_checkpoint(tmp_path / name / "supernet.pt", "")["model"] for name in ("cut", "whole"))
    assert all(torch.equal(cut[name], whole[name]) for name in whole)
