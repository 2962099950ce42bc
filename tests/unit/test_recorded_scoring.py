"""Recorded scoring passes give the bits of launched ones. On a CPU the same pieces run one by one; test_gpu_scoring.py records."""

import pytest
import torch
from torch import nn

from spaces.chain import Chain, Choice
from spaces.errors import InputError
from tests.unit.test_prefix_tree import CPU, alone, evolved, statistics_of, supernet
from trials.networks import batchnorm, fused_conv
from trials.scoring import batches, recorded_blocks, self_check
from trials.scoring.batches import Batches, fit_scoring_batch
from trials.scoring.evaluate_config import Config, Settings
from trials.scoring.fixed_images import FixedImages
from trials.scoring.precision import PRECISIONS
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.recorded_blocks import Graphs, RecordedBlocks
from trials.scoring.scorer import Scorer
from trials.scoring.shared_blocks import Pass, SharedBlocks

SPACES = [("spos", {}), ("spos", {"variant": "channel"}), ("fbnet", {}), ("single-path-nas", {})]


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The arithmetic of a GPU: statistics averaged apart, biases moved on, no weights in the order of oneDNN."""
    monkeypatch.setattr(batchnorm, "averages_apart", lambda device: True)
    monkeypatch.setattr(fused_conv, "gains_by_moving", lambda device: True)
    monkeypatch.setattr(fused_conv, "_ONEDNN", False)


def seen(tree, calibration, scoring, recorded=None):
    """Statistics, logits of all batches, and what answers they are worth."""
    tree.calibrate(calibration, recorded)
    logits = [dict(tree.logits(x, recorded=recorded)) for x in scoring]
    labels = [torch.arange(len(x)) % 10 for x in scoring]
    right, losses = tree.answers(zip(scoring, labels, strict=True), recorded=recorded)
    return statistics_of(tree), logits, right, losses


def equal(one, other):
    """Whether nested results are the same bits."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        one, other = [one[key] for key in sorted(one)], [other[key] for key in sorted(other)]
    return len(one) == len(other) and all(map(equal, one, other))


@pytest.mark.parametrize("precision", ["exact", "32", "bf16"])
@pytest.mark.parametrize(("name", "options"), SPACES, ids=["spos", "channel", "fbnet", "single-path"])
def test_recorded_passes_give_the_bits_of_launched_ones(name, options, precision, as_on_a_gpu):
    """Of two trees that share recordings, with a last batch that is smaller; and of candidates one by one."""
    chain, weights = supernet(name, options)
    calibration, scoring = [torch.randn(6, 3, 32, 32) for _ in range(3)], [torch.randn(n, 3, 32, 32) for n in (6, 6, 4)]
    launched, repeated = (SharedBlocks(chain, weights, PRECISIONS[precision], CPU) for _ in range(2))
    recorded = RecordedBlocks(CPU)
    for seed in (0, 1):
        archs = evolved(chain, 4, seed=seed)
        expected = seen(PrefixTree(launched, archs), calibration, scoring)
        found = seen(PrefixTree(repeated, archs), calibration, scoring, recorded)
        assert all(map(equal, found, expected))
    assert {purpose for _, purpose, *_ in recorded.pieces} == {Pass.CALIBRATE, Pass.SCORE}
    assert len(recorded.pieces) == 2 * len(repeated)
    _, one_by_one, own = alone(chain, weights, archs[0], PRECISIONS[precision], calibration, scoring)
    assert equal([logits[0] for logits in found[1]], one_by_one)
    assert equal(found[0][0], own)


def test_averages_apart_are_those_of_the_layers_but_for_rounding(monkeypatch):
    """BatchNorm that is run twice in a pass averages by itself, together and alone."""
    chain, weights = supernet("spos", {})
    [arch, _] = evolved(chain, 2)
    images = [torch.randn(6, 3, 32, 32) for _ in range(4)]
    found = []
    for apart in (False, True):
        monkeypatch.setattr(batchnorm, "averages_apart", lambda device, apart=apart: apart)
        network = chain.network(arch, weights)
        assert batchnorm.recalibrate_batchnorm(network, images) == 24
        assert all(layer.momentum == 0.1 for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
        found.append([value for key, value in network.state_dict().items() if "running_" in key])
    assert not equal(*found)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


class Twice(nn.Module):
    """A BatchNorm that is run twice, and changes to the input."""

    def __init__(self):
        super().__init__()
        self.norm, self.conv, self.own = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.own(self.conv(self.norm(x.relu_()))))


