"""Scores of a trained supernet: those of the frozen network, whatever was scored before, and by hand."""

import dataclasses
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import spaces
from spaces.arch import arch_id, freeze, save_arch
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import load_json
from spaces.model_space import make_supernet
from tests.commands import assert_one_clear_line, onepath
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.networks import fused_conv
from trials.networks.accuracy import topk_hits
from trials.networks.batchnorm import equal_batches, recalibrate_batchnorm
from trials.scoring import batches, noise, precision
from trials.scoring.evaluate_config import Config as EvaluateConfig
from trials.scoring.finetune import finetune
from trials.scoring.score_value import has_value, score_value
from trials.scoring.scorer import Scorer, Settings

SETTINGS = Settings(calibration_images=256, scoring_images=128, batch_size=64)


def test_score_is_that_of_the_frozen_network(own_run):
    """The trial's short way (no NNI, mapped files) equals recalibrating and testing the frozen network directly."""
    scorer = Scorer(own_run, SETTINGS)
    arch = {label: candidates[index % 4] for index, (label, candidates) in enumerate(scorer.chain.choices.items())}
    result = scorer.result(arch)
    data = load_data(DataOptions(data="digits"), 32, score_fraction=0.25)
    supernet = make_supernet(spaces.build("spos", "tiny"))
    supernet.load_state_dict(scorer.blocks.weights)
    network = freeze(supernet, arch).to(memory_format=torch.channels_last)
    images = torch.cat([images for images, _ in data.eval_batches("train", 64, count=256)])
    recalibrate_batchnorm(network, [data.normalise(batch) for batch in images.split(64)])
    scoring = list(data.eval_batches("score", 64, count=128))
    with torch.no_grad():
        hits = sum(topk_hits(network(data.normalise(images)), labels) for images, labels in scoring)
        losses = [F.cross_entropy(network(data.normalise(x)), y, reduction="sum").double() for x, y in scoring]
    assert [result["top1"], result["top5"]] == [100 * int(h) / 128 for h in hits]
    assert result["loss"] == pytest.approx(float(sum(losses)) / 128, rel=1e-5)
    assert (result["macs"], result["calibration_images"]) == (scorer.table.macs(arch), 256)
    assert scorer.store.read(arch) == result
    assert Scorer(own_run, Settings(128, 128, 64)).store.read(arch) is None


def test_scores_of_older_versions_have_no_loss(own_run):
    """They stay readable, and are measured anew where a search asks for them: the same top-1, now with its loss."""
    scorer = Scorer(own_run, SETTINGS)
    archs = [{label: c[k] for label, c in scorer.chain.choices.items()} for k in (0, 1, 2)]
    fresh = scorer.score(archs)
    assert sorted(range(3), key=lambda k: fresh[k]["loss"]) == sorted(
        range(3), key=lambda k: -score_value(fresh[k], "loss")
    )
    assert all(0 < score_value(record, "loss") < 100 for record in fresh)
    old = {key: value for key, value in fresh[0].items() if key != "loss"}
    scorer.store.write(old)
    assert scorer.store.read(archs[0]) == old
    assert score_value(old, "top1") == old["top1"]
    assert not has_value(old, "loss")
    again = scorer.result(archs[0])
    assert (again["top1"], again["loss"], again["right"]) == tuple(fresh[0][key] for key in ("top1", "loss", "right"))


