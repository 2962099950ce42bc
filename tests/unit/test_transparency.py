"""Transparent images: laid on one colour, the same in both loaders and in the shipped forms; blank images are told of."""

import dataclasses
import io
import json
import sqlite3
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from spaces.errors import InputError
from tests.unit.test_data import LOADERS, open_folder
from tests.unit.test_options import config_of
from trials.common import changes, cli, run_dir, run_files
from trials.evidence import gates, image_gates
from trials.export_formats.module_file import constant, preprocess_source
from trials.images import check, check_config, image_list, scan
from trials.images.background import DROP, colour_of, normal_form
from trials.images.blank import Blank, blank_classes, shown_colour
from trials.images.inspect_file import inspect_image
from trials.images.options import DataOptions
from trials.images.torch_loader import decode
from trials.road import steps
from trials.training import retrain_config, run_gates, supernet_config

WHITE, ORANGE = (255, 255, 255), (255, 128, 0)
HOW = {"resolution": 4, "short_side": None, "channels": "RGB", "range": 1, "mean": [0.0] * 3, "std": [1.0] * 3, "resize": "antialias"}  # fmt: skip


def encoded(image, form, **how):
    buffer = io.BytesIO()
    image.save(buffer, form, **how)
    return buffer.getvalue()


def png(bits, colour, row, clear, width=2):
    """A PNG of one row with one transparent colour: PIL writes none of 2, 4 and 16 bits with it."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    parts = (b"IHDR", head), (b"tRNS", clear), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def pixels(mode, values):
    """An image of one row."""
    return Image.fromarray(np.array([values], np.uint8), mode) if mode != "P" else None


def palette(form, clear):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    return encoded(image, form, transparency=clear)


RGBA = [(10, 20, 30, 0), (10, 20, 30, 51), (10, 20, 30, 128), (10, 20, 30, 255)]
# name -> file, pixels on white, pixels without transparency
ON_WHITE = [(255, 255, 255), (206, 208, 210), (132, 137, 142), (10, 20, 30)]  # (c * a + 255 * (255 - a)) / 255, rounded
GREYS = [(10, 0), (10, 51), (10, 128), (10, 255)]
CASES = {
    "RGBA": (encoded(pixels("RGBA", RGBA), "PNG"), ON_WHITE, [(10, 20, 30)] * 4),
    "WebP": (encoded(pixels("RGBA", RGBA), "WEBP", lossless=True, exact=True), ON_WHITE, [(10, 20, 30)] * 4),
    "TIFF": (encoded(pixels("RGBA", RGBA), "TIFF"), ON_WHITE, [(10, 20, 30)] * 4),
    "LA": (encoded(pixels("LA", GREYS), "PNG"), [(255,) * 3, (206,) * 3, (132,) * 3, (10,) * 3], [(10,) * 3] * 4),
    "P with alpha": (palette("PNG", b"\x80"), [(132, 137, 142), (200, 100, 50)], [(10, 20, 30), (200, 100, 50)]),
    "P with a key": (palette("PNG", 1), [(10, 20, 30), (255, 255, 255)], [(10, 20, 30), (200, 100, 50)]),
    "GIF": (palette("GIF", 1), [(10, 20, 30), (255, 255, 255)], [(10, 20, 30), (200, 100, 50)]),
    "RGB with a key": (png(8, 2, b"\1\2\3\4\5\6", b"\0\1\0\2\0\3"), [WHITE, (4, 5, 6)], [(1, 2, 3), (4, 5, 6)]),
    "RGB of 16 bits": (png(16, 2, b"\x80\1" * 3 + b"\0\0" * 3, b"\x80\1" * 3), [WHITE, (0,) * 3], [(128,) * 3, (0,) * 3]),
    "grey with a key": (png(8, 0, b"\x5a\0", b"\0\x5a"), [WHITE, (0,) * 3], [(90,) * 3, (0,) * 3]),
    "grey of 4 bits": (png(4, 0, b"\x5a", b"\0\x0a"), [(85,) * 3, WHITE], [(85,) * 3, (170,) * 3]),
    "grey of 2 bits": (png(2, 0, b"\x60", b"\0\2"), [(85,) * 3, WHITE], [(85,) * 3, (170,) * 3]),
    "grey of 1 bit": (png(1, 0, b"\x40", b"\0\0"), [WHITE, WHITE], [(0,) * 3, WHITE]),
    "grey of 16 bits": (png(16, 0, b"\x5a\1\x5a\2", b"\x5a\2"), [(90,) * 3, WHITE], [(90,) * 3] * 2),
    "all transparent": (encoded(Image.new("RGBA", (2, 1)), "PNG"), [WHITE] * 2, [(0,) * 3] * 2),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("name", CASES)
def test_transparent_pixels_are_laid_on_the_background(name, classify, tmp_path):
    content, on_white, dropped = CASES[name]
    path = tmp_path / "image"
    path.write_bytes(content)
    for background, expected in ((WHITE, on_white), (None, dropped)):
        assert [tuple(row) for row in decode(str(path), background=background)[:, 0].T.tolist()] == expected
        how = HOW | {"background": list(background) if background else None}
        assert [tuple(row) for row in np.asarray(classify.open_rgb(str(path), how))[0].tolist()] == expected
        older = {key: value for key, value in how.items() if key != "background"}  # of a network of older code
        assert [tuple(row) for row in np.asarray(classify.open_rgb(str(path), older))[0].tolist()] == dropped
    found = inspect_image(str(path))
    assert (" transparent" in found.kind, "transparency" in found.unusual, found.problem) == (True, True, "")


def test_every_background_shows_through(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(CASES["RGBA"][0])
    shown = decode(str(path), background=ORANGE)[:, 0].T.tolist()
    assert shown == [[255, 128, 0], [206, 106, 6], [132, 74, 15], [10, 20, 30]]


@pytest.mark.parametrize("side", [4, None])
def test_an_exported_module_lays_rgba_on_the_background(side):
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 6, 9)).astype(np.uint8))
    names = {}
    how = HOW | {"background": list(ORANGE), "short_side": side}
    exec(
        "import torch\nimport torch.nn.functional as F\n" + constant("PREPROCESSING", how) + preprocess_source(how),
        names,
    )
    laid = Image.new("RGB", (9, 6), ORANGE)
    rgba = Image.fromarray(image.permute(1, 2, 0).numpy(), "RGBA")
    laid.paste(rgba, mask=rgba)
    expected = names["preprocess"](torch.from_numpy(np.array(laid)).permute(2, 0, 1))
    assert torch.equal(names["preprocess"](image), expected)
    assert torch.equal(names["preprocess"]((image.to(torch.int32) * 257).to(torch.uint16)), expected)
    assert "alpha" not in preprocess_source(HOW)  # of a network of older code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of icons with soft edges in all kinds of files, each large enough to be resized."""
    root = tmp_path_factory.mktemp("icons")
    for number in range(24):
        draw = np.random.default_rng(number)
        array = draw.integers(0, 256, (6, 5, 4)).astype(np.uint8)
        image = Image.fromarray(array, "RGBA").resize((60 + number, 70), Image.Resampling.BICUBIC)
        kind = number // 2 % 4
        image = (image, image.convert("LA"), image.quantize(64), image)[kind]
        path = root / "ab"[number % 2] / f"{number:02d}.{'webp' if kind == 3 else 'png'}"
        path.parent.mkdir(exist_ok=True)
        image.save(path, **({"lossless": True, "exact": True} if kind == 3 else {}))
    return root


