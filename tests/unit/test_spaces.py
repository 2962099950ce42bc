"""Every space is the published one, to the last parameter, and a path of its supernet is its fixed network."""

import copy
import itertools
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import spaces
from spaces import counting
from spaces.arch import activate, freeze
from spaces.chain import Chain, Choice, Network, slice_shared_weight
from spaces.cost import CostTable, measure, search_space
from spaces.counting import COUNTING, count
from spaces.elastic import Elastic
from spaces.errors import InputError
from spaces.files import load_json, save_json
from spaces.model_space import make_supernet
from spaces.published import PUBLISHED
from tests.commands import ROOT
from trials.networks.batchnorm import recalibrate_batchnorm
from trials.space import file_name

STORED = ROOT / "experiments" / "spaces"
ALL = [(name, preset, options) for name in spaces.SPACES for preset, options in spaces.presets(name)]
TINY = [(name, options) for name, preset, options in ALL if preset == "tiny"]
# MACs, params; written out a second time, so that the data file cannot drift together with the code
FIGURES = {
    "spos-block": (322_918_720, 3_558_464),
    "spos-block-channel": (327_857_920, 3_432_579),
    "spos-cifar": (173_211_648, 2_257_232),
    "oneshot-s-plus": (291_125_760, 3_541_829),
    "oneshot-plus": (296_707_840, 3_742_955),
    "fbnet-a": (244_452_664, 4_321_232),
    "fbnet-b": (291_004_424, 4_818_216),
    "fbnet-c": (378_136_224, 5_592_784),
    "proxyless-mobile": (320_427_584, 4_080_512),
    "proxyless-gpu": (465_260_160, 7_119_848),
    "proxyless-cpu": (439_243_864, 4_361_648),
    "proxyless-mobile-14": (580_883_408, 6_857_568),
    "fairnas-a": (388_122_848, 4_651_352),
    "fairnas-b": (345_297_632, 4_506_272),
    "fairnas-c": (321_024_992, 4_397_864),
    "spnasnet": (333_467_072, 4_421_616),
}


def name_of(case: tuple) -> str:
    return "-".join([str(part) for part in case[:-1]] + [str(value) for value in case[-1].values()])


def hook_count(network: nn.Module, resolution: int) -> tuple[int, int]:
    """MACs and params counted independently of the table: forward hooks on a real forward pass."""
    macs = 0

    def add(module, inputs, output):
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            fan_in = module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
            macs += output.numel() * fan_in
        elif isinstance(module, nn.Linear):
            macs += output.numel() * module.in_features

    handles = [module.register_forward_hook(add) for module in network.modules()]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, resolution, resolution))
    for handle in handles:
        handle.remove()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and not m.affine]
    return macs, sum(p.numel() for p in network.parameters()) + sum(2 * norm.num_features for norm in norms)


def random_arch(chain: Chain, seed: int) -> dict:
    generator = random.Random(seed)
    return {label: generator.choice(candidates) for label, candidates in chain.choices.items()}


# published networks


@pytest.mark.parametrize("key", FIGURES)
def test_published_costs(key):
    name = next(space for space in PUBLISHED if key in PUBLISHED[space])
    entry = PUBLISHED[name][key]
    assert (entry.macs, entry.params) == FIGURES[key]
    chain = spaces.describe(name, entry.preset, **entry.options)
    network = freeze(spaces.build(name, entry.preset, **entry.options), entry.arch)
    assert hook_count(network, chain.resolution) == FIGURES[key]
    counted = count(network, torch.zeros(1, 3, chain.resolution, chain.resolution))
    assert (counted.macs, counted.params) == FIGURES[key]
    path = STORED / f"{file_name(name, entry.preset, entry.options)}.costs.json"
    table = CostTable.load(path) if path.exists() else measure(chain)
    assert (table.macs(entry.arch), table.params(entry.arch)) == FIGURES[key]


def test_no_published_network_is_left_out():
    assert {key for networks in PUBLISHED.values() for key in networks} == set(FIGURES)


@pytest.mark.parametrize(("key", "params"), [("fbnet-a", 4_304_584), ("fbnet-b", 4_801_368), ("fbnet-c", 5_570_664)])
def test_fbnet_without_biases(key, params):
    entry = PUBLISHED["fbnet"][key]
    chain = spaces.describe("fbnet", last_width=entry.options["last_width"])
    assert hook_count(chain.network(entry.arch), 224) == (entry.macs, params)


