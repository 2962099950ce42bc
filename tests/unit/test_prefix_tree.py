"""Candidates scored together are, bit for bit, the candidates scored one by one; and what the layouts and precisions cost."""

import copy
import random

import pytest
import torch
from torch import nn

import spaces
from spaces.chain import Chain, Choice
from strategies.mutation import crossover, mutate
from trials.networks.batchnorm import conv_batchnorm_pairs, fold_batchnorm, recalibrate_batchnorm
from trials.scoring.precision import PRECISIONS
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.scorer import Scorer, Settings
from trials.scoring.shared_blocks import SharedBlocks

CPU = torch.device("cpu")
SPACES: list[tuple[str, dict]] = [
    ("spos", {}),
    ("spos", {"variant": "channel"}),
    ("spos", {"variant": "plus"}),
    ("spos", {"affine": True}),
    ("fbnet", {}),
    ("proxylessnas", {}),
    ("single-path-nas", {}),
]
NAMES = [" ".join([name, *map(str, options.values())]) for name, options in SPACES]


def supernet(name: str, options: dict) -> tuple[Chain, dict[str, torch.Tensor]]:
    """A chain with random weights, and BatchNorm statistics and affine parameters as after training."""
    torch.manual_seed(0)
    space = spaces.build(name, "tiny", **options)
    for layer in space.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.1)
    return space.chain, {name: tensor.detach() for name, tensor in space.state_dict().items()}


def evolved(chain: Chain, number: int, seed: int = 0) -> list[dict]:
    """Random architectures, and children of them, which share prefixes."""
    generator = random.Random(seed)
    archs = [{label: generator.choice(values) for label, values in chain.choices.items()} for _ in range(2)]
    while len(archs) < number:
        child = mutate(generator.choice(archs), chain.choices, 0.05, generator)
        archs.append(crossover(archs[0], archs[1], generator) if len(archs) == 3 else child)
    return archs


@torch.no_grad()
def alone(chain, weights, arch, arithmetic, calibration, scoring):
    """One fixed network, plainly. Returns its logits before and after recalibration, and its BatchNorm statistics."""
    network = arithmetic.prepare(chain.network(arch, weights), CPU)
    cast = arithmetic.finish(copy.deepcopy(network))
    before = [cast(arithmetic.cast_images(x)).float() for x in scoring]
    recalibrate_batchnorm(cast, [arithmetic.cast_images(x) for x in calibration])
    statistics = {key: value for key, value in cast.state_dict().items() if "running_" in key}
    if arithmetic.fold:
        network.load_state_dict(statistics, strict=False)
        cast = arithmetic.finish(fold_batchnorm(network))
    return before, [cast(arithmetic.cast_images(x)).float() for x in scoring], list(statistics.values())


def statistics_of(tree: PrefixTree) -> dict[int, list[torch.Tensor]]:
    """Running means and variances along the path of each architecture."""
    found = {}

    def walk(node, above):
        here = above + [tensor for mean, var, _ in node.statistics for tensor in (mean, var)]
        if node.arch_index >= 0:
            found[node.arch_index] = here
        for child in node.children.values():
            walk(child, here)

    walk(tree.root, [])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["exact", "32", "bf16"])
@pytest.mark.parametrize(("name", "options"), SPACES, ids=NAMES)
def test_together_equals_one_by_one(name, options, precision):
    """Logits before and after recalibration, and all statistics, bit for bit; a batch that is smaller than the others."""
    chain, weights = supernet(name, options)
    archs = evolved(chain, 6)
    calibration = [torch.randn(9, 3, 32, 32) for _ in range(3)]
    scoring = [torch.randn(size, 3, 32, 32) for size in (9, 4)]
    arithmetic = PRECISIONS[precision]
    tree = PrefixTree(SharedBlocks(chain, weights, arithmetic, CPU), archs)
    assert tree.node_count < 1 + len(archs) * (len(chain.blocks) + 1)  # something is shared
    before = [dict(tree.logits(x, before=True)) for x in scoring]
    assert tree.calibrate(calibration) == 27
    after = [dict(tree.logits(x)) for x in scoring]
    found = statistics_of(tree)
    for number, arch in enumerate(archs):
        one_before, one_after, statistics = alone(chain, weights, arch, arithmetic, calibration, scoring)
        for batch in range(2):
            assert torch.equal(before[batch][number], one_before[batch])
            assert torch.equal(after[batch][number], one_after[batch])
        assert len(statistics) == len(found[number])
        assert all(torch.equal(a, b) for a, b in zip(statistics, found[number], strict=True))


