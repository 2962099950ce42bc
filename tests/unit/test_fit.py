"""--fit: how a picture that is not square becomes square; the same pixels in both loaders, the shipped forms, and PIL."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from spaces.errors import InputError
from tests.unit.test_data import LOADERS, open_folder
from trials.common import changes, run_dir, run_files
from trials.export_formats import usage
from trials.export_formats.layouts import timm_config
from trials.export_formats.module_file import constant, preprocess_source
from trials.images import check, check_config
from trials.images.crops import CROP_DRAWS, central_crops, losing_much, random_crops
from trials.images.dali_loader import DaliLoader
from trials.images.fit import FITS
from trials.images.options import DataOptions
from trials.images.sheet import SHEET_PIXELS
from trials.images.torch_loader import TorchLoader, cut_out
from trials.road import steps
from trials.training import retrain_config, supernet_config

ORANGE = (255, 128, 0)
SHAPES = [(40, 90), (91, 40), (64, 64), (30, 151), (200, 33), (57, 58), (20, 12), (120, 81)]  # height, width


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of smooth pictures of many shapes: JPEGs, PNGs with a palette, transparent ones."""
    root = tmp_path_factory.mktemp("shapes")
    for number in range(48):
        height, width = SHAPES[number // 2 % len(SHAPES)]
        array = np.random.default_rng(number).integers(0, 256, (6, 7, 4)).astype(np.uint8)
        image = Image.fromarray(array, "RGBA").resize((width, height), Image.Resampling.BICUBIC)
        path = root / "ab"[number % 2] / (f"{number:02d}.jpg" if number < 32 else f"{number:02d}.png")
        path.parent.mkdir(exist_ok=True)
        image = image.convert("RGB") if number < 32 else image.quantize(64) if number < 40 else image
        image.save(path, **({"quality": 95, "subsampling": 0} if number < 32 else {}))
    return root


def squared(image, fit, border):
    """What a person would do with PIL: the picture in the middle of a square."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), border)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square if fit == "pad" else image


def opened(path, background):
    image = Image.open(path)
    if not image.has_transparency_data:
        return image.convert("RGB")
    laid = Image.new("RGB", image.size, background)
    laid.paste(image.convert("RGBA"), mask=image.convert("RGBA"))
    return laid


@pytest.mark.parametrize("spos", [False, True])
@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_scored_images_are_those_of_pil_and_of_the_shipped_forms(fit, loader, spos, folder, classify):
    data = open_folder(folder, loader, 32, spos=spos, fit=fit, background="#ff8000")
    how = data.preprocessing()
    assert (how["fit"], how["short_side"], how.get("border")) == (fit, None, list(ORANGE) if fit == "pad" else None)
    names = {}
    source = "import torch\nimport torch.nn.functional as F\n" + constant("PREPROCESSING", how) + preprocess_source(how)
    exec(source, names)
    seen = 0
    for part in ("train", "score", "test"):
        images = torch.cat([images for images, _ in data.eval_batches(part, 5)]).cpu()
        for number, image in zip(data.parts[part], images, strict=True):
            picture = opened(data.files[number], ORANGE)
            square = squared(picture, fit, ORANGE)
            if spos:
                expected = cv2.resize(np.asarray(square), (32, 32), interpolation=cv2.INTER_LINEAR)
            else:
                expected = np.asarray(square.resize((32, 32), Image.Resampling.BILINEAR))
            off = np.abs(image.permute(1, 2, 0).numpy().astype(int) - expected)
            assert off.max() <= 1, (data.files[number], off.max())  # a grey level of rounding
            ours = data.normalise(image[None])
            grey = 1.01 if spos else 1.01 / 255 / 0.224
            shipped = torch.from_numpy(classify.prepare(classify.open_rgb(data.files[number], how), how))
            assert (shipped - ours).abs().max() <= grey
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
            assert (names["preprocess"](pixels) - ours).abs().max() <= grey
            if Image.open(data.files[number]).mode == "RGBA":
                pixels = torch.from_numpy(np.array(Image.open(data.files[number]))).permute(2, 0, 1)
                assert (names["preprocess"](pixels) - ours).abs().max() <= 2 * grey  # and one of mixing
            seen += 1
    assert seen == 48


@pytest.mark.parametrize("spos", [False, True])
@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_both_loaders_train_on_the_same_crops_of_the_square(fit, spos, folder):
    grey = 1 if spos else 1 / 255 / 0.224
    for resolution in (32, 96):
        dali, torchvision = (
            open_folder(folder, loader, resolution, spos=spos, fit=fit, workers=2 * (loader == "dali"))
            for loader in LOADERS
        )
        assert isinstance(dali.loader(), DaliLoader)
        pairs = zip(*(data.train_batches("all", 4, seed=0, epoch=1) for data in (dali, torchvision)), strict=True)
        for (x, a), (y, b) in pairs:
            assert torch.equal(a, b)
            assert (x - y).abs().mean() < 0.5 * grey
            assert (x - y)[..., 1:-1, 1:-1].abs().max() < 2.1 * grey  # of the edges DALI repeats pixels, PIL does not
            assert (x - y).abs().max() < 32 * grey


def test_a_training_crop_is_one_of_the_padded_or_squashed_picture(folder):
    """Against PIL, which makes the square first: each crop of the loader is a box of that square."""
    path, shape = str(folder / "a" / "00.jpg"), np.array([SHAPES[0]])
    picture, n = opened(path, ORANGE), 50
    draws = np.random.default_rng(0).random((n, CROP_DRAWS))
    nbytes = np.array([(folder / "a" / "00.jpg").stat().st_size])
    loader = TorchLoader([path], shape, nbytes, 64, workers=0, background=ORANGE)
    side = max(SHAPES[0])
    for fit in ("pad", "squash"):
        plan = random_crops(np.zeros(n, int), np.repeat(shape, n, 0), 64, draws, mirror=False, fit=fit)
        images, reasons = loader.decode_batch(plan)
        assert not any(reasons)
        above = (side - SHAPES[0][0]) // 2
        for (top, left, height, width), image in zip(plan.crop.tolist(), images, strict=True):
            first = top + above if fit == "pad" else top
            box = (left, first, left + width, first + height)
            expected = squared(picture, fit, ORANGE).crop(box).resize((64, 64), Image.Resampling.BILINEAR)
            assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("fit", FITS)
def test_crops_of_every_shape_hold_some_of_their_image(fit):
    draw = np.random.default_rng(0)
    sizes = np.concatenate(
        (draw.integers(1, 400, (4000, 2)), [(1, 1), (1, 2), (1, 999), (999, 1), (1, 1000), (2, 3)] * 50)
    )
    n = len(sizes)
    plan = random_crops(np.arange(n), sizes, 224, draw.random((n, CROP_DRAWS)), fit=fit)
    first, last = plan.crop[:, :2], plan.crop[:, :2] + plan.crop[:, 2:]
    assert (plan.crop[:, 2:] >= 1).all()
    inside = np.minimum(last, sizes) - np.maximum(first, 0)
    assert (inside >= 1).all()
    if fit == "pad":
        side = sizes.max(1, keepdims=True)
        margin = (side - sizes) // 2
        assert (first >= -margin).all()
        assert (last <= side - margin).all()  # within the square
        middle = (first + last) / 2
        assert ((middle >= -1) & (middle <= sizes + 1)).all()
        assert (inside < plan.crop[:, 2:]).any()
    else:
        assert ((first >= 0) & (last <= sizes)).all()
    assert plan.pads == (fit == "pad")


def test_a_square_picture_is_the_same_with_all():
    sizes, draws = np.full((500, 2), 300), np.random.default_rng(0).random((500, CROP_DRAWS))
    crop, squash, pad = (random_crops(np.arange(500), sizes, 64, draws, fit=fit).crop for fit in FITS)
    assert np.array_equal(crop, squash)
    assert (np.abs(crop - pad)[:, 2:] == 0).all()  # places differ: the middle stays on the picture, as it always does
    assert np.array_equal(crop, pad)
    plans = [central_crops(np.arange(1), sizes[:1], 64, spos=False, fit=fit) for fit in FITS]
    assert [plan.crop.tolist() for plan in plans] == [[[0, 0, 300, 300]]] * 3
    assert [plan.size.tolist() for plan in plans] == [[[73, 73]], [[64, 64]], [[64, 64]]]


def test_a_part_beyond_the_image_is_the_border():
    pixels = torch.arange(12, dtype=torch.uint8).view(1, 3, 4).repeat(3, 1, 1)
    part = cut_out(pixels, (-1, 2, 5, 4), ORANGE)
    assert part[0].tolist() == [[255] * 4, [2, 3, 255, 255], [6, 7, 255, 255], [10, 11, 255, 255], [255] * 4]
    assert part[1:, 0, 0].tolist() == [128, 0]
    assert torch.equal(cut_out(pixels, (1, 1, 2, 3), ORANGE), pixels[:, 1:, 1:])


@pytest.mark.parametrize(("background", "border"), [(None, (255,) * 3), ("black", (0,) * 3), ("drop", (0,) * 3)])
@pytest.mark.parametrize("loader", LOADERS)
def test_borders_have_the_colour_of_the_background(loader, background, border, folder):
    data = open_folder(folder, loader, 32, fit="pad", background=background)
    assert data.preprocessing()["border"] == list(border)
    wide = [k for k, (height, width) in enumerate(data.sizes[data.parts["all"]].tolist()) if width > 2 * height]
    images = torch.cat([images for images, _ in data.eval_batches("all", 8)])[wide].cpu()
    assert len(images)
    assert (images[:, :, 0] == torch.tensor(border)[:, None]).all()
    assert (images[:, :, -1] == torch.tensor(border)[:, None]).all()


def test_values_of_the_option():
    assert [DataOptions(data=name).fit for name in ("digits", "cifar10", "folder")] == [None, None, "crop"]
    with pytest.raises(InputError, match="unknown value of --fit 'pads'; did you mean 'pad'"):
        DataOptions(data="folder", fit="pads")
    with pytest.raises(InputError, match="--fit is of --data folder, and --data is digits; leave --fit out"):
        DataOptions(data="digits", fit="pad")
    assert "fit" in retrain_config.FROM_SUPERNET
    assert steps.PASSED["fit"] == ("data", "supernet")


def test_runs_of_older_code_read_as_they_did(folder, tmp_path):
    usual = open_folder(folder, "torchvision", workers=0)
    assert (usual.preprocessing()["fit"], usual.preprocessing()["short_side"]) == ("crop", 37)
    again = {"data": "folder", "data_root": str(folder), "out": str(tmp_path / "run"), "preset": "tiny"}
    stored = dataclasses.asdict(supernet_config.Config(**again))
    del stored["fit"]
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.pt").touch()
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps({"command": "supernet", "config": stored}))
    assert DataOptions.of(run_dir.load_run(tmp_path / "run", "supernet")).fit == "crop"
    resumed = supernet_config.Config(**again, resume=True)
    assert changes.changed_options(run_files.read(path, "run configuration")["config"], resumed) == []
    with pytest.raises(InputError, match="was started with --fit crop, not pad; give crop or another --out"):
        other = supernet_config.Config(**again, resume=True, fit="pad")
        run_dir.open_run(other.out, "supernet", other, resume=True)
    with pytest.raises(
        InputError, match="with --fit crop, not pad, and --seed 0, not 1; give --fit crop --seed 0 or another"
    ):
        other = supernet_config.Config(**again, resume=True, fit="pad", seed=1)
        run_dir.open_run(other.out, "supernet", other, resume=True)


def test_a_retraining_takes_it_from_its_supernet(folder, tmp_path):
    run = tmp_path / "run"
    config = supernet_config.Config(
        data="folder", data_root=str(folder), out=str(run), space="spos", preset="tiny", fit="pad"
    )
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"command": "supernet", "config": dataclasses.asdict(config)}))
    (run / "arc.json").write_text(json.dumps({f"block{number:02d}": "k3" for number in range(20)}))
    given = {"fixed_arc": str(run / "arc.json"), "supernet": str(run)}
    assert retrain_config.Config(**given).fit == "pad"
    assert retrain_config.Config(baseline="timm:mobilenetv2_100", supernet=str(run)).fit == "pad"
    with pytest.raises(InputError, match=r"--fit crop: supernet '.*' has pad; leave --fit out"):
        retrain_config.Config(**given, fit="crop")


@pytest.mark.parametrize("fit", FITS)
def test_timm_and_the_card_do_the_same(fit, folder, tmp_path, monkeypatch):
    """The transform that timm makes of config.json, after the lines of the card."""
    import timm

    data = open_folder(folder, "torchvision", 32, workers=0, fit=fit, background="#ff8000")
    how = data.preprocessing()
    network = torch.nn.Sequential(torch.nn.Linear(1, 2))
    about = {"preprocessing": how, "classes": ["a", "b"], "architecture": {"id": "0"}}
    cfg = timm_config(network, about, "0")["pretrained_cfg"]
    assert cfg["crop_mode"] == ("center" if fit == "crop" else "squash")
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=cfg))
    card = usage.with_timm("net", tmp_path, how)
    assert ("square.paste" in card) == (fit == "pad")
    said = {"crop": "its centre is cut out", "squash": "all of it is resized to a square"}
    said["pad"] = "it is laid in the middle of a square of the colour (255, 128, 0)"
    assert f"One that is not square: {said[fit]}. The lines" in usage.how_opened(how)
    images = torch.cat([images for images, _ in data.eval_batches("all", 8)])
    monkeypatch.chdir(tmp_path)
    for number, image in zip(data.parts["all"], images, strict=True):
        Image.open(data.files[number]).convert("RGBA").save("photo.png")
        names = {}
        exec("\n".join([*usage.opened(how), *usage.squared(how)]), names)
        assert (transform(names["image"]) - data.normalise(image[None])[0]).abs().max() <= 1.01 / 255 / 0.224


def test_data_check_counts_what_a_central_crop_loses(folder, tmp_path, capsys):
    assert losing_much(np.array([(80, 100), (79, 100), (100, 79), (100, 100), (3, 4)])) == 3
    assert losing_much(np.empty((0, 2), int)) == 0
    found = {}
    for fit in FITS:
        path = tmp_path / f"{fit}.png"
        found[fit] = check.check_folder(
            check_config.Config(data_root=str(folder), fit=fit, background="#ff8000", out=str(path))
        )
        out = capsys.readouterr().out
        assert (found[fit]["fit"], found[fit]["cut"]) == (fit, 36)
        assert "not square                   36 lose more than a fifth of their area in a central crop (--fit)" in out
        assert ("give --fit squash or --fit pad" in out) == (fit == "crop")
        assert (f"--fit {fit}" in found[fit]["next"]) == (fit != "crop")
        sheet = np.asarray(Image.open(path))
        side, line = SHEET_PIXELS, SHEET_PIXELS + 4
        cells = [sheet[20 : 20 + side, 160 + k * line : 160 + k * line + side] for k in range(4)]
        edges = [(cell[0] == ORANGE).all() or (cell[:, 0] == ORANGE).all() for cell in cells]
        assert any(edges) == (fit == "pad")
