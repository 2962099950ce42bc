"""Preset `small`: its networks are the published ones in other widths, it fits a GPU of 12 GB, and folders of its size take it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import spaces
from spaces.errors import InputError
from spaces.preset import scaled_channels
from spaces.published import PUBLISHED
from strategies import budget
from strategies.limits import amount
from tests.unit.test_spaces import hook_count
from trials import retrain, space, supernet
from trials.common import cli
from trials.road import form
from trials.training import choose_preset, memory, recipes, sizing, supernet_config

# (space, options, published architecture, width_mult) -> MACs and params at 128x128 pixels with 10 classes
FIGURES = {
    ("spos", "", "spos-block", 0.5): (31_969_792, 840_160),
    ("spos", "", "spos-block", 0.75): (64_448_256, 1_583_280),
    ("spos", "", "spos-block", 1): (105_118_720, 2_544_704),
    ("spos", "channel", "spos-block-channel", 0.75): (64_928_512, 1_516_664),
    ("spos", "channel", "spos-block-channel", 1): (106_731_520, 2_418_819),
    ("spos", "plus", "oneshot-s-plus", 1): (95_385_600, 2_527_079),
    ("proxylessnas", "", "proxyless-mobile", 0.5): (33_418_752, 901_506),
    ("proxylessnas", "", "proxyless-mobile", 0.75): (67_422_464, 1_745_346),
    ("proxylessnas", "", "proxyless-mobile", 1): (104_224_256, 2_812_322),
    ("fbnet", "", "fbnet-c", 0.75): (82_836_608, 2_224_938),
    ("fbnet", "", "fbnet-c", 1): (122_845_056, 3_605_514),
    ("single-path-nas", "", "spnasnet", 0.5): (36_033_024, 963_650),
    ("single-path-nas", "", "spnasnet", 0.75): (74_489_600, 1_924_002),
    ("single-path-nas", "", "spnasnet", 1): (108_482_048, 3_153_426),
}
GIB_OF_12_GB = 12e9 / 2**30


def described(name: str, variant: str = "", **options):
    return spaces.describe(name, "small", **({"variant": variant} if variant else {}), **options)


@pytest.mark.parametrize("case", FIGURES, ids=lambda case: "-".join(map(str, case)))
def test_anchors_are_counted_by_hooks_and_by_the_table(case):
    name, variant, key, width = case
    chain = described(name, variant, width_mult=width)
    arch = PUBLISHED[name][key].arch
    assert hook_count(chain.network(arch), 128) == FIGURES[case]
    table = spaces.cost.measure(chain)
    assert (table.macs(arch), table.params(arch)) == FIGURES[case]


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.4])
def test_widths_are_those_of_timm(width):
    """timm builds spnasnet and fbnetc in any width; its blocks without expansion have a 1x1 convolution more than the paper's."""
    from timm.models import efficientnet

    last = {"classes": 8, "width_mult": width}
    theirs = efficientnet._gen_spnasnet("spnasnet_100", channel_multiplier=width, num_classes=8)
    ours = described("single-path-nas", last_width=1280, **last).network(PUBLISHED["single-path-nas"]["spnasnet"].arch)
    assert hook_count(ours, 128) == hook_count(theirs, 128)

    theirs = efficientnet._gen_fbnetc("fbnetc_100", channel_multiplier=width, num_classes=8)
    ours = described("fbnet", last_width=1984, **last).network(PUBLISHED["fbnet"]["fbnet-c"].arch)
    first, second = scaled_channels(16, width), scaled_channels(24, width)
    more_macs = first**2 * 64**2 + 2 * second**2 * 32**2
    more_params = first * (first + 2) + 2 * second * (second + 2)
    macs, params = hook_count(ours, 128)
    assert (macs + more_macs, params + more_params) == hook_count(theirs, 128)