def test_folding_changes_logits_by_rounding_alone():
    chain, weights = supernet("spos", {"affine": True})
    [arch] = evolved(chain, 2)[:1]
    network = chain.network(arch, weights).eval()
    folded = fold_batchnorm(copy.deepcopy(network))
    assert len(conv_batchnorm_pairs(network)) == sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-4)


def test_order_and_company_change_nothing():
    """No statistics leak: a candidate scores alike alone, in any company, in any order, and in trees that share parts."""
    chain, weights = supernet("single-path-nas", {})
    archs = evolved(chain, 6, seed=3)
    calibration, x = [torch.randn(8, 3, 32, 32) for _ in range(2)], torch.randn(8, 3, 32, 32)
    parts = SharedBlocks(chain, weights, PRECISIONS["32"], CPU)

    def logits(chosen):
        tree = PrefixTree(parts, chosen)
        tree.calibrate(calibration)
        return [y for _, y in sorted(tree.logits(x), key=lambda pair: pair[0])]

    together = logits(archs)
    assert not torch.equal(together[0], together[1])
    assert all(torch.equal(a, b) for a, b in zip(logits(archs[::-1])[::-1], together, strict=True))
    for arch, expected in zip(archs, together, strict=True):
        assert torch.equal(logits([arch])[0], expected)


def test_only_blocks_that_write_into_their_input_get_a_copy():
    """A copy for every batch and node is memory traffic that no other block needs."""
    chain, weights = supernet("spos", {})
    blocks = SharedBlocks(chain, weights, PRECISIONS["32"], CPU)
    tree = PrefixTree(blocks, evolved(chain, 3))
    tree.calibrate([torch.randn(4, 3, 32, 32)])
    assert [block.mutates_input for block in blocks.values()] == [False] * len(blocks)
    assert len(blocks) > len(chain.blocks)


def test_a_block_that_writes_into_its_input_harms_no_sibling():
    """In-place activations at the start of a block, and a BatchNorm that follows no convolution, are legal."""

    def plain(kernel):
        return nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, kernel, padding=kernel // 2))

    def in_place():
        return nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    candidates = {"a": lambda: plain(3), "b": in_place, "skip": nn.Identity}
    chain = Chain(
        resolution=8,
        classes=3,
        stem=lambda: nn.Conv2d(3, 4, 3),
        blocks=[Choice(f"block{n}", candidates) for n in range(3)],
        head=lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    )
    torch.manual_seed(0)
    weights = {
        key: value
        for part in ("stem", "head")
        for key, value in chain.module_at(part, {}).state_dict(prefix=f"{part}.").items()
    }
    for place in range(3):
        for name, build in candidates.items():
            weights |= build().state_dict(prefix=f"blocks.{place}.{name}.")
    paths = ["a b a", "b b b", "skip b a", "skip a skip", "skip skip b", "b a a"]
    archs = [{f"block{n}": candidate for n, candidate in enumerate(path.split())} for path in paths]
    calibration, scoring = [torch.randn(6, 3, 8, 8) for _ in range(2)], [torch.randn(5, 3, 8, 8)]
    for arithmetic in PRECISIONS.values():  # 16 bits, which a CPU computes slowly, are tested here alone
        tree = PrefixTree(SharedBlocks(chain, weights, arithmetic, CPU), archs)
        tree.calibrate(calibration)
        got = dict(tree.logits(scoring[0]))
        for number, arch in enumerate(archs):
            assert torch.equal(got[number], alone(chain, weights, arch, arithmetic, calibration, scoring)[1][0])


class NormThenReLU(nn.BatchNorm2d):
    """As in timm."""

    def forward(self, x):
        return torch.relu(super().forward(x))


