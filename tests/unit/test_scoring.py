"""Scores of a trained supernet: those of the frozen network, whatever was scored before, and by hand."""

import pytest
import torch

import spaces
from spaces.arch import arch_id, freeze, save_arch
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import load_json
from spaces.model_space import make_supernet
from tests.commands import assert_one_clear_line, onepath
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.networks.accuracy import topk_hits
from trials.networks.batchnorm import recalibrate_batchnorm
from trials.scoring.scorer import Scorer, Settings

SETTINGS = Settings(calibration_images=256, scoring_images=128, batch_size=64)


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


def test_evaluate_by_hand(own_run, tmp_path):
    choices = CostTable.load(own_run / "cost_table.json").choices
    arch = {label: candidates[0] for label, candidates in choices.items()}
    save_arch(tmp_path / "arc.json", arch)
    done = onepath("evaluate", "--run", own_run, "--arch", tmp_path / "arc.json", check=True)
    assert "2,685,056" in done.stdout  # all k3; its MACs are checked against hooks in test_spos.py
    assert CostTable.load(own_run / "cost_table.json").macs(arch) == 2_685_056
    stored = load_json(own_run / "search" / f"{arch_id(arch)}.json", "")
    assert f"{stored['top1']:.2f}%" in done.stdout
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