def test_the_shortest_last_convolution_of_spos():
    """arXiv:1904.00420 reports 1.93M params for a last convolution a tenth as wide, published at 68.74 %."""
    network = spaces.describe("spos", last_width=102).network(PUBLISHED["spos"]["spos-block"].arch)
    assert hook_count(network, 224)[1] == 3_558_464 - (1024 - 102) * (640 + 2 + 1000)


@pytest.mark.parametrize(
    ("key", "counting", "figure"),
    [
        ("oneshot-s-plus", "mxnet", 291_475_944),
        ("oneshot-plus", "mxnet", 297_058_024),
        ("spos-cifar", "thop", 176_627_712),  # published as 176.63M
        ("oneshot-s-plus", "macs", 291_125_760),
    ],
)
def test_other_ways_of_counting(key, counting, figure):
    entry = PUBLISHED["spos"][key]
    chain = spaces.describe("spos", entry.preset, **entry.options)
    image = torch.zeros(1, 3, chain.resolution, chain.resolution)
    assert count(chain.network(entry.arch), image, counting).macs == figure


@pytest.mark.parametrize("way", COUNTING)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("spos", {}), ("spos", {"variant": "plus", "width_mult": 1.3}), ("fbnet", {})),
        *(("proxylessnas", {"width_mult": 0.7}), ("single-path-nas", {}), ("docs.own_space:space", {})),
    ],
)
def test_counts_by_shapes_are_those_of_pytorch(name, options, way, monkeypatch):
    def counts():
        stem, blocks, head = counting.count_chain(chain, way)
        every = [stem, head, *(count for block in blocks for count in block.counts)]
        return [(one.macs, one.params, one.output.shape) for one in every], [block[1:] for block in blocks]

    chain = spaces.describe(name, "tiny", classes=7, resolution=41, **options)
    by_shapes = counts()
    monkeypatch.setattr(counting, "_is_plain", lambda layer: False)
    assert by_shapes == counts()


@pytest.mark.parametrize("twist", ["subclass", "hook", "forward"])
def test_a_layer_that_may_do_anything_is_counted_by_pytorch(twist):
    class Own(nn.Conv2d):
        def forward(self, input):
            return super().forward(super().forward(input))

    layer = Own(4, 4, 1) if twist == "subclass" else nn.Conv2d(4, 4, 1)
    if twist == "hook":
        layer.register_forward_hook(lambda layer, inputs, output: nn.functional.conv2d(output, layer.weight))
    if twist == "forward":
        vars(layer)["forward"] = lambda x: nn.Conv2d.forward(layer, nn.Conv2d.forward(layer, x))
    assert counting.count(nn.Sequential(layer), torch.empty(1, 4, 8, 8)).macs == 2 * 4 * 4 * 64


def test_counts_with_relu_and_bn_by_hand():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    image, numbers = torch.zeros(1, 3, 5, 5), 4 * 5 * 5
    expected = {
        "macs": numbers * 27,
        "mxnet": numbers * (27 + 1 + 1),
        "mxnet-relu-bn": numbers * (27 + 1 + 1 + 3 + 1),
        "thop": numbers * (27 + 1 + 2),
    }
    assert {counting: count(layers, image, counting).macs for counting in COUNTING} == expected
    assert torch.isfinite(layers(torch.randn(2, 3, 5, 5))).all()  # counting leaves the layers as they were


def test_supernet_params_and_layers():
    space = spaces.build("spos")
    assert sum(parameter.numel() for parameter in space.parameters()) == 8_388_176
    assert [type(block).__name__ for block in space.blocks] == ["LayerChoice"] * 20
    assert spaces.choices(space)["block07"] == ["k3", "k5", "k7", "xception"]
    assert [len(block.names) for block in spaces.build("fbnet").blocks].count(9) == 16


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("spos", {"block": 20}),
        ("fbnet", {"block": 22}),
        ("proxylessnas", {"block": 21}),
        ("single-path-nas", {"kernel": 20, "expand": 20}),
    ],
)
def test_labels(name, labels):
    choices = spaces.describe(name).choices
    assert list(dict.fromkeys(label[:-2] for label in choices)) == list(labels)
    assert sorted(choices) == sorted(f"{kind}{i:02d}" for kind, n in labels.items() for i in range(n))
    offered = list(dict.fromkeys(c for candidates in choices.values() for c in candidates))
    expected = {
        "spos": ["k3", "k5", "k7", "xception"],
        "fbnet": ["k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip"],
        "proxylessnas": ["k3_e3", "k3_e6", "k5_e3", "k5_e6", "k7_e3", "k7_e6", "skip"],
        "single-path-nas": [3, 5, 6, 0],
    }
    assert offered == expected[name]


