"""The SPOS space is the published one, to the last parameter."""

import random

import pytest
import torch
from torch import nn

import spaces
from spaces.arch import activate, freeze
from spaces.blocks import inherit_shuffle as inherit
from spaces.cost import CostTable, measure, search_space
from spaces.errors import InputError
from spaces.files import load_json
from spaces.model_space import make_supernet
from spaces.published import PUBLISHED
from tests.conftest import ROOT

NETWORKS = [(space, key) for space, networks in PUBLISHED.items() for key in networks]


def hook_count(network: nn.Module, resolution: int) -> tuple[int, int]:
    """MACs and params counted independently of the table: forward hooks on a real forward pass."""
    macs = 0

    def count(module, inputs, output):
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            fan_in = module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
            macs += output.numel() * fan_in
        elif isinstance(module, nn.Linear):
            macs += output.numel() * module.in_features

    handles = [module.register_forward_hook(count) for module in network.modules()]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, resolution, resolution))
    for handle in handles:
        handle.remove()
    return macs, sum(parameter.numel() for parameter in network.parameters())


def random_arch(chain, seed: int) -> dict:
    generator = random.Random(seed)
    return {label: generator.choice(candidates) for label, candidates in chain.choices.items()}


@pytest.mark.parametrize(("space", "key"), NETWORKS)
def test_published_costs(space, key):
    entry = PUBLISHED[space][key]
    chain = spaces.describe(space, entry.preset, affine=True)
    table = measure(chain)
    assert (table.macs(entry.arch), table.params(entry.arch)) == (entry.macs, entry.params)
    assert hook_count(chain.network(entry.arch), chain.resolution) == (entry.macs, entry.params)


def test_known_figures():
    """The figures themselves, so that the data file cannot drift together with the code."""
    figures = {key: (entry.macs, entry.params) for key, entry in PUBLISHED["spos"].items()}
    assert figures["spos-block"] == (322_918_720, 3_558_464)
    assert figures["spos-cifar"] == (173_211_648, 2_257_232)


def test_supernet_params_and_layers():
    space = spaces.build("spos")
    assert sum(parameter.numel() for parameter in space.parameters()) == 8_388_176
    assert [type(block).__name__ for block in space.blocks] == ["LayerChoice"] * 20
    assert set(space.simplify()) == set(spaces.choices(space))
    assert spaces.choices(space)["block07"] == ["k3", "k5", "k7", "xception"]


@pytest.mark.parametrize("preset", ["imagenet", "cifar", "tiny"])
def test_table_equals_hooks_on_random_architectures(preset):
    chain = spaces.describe("spos", preset, affine=True)
    table = measure(chain)
    for seed in range(5):
        arch = random_arch(chain, seed)
        assert hook_count(chain.network(arch), chain.resolution) == (table.macs(arch), table.params(arch))


def test_table_at_other_classes_and_resolution():
    chain = spaces.describe("spos", "tiny", classes=7, resolution=48, affine=True)
    table, arch = measure(chain), random_arch(chain, 0)
    assert hook_count(chain.network(arch), 48) == (table.macs(arch), table.params(arch))


@pytest.mark.parametrize("preset", ["cifar", "tiny"])
def test_frozen_network_equals_supernet_path(preset):
    torch.manual_seed(0)
    supernet = make_supernet(spaces.build("spos", preset))
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        for seed in range(3):  # statistics that differ from the initial ones
            activate(supernet.train(), random_arch(supernet.chain, seed))
            supernet(images)
    supernet.eval()
    for seed in range(3, 6):
        arch = random_arch(supernet.chain, seed)
        activate(supernet, arch)
        expected = supernet(images)
        frozen = freeze(supernet, arch)
        assert torch.equal(frozen(images), expected)
        assert type(frozen).__module__ == "spaces.chain"
        assert not any("nni" in type(module).__module__ for module in frozen.modules())
        assert all(m.affine for m in frozen.modules() if isinstance(m, nn.BatchNorm2d))
        plain = supernet.chain.network(arch)  # the way the trials take, without NNI
        plain.load_state_dict(path_weights(supernet.state_dict(), arch))
        assert torch.equal(plain.eval()(images), expected)


def test_frozen_network_owns_its_weights():
    supernet = make_supernet(spaces.build("spos", "tiny")).eval()
    arch = random_arch(supernet.chain, 0)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    frozen = freeze(supernet, arch)
    with torch.no_grad():
        for tensor in frozen.state_dict().values():
            tensor.fill_(7)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_activate_refuses_what_nni_would_draw_at_random():
    supernet = make_supernet(spaces.build("spos", "tiny"))
    arch = random_arch(supernet.chain, 0)
    with pytest.raises(InputError, match="unknown label 'blok07'; did you mean 'block07'"):
        activate(supernet, {**arch, "blok07": "k3"})
    del arch["block07"]
    with pytest.raises(InputError, match="lacks 'block07'"):
        activate(supernet, arch)


def test_smaller_kernels_inherit_exactly():
    """Warm start: k5 and k7 compute the very function of the k3 they inherit from, at both strides."""
    torch.manual_seed(0)
    chain = spaces.describe("spos", "tiny")
    for block, cin in ((chain.blocks[4], 16), (chain.blocks[5], 40)):
        source = block.candidates["k3"]().eval()
        images = torch.randn(2, cin, 8, 8)
        for name in ("k5", "k7"):
            target = block.candidates[name]().eval()
            inherit(target, source)
            torch.testing.assert_close(target(images), source(images))
        inherit(block.candidates["xception"](), source)  # shapes fit


def test_generated_files_are_up_to_date():
    for preset in ("imagenet", "cifar", "tiny"):
        chain = spaces.describe("spos", preset)
        folder = ROOT / "experiments" / "spaces"
        assert load_json(folder / f"spos-{preset}.json", "") == search_space(chain.choices)
        stored, fresh = CostTable.load(folder / f"spos-{preset}.costs.json"), measure(chain)
        assert (stored.space, stored.base, stored.costs) == (fresh.space, fresh.base, fresh.costs)


def test_unknown_names():
    with pytest.raises(InputError, match="unknown space 'spso'; did you mean 'spos'"):
        spaces.build("spso")
    with pytest.raises(InputError, match="unknown preset of space spos: 'small'.*imagenet, cifar, tiny"):
        spaces.build("spos", "small")
    with pytest.raises(InputError, match="cannot load space 'nowhere:space'"):
        spaces.describe("nowhere:space")