def test_blocks_that_cannot_be_recorded_are_launched(as_on_a_gpu):
    """Among others that can, that write into their input, or that have nothing to average."""
    candidates = {"twice": Twice, "in place": lambda: nn.ReLU(inplace=True), "skip": nn.Identity}
    blocks = [Choice(f"block{number}", candidates) for number in range(3)]
    head = lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))  # noqa: E731
    chain = Chain(resolution=8, classes=10, stem=lambda: nn.Conv2d(3, 4, 3), blocks=blocks, head=head)
    torch.manual_seed(0)
    weights = {}
    for part in ("stem", "head"):
        weights |= chain.module_at(part, {}).state_dict(prefix=f"{part}.")
    for place in range(3):
        weights |= Twice().state_dict(prefix=f"blocks.{place}.twice.")
    paths = [("twice", "skip", "in place"), ("twice", "in place", "twice"), ("skip", "skip", "twice"), ("skip",) * 3]
    archs = [{f"block{number}": name for number, name in enumerate(path)} for path in paths]
    calibration, scoring = [torch.randn(6, 3, 8, 8) for _ in range(3)], [torch.randn(6, 3, 8, 8) for _ in range(2)]
    for precision in ("exact", "32"):
        recorded, parts = RecordedBlocks(CPU), SharedBlocks(chain, weights, PRECISIONS[precision], CPU)
        expected = seen(PrefixTree(parts, archs), calibration, scoring)
        parts = SharedBlocks(chain, weights, PRECISIONS[precision], CPU)
        assert all(map(equal, seen(PrefixTree(parts, archs), calibration, scoring, recorded), expected))
        calibrated = [block for block, purpose, *_ in recorded.pieces if purpose is Pass.CALIBRATE]
        assert {type(block.module) for block in calibrated} == {nn.Conv2d, nn.ReLU, nn.Identity, nn.Sequential}
        for number, arch in enumerate(archs):
            _, logits, statistics = alone(chain, weights, arch, PRECISIONS[precision], calibration, scoring)
            assert equal([batch[number] for batch in expected[1]], logits)
            assert equal(expected[0][number], statistics)


def test_what_is_no_number_stays_with_its_candidate(as_on_a_gpu):
    """A candidate that overflows leaves nothing in the statistics of the next one."""
    chain, weights = supernet("spos", {})
    archs = evolved(chain, 2)
    parts, recorded = SharedBlocks(chain, weights, PRECISIONS["32"], CPU), RecordedBlocks(CPU)
    images = [torch.randn(6, 3, 32, 32) for _ in range(2)]
    expected = seen(PrefixTree(parts, archs), images, images, recorded)
    seen(PrefixTree(parts, archs), [x * float("inf") for x in images], images, recorded)
    assert all(map(equal, seen(PrefixTree(parts, archs), images, images, recorded), expected))


def test_scores_are_the_same_recorded_and_launched(own_run, as_on_a_gpu):
    """Of a Scorer, with batches of different sizes; recordings that fail are given up, and nothing is lost."""
    settings = Settings(96, 100, 32)
    archs = [Scorer(own_run, settings).table.arch(numbers) for numbers in ([0] * 20, [0] * 19 + [1], [1] * 20)]
    found = []
    for wanted in ("off", "on"):
        scorer = Scorer(own_run, settings)
        scorer.graphs.wanted = wanted
        found.append([(record["loss"], record["right"]) for record in scorer.score(archs)])
        assert (scorer.graphs.recorded is not None) == (wanted == "on")
    assert found[0] == found[1]
    reference = Scorer(own_run, settings, reference=True).score(archs)
    assert found[0] == [(record["loss"], record["right"]) for record in reference]