def test_channels_are_rounded_as_mobilenet_does():
    assert [scaled_channels(16, factor) for factor in (0.35, 0.5, 0.75, 1, 1.4)] == [8, 8, 16, 16, 24]
    assert scaled_channels(12, 1) == 12  # preset tiny is left alone
    assert scaled_channels(40, 0.7) == 32  # 28 rounds half up
    for channels in range(8, 400, 8):
        for factor in (0.35, 0.5, 0.75, 1.4):
            scaled = scaled_channels(channels, factor)
            assert scaled % 8 == 0
            assert scaled >= 0.9 * channels * factor


@pytest.mark.parametrize("name", spaces.SPACES)
def test_small_reaches_its_budgets_at_all_its_resolutions(name):
    """20M to 150M MACs, by widths; 64 pixels cost what 128 do, as the stem keeps their size."""
    costs = {}
    for resolution in (64, 96, 128, 160):
        reached = [
            spaces.cost.measure(described(name, resolution=resolution, width_mult=width)).bounds()
            for width in (0.5, 0.75, 1, 1.4)
        ]
        costs[resolution] = reached[2]
        for wanted in (50e6, 100e6, 150e6):
            near = [bounds for bounds in reached if 0.7 * bounds.min_macs <= wanted <= 1.3 * bounds.max_macs]
            assert near, (resolution, wanted)
    assert (costs[64].min_macs, costs[64].max_macs) == (costs[128].min_macs, costs[128].max_macs)
    assert costs[96].max_macs < costs[128].max_macs < costs[160].max_macs


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0.05", "give {least} to 4"),
        ("4.5", "give {least} to 4"),
        ("-1", "give {least} to 4"),
        ("1e300", "give {least} to 4"),
        ("9" * 400, "give {least} to 4"),
        ("nan", "give a number"),
        ("inf", "give a number"),
        ("true", "give a number"),
        ("wide", "give a number"),
    ],
)
@pytest.mark.parametrize("name", spaces.SPACES)
def test_a_width_that_is_none_is_refused(name, value, said):
    options, least = cli.space_options(f"width_mult={value}"), 0.14 if name == "spos" else 0.1
    with pytest.raises(InputError, match=rf"width_mult of space {name} small is .*; {said.format(least=least)}"):
        spaces.describe(name, "small", **options)


@pytest.mark.parametrize(
    ("name", "preset", "variant", "least"),
    [
        *((name, "tiny", {}, 0.23 if name == "spos" else 0.1) for name in spaces.SPACES),
        *(("spos", "tiny", {"variant": variant}, 0.56) for variant in ("channel", "plus")),
        ("spos", "cifar", {"variant": "plus"}, 0.14),
    ],
)
def test_the_least_width_is_computed_and_trains(name, preset, variant, least):
    """Below it a convolution has no channels, which torch would say in its own words."""
    with pytest.raises(InputError, match=f"give {least} to 4, such as 0.75"):
        spaces.describe(name, preset, width_mult=least - 0.01, **variant)
    chain = spaces.describe(name, preset, width_mult=least, **variant)
    smallest = {
        label: values[0] if isinstance(values[0], str) else min(values) for label, values in chain.choices.items()
    }
    network = chain.network(smallest)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(weight.numel() for weight in network.parameters())


def test_a_budget_is_looked_for_in_widths_that_work():
    """A budget below all of preset tiny: spos's narrowest widths do not exist there."""
    found = [entry.options for entry in budget.reach(200_000, 32, 10, "spos") if entry.preset == "tiny"]
    assert {"variant": "channel"} in found
    assert {"width_mult": 0.35} in found
    assert {"variant": "channel", "width_mult": 0.5} not in found


def test_a_width_that_is_given_for_the_end_is_not_scaled():
    wide, given = described("spos", width_mult=1.4), described("spos", width_mult=1.4, last_width=512)
    assert [module.head()[-1].in_features for module in (wide, given)] == [1432, 512]
    assert described("spos", width_mult=0.5).head()[-1].in_features == 1024


# which folders take it