def test_where_blocks_may_be_skipped():
    skips = {
        name: [i for i, c in enumerate(spaces.describe(name).choices.values()) if "skip" in c] for name in PUBLISHED
    }
    assert skips["spos"] == []
    assert skips["fbnet"] == [0, *(i for i in range(1, 21) if i % 4 != 1)]
    assert skips["proxylessnas"] == [i for i in range(20) if i % 4]
    assert not any("skip" in c for c in spaces.describe("proxylessnas", "fairnas").choices.values())
    expand = [c for label, c in spaces.describe("single-path-nas").choices.items() if label.startswith("expand")]
    assert [i for i, c in enumerate(expand) if 0 in c] == [i for i in range(20) if i % 4]


# cost tables


@pytest.mark.parametrize(
    "case",
    [case if case[1] == "tiny" else pytest.param(case, marks=pytest.mark.slow) for case in ALL],
    ids=name_of,
)
def test_table_equals_hooks_on_50_random_architectures(case):
    """The stored table, which the experiments use. Each module is built once, each network is run as a whole."""
    name, preset, options = case
    if preset == "mobile":
        assert spaces.same_preset(name, "mobile", "imagenet")
        preset = "imagenet"
    chain = spaces.describe(name, preset, **options)
    file = file_name(name, preset, options)
    table = CostTable.load(STORED / f"{file}.costs.json")
    assert load_json(STORED / f"{file}.json", "") == search_space(chain.choices)
    assert table.choices == chain.choices
    assert table.space["options"] == options
    stem, head, built = chain.stem(), chain.head(), {}
    for seed in range(50):
        arch, modules = random_arch(chain, seed), []
        for i, block in enumerate(chain.blocks):
            key = (i, *(arch[label] for label in block.choices))
            if key not in built:
                built[key] = block.build(arch)
            modules.append(built[key])
        network = Network(stem, modules, head)
        assert hook_count(network, chain.resolution) == (table.macs(arch), table.params(arch)), arch


@pytest.mark.parametrize("case", TINY, ids=name_of)
def test_table_at_other_classes_and_an_odd_resolution(case):
    name, options = case
    chain = spaces.describe(name, "tiny", classes=7, resolution=33, **options)
    table = measure(chain)
    for seed in range(3):
        arch = random_arch(chain, seed)
        assert hook_count(chain.network(arch), 33) == (table.macs(arch), table.params(arch))


def small_space(classes: int = 4, resolution: int = 16) -> Chain:
    """Three blocks of each kind: operations, operations of several widths, a superkernel."""

    def conv(kernel: int, width: float = 1.0):
        mid = int(8 * width)
        return nn.Sequential(nn.Conv2d(8, mid, kernel, padding=kernel // 2), nn.BatchNorm2d(mid), nn.Conv2d(mid, 8, 1))

    blocks = [
        Choice("block00", {"k1": lambda: conv(1), "k3": lambda: conv(3), "skip": nn.Identity}),
        Choice("block01", {"k3": lambda w: conv(3, w), "k5": lambda w: conv(5, w)}, {"width01": [0.5, 1.0, 1.5]}),
        Choice(None, {"superkernel": conv}, {"kernel02": [1, 3, 5], "width02": [0.25, 1.0]}),
    ]
    stem = lambda: nn.Conv2d(3, 8, 3, stride=2, padding=1)  # noqa: E731
    head = lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))  # noqa: E731
    return Chain(resolution, classes, stem, blocks, head, name="small")