def test_recordings_that_fail_are_given_up(own_run, monkeypatch):
    scorer = Scorer(own_run, Settings(64, 64, 32))
    scorer.graphs.wanted = "on"

    def fail(*_):
        raise torch.OutOfMemoryError("too little")

    monkeypatch.setattr(RecordedBlocks, "_record", fail)
    archs = [scorer.table.arch(numbers) for numbers in ([0] * 20, [1] * 20)]
    assert not any(isinstance(result, Exception) for result in scorer._score_or_halve(archs, lambda *_: None))
    assert (scorer.graphs.recorded, scorer.graphs.wanted) == (None, "off")


@pytest.mark.parametrize(
    ("wanted", "device", "pixels", "passes", "recorded"),
    [
        ("auto", "cpu", 128 * 32**2, 1000, False),
        ("auto", "cuda", 128 * 32**2, 20, True),
        ("auto", "cuda", 128 * 32**2, 4, False),  # 8 uses of a recording
        ("auto", "cuda", 128 * 224**2, 200, False),
        ("on", "cuda", 128 * 224**2, 1, True),
        ("off", "cuda", 128 * 32**2, 1000, False),
    ],
)
def test_passes_are_recorded_where_it_pays(wanted, device, pixels, passes, recorded, monkeypatch, capsys):
    monkeypatch.setattr(recorded_blocks, "RecordedBlocks", lambda device: device)
    graphs = Graphs(wanted, torch.device(device))
    for _ in range(2):
        assert (graphs.recorded_for(pixels, passes, 40, 20) is not None) == recorded
    assert capsys.readouterr().err.count("--cuda-graphs off") == recorded


def test_graphs_on_a_cpu_are_refused(own_run):
    with pytest.raises(InputError, match="--cuda-graphs on needs a GPU, not cpu; leave it out"):
        Scorer(own_run, Settings(64, 64, 32), "cpu", cuda_graphs="on")


@pytest.mark.parametrize(
    ("asked", "batch_size", "device", "size"),
    [(0, 128, "cpu", 128), (0, 128, "cuda", 256), (0, 512, "cuda", 512), (0, 32, "cuda", 32), (96, 128, "cuda", 96)],
)
def test_the_scoring_batch_suits_the_memory_of_a_gpu(asked, batch_size, device, size, monkeypatch):
    """And on a CPU it is that of the calibration, as is one that is small on purpose."""
    memory = type("", (), {"total_memory": 80 * 2**30})
    monkeypatch.setattr(batches.torch.cuda, "get_device_properties", lambda device: memory)
    assert fit_scoring_batch(asked, batch_size, 224, torch.device(device)) == size


def test_a_larger_scoring_batch_leaves_calibration_and_the_first_accuracy_alone():
    calibration, scoring = (torch.zeros(n, 3, 2, 2, dtype=torch.uint8) for n in (10, 9))
    images = FixedImages(calibration, scoring, torch.arange(9))
    made = Batches(images, 4, 6, lambda x: x.float(), PRECISIONS["32"], CPU)
    assert [len(x) for x in made.calibration()] == [3, 3, 3]
    assert [len(x) for x, _ in made.scoring()] == [6, 3]
    assert made.first()[1].tolist() == [0, 1, 2, 3]
    assert made.sizes() == ((3, 3), (6, 2))


def test_a_scoring_batch_changes_no_score_but_by_rounding(own_run):
    """It is told, where it is not --batch-size, and is none of the settings; self-check agrees with it."""
    settings, found = Settings(64, 100, 32), []
    for size in (0, 50):
        scorer = Scorer(own_run, settings, scoring_batch=size)
        found += scorer.score([scorer.table.arch([0, 1, 2, 3] * 5)])
    assert "scoring_batch" not in found[0]
    assert found[1]["scoring_batch"] == 50
    assert found[0]["settings"] == found[1]["settings"]
    assert found[0]["top1_before_recalibration"] == found[1]["top1_before_recalibration"]
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], abs=1e-4)
    assert ("together equals one by one", "bit for bit") in self_check.run(
        own_run, settings, "cpu", 2, scoring_batch=50
    )


def test_a_scoring_batch_below_0_is_refused():
    with pytest.raises(InputError, match="--scoring-batch -1 is below 0; give 0 or more"):
        Config(run="", scoring_batch=-1)
