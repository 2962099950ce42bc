"""--mirror off: no training image is mirrored, whatever reads it; the option travels with a run."""

import dataclasses
import gzip
import json

import numpy as np
import pytest
import torch
from PIL import Image

from spaces.errors import InputError
from tests.unit.test_data import LOADERS, open_folder
from trials.certifying import certify_config, jobs
from trials.common import cli, run_dir
from trials.common.supernet_run import SupernetRun
from trials.images import check, check_config
from trials.images.load import load_data
from trials.images.memory import MemoryData
from trials.images.options import DataOptions
from trials.images.sheet import SHEET_PIXELS
from trials.road import steps
from trials.training import retrain_config, supernet_config


def rising(height, width):
    """An image that gets brighter from left to right, (H, W), uint8: a mirrored one gets darker."""
    return np.broadcast_to(np.linspace(0, 255, width).round().astype(np.uint8), (height, width))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of JPEGs, and PNGs with a palette that DALI does not decode, of odd sizes."""
    root = tmp_path_factory.mktemp("rising")
    for number in range(40):
        image = Image.fromarray(rising(60 + number, 70 + 2 * number))
        path = root / "ab"[number % 2] / (f"{number}.png" if number % 4 == 3 else f"{number}.jpg")
        path.parent.mkdir(exist_ok=True)
        (image.quantize(64) if number % 4 == 3 else image).save(path)
    return root


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """The files of Fashion-MNIST, with 40 images that get brighter from left to right."""
    root = tmp_path_factory.mktemp("fashion")
    images, labels = np.broadcast_to(rising(28, 28), (40, 28, 28)), np.arange(40, dtype=np.uint8) % 10
    for name, array, kind in (("images-idx3", images, 3), ("labels-idx1", labels, 1)):
        head = bytes((0, 0, 8, kind)) + b"".join(length.to_bytes(4) for length in array.shape)
        with gzip.open(root / f"train-{name}-ubyte.gz", "wb") as file:
            file.write(head + array.tobytes())
    return root


def is_mirrored(images):
    """Which images (N, 3, R, R) get darker from left to right, bool (N,)."""
    half = images.shape[3] // 2
    return images[..., :half].mean((1, 2, 3)) > images[..., half:].mean((1, 2, 3))


def trained(data, part="train", epoch=0):
    return torch.cat([images for images, _ in data.train_batches(part, 4, seed=0, epoch=epoch)])


@pytest.mark.parametrize("spos", [False, True])
@pytest.mark.parametrize("loader", LOADERS)
def test_folders(loader, spos, folder):
    """Images of both loaders: the same crops with and without, of which half are mirrored, and none."""
    how = {"loader": loader, "spos": spos, "color_jitter": 0.2}
    usual, plain = (open_folder(folder, mirror=mirror, **how) for mirror in ("on", "off"))
    assert not is_mirrored(next(usual.eval_batches("all", 40))[0].float()).any()  # what is scored never is
    seen = []
    for part in ("train", "arch", "all"):
        mirrored, upright = trained(usual, part), trained(plain, part)
        turned = is_mirrored(mirrored)
        assert not is_mirrored(upright).any()
        mirrored[turned] = mirrored[turned].flip(3)
        assert (mirrored - upright).abs().max() < (1.01 if spos else 1.01 / 255 / 0.224)  # a grey level of resizing
        seen.append(turned)
    assert 0.3 < torch.cat(seen).float().mean() < 0.7


@pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
def test_images_in_memory(name, fashion):
    shares = {}
    for mirror in (None, "on", "off"):
        options = DataOptions(data=name, data_root=str(fashion) if name != "digits" else "", mirror=mirror)
        data = load_data(options, 28, score_fraction=0.25)
        if name == "digits":  # in place of the digits, of which a mirrored one cannot be told
            assert isinstance(data, MemoryData)
            images, labels = data._stores["train"]
            data._stores["train"] = (torch.from_numpy(rising(28, 28).copy()).expand(len(images), 1, -1, -1), labels)
        turned = torch.cat([is_mirrored(trained(data, epoch=epoch)) for epoch in range(3)])
        shares[mirror] = float(turned.float().mean())
    assert shares["off"] == 0
    assert 0.3 < shares["on"] < 0.7
    assert shares[None] == (0 if name == "digits" else shares["on"])  # a mirrored 2 is no 2


def test_values_of_the_option(tmp_path):
    assert [DataOptions(data=name).mirror for name in ("digits", "fashion-mnist", "cifar10", "cifar100", "folder")] == [
        *("off", "on", "on", "on", "on")
    ]
    with pytest.raises(InputError, match="unknown value of --mirror 'of'; did you mean 'off'"):
        DataOptions(mirror="of")
    file = tmp_path / "run.yml"
    for word in ("off", "no", "false", "'off'"):  # YAML reads all but the last as false
        file.write_text(f"supernet: {{out: runs/x, mirror: {word}, preset: cifar, data: cifar10}}")
        read = cli.parse(supernet_config.Config, ["--config", str(file)], "", "trials.supernet")
        assert read.mirror == "off"
    file.write_text("supernet: {out: runs/x, mirror: on, preset: tiny}")
    assert cli.parse(supernet_config.Config, ["--config", str(file)], "", "trials.supernet").mirror == "on"


def store(folder, out, *without, **options):
    """The configuration of a run of trials.supernet that has begun, but for some options, as older code stored it."""
    config = supernet_config.Config(
        **{"data": "folder", "data_root": str(folder)} | options, out=str(out), space="spos", preset="tiny"
    )
    stored = {name: value for name, value in dataclasses.asdict(config).items() if name not in without}
    (out / "checkpoints").mkdir(parents=True)
    (out / "checkpoints" / "last.pt").touch()
    (out / "config.json").write_text(json.dumps({"command": "supernet", "config": stored}))


@pytest.mark.parametrize(("data", "was"), [("folder", "on"), ("digits", "off")])
def test_runs_of_older_code_go_on_as_they_began(data, was, folder, tmp_path):
    options = {"data": data, "data_root": str(folder) if data == "folder" else ""}
    store(folder, tmp_path / "run", "mirror", **options)
    again = {**options, "out": str(tmp_path / "run"), "space": "spos", "preset": "tiny", "resume": True}
    resumed = supernet_config.Config(**again)
    assert resumed.mirror == run_dir.load_run(tmp_path / "run", "supernet")["mirror"] == was
    run_dir.open_run(resumed.out, "supernet", resumed, resume=True)
    other = {"on": "off", "off": "on"}[was]
    with pytest.raises(InputError, match=f"was started with --mirror {was}, not {other}; give {was} or another --out"):
        run_dir.open_run(resumed.out, "supernet", supernet_config.Config(**again, mirror=other), resume=True)


def test_a_run_that_goes_on_keeps_it(folder, tmp_path):
    store(folder, tmp_path / "run", mirror="off")
    again = {"data": "folder", "data_root": str(folder), "out": str(tmp_path / "run"), "preset": "tiny", "resume": True}
    assert supernet_config.Config(**again).mirror == "off"


def test_all_networks_of_a_run_train_alike(folder, tmp_path):
    """The winner, a baseline beside it, and the networks of the certificate."""
    run = tmp_path / "run"
    store(folder, run, mirror="off")
    (run / "arc.json").write_text(json.dumps({f"block{number:02d}": "k3" for number in range(20)}))
    winner = retrain_config.Config(fixed_arc=str(run / "arc.json"), supernet=str(run))
    rival = retrain_config.Config(baseline="timm:mobilenetv2_100", supernet=str(run))
    certify = certify_config.Config(run=str(run), jobs=1)
    opened = SupernetRun.open(run, trained=False)
    certified = jobs.recipe_config(opened, "retrain", 2, certify)
    assert winner.mirror == rival.mirror == certified.mirror == "off"
    (run / "retrain").mkdir()
    stored = {"command": "retrain", "config": dataclasses.asdict(winner)}
    (run / "retrain" / "config.json").write_text(json.dumps(stored))
    assert jobs.recipe_config(opened, "retrain", 2, certify).mirror == "off"
    with pytest.raises(InputError, match=r"--mirror on: supernet '.*' has off; leave --mirror out"):
        retrain_config.Config(fixed_arc=str(run / "arc.json"), supernet=str(run), mirror="on")


def test_the_road_hands_it_on():
    assert steps.PASSED["mirror"] == ("data", "supernet")


def test_data_check_shows_it(folder, tmp_path):
    sheets = {}
    for mirror in ("on", "off"):
        path = tmp_path / f"{mirror}.png"
        found = check.check_folder(check_config.Config(data_root=str(folder), mirror=mirror, out=str(path)))
        assert ("--mirror off" in found["next"]) == (mirror == "off")
        assert "--mirror on" not in found["next"]
        sheets[mirror] = np.asarray(Image.open(path))
    side, line = SHEET_PIXELS, SHEET_PIXELS + 4
    cells = [(20 + row * line, 160 + column * line) for row in range(2) for column in range(4, 8)]
    turned = {
        mirror: [bool(is_mirrored(cell(sheet, top, left, side))[0]) for top, left in cells]
        for mirror, sheet in sheets.items()
    }
    assert not any(turned["off"])
    assert any(turned["on"])
    assert not np.array_equal(sheets["on"][:18, 500:], sheets["off"][:18, 500:])  # the words above


def cell(sheet, top, left, side):
    """An image of a sheet (H, W, 3), as (1, 3, side, side)."""
    return torch.from_numpy(sheet[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None].float()
