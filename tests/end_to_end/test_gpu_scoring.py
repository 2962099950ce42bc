"""Scores on a GPU; skipped where there is none."""

import copy
import dataclasses
import shutil

import numpy as np
import pytest
import torch

from spaces.blocks import Style, shuffle_block
from spaces.errors import Stopped
from trials.common.supernet_run import SupernetRun
from trials.networks import fused_conv
from trials.networks.batchnorm import fold_batchnorm
from trials.networks.recorder import Recorder
from trials.scoring import evaluator_client, fixed_images, self_check
from trials.scoring.evaluate_config import Config, Settings
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.score_store import ScoreStore
from trials.scoring.scorer import Scorer
from trials.scoring.shared_blocks import Pass, SharedBlocks

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


def test_a_supernet_of_a_cpu_has_the_same_scores_on_a_gpu(own_run):
    """To the rounding of 32 bits, with BatchNorm recalibrated on either."""
    archs = [SupernetRun.open(own_run).table.arch(numbers) for numbers in ([0] * 20, [1] * 20, [0, 1, 2, 3] * 5)]
    found = []
    for device in ("cpu", "cuda"):
        scorer = Scorer(own_run, Settings.of(Config(run=str(own_run), device=device)), device)
        found.append([record for _, record in scorer.results(archs)])
        shutil.rmtree(own_run / "search", ignore_errors=True)
    for cpu, gpu in zip(*found, strict=True):
        assert gpu["loss"] == pytest.approx(cpu["loss"], abs=5e-3)


@pytest.mark.parametrize("precision", ["exact", "32", "bf16", "16"])
def test_together_equals_one_by_one_on_a_gpu(own_run, precision):
    """Bit for bit; self-check stops otherwise."""
    self_check.run(own_run, Settings(64, 64, 32, precision), "cuda", 4)


@torch.no_grad()
@pytest.mark.parametrize(("precision", "most"), [("32", 0.03), ("bf16", 0.5), ("16", 0.1)])
def test_fused_convolutions_score_as_plain_layers(own_run, precision, most):
    """The largest difference of logits, as a part of their standard deviation; the fused functions are there, and right."""
    scorer = Scorer(own_run, Settings(64, 64, 32, precision), "cuda")
    archs = [scorer.table.arch(numbers) for numbers in ([0] * 20, [3] * 20, [0, 1, 2, 3] * 5)]
    plain = SharedBlocks(
        scorer.chain, scorer.blocks.weights, dataclasses.replace(scorer.precision, fuse=False), scorer.device
    )
    found = []
    with scorer.precision.cudnn_flags():
        x, _ = next(scorer.scoring_batches())
        for name in ("pointwise", "by_cudnn"):
            assert fused_conv._works(name, x.device, scorer.precision.dtype)
        for blocks in (scorer.blocks, plain):
            tree = PrefixTree(blocks, archs)
            tree.calibrate(scorer.calibration_batches())
            found.append(torch.stack([logits for _, logits in sorted(tree.logits(x), key=lambda pair: pair[0])]))
    fused, expected = found
    assert float((fused - expected).abs().max() / expected.std()) < most
    assert not torch.equal(fused, expected)
    assert scorer.computed_with["convolutions"] == "fused, whole"


@pytest.mark.parametrize("precision", ["exact", "32", "bf16", "16"])
def test_recorded_scores_are_the_bits_of_launched_ones(own_run, precision):
    """And of candidates one by one; two trees share recordings, and the last scoring batch is smaller."""
    settings, found = Settings(96, 100, 32, precision), {}
    for graphs in ("off", "on"):
        scorer = Scorer(own_run, settings, "cuda", cuda_graphs=graphs)
        archs = [scorer.table.arch(numbers) for numbers in ([0] * 20, [0] * 19 + [3], [0, 1, 2, 3] * 5, [2] * 20)]
        records = [record for group in (archs[:2], archs) for record in scorer.score(group)]
        found[graphs] = [(record["loss"], record["right"]) for record in records]
        if graphs == "on":
            pieces = scorer.graphs.recorded.pieces
            assert {purpose for _, purpose, *_ in pieces} == {Pass.CALIBRATE, Pass.SCORE}
            assert len(pieces) == 2 * len(scorer.blocks)
    assert found["on"] == found["off"]
    reference = Scorer(own_run, settings, "cuda", reference=True).score(archs)
    assert found["on"][2:] == [(record["loss"], record["right"]) for record in reference]
    self_check.run(own_run, settings, "cuda", 4, cuda_graphs="on")