@pytest.mark.parametrize("background", ["white", "#ff8000", DROP])
def test_both_loaders_give_the_same(folder, background, capfd):
    dali, torchvision = (open_folder(folder, loader, background=background) for loader in LOADERS)
    said = "and their transparency is dropped" if background == DROP else f"and laid on {background}"
    assert f"note: 24 images are transparent, {said}; another: --background" in capfd.readouterr().out
    expected = list(colour_of(background)) if background != DROP else None
    assert dali.preprocessing()["background"] == torchvision.preprocessing()["background"] == expected
    for (x, a), (y, b) in zip(dali.eval_batches("all", 8), torchvision.eval_batches("all", 8), strict=True):
        assert torch.equal(a, b)
        assert (x.int() - y.int()).abs().max() <= 1  # a grey level of resizing
    trained = (data.train_batches("train", 4, seed=0, epoch=0) for data in (dali, torchvision))
    for (x, _), (y, _) in zip(*trained, strict=True):
        assert (x - y).abs().mean() < 0.5 / 255 / 0.22


def test_values_of_the_option():
    assert [normal_form(text) for text in ("White", " GRAY ", "#FFFFFF", "#FFF", "#Ff8000", "#f80", "drop")] == [
        *("white", "grey", "white", "white", "#ff8000", "#ff8800", DROP)
    ]
    for bad in ("", "red", "#ff", "ff8000", "#ff80000", "255,255,255", "#gg8000", "w" * 300):
        with pytest.raises(InputError, match="is no colour; give white, black, grey, one as '#RRGGBB'") as caught:
            normal_form(bad)
        assert len(str(caught.value)) < 350
    assert DataOptions(data="folder", data_root="x").background == "white"
    assert DataOptions(data="digits").background is None
    with pytest.raises(InputError, match="--background is of --data folder, and --data is digits; leave --background"):
        DataOptions(data="digits", background="white")