def test_bounds_by_brute_force():
    chain = small_space()
    table = measure(chain)
    everything = [
        dict(zip(chain.choices, values, strict=True)) for values in itertools.product(*chain.choices.values())
    ]
    assert len(everything) == table.architectures() == 3 * 6 * 6
    counted = [hook_count(chain.network(arch), 16) for arch in everything]
    assert counted == [(table.macs(arch), table.params(arch)) for arch in everything]
    macs, params = zip(*counted, strict=True)
    assert vars(table.bounds()) == {
        "min_macs": min(macs),
        "max_macs": max(macs),
        "min_params": min(params),
        "max_params": max(params),
    }
    genes = np.array(
        [[c.index(v) for c, v in zip(chain.choices.values(), arch.values(), strict=True)] for arch in everything]
    )
    for kind in (np.uint8, np.int64):
        assert table.macs_many(genes.astype(kind)).tolist() == list(macs)
        assert table.params_many(genes.astype(kind)).tolist() == list(params)


@pytest.mark.parametrize("case", [case for case in ALL if case[1] == "imagenet"], ids=name_of)
def test_many_costs_at_once(case):
    table = CostTable.load(STORED / f"{file_name(*case)}.costs.json")
    draw = np.random.default_rng(0)
    genes = np.stack([draw.integers(0, len(c), 3000) for c in table.choices.values()], axis=1)
    archs = [
        dict(zip(table.choices, (c[g] for c, g in zip(table.choices.values(), row, strict=True)), strict=True))
        for row in genes
    ]
    assert table.macs_many(genes).tolist() == [table.macs(arch) for arch in archs]
    assert table.params_many(genes).tolist() == [table.params(arch) for arch in archs]
    options = [[block.combination_index(arch) for block in table.blocks] for arch in archs[:50]]
    assert [table.arch(option) for option in options] == archs[:50]


def test_bad_genes():
    table = measure(small_space())
    with pytest.raises(InputError, match=r"genes are int64 \(2, 4\); give integers \(architectures, 5\)"):
        table.macs_many(np.zeros((2, 4), dtype=np.int64))
    for gene in (3, -1):
        with pytest.raises(InputError, match="a candidate number is out of range"):
            table.macs_many(np.array([[gene, 0, 0, 0, 0]]))


def test_a_table_survives_its_file(tmp_path):
    table = measure(small_space())
    table.save(tmp_path / "costs.json")
    again = CostTable.load(tmp_path / "costs.json")
    assert (again.space, again.base, again.choices) == (table.space, table.base, table.choices)
    arch = {label: candidates[-1] for label, candidates in table.choices.items()}
    assert (again.macs(arch), again.params(arch)) == (table.macs(arch), table.params(arch))
    (tmp_path / "old.json").write_text('{"format": "onepath cost table 1"}')
    with pytest.raises(InputError, match="is not a cost table; write one with"):
        CostTable.load(tmp_path / "old.json")


# supernets and fixed networks


def trained(supernet, resolution: int = 32):
    """Give the BatchNorm layers statistics that differ from the initial ones."""
    torch.manual_seed(0)
    with torch.no_grad():
        for seed in range(3):
            activate(supernet.train(), random_arch(supernet.chain, seed))
            supernet(torch.randn(4, 3, resolution, resolution))
    return supernet.eval()


@pytest.mark.slow
@pytest.mark.parametrize("case", [*TINY, ("spos-cifar", {})], ids=name_of)
def test_frozen_network_equals_supernet_path(case):
    name, options = case
    space = spaces.build("spos", "cifar") if name == "spos-cifar" else spaces.build(name, "tiny", **options)
    assert {label: list(choice.values) for label, choice in space.simplify().items()} == space.chain.choices
    supernet = trained(make_supernet(space))
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    images = torch.randn(4, 3, 32, 32)
    for seed in range(3, 7):
        arch = random_arch(supernet.chain, seed)
        activate(supernet, arch)
        expected = supernet(images)
        frozen = freeze(supernet, arch)
        assert torch.equal(frozen(images), expected)
        torch.testing.assert_close(supernet.freeze(arch).eval()(images), expected)  # NNI's own way
        assert not any("nni" in type(module).__module__ for module in frozen.modules())
        assert all(m.affine for m in frozen.modules() if isinstance(m, nn.BatchNorm2d))
        with torch.no_grad():  # and it owns its weights
            for tensor in frozen.state_dict().values():
                tensor.fill_(7)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_a_superkernel_is_cut_in_its_centre_and_from_its_first_channels():
    torch.manual_seed(0)
    supernet = make_supernet(spaces.build("single-path-nas", "tiny"))
    arch = supernet.chain.warm_path | {"kernel01": 3, "expand01": 3}
    large, small = freeze(supernet, supernet.chain.warm_path).blocks[1].layers, freeze(supernet, arch).blocks[1].layers
    cin, mid = 12, 36
    assert small.depthwise[0].weight.shape == (mid, 1, 3, 3)
    assert torch.equal(small.depthwise[0].weight, large.depthwise[0].weight[:mid, :, 1:4, 1:4])
    assert torch.equal(small.expand[0].weight, large.expand[0].weight[:mid])
    assert torch.equal(small.project[0].weight, large.project[0].weight[:, :mid])
    assert large.project[0].weight.shape == (cin, 2 * mid, 1, 1)
    assert isinstance(freeze(supernet, arch | {"expand01": 0}).blocks[1], nn.Identity)


