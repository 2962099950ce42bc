"""Convolutions that do the work of the layers after them give what the plain layers give."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from spaces.blocks import Style, shuffle_block
from tests.unit.test_prefix_tree import CPU, alone, evolved, supernet
from trials.networks import fused_conv
from trials.networks.fused_conv import FusedConv, Kernel, WholeShuffleBlock, fuse, neighbours, pointwise
from trials.scoring.precision import PRECISIONS
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.shared_blocks import SharedBlocks

SPACES = [("spos", {}), ("fbnet", {}), ("proxylessnas", {})]  # ReLU, shuffles in groups, ReLU6


def logits(chain, weights, arithmetic, archs, calibration, x, passes=1):
    """Of a tree, in the last of some passes over the same images."""
    tree = PrefixTree(SharedBlocks(chain, weights, arithmetic, CPU), archs)
    for _ in range(passes):
        tree.calibrate(calibration)
    for _ in range(passes):
        found = dict(tree.logits(x))
    return found


def images(number=18):
    return [torch.randn(number, 3, 32, 32) for _ in range(2)], torch.randn(number, 3, 32, 32)


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize(("name", "options"), SPACES, ids=[name for name, _ in SPACES])
def test_on_a_cpu_the_bits_are_those_of_the_plain_layers(name, options, precision, monkeypatch):
    """In the first pass, and in later ones, which use weights in oneDNN's order; and where PyTorch lacks the functions."""
    chain, weights = supernet(name, options)
    archs, data = evolved(chain, 2), images()
    plain = dataclasses.replace(PRECISIONS[precision], fuse=False)
    expected = logits(chain, weights, plain, archs, *data, passes=3)
    for fused, passes in ((True, 3), (False, 3)):
        monkeypatch.setattr(fused_conv, "_ONEDNN", fused)
        found = logits(chain, weights, PRECISIONS[precision], archs, *data, passes=passes)
        assert all(torch.equal(found[number], expected[number]) for number in expected)


@pytest.mark.parametrize(("name", "options"), SPACES, ids=[name for name, _ in SPACES])
def test_biases_that_move_on_change_numbers_by_rounding_alone(name, options, monkeypatch):
    """As on a GPU: together equals one by one bit for bit, and the plain layers to rounding."""
    monkeypatch.setattr(fused_conv, "gains_by_moving", lambda device: True)
    chain, weights = supernet(name, options)
    archs, (calibration, x) = evolved(chain, 3), images()
    plain = dataclasses.replace(PRECISIONS["32"], fuse=False)
    expected = logits(chain, weights, plain, archs, calibration, x)
    parts = SharedBlocks(chain, weights, PRECISIONS["32"], CPU)
    tree = PrefixTree(parts, archs)
    assert any(block.neighbours for block in parts.values())
    tree.calibrate(calibration)
    found = dict(tree.logits(x))
    for number, arch in enumerate(archs):
        assert not torch.equal(found[number], expected[number])
        torch.testing.assert_close(found[number], expected[number], rtol=1e-3, atol=1e-4)
        assert torch.equal(found[number], alone(chain, weights, arch, PRECISIONS["32"], calibration, [x])[1][0])


@torch.no_grad()
@pytest.mark.parametrize(
    ("unit", "whole"),
    [
        ((16, 16, 1), True),
        ((17, 20, 1), True),  # the last channel, an even one, goes by
        ((16, 32, 2), False),  # all channels enter
        ((16, 16, 1, 21), False),  # 168 outputs: the products cost more than the copy
        ((16, 16, 1, 20, True), True),
    ],
)
def test_a_unit_reads_all_channels_in_place_of_a_copy_of_the_odd_ones(unit, whole, monkeypatch):
    """As on a GPU: the same numbers to rounding; on a CPU nothing changes."""
    cin, cout, stride, width, se = (*unit, *(1.0, False)[len(unit) - 3 :])
    torch.manual_seed(0)
    plain = shuffle_block(Style(affine=False), cin, cout, stride, width, kernel=3, se=se).eval()
    x = torch.randn(3, cin, 8, 8).contiguous(memory_format=torch.channels_last)
    expected = plain(x)
    assert not any(isinstance(module, WholeShuffleBlock) for module in fuse(copy.deepcopy(plain)).modules())
    monkeypatch.setattr(fused_conv, "gains_by_moving", lambda device: True)
    found = fuse(plain)
    assert isinstance(found, WholeShuffleBlock) == whole
    torch.testing.assert_close(found(x), expected, rtol=1e-5, atol=1e-5)
    if whole:
        first = found.main[0][0]
        assert first.kernel.weight.shape[1] == cin // 2 * 2
        assert not first.kernel.weight[:, 0::2].any()