@pytest.mark.parametrize(
    ("images", "side", "preset"),
    [
        (2000, 300, "small"),
        (1000, 64, "small"),
        (999, 300, "tiny"),
        (2000, 63, "tiny"),
        (49_999, 500, "small"),
        (50_000, 128, "imagenet"),
        (100_000, 64, "small"),  # Tiny ImageNet
        (100_000, 63, "cifar"),
        (400, 500, "tiny"),
    ],
)
def test_the_preset_of_a_folder(images, side, preset):
    assert sizing.preset_of_folder(images, side) == preset


def test_the_resolution_of_a_folder():
    sides = {63.0: 32, 64: 64, 95.5: 64, 96: 96, 127: 96, 128: None, 300: None}
    assert {side: sizing.resolution_of_folder("small", side) for side in sides if side >= 64} == {
        side: at for side, at in sides.items() if side >= 64
    }
    assert sizing.resolution_of_folder("tiny", 40) is None


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """1,300 images of 100 pixels in two classes, drawn; those of a class differ behind their end alone."""
    folder = tmp_path_factory.mktemp("crowd")
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir()
        first = folder / name / "0000.png"
        Image.fromarray(draw.integers(0, 255, (100, 120, 3), dtype=np.uint8)).save(first)
        for number in range(1, 650):
            (folder / name / f"{number:04d}.png").write_bytes(first.read_bytes() + str(number).encode())
    return folder


def parsed(command, *flags):
    return cli.parse(command.Config, list(map(str, flags)), None, "trials.x")


@pytest.mark.parametrize("command", [supernet, retrain])
def test_a_folder_of_this_size_takes_it(command, crowd, arc, tmp_path, capsys):
    flags = ["--data", "folder", "--data-root", crowd, "--device", "cpu"]
    flags += ["--out", tmp_path] if command is supernet else ["--fixed-arc", arc]
    config = choose_preset.with_preset(parsed(command, *flags))
    assert (config.preset, config.resolution) == ("small", 96)
    said = capsys.readouterr().out
    assert (
        "preset small at 96x96 pixels, for 1,040 images of 100 pixels to train and score with; another: --preset"
        in said
    )
    assert "on this CPU --preset tiny takes a small part of the hours" in said
    config = choose_preset.with_preset(parsed(command, *flags, "--resolution", "160"))
    assert (config.preset, config.resolution) == ("small", 160)
    config = choose_preset.with_preset(parsed(command, *flags, "--preset", "small"))
    assert config.resolution is None  # the preset's


def test_a_resolution_that_was_chosen_is_resumed(tmp_path):
    stored = {"data": "folder", "preset": "small", "resolution": 96}
    (tmp_path / "config.json").write_text(json.dumps({"command": "supernet", "config": stored}))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").touch()
    again = parsed(supernet, "--data", "folder", "--data-root", "x", "--out", tmp_path, "--resume")
    assert (again.preset, again.resolution) == ("small", 96)


# recipes and memory