def test_scores_of_another_arithmetic_are_used_and_said(own_run, monkeypatch, capsys):
    """As on a GPU, where fused convolutions round otherwise than those of older versions."""
    archs = [{label: c[k] for label, c in Scorer(own_run, SETTINGS).chain.choices.items()} for k in (0, 1)]
    [old] = Scorer(own_run, SETTINGS).score(archs[:1])
    assert "convolutions" not in old
    monkeypatch.setattr(precision, "gains_by_moving", lambda device: True)
    monkeypatch.setattr(fused_conv, "gains_by_moving", lambda device: True)
    scorer = Scorer(own_run, SETTINGS)
    assert f"1 of 1 scores in '{own_run}' are of a version" in capsys.readouterr().err
    assert scorer.result(archs[0]) == old
    assert scorer.result(archs[1])["convolutions"] == "fused, whole"
    assert scorer.score(archs[:1])[0]["loss"] == pytest.approx(old["loss"], abs=1e-3)
    Scorer(own_run, SETTINGS)
    Scorer(own_run, dataclasses.replace(SETTINGS, precision="exact"))
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("resolution", "gib", "fits"),
    [(224, 80, 256), (64, 80, 2048), (32, 16, 2048), (224, 16, 128), (96, 16, 256), (32, 0, 128)],
)
def test_batches_that_fit_into_a_gpu(resolution, gib, fits):
    """A power of two from the default on."""
    assert batches.fitting_batch(resolution, gib * 2**30) == fits
    assert EvaluateConfig(run="").batch_size == 128