def test_a_bias_moves_into_a_convolution_that_has_no_batchnorm(monkeypatch):
    """Its own bias belongs to all nodes, what moves into it to one."""
    monkeypatch.setattr(fused_conv, "gains_by_moving", lambda device: True)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU6()), nn.Conv2d(4, 6, 1, bias=False)
    ).eval()
    x = 4 * torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        expected = model(x)
        fused = fuse(model)
        [(first, second)] = neighbours(fused)
        assert first.own.bias is not None
        assert first.kernel.bias is None
        assert second.own.bias is None
        torch.testing.assert_close(fused(x), expected, rtol=1e-5, atol=1e-5)


def test_what_is_no_number_stays_none():
    """A ReLU of oneDNN makes 0 of it, and a candidate that overflows would get a score."""
    conv = nn.Conv2d(4, 4, 1)
    conv.bias.data[1] = float("nan")
    plain = nn.Sequential(conv, nn.ReLU()).eval()
    x = torch.randn(20, 4, 8, 8)
    with torch.no_grad():
        expected = plain(x)
        fused = fuse(plain)
        assert isinstance(fused[0], FusedConv)
        for _ in range(3):
            assert torch.equal(fused(x).isnan(), expected.isnan())
            assert fused(x).isnan().any()


@torch.no_grad()
@pytest.mark.parametrize("relu", [True, False])
def test_a_product_of_matrices_is_a_1x1_convolution(relu):
    conv = nn.Conv2d(8, 6, 1)
    wide = torch.randn(3, 16, 5, 5).contiguous(memory_format=torch.channels_last)
    for x in (wide[:, 1::2], wide[:, :8], wide[:, :8].contiguous()):
        y = pointwise(x, Kernel(conv.weight, conv.bias), relu=relu)
        expected = conv(x).relu() if relu else conv(x)
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_functions_are_tried_before_they_are_used(monkeypatch):
    """One that is absent, that raises, or that gives something else is not used."""
    fused_conv._works.cache_clear()
    assert fused_conv._works("pointwise", CPU, torch.float32)
    assert not fused_conv._works("by_cudnn", CPU, torch.float32)  # a CPU has none
    fused_conv._works.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "_addmm_activation", torch.addmm)  # forgets ReLU
        assert not fused_conv._works("pointwise", CPU, torch.float32)
    monkeypatch.delattr(torch, "_addmm_activation")
    fused_conv._works.cache_clear()
    assert not fused_conv._works("pointwise", CPU, torch.float32)
    fused_conv._works.cache_clear()


def unfusable():
    shared = nn.ReLU()
    watched = nn.Conv2d(4, 4, 1)
    watched.register_forward_hook(lambda *_: None)
    return {
        "a conv that is used twice": (nn.Sequential(*[nn.Conv2d(4, 4, 1)] * 2), 0),
        "an activation that is used twice": (nn.Sequential(nn.Conv2d(4, 4, 1), shared, nn.Conv2d(4, 4, 1), shared), 2),
        "a hook": (nn.Sequential(watched, nn.ReLU()), 0),
        "padding by name": (nn.Sequential(nn.Conv2d(4, 4, 3, padding="same"), nn.ReLU()), 0),
        "padding by mirrors": (nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()), 0),
        "another activation": (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Hardswish()), 1),
    }


@pytest.mark.parametrize("name", unfusable())
def test_what_cannot_be_fused_stays(name):
    model, convs = unfusable()[name]
    x = torch.randn(20, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = model.eval().to(memory_format=torch.channels_last)(x)
        fuse(model)
        assert sum(isinstance(module, FusedConv) for module in model.modules()) == convs
        assert not any(getattr(module, "activation", None) for module in model.modules())
        assert torch.equal(model(x), expected)