def test_a_value_is_spelled_in_one_way_where_options_are_read(tmp_path, folder):
    """A supernet's `white` is what WHITE and #fff are, for a retraining and in a road's file of options."""
    for command in ("supernet", "retrain", "data"):
        config, words = (
            config_of(command),
            ["x"] if command == "data" else ["--data", "folder", "--data-root", "x", "--out", "x"],
        )
        for given in ("WHITE", "#FFF", "white"):
            assert cli.read(config, [*words, "--background", given], None, command)[0]["background"] == "white"
        with pytest.raises(InputError, match="--background 'red' is no colour"):
            cli.read(config, [*words, "--background", "red"], None, command)
    assert steps.section_for("supernet", {"supernet": {"background": "Gray", "lr": 1}}) == {
        "background": "grey",
        "lr": 1,
    }
    assert steps.section_for("supernet", {"supernet": {"background": "red"}}) == {"background": "red"}


def old_run(folder, out, command="supernet"):
    """A run directory of the code before --background, which has begun to train."""
    (out / "checkpoints").mkdir(parents=True)
    (out / "checkpoints" / "last.pt").touch()
    config = supernet_config.Config(
        data="folder", data_root=str(folder), out=str(out), preset="tiny", batch_size=8, epochs=1
    )
    stored = dataclasses.asdict(config)
    del stored["background"]
    (out / "config.json").write_text(json.dumps({"command": command, "config": stored}))
    return config


def test_runs_of_older_code_read_as_they_did(folder, tmp_path):
    begun = old_run(folder, tmp_path / "run")
    assert begun.background == "white"
    stored = run_dir.load_run(tmp_path / "run", "supernet")
    assert stored["background"] == DROP
    assert DataOptions.of(stored).background == DROP
    again = {"data": "folder", "data_root": str(folder), "out": str(tmp_path / "run"), "preset": "tiny"}
    resumed = supernet_config.Config(**again, resume=True, batch_size=8, epochs=1)
    assert resumed.background == DROP
    assert (
        changes.changed_options(
            run_files.read(tmp_path / "run" / "config.json", "run configuration")["config"], resumed
        )
        == []
    )
    other = supernet_config.Config(**again, resume=True, background="white", batch_size=8, epochs=1)
    with pytest.raises(InputError, match="was started with --background drop, not white; give drop or another --out"):
        run_dir.open_run(other.out, "supernet", other, resume=True)