def test_a_path_trains_its_part_of_shared_weights_alone():
    supernet = make_supernet(spaces.build("single-path-nas", "tiny"))
    activate(supernet, supernet.chain.warm_path | {"kernel01": 3, "expand01": 3, "expand02": 0})
    supernet.train()(torch.randn(4, 3, 32, 32)).sum().backward()
    block = supernet.blocks[1].layers
    grad = block.depthwise[0].weight.grad
    assert (grad[36:] == 0).all()
    assert (grad[:, :, 0] == 0).all()
    assert grad[:36, :, 1:4, 1:4].abs().sum() > 0
    assert block.depthwise[1].running_mean[:36].abs().sum() > 0
    assert (block.depthwise[1].running_mean[36:] == 0).all()
    assert all(p.grad is None for p in supernet.blocks[2].parameters())


def test_widths_of_a_block_share_weights():
    space = spaces.build("spos", "tiny", variant="channel")
    assert isinstance(space.blocks[0]["k3"], Elastic)
    assert space.blocks[0]["k3"].main[1][0].weight.shape == (12, 1, 3, 3)  # int(16 // 2 * 1.6)
    chain = space.chain
    arch = random_arch(chain, 0) | {"block00": "k3", "width00": 0.6}
    weights = space.state_dict()
    network = chain.network(arch, weights)
    assert torch.equal(network.blocks[0].main[1][0].weight, weights["blocks.0.k3.main.1.0.weight"][:4])


def test_cut_refuses_what_does_not_fit():
    with pytest.raises(InputError, match=r"a weight of shape \(4, 3\) cannot serve one of shape \(5, 3\)"):
        slice_shared_weight(torch.zeros(4, 3), (5, 3))