class Twice(nn.Module):
    """A convolution and its BatchNorm, run twice in one forward pass."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x):
        return self.layers(self.layers(x).relu())


def unusual() -> dict:
    relu = nn.ReLU

    def one_relu():
        act = relu()
        return nn.Sequential(nn.Conv2d(4, 4, 1), act, nn.Conv2d(4, 4, 1), act, nn.BatchNorm2d(4))

    def one_conv():
        conv = nn.Conv2d(4, 4, 1)
        return nn.Sequential(conv, nn.BatchNorm2d(4), relu(), conv, nn.BatchNorm2d(4))

    return {
        "subclass": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), NormThenReLU(4)),
        "one_relu": one_relu,
        "one_conv": one_conv,
        "twice": Twice,
        "no_statistics": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
        "grouped": lambda: nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=True), nn.BatchNorm2d(4, eps=1e-2)
        ),
    }


@pytest.mark.parametrize("name", unusual())
def test_unusual_modules(name):
    """What cannot be folded is left alone: together equals alone, and folded equals exact to rounding."""
    build = unusual()[name]
    chain = Chain(
        resolution=8,
        classes=3,
        stem=lambda: nn.Conv2d(3, 4, 3),
        blocks=[
            Choice("block0", {"odd": build, "skip": nn.Identity}),
            Choice("block1", {"odd": build, "skip": nn.Identity}),
        ],
        head=lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    )
    torch.manual_seed(0)
    weights = {}
    for part in ("stem", "head"):
        weights |= chain.module_at(part, {}).state_dict(prefix=f"{part}.")
    for place in range(2):
        weights |= build().state_dict(prefix=f"blocks.{place}.odd.")
    archs = [{"block0": first, "block1": second} for first in ("odd", "skip") for second in ("odd", "skip")]
    calibration, scoring = [torch.randn(6, 3, 8, 8) for _ in range(3)], [torch.randn(5, 3, 8, 8)]
    found = {}
    for precision in ("exact", "32"):
        tree = PrefixTree(SharedBlocks(chain, weights, PRECISIONS[precision], CPU), archs)
        tree.calibrate(calibration)
        found[precision] = dict(tree.logits(scoring[0]))
        for number, arch in enumerate(archs):
            expected = alone(chain, weights, arch, PRECISIONS[precision], calibration, scoring)[1][0]
            assert torch.equal(found[precision][number], expected)
    for number in range(len(archs)):
        torch.testing.assert_close(found["32"][number], found["exact"][number], rtol=1e-4, atol=1e-5)


def test_cudnn_stays_on(own_run):
    """PyTorch's context manager for its flags turns cuDNN off unless it is told otherwise."""
    matmul = torch.backends.cuda.matmul
    names = ("allow_tf32", "allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
    before = [getattr(matmul, name) for name in names]
    for precision in ("exact", "32"):
        with Scorer(own_run, Settings(64, 64, 64, precision)).precision.cudnn_flags():
            assert torch.backends.cudnn.enabled
            assert torch.backends.cudnn.deterministic == (precision == "exact")
            assert [getattr(matmul, name) for name in names] == [precision != "exact", False, False]
        assert [getattr(matmul, name) for name in names] == before


def test_calibration_needs_images():
    chain, weights = supernet("spos", {})
    tree = PrefixTree(SharedBlocks(chain, weights, PRECISIONS["32"], CPU), evolved(chain, 2))
    with pytest.raises(ValueError, match="at least one batch"):
        tree.calibrate([])


@pytest.mark.parametrize("batch_size", [48, 1000])
def test_scores_equal_the_reference(own_run, batch_size):
    """On a trained supernet, with batches that divide neither part, and with one that holds it all."""
    settings = Settings(200, 0, batch_size)
    together, reference = Scorer(own_run, settings), Scorer(own_run, settings, reference=True)
    archs = evolved(together.chain, 4)
    keys = ("arch", "top1", "top5", "loss", "right", "top1_before_recalibration", "calibration_images", "precision")
    first, second = ([{key: r[key] for key in keys} for r in scorer.score(archs)] for scorer in (together, reference))
    assert first == second
    assert len({result["top1"] for result in first}) > 1


def test_groups_change_no_score(own_run, monkeypatch):
    """One group, many groups, and a group too large for the memory that is halved."""
    scorer = Scorer(own_run, Settings(128, 0, 64))
    archs = evolved(scorer.chain, 5)

    def scores(size):
        for path in (own_run / "search").glob("*.json"):
            path.unlink()
        monkeypatch.setattr(Scorer, "_group_size", lambda *_: size)
        return {tuple(arch.values()): result["top1"] for arch, result in scorer.results(archs)}

    whole = scores(100)
    assert len(whole) == len({tuple(arch.values()) for arch in archs})
    assert scores(2) == whole
    score, sizes = Scorer.score, []

    def small(self, group, tick):
        sizes.append(len(group))
        if len(group) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(self, group, tick)

    monkeypatch.setattr(Scorer, "score", small)
    assert scores(100) == whole
    assert max(sizes) > 2