def test_the_scan_tells_transparency_and_keeps_it(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    paths = sorted(str(path) for path in folder.rglob("*.*"))
    first, second = scan.scan(paths, 2), scan.scan(paths, 2)
    assert {kind.partition(" ")[2] for kind in first.kinds} == {"RGBA transparent", "LA transparent", "P transparent"}
    assert [first[k] for k in range(24)] == [second[k] for k in range(24)]


def test_what_an_older_scan_knows_is_kept_but_for_the_colours_of_jpegs(tmp_path, monkeypatch):
    """It had grey values of those of one single colour; a large folder is not read anew for that."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = [str(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.png")]
    for path in paths:
        Image.new("RGB", (8, 8), "red").save(path)
    (tmp_path / "cache" / "onepath").mkdir(parents=True)
    with sqlite3.connect(tmp_path / "cache" / "onepath" / "scan.sqlite") as cache:
        cache.execute(f"CREATE TABLE {scan.OLDER} ({scan.COLUMNS})")
        flats = ("", "#4c4c4c", "#ff0000")
        for path, (nbytes, changed), flat in zip(paths, scan._stamps(paths), flats, strict=True):
            kind = "JPEG RGB" if path.endswith("jpg") else "PNG RGB"
            cache.execute(
                f"INSERT INTO {scan.OLDER} VALUES (?,?,?,77,77,?,'','',1,?)",
                (path.encode(), nbytes, changed, kind, flat),
            )
    found = scan.scan(paths, 1)
    assert found.sizes.tolist() == [[77, 77], [8, 8], [77, 77]]  # of the old table; looked at now
    assert found.flats == {1: "#fe0000", 2: "#ff0000"}


# blank images

INKS = {
    "black opaque": (Image.new("RGB", (20, 20)), "PNG", "#000000"),
    "nearly white JPEG": (Image.new("RGB", (40, 40), (253, 254, 253)), "JPEG", "#fefefe"),
    "red JPEG": (Image.new("RGB", (40, 40), (255, 0, 0)), "JPEG", "#fe0000"),
    "JPEG of two colours as bright as each other": (
        Image.fromarray(np.repeat(np.array([[[255, 0, 0]] * 16 + [[0, 130, 0]] * 16], np.uint8), 32, 0)), "JPEG", ""
    ),
    "CMYK JPEG": (Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG", "#ff0101"),
    "grey of 16 bits": (Image.fromarray(np.full((20, 20), 257 * 128, np.uint16)), "PNG", "#808080"),
    "palette": (Image.new("P", (20, 20)), "PNG", "#000000"),
    "invisible": (Image.new("RGBA", (20, 20), (9, 9, 9, 0)), "PNG", "any"),
    "glass": (Image.new("RGBA", (20, 20), (9, 9, 9, 90)), "PNG", "any"),
    "two colours": (Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 20, 0).repeat(10, 1)), "PNG", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", INKS)
def test_images_of_one_single_colour_are_found(name, tmp_path):
    image, form, flat = INKS[name]
    path = tmp_path / "image"
    image.save(path, form)
    assert inspect_image(str(path)).flat == flat


def drawing(colour, path, *, spot=None):
    """A disc with soft edges in one colour on nothing, and with a spot in another one."""
    y, x = np.mgrid[:40, :40]
    array = np.zeros((40, 40, 4), np.uint8)
    array[:, :, :3] = colour
    array[:, :, 3] = (255 * np.clip(15 - np.hypot(x - 20, y - 20), 0, 1)).astype(np.uint8)
    if spot:
        array[20, 20, :3] = spot
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array, "RGBA").save(path)


def test_a_drawing_in_the_colour_of_the_background_is_blank(tmp_path):
    drawing((0, 0, 0), tmp_path / "ink.png")
    drawing((0, 0, 0), tmp_path / "spot.png", spot=(200, 0, 0))
    assert inspect_image(str(tmp_path / "ink.png")).flat == "ink #000000"
    assert inspect_image(str(tmp_path / "spot.png")).flat == ""
    seen = {background: shown_colour("ink #000000", background) for background in ("black", "white", "#020202", DROP)}
    assert seen == {"black": "black", "white": "", "#020202": "black", DROP: ""}
    assert [shown_colour("any", background) for background in ("white", "#ff8000", DROP)] == ["white", "#ff8000", ""]
    assert [shown_colour(flat, "white") for flat in ("", "#ff8000", "#fefefe")] == ["", "#ff8000", "white"]


@pytest.fixture(scope="module")
def dark(tmp_path_factory):
    """Class a: 12 of 20 drawings in black; class b: 1 of 20."""
    root = tmp_path_factory.mktemp("dark")
    for number in range(40):
        black = number < 12 or number == 20
        colour, spot = ((0, 0, 0), None) if black else ((255, 200, 10), (number, 0, 0))
        path = root / ("a" if number < 20 else "b") / f"{number:02d}.png"
        drawing(colour, path, spot=spot)
        with open(path, "ab") as file:  # no two files are the same
            file.write(bytes([number]))
    return root


def test_classes_of_blank_images_are_warned_of_before_training(dark, tmp_path):
    data = open_folder(dark, "torchvision", workers=0, background="black")
    assert data.blank == [Blank("a", 12, 20, "black", "a/00.png", 12), Blank("b", 1, 20, "black", "b/20.png", 1)]
    config = supernet_config.Config(
        data="folder", data_root=str(dark), out=str(tmp_path), preset="tiny", background="black", batch_size=4, epochs=400, warm_start=0.0, lr=0.01
    )  # fmt: skip
    run_dir.open_run(config.out, "supernet", config, resume=False, quiet=True)
    found = [
        warning for warning in run_gates.before_supernet(config, data) if warning and warning.gate == image_gates.BLANK
    ]
    assert len(found) == 1
    assert found[0].text == (
        "12 of 20 images of class 'a' are all black, such as 'a/00.png'; one that shows nothing teaches nothing"
    )
    assert "--background grey" in found[0].command
    assert not open_folder(dark, "torchvision", workers=0).blank  # on white they show
    # a run that goes on does not look at its images again, and keeps the warning
    gates.keep_warnings(tmp_path, "supernet", found)
    data.blank = None
    again = [
        warning for warning in run_gates.before_supernet(config, data) if warning and warning.gate == image_gates.BLANK
    ]
    assert [warning.plain() for warning in again] == [warning.plain() for warning in found]


def test_data_check_tells_all_of_it(dark, tmp_path, capsys):
    found = check.check_folder(
        check_config.Config(data_root=str(dark), background="black", out=str(tmp_path / "sheet.png"))
    )
    out = capsys.readouterr().out
    assert (found["transparent"], found["background"], found["blank"]) == (40, "black", {"a": 12, "b": 1})
    assert "transparent                  40, and laid on black (--background)" in out
    assert "one single colour, which teaches nothing: 13\n  class 'a': 12 of 20, all black 'a/00.png'" in out
    assert "13 of them are drawn in the colour of the background: try another --background" in out
    assert "--background black" in found["next"]
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert tuple(sheet[25, 161]) == (0, 0, 0)  # a corner of the first image
    check.check_folder(check_config.Config(data_root=str(dark), out=str(tmp_path / "white.png")))
    out = capsys.readouterr().out
    assert "one single colour" not in out
    assert "laid on white" in out
    assert tuple(np.asarray(Image.open(tmp_path / "white.png"))[25, 161]) == WHITE


def test_classes_that_differ_in_transparency_are_told(tmp_path, capsys):
    for number in range(20):
        drawing((number, 0, 0), tmp_path / "images" / "clear" / f"{number}.png")
        path = tmp_path / "images" / "opaque" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (9, 9, 3)).astype(np.uint8)).save(path)
    check.check_folder(check_config.Config(data_root=str(tmp_path / "images"), out=""))
    out = capsys.readouterr().out
    assert "classes differ in transparent images: most in clear 20 of 20, opaque 0 of 20; least in opaque 0" in out


def test_a_list_of_images_keeps_what_is_transparent(folder, tmp_path):
    data = open_folder(folder, "torchvision", workers=0)
    data.save(tmp_path)
    assert image_list.count_transparent(image_list.load_list(tmp_path)) == 24


def test_blank_images_are_counted_by_class():
    found = blank_classes(
        {0: "#000000", 3: "any", 4: ""}, list("abcde"), np.array([0, 0, 1, 1, 1]), ["x", "y"], "white"
    )
    assert found == [Blank("x", 1, 2, "black", "a", 0), Blank("y", 1, 3, "white", "d", 0)]
    assert image_gates.blank_images(found, "look") is None  # one of a class is no pattern


def test_a_retraining_takes_the_background_of_its_supernet_or_says_no(folder, tmp_path):
    assert "background" in retrain_config.FROM_SUPERNET
    with pytest.raises(InputError, match="--background 'purple' is no colour"):
        retrain_config.Config(
            baseline="timm:mobilenetv2_100", data="folder", data_root=str(folder), background="purple"
        )