def test_its_recipes_are_spos_in_smaller_batches():
    network, whole = recipes.RECIPES["small"], recipes.RECIPES["spos"]
    assert recipes.default_name("proxylessnas", "small") == "small"
    assert network["lr"] / network["batch_size"] == whole["lr"] / whole["batch_size"]
    weights, official = supernet_config.RECIPES["small"], supernet_config.RECIPES["imagenet"]
    assert weights["lr"] / weights["batch_size"] == official["lr"] / official["batch_size"]
    for images in (1000, 2000, 10_000, 50_000):
        values = sizing.fit("small", network, {}, images, kind="network").values
        assert values["epochs"] * (images // values["batch_size"]) >= sizing.LEAST_STEPS["network"]
    fitted, _ = parsed(supernet, "--preset", "small", "--out", "x").with_warm_start(True).fitted(1440)
    assert (fitted.batch_size, fitted.epochs, fitted.warm_start, fitted.color_jitter) == (64, 150, 0.3, 0.4)


@pytest.mark.parametrize("strategy", ["uniform", "gates", "gumbel"])
@pytest.mark.parametrize("name", spaces.SPACES)
def test_its_supernets_fit_12_gb(name, strategy):
    """At 160x160 pixels in batches of 128, on a GPU (16 bits): a path, or all candidates of Gumbel's mixture in two pieces."""
    pieces = 4 if strategy == "gumbel" else 1
    flags = ["--preset", "small", "--space", name, "--strategy", strategy, "--accumulate", pieces, "--out", "x"]
    config, _ = parsed(supernet, *flags, "--precision", "bf16-mixed").fitted(50_000)
    assert config.batch_size == 128
    needed = memory.supernet_bytes(config, described(name, resolution=160)) / 2**30
    assert needed < GIB_OF_12_GB - 1.5, needed  # CUDA and cuDNN take about so much for themselves


# what a budget leaves


def test_what_a_budget_leaves(capsys):
    space.main(["--for", "100M", "--resolution", "128", "--classes", "8", "proxylessnas"])
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines() if " small " in line and "trials" not in line]
    assert rows == [
        ["*", "proxylessnas", "small", "width_mult=0.8", "25.7", "-", "156.1", "71.1", "proxyless-cpu", "76.6"]
    ]
    arguments = "--space proxylessnas --preset small --resolution 128 --space-options width_mult=0.8"
    assert f"python -m trials.supernet {arguments} --strategy window --max-macs 100M --data folder" in said
    space.main(["--for", "100G", "fbnet"])
    said = capsys.readouterr().out
    assert "The budget leaves nearly all of each space" in said
    assert "at 128x128 pixels, 10 classes (assumed; --resolution and --classes, or --data IMAGES, say others)\n" in said