def test_small_images_in_many_batches_are_recorded_unasked(own_run, capfd):
    scorer = Scorer(own_run, Settings(640, 0, 32), "cuda")
    scorer.score([scorer.table.arch([0] * 20)])
    assert "recorded as CUDA graphs; --cuda-graphs off: not" in capfd.readouterr().err


def test_a_block_that_waits_for_the_gpu_is_not_recorded():
    recorder = Recorder(torch.device("cuda"))
    x, y = torch.ones(4, device="cuda"), torch.zeros(4, device="cuda")
    repeat = recorder.record(lambda: y.add_(x), recorder.new_pool())
    assert not y.any()
    repeat()
    repeat()
    assert y.tolist() == [2] * 4
    with pytest.raises(Stopped, match=r"cannot be recorded \(.*\); give --cuda-graphs off"):
        recorder.record(lambda: x.sum().item(), recorder.new_pool())


def test_a_gpu_takes_as_many_scoring_images_as_fit(own_run):
    """Answers are those of small batches to rounding; calibration has its own batches, and a small batch size is kept."""
    arch = SupernetRun.open(own_run).table.arch([0, 1, 2, 3] * 5)
    found = {}
    for size in (0, 16):
        scorer = Scorer(own_run, Settings(256, 0, 128), "cuda", scoring_batch=size)
        found[size] = scorer.score([arch])[0]
        assert scorer.batches.calibration_batch == 128
    assert found[0]["scoring_batch"] == 2048
    assert found[16]["scoring_batch"] == 16
    assert found[0]["settings"] == found[16]["settings"]
    assert found[0]["top1_before_recalibration"] == found[16]["top1_before_recalibration"]
    assert found[0]["loss"] == pytest.approx(found[16]["loss"], abs=1e-3)
    assert Scorer(own_run, Settings(64, 64, 32), "cuda").batches.scoring_batch == 32


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_unit_that_reads_all_channels_gives_what_a_copy_gives(dtype, monkeypatch):
    torch.manual_seed(0)
    plain = shuffle_block(Style(affine=False), 64, 64, 1, kernel=3).eval().cuda().to(memory_format=torch.channels_last)
    folded = fold_batchnorm(plain).to(dtype)
    x = torch.randn(8, 64, 14, 14, device="cuda", dtype=dtype).contiguous(memory_format=torch.channels_last)
    whole = fused_conv.fuse(copy.deepcopy(folded))
    assert isinstance(whole, fused_conv.WholeShuffleBlock)
    monkeypatch.setattr(fused_conv, "WHOLE_OUTPUTS", 0)
    copied = fused_conv.fuse(folded)
    assert not isinstance(copied, fused_conv.WholeShuffleBlock)
    torch.testing.assert_close(whole(x), copied(x), rtol=2e-2, atol=2e-2)


def test_an_evaluator_whose_gpu_failed_is_replaced(own_run, capfd):
    """A label beyond the classes stops a kernel; a process cannot use its GPU again after that."""
    settings, run = Settings(64, 64, 32), SupernetRun.open(own_run)
    store, arch = ScoreStore(own_run, run.hash, settings), run.table.arch([0] * 20)
    Scorer(own_run, settings, "cuda")  # decodes the images
    labels = own_run / "cache" / fixed_images.cache_names(64, 64)[2]
    right = labels.read_bytes()
    np.save(labels, np.full_like(np.load(labels), 10_000))
    assert evaluator_client.request_score(store, "cuda", arch) is None
    assert "asking a fresh one" in capfd.readouterr().err
    labels.write_bytes(right)
    result = evaluator_client.request_score(store, "cuda", arch)
    assert result is not None
    assert result["device"] == "cuda"
    assert result["top1"] == Scorer(own_run, settings, "cuda").score([arch])[0]["top1"]


def test_images_that_do_not_fit_stay_in_the_memory_of_the_machine(own_run, monkeypatch):
    settings = Settings(64, 64, 32)
    on_gpu = Scorer(own_run, settings, "cuda")
    monkeypatch.setattr(fixed_images, "GPU_SHARE", 0.0)
    on_cpu = Scorer(own_run, settings, "cuda")
    assert on_gpu.images.scoring.is_cuda
    assert not on_cpu.images.scoring.is_cuda
    for (images, labels), (others, theirs) in zip(on_gpu.scoring_batches(), on_cpu.scoring_batches(), strict=True):
        assert others.is_cuda
        assert torch.equal(images, others)
        assert torch.equal(labels, theirs)