def test_finetuning_is_each_candidates_own(own_run):
    """The same bits in any company and order; other weights than without; none of it stays in the supernet."""
    plain, settings = Scorer(own_run, SETTINGS), dataclasses.replace(SETTINGS, finetune_steps=6)
    archs = [{label: c[k] for label, c in plain.chain.choices.items()} for k in (0, 1, 2)]
    [before] = plain.score([archs[1]])
    assert "finetune_steps" not in before["settings"]
    scorer = Scorer(own_run, settings)
    assert scorer.store.read(archs[1]) is None
    state = torch.get_rng_state()
    together = [(record["loss"], record["right"]) for record in scorer.score(archs)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    alone = [Scorer(own_run, settings).score([arch])[0] for arch in archs[::-1]][::-1]
    assert together == [(record["loss"], record["right"]) for record in alone]
    assert alone[1]["loss"] != before["loss"]
    assert alone[1]["settings"]["finetune_steps"] == 6
    assert alone[1]["top1_before_recalibration"] == before["top1_before_recalibration"]
    assert Scorer(own_run, SETTINGS).score([archs[1]])[0]["loss"] == before["loss"]


def test_finetuning_learns(own_run):
    """On the calibration images, with labels from the cache: their loss falls; a step beyond the last batch begins anew."""
    scorer = Scorer(own_run, dataclasses.replace(SETTINGS, finetune_steps=8))
    batches = list(scorer.batches.finetune())
    assert [len(labels) for _, labels in batches] == [64] * 4
    network = scorer.chain.network(scorer.chain.warm_path, scorer.blocks.weights).train()

    def loss():
        with torch.no_grad():
            return sum(float(F.cross_entropy(network.train()(x), y)) for x, y in batches)

    first = loss()
    finetune(network, scorer.batches.finetune, 8, seed=0)
    assert not network.training
    assert loss() < first


def test_the_search_takes_the_best_by_what_it_maximises():
    """Two networks with equal top-1: by the loss the surer one is better."""
    sure, unsure = ({"arch": name, "top1": 90.0, "loss": loss, "macs": 5} for name, loss in (("a", 0.2), ("b", 0.4)))
    assert score_value(sure, "loss") > score_value(unsure, "loss")
    assert score_value(sure, "top1") == score_value(unsure, "top1")
    assert score_value(sure, "loss") == pytest.approx(100 * math.exp(-0.2))
    right = noise.pack_answers(np.arange(100) < 90)
    records = [{**r, "right": right, "scoring_images": 100} for r in (unsure, sure)]
    worse = {**records[0], "right": noise.pack_answers(np.arange(100) < 30), "loss": 0.1}
    # the best by loss is the one with 30 right answers, which no other is worse than; by top-1 it is told apart
    assert noise.like_the_best([*records, worse], score_by="loss") == [True, True, True]
    assert noise.like_the_best([*records, {**worse, "top1": 30.0}]) == [True, True, False]


def test_no_statistics_leak_between_candidates(own_run):
    scorer = Scorer(own_run, SETTINGS)
    choices = scorer.chain.choices
    a, b = ({label: candidates[k] for label, candidates in choices.items()} for k in (0, 2))
    [first] = scorer.score([a])
    scorer.score([b])
    [again] = scorer.score([a])
    keys = ("top1", "top5", "loss", "top1_before_recalibration")
    assert [first[key] for key in keys] == [again[key] for key in keys]


def test_top_1_and_top_5():
    logits = torch.tensor([[9.0, 8, 7, 6, 5, 4], [4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6]])
    assert topk_hits(logits, torch.tensor([0, 1, 0])).tolist() == [1, 2]


def test_evaluate_by_hand(own_run, tmp_path):
    choices = CostTable.load(own_run / "cost_table.json").choices
    arch = {label: candidates[0] for label, candidates in choices.items()}
    save_arch(tmp_path / "arc.json", arch)
    done = onepath("evaluate", "--run", own_run, "--arch", tmp_path / "arc.json", check=True)
    assert "2,685,056" in done.stdout  # all k3; its MACs are checked against hooks in test_spos.py
    assert CostTable.load(own_run / "cost_table.json").macs(arch) == 2_685_056
    stored = load_json(own_run / "search" / f"{arch_id(arch)}.json", "")
    assert f"{stored['top1']:.2f}%" in done.stdout
    assert re.search(rf"cross-entropy +{stored['loss']:.4f}", done.stdout)
    save_arch(tmp_path / "arc.json", {**arch, "block03": "k4"})
    assert_one_clear_line(
        onepath("evaluate", "--run", own_run, "--arch", tmp_path / "arc.json"), "'k4'", "choose from: k3, k5"
    )
    assert_one_clear_line(onepath("evaluate", "--run", own_run), "give --arch FILE")


def test_checkpoint_of_another_space(own_run, tmp_path):
    checkpoint = torch.load(own_run / "supernet.pt", weights_only=True)
    checkpoint["model"] = {name.replace("xception", "conv"): tensor for name, tensor in checkpoint["model"].items()}
    torch.save(checkpoint, own_run / "supernet.pt")
    scorer = Scorer(own_run, SETTINGS)
    arch = dict.fromkeys(scorer.chain.choices, "xception")
    with pytest.raises(
        InputError,
        match="these weights are of another space than spos tiny: blocks.0.xception.* has shape none instead of",
    ):
        scorer.result(arch)


def test_a_small_folder_recalibrates_with_all_its_classes(tree):
    """Image folders are sorted by class: in order, the first batches would hold one class, and the last images none."""
    options = DataOptions(data="folder", data_root=str(tree), loader="torchvision", workers=0)
    data = load_data(options, 32, score_fraction=0.25)
    for part in ("train", "score"):
        asked_all, asked_more = (data.eval_indices(part, count) for count in (data.size(part), 2560))
        assert np.array_equal(asked_all, asked_more)
        assert np.array_equal(np.sort(asked_all), np.sort(data.parts[part]))
        # answers to test images keep their order
        assert np.array_equal(data.eval_indices(part, None), data.parts[part])
    classes = len(data.classes)
    assert (classes, data.size("train")) == (4, 72)
    size = equal_batches(data.size("train"), 32)
    assert size == 24
    for images, labels in data.eval_batches("train", size, count=2560):
        if len(images) == size:
            assert set(labels.tolist()) == set(range(classes))


@pytest.mark.parametrize(
    ("images", "most", "size"), [(2560, 128, 128), (254, 128, 127), (100, 128, 100), (1, 128, 1), (257, 128, 85)]
)
def test_equal_batches_leave_out_fewest_images(images, most, size):
    assert equal_batches(images, most) == size <= most
    assert images - images // size * size < -(-images // most)


def test_scores_of_images_in_order_are_computed_anew(own_run):
    """Older versions recalibrated small image folders with their first classes alone."""
    scorer = Scorer(own_run, SETTINGS)
    arch = dict.fromkeys(scorer.table.choices, "k3")
    ((_, record),) = scorer.results([arch])
    assert Settings.of_stored(record["settings"]) == SETTINGS
    assert scorer.store.read(arch) == record
    older = {key: value for key, value in record["settings"].items() if key != "images"}
    scorer.store.write({**record, "settings": older})
    assert scorer.store.read(arch) is None