def test_the_images_give_a_budget_its_resolution_and_classes(tmp_path, monkeypatch, capsys):
    """Those that trials.run begins with; what is typed wins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sizing, "MANY_FOR_SMALL", 8)
    for number in range(12):
        path = tmp_path / "cells" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 110), (number, 0, 0)).save(path)
    found = space.main(["--for", "30M", "fbnet", "--data", "cells"])
    said = capsys.readouterr().out
    assert (
        "30,000,000 MACs at 96x96 pixels, 3 classes, as 9 images of 100 pixels to train and score with take it\n"
        in said
    )
    assert "--resolution 96" in said
    assert "--data folder --data-root cells --out RUN" in said
    chosen, _ = form.choose_form("cells", "30M", {"space": "fbnet"})
    best = next(item for item in found["reach"] if item["best"])
    assert (chosen["preset"], chosen["resolution"]) == (best["preset"], 96)
    space.main(["--for", "30M", "fbnet", "--data", "cells", "--resolution", "64"])
    assert "30,000,000 MACs at 64x64 pixels, 3 classes\n" in capsys.readouterr().out
    space.main(["--for", "3M", "spos", "--data", "digits"])
    assert "3,000,000 MACs at 32x32 pixels, 10 classes, as digits take it\n" in capsys.readouterr().out
    with pytest.raises(InputError, match="'none' is no folder; give one of images, or one of: digits, "):
        space.main(["--for", "30M", "--data", "none"])
    with pytest.raises(InputError, match="--data gives --for its resolution and classes; give --for"):
        space.main(["spos", "--data", "digits"])


def test_a_budget_that_nothing_reaches_names_the_resolution_that_does(capsys):
    with pytest.raises(
        InputError, match=r"128x128 pixels \(assumed; --resolution and .*: give --resolution (\d+)"
    ) as raised:
        space.main(["--for", "8M", "fbnet"])
    side = str(raised.value).split("give --resolution ")[1].split(",")[0]
    space.main(["--for", "8M", "fbnet", "--resolution", side])
    assert f"at {side}x{side} pixels, 10" in (said := capsys.readouterr().out)
    assert "* is the first" in said
    with pytest.raises(InputError, match=": give a larger --for$"):
        space.main(["--for", "8k", "fbnet"])


def test_a_share_is_that_of_the_whole_space():
    """Counted on draws, against the exact count of the feasible part."""
    from strategies.feasible import FeasibleSpace
    from strategies.limits import Limits

    found = {item.preset: item for item in budget.reach(100_000_000, 128, 8, "single-path-nas")}
    assert {name: item.options for name, item in found.items()} == {
        "small": {},
        "cifar": {"width_mult": 0.35},
        "tiny": {"width_mult": 1.1},
    }
    table = spaces.cost.measure(described("single-path-nas", classes=8))
    exact = FeasibleSpace(table, Limits(max_macs=100_000_000)).share()
    assert found["small"].share == pytest.approx(exact, abs=0.015)
    assert found["small"].anchor == ("spnasnet", 108_479_488)
    assert {name: item.fits for name, item in found.items()} == {"small": True, "cifar": False, "tiny": True}
    assert budget.choose(found.values()) == found["small"]


def test_forms_are_those_that_work_at_a_resolution():
    """Those made for the nearest resolution first; none ends smaller than its layers take, and none is there twice."""
    at = {
        pixels: [*dict.fromkeys(preset for _, preset, _ in budget.forms_for(pixels))] for pixels in (32, 64, 128, 224)
    }
    assert at[32] == ["cifar", "tiny"]
    assert at[64] == ["small", "cifar", "tiny"]
    own = ["cpu", "gpu", "mobile-14", "fairnas"]  # of proxylessnas
    assert at[128] == ["small", *own, "cifar", "tiny"]  # imagenet is small there
    assert at[224] == ["imagenet", *own, "cifar", "tiny"]  # mobile is imagenet under another name
    names = [(name, options.get("variant")) for name, preset, options in budget.forms_for(128) if preset == "small"]
    assert names == [
        *(("spos", variant) for variant in (None, "channel", "plus")),
        *(("fbnet", None), ("proxylessnas", None), ("single-path-nas", None)),
    ]
    assert next(preset for _, preset, _ in budget.forms_for(64, "spos", "tiny")) == "tiny"


def test_macs_are_typed_to_two_figures_and_not_below():
    macs = {11_833_001: "12M", 2_810_000: "2.9M", 1_010_000_000: "1.1G", 64_000: "64K", 600_000: "0.6M"}
    assert {number: budget.amount_text(number) for number in macs} == macs


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--for", "1M", "fbnet"],
            r"no space reaches 1,000,000 MACs at 128x128 pixels \(assumed; --resolution and --classes, or --data IMAGES, say others\); the least with room to choose in are about 15M, of fbnet small at",
        ),
        (["--for", "much"], "--for is 'much'; give a positive number"),
        (["--for", "-3"], "--for is '-3'; give a positive number"),
        (["--for", "0"], "--for is '0'; give a positive number"),
        (["--for", "100M", "--preset", "tiny"], "--for looks at all presets and widths; leave --preset out"),
        (["--for", "100M", "--max-macs", "3M"], "leave --max-macs out"),
        (["--for", "100M", "--out", "x"], "leave --out out"),
        (["--for", "100M", "--resolution", "4"], "resolution of space spos is 4; give a whole number, at least 8"),
        (["--for", "100M", "--classes", "1"], "classes of space spos is 1"),
        (["--for", "100M", "spso"], "unknown space 'spso'; did you mean 'spos'"),
        (["--for", "100M", "docs.own_space:space"], "unknown space"),
        (["--list", "--for", "3M"], "--list shows everything"),
    ],
)
def test_bad_budgets(flags, said):
    with pytest.raises(InputError, match=said):
        space.main(flags)


@pytest.mark.parametrize("space", ["spos", "fbnet"])
def test_the_least_budget_that_is_named_is_one_that_does(space):
    """At 3.4M the rule's width of spos is 0.4, which misses, and 0.35 beside it does."""
    found = list(budget.reach(300_000, 64, 8, space, preset="tiny"))
    assert budget.choose(found) is None
    named = amount(budget.amount_text(budget.least_of(found, 8).usual), "--max-macs")
    taken = budget.choose(budget.reach(named, 64, 8, space, preset="tiny"))
    assert taken is not None
    assert taken.fits