def test_stock_nni_strategies_take_every_space():
    """NNI's own random one-shot strategy, without our hooks, on the space with superkernels."""
    from nni.nas.strategy import RandomOneShot

    supernet = RandomOneShot().mutate_model(spaces.build("single-path-nas", "tiny"))
    for module in supernet.modules():
        if hasattr(module, "resample"):
            drawn = module.resample({})
            assert all(value in supernet.chain.choices[label] for label, value in drawn.items())
    assert supernet(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_activate_refuses_what_nni_would_draw_at_random():
    supernet = make_supernet(spaces.build("spos", "tiny", variant="channel"))
    arch = random_arch(supernet.chain, 0)
    with pytest.raises(InputError, match="unknown label 'blok07'; did you mean 'block07'"):
        activate(supernet, {**arch, "blok07": "k3"})
    with pytest.raises(InputError, match="unknown candidate for 'width07': '0.5'"):
        activate(supernet, {**arch, "width07": 0.5})
    del arch["width07"]
    with pytest.raises(InputError, match="lacks 'width07'"):
        activate(supernet, arch)


@pytest.mark.parametrize(("name", "first"), [("spos", "k3"), ("proxylessnas", "k3_e3")])
def test_warm_start_hands_on_the_same_function(name, first):
    """Larger kernels and expansions compute the very function of the first candidate, at both strides."""
    torch.manual_seed(0)
    chain = spaces.describe(name, "tiny")
    for block, cin in zip((chain.blocks[4], chain.blocks[5]), (16, 40) if name == "spos" else (12, 16), strict=True):
        source = block.candidates[first]().eval()
        assert chain.inherit is not None
        images = torch.randn(2, cin, 8, 8)
        for candidate in block.candidates:
            target = block.candidates[candidate]().eval()
            chain.inherit(target, source)
            if candidate not in ("xception", "skip"):
                torch.testing.assert_close(target(images), source(images))


def test_warm_start_of_candidates_without_expansion():
    """A larger kernel computes the very function; expansions and groups compute alike, as fresh weights do not."""
    torch.manual_seed(0)
    chain = spaces.describe("fbnet", "tiny")
    assert chain.inherit is not None
    for block, cin in ((chain.blocks[4], 12), (chain.blocks[5], 12)):
        source = block.candidates["k3_e1"]().train()
        images = torch.randn(16, cin, 8, 8)

        def added(module, images=images):
            y = module.layers(images).detach()
            return (y - y.mean((0, 2, 3), keepdim=True)).flatten()

        for name in [name for name in block.candidates if name != "skip"]:
            target = block.candidates[name]().train()
            fresh = float(torch.cosine_similarity(added(target), added(source), 0))
            chain.inherit(target, source)
            alike = float(torch.cosine_similarity(added(target), added(source), 0))
            assert abs(fresh) < 0.3
            assert alike > {"k3_e1": 0.9999, "k5_e1": 0.9999}.get(name, 0.65 if "g2" in name else 0.95), (name, alike)


# against third parties


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Both list their tensors in the order of computation."""
    ours, theirs = source.state_dict(), target.state_dict()
    assert [t.shape for t in ours.values()] == [t.shape for t in theirs.values()]
    target.load_state_dict(dict(zip(theirs, ours.values(), strict=True)))


def with_statistics(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
    return network.eval()


def assert_same_function(ours: nn.Module, theirs: nn.Module) -> None:
    copy_in_order(with_statistics(ours), theirs.eval())
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        logits = ours(images)
        torch.testing.assert_close(theirs(images), logits, rtol=1e-4, atol=1e-5 * float(logits.abs().max()))
        assert logits.std() > 0


def test_spnasnet_computes_what_timm_computes():
    timm = pytest.importorskip("timm")
    ours = spaces.describe("single-path-nas").network(PUBLISHED["single-path-nas"]["spnasnet"].arch)
    assert_same_function(ours, timm.create_model("spnasnet_100", pretrained=False))


def test_spos_computes_what_the_nni_hub_computes():
    from nni.nas.hub.pytorch import ShuffleNetSpace
    from nni.nas.space import model_context

    arch = PUBLISHED["spos"]["spos-block"].arch
    names = {"k3": "k3", "k5": "k5", "k7": "k7", "xception": "xcep"}
    with model_context({f"layer_{i + 1}": names[candidate] for i, candidate in enumerate(arch.values())}):
        theirs = ShuffleNetSpace()
    assert_same_function(spaces.describe("spos", affine=True).network(arch), theirs)


def test_proxylessnas_computes_what_the_nni_hub_computes():
    from nni.nas.hub.pytorch import ProxylessNAS
    from nni.nas.space import model_context

    entry = PUBLISHED["proxylessnas"]["proxyless-mobile"]
    theirs_arch = {}
    for stage, (start, depth) in enumerate(zip((0, 4, 8, 12, 16, 20), (4, 4, 4, 4, 4, 1), strict=True), start=2):
        kept = [c for c in list(entry.arch.values())[start : start + depth] if c != "skip"]
        if stage < 7:
            theirs_arch[f"s{stage}_depth"] = len(kept)
        theirs_arch |= {f"s{stage}_i{i}": name.replace("_e", "e") for i, name in enumerate(kept)}
    with model_context(theirs_arch):
        theirs = ProxylessNAS()
    assert_same_function(spaces.describe("proxylessnas").network(entry.arch), theirs)


# limits of the machine, and of the user


@pytest.mark.slow
def test_memory():
    """All imagenet supernets and their tables, one after another, in a process of its own."""
    code = (
        "import re, spaces; from spaces.cost import measure\n"
        "for name in spaces.SPACES:\n"
        "    for preset, options in spaces.presets(name):\n"
        "        if preset == 'imagenet' and options.get('variant') != 'channel':\n"
        "            space = spaces.build(name, preset, **options); measure(space)\n"
        # of this program alone: the peak of getrusage begins with that of the process that started it
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 1_500_000  # KiB


@pytest.mark.parametrize(
    ("name", "preset", "options", "says"),
    [
        ("spso", "tiny", {}, "unknown space 'spso'; did you mean 'spos'"),
        ("spos", "huge", {}, "unknown preset of space spos: 'huge'.*imagenet, small, cifar, tiny"),
        ("proxylessnas", "mobile_14", {}, "did you mean 'mobile-14'"),
        ("fbnet", "tiny", {"classes": 0}, "classes of space fbnet is 0; give a whole number, at least 2"),
        ("spos", "tiny", {"classes": 1}, "classes of space spos is 1; give a whole number, at least 2"),
        ("spos", "tiny", {"resolution": 7}, "resolution of space spos is 7; give a whole number, at least 8"),
        ("spos", "tiny", {"resolution": 32.0}, "resolution of space spos is 32.0; give a whole number"),
        ("single-path-nas", "tiny", {"last_width": -1}, "last_width of space single-path-nas is -1"),
        ("spos", "tiny", {"variant": "chanel"}, "unknown variant of space spos: 'chanel'; did you mean 'channel'"),
        ("fbnet", "tiny", {"biases": True}, "unknown option of space fbnet: 'biases'; did you mean 'bias'"),
        ("nowhere:space", "tiny", {}, "space 'nowhere:space' fails: ModuleNotFoundError: No module named 'nowhere'"),
        ("docs.own_space", "tiny", {}, "or give module:function for a space of your own"),
        (":x", "tiny", {}, "space ':x' is not of the form module:function"),
        ("docs.own_space:STAGES", "tiny", {}, "is a tuple; name a function that returns a Chain"),
        ("docs.own_space:space", "big", {}, "unknown preset 'big'; choose from: tiny"),
        (
            "docs.own_space:conv",
            "tiny",
            {"classes": 3},
            "takes no 'classes'; give its function the keyword classes=None",
        ),
        ("fbnet", "tiny", {"bias": "no"}, "bias of space fbnet is 'no'; give true or false"),
        ("spos", "tiny", {"affine": 1}, "affine of space spos is 1; give true or false"),
    ],
)
def test_wrong_names_and_numbers(name, preset, options, says):
    for build in (spaces.describe, spaces.build):
        with pytest.raises(InputError, match=says):
            build(name, preset, **options)


OWN = """
from functools import partial
from torch import nn
from spaces.chain import Chain, Choice
def conv(cin, cout, *, bias=None):
    return nn.Conv2d(cin, cout, 1, bias=False)
def wide(width):
    return nn.Sequential(nn.Conv2d(4, int(8 * width), 1), nn.Conv2d(int(8 * width), 4, 1))
def boom():
    raise RuntimeError("boom")
def space(preset="tiny", *, classes=None, resolution=None):
    stem, head = partial(conv, 3, 4), lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes or 4))
    blocks = [Choice("a", {"x": partial(conv, 4, 4), "skip": nn.Identity})]
    CHANGE
    return Chain(resolution or 16, classes or 4, stem, blocks, head)
"""


def own_space(tmp_path, monkeypatch, change: str) -> str:
    """A module with a space of one's own, wrong in one place; its name."""
    name = f"own{abs(hash(change))}"
    (tmp_path / f"{name}.py").write_text(OWN.replace("CHANGE", change))
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"{name}:space"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("return {}", "returned a dict; its function must return a Chain"),
        ("return None", "returned a NoneType; its function must return a Chain"),
        ("1 / 0", r"fails: ZeroDivisionError: division by zero \(.*own\d+.py, line 14\); mend it there"),
        ("blocks = []", "without choice blocks leaves nothing to search"),
        ("blocks *= 2", "two choices are labelled 'a'; number them, such as a00, a01"),
        ("blocks = [Choice('a', {})]", "choice 'a' has no candidates"),
        ("blocks = [Choice('a', {'x': wide}, {'w': []})]", "choice 'w' has no candidates"),
        ("blocks = [Choice(None, {'x': wide, 'y': wide}, {'w': [1]})]", "w chooses among 2 candidates without a label"),
        ("blocks = [Choice('a', {'x': nn.Identity()})]", "candidate 'x' of a is a Identity; give a function"),
        ("stem = nn.Identity()", "stem is a Identity; give a function"),
        ("resolution = 20", "made resolution 20 where 16 was asked for; pass it on to the Chain"),
        ("classes = 3", "made classes 3 where 4 was asked for"),
        ("head = lambda: nn.Flatten()", r"the head makes \(1024,\) numbers per image; it must make 4, one a class"),
        (
            "blocks = [Choice('a', {'x': boom})]",
            r"a x of space own.* fails: RuntimeError: boom \(.*own\d+.py, line 10\)",
        ),
        ("blocks = [Choice('a', {'x': wide})]", r"a x of space own.* fails: TypeError: wide\(\) missing 1 required"),
        ("blocks = [Choice('a', {'x': lambda: 3})]", "a x of space own.* fails: AttributeError: 'int' object"),
        ("blocks = [Choice('a', {'x': wide}, {'w': ['half']})]", "a x, w half of space own.* fails"),
        (
            "blocks = [Choice('a', {'x': partial(conv, 4, 5), 'skip': nn.Identity})]",
            r"a x makes \(C, H, W\) = \(5, 16, 16\), but a skip makes \(4, 16, 16\)",
        ),
    ],
)
def test_mistakes_in_a_space_of_ones_own(tmp_path, monkeypatch, change, says):
    name = own_space(tmp_path, monkeypatch, change)
    with pytest.raises(InputError, match=says) as caught:
        measure(spaces.describe(name, "tiny", classes=4, resolution=16))
    assert "\n" not in str(caught.value)


def test_odd_but_right_spaces(tmp_path, monkeypatch):
    """Arguments that cannot be hashed, and an activation that halves the channels."""
    change = "blocks = [Choice('a', {'x': partial(conv, 4, 4, bias=[1]), 'glu': lambda: nn.Sequential(conv(4, 8), nn.GLU(1))})]"
    chain = spaces.describe(own_space(tmp_path, monkeypatch, change), "tiny", classes=4, resolution=16)
    assert measure(chain).macs({"a": "glu"}) - measure(chain).macs({"a": "x"}) == 16 * 16 * 4 * 4


def test_damaged_cost_tables(tmp_path):
    measure(small_space()).save(tmp_path / "costs.json")
    whole = load_json(tmp_path / "costs.json", "")
    short = [{**whole["blocks"][0], "macs": [1]}, *whole["blocks"][1:]]
    for change in ({"blocks": None}, {"blocks": short}, {"base": []}, {"blocks": [{"choices": {}}]}):
        save_json(tmp_path / "costs.json", {**whole, **change})
        with pytest.raises(InputError, match="cost table '.*' is damaged or incomplete; mend it there, or restore it"):
            CostTable.load(tmp_path / "costs.json")


@pytest.mark.parametrize("case", [("spos", {"variant": "plus"}), ("single-path-nas", {})], ids=name_of)
def test_recalibration_of_a_supernet_with_shared_weights(case):
    """BatchNorm statistics of the active path, on the supernet as on the fixed network."""
    name, options = case
    supernet = trained(make_supernet(spaces.build(name, "tiny", **options)))
    arch = random_arch(supernet.chain, 5)
    activate(supernet, arch)
    frozen, images = freeze(supernet, arch), [torch.randn(8, 3, 32, 32) for _ in range(2)]
    recalibrate_batchnorm(frozen, images)
    recalibrate_batchnorm(supernet, images)
    torch.testing.assert_close(supernet(images[0]), frozen(images[0]), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_spaces_can_be_pickled_and_copied():
    for name, options in TINY:
        space = spaces.build(name, "tiny", **options)
        again = pickle.loads(pickle.dumps(space))
        assert again.state_dict().keys() == copy.deepcopy(space).state_dict().keys() == space.state_dict().keys()


def test_other_precisions():
    space = spaces.build("spos", "tiny", variant="channel").double()
    arch = random_arch(space.chain, 0)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    frozen = freeze(space, arch).eval()
    assert frozen(images).dtype == torch.float64
    torch.testing.assert_close(space.freeze(arch).eval()(images), frozen(images))


def test_weights_of_another_space_are_refused():
    weights = spaces.build("spos", "tiny").state_dict()
    other = spaces.describe("proxylessnas", "tiny")
    with pytest.raises(InputError, match="these weights are of another space than proxylessnas tiny"):
        other.network(random_arch(other, 0), weights)
    fewer = spaces.describe("spos", "tiny", classes=5)
    with pytest.raises(InputError, match=r"head.4.weight has shape \(10, 256\) instead of \(5, 256\)"):
        fewer.network(random_arch(fewer, 0), weights)


def test_unknown_counting():
    with pytest.raises(InputError, match="unknown counting 'mxnett'; did you mean 'mxnet'"):
        measure(small_space(), "mxnett")
