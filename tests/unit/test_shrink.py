"""`trials.data shrink`: a copy of an image folder with smaller images; and when it is advised."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from spaces.errors import InputError
from tests.commands import ROOT
from trials import data
from trials.common.answers import Answered
from trials.images import check, check_config, first_look, large, shrink, shrink_config
from trials.images.crops import short_side_of, side_for_copies
from trials.images.inspect_file import inspect_image
from trials.images.listing import find_images
from trials.images.options import DataOptions
from trials.images.scan import scan
from trials.images.selection import select_images
from trials.images.torch_loader import decode


def picture(number, width=400, height=300, mode="RGB"):
    draw = np.random.default_rng(number).integers(0, 256, (height // 20, width // 20, 4)).astype(np.uint8)
    return Image.fromarray(draw, "RGBA").resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def save(path, image, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """train/ and val/ with classes a and b, of every kind of file that training reads, and two that it does not."""
    root = tmp_path_factory.mktemp("shrink") / "images"
    for number, place in enumerate(
        ("train/a/deep/1.jpg", "train/a/2.JPEG", "train/b/3.jpg", "val/a/4.jpg", "val/b/5.jpg")
    ):
        save(root / place, picture(number), format="JPEG", quality=95)
    exif = Image.Exif()
    exif[274] = 6
    save(root / "train/a/turned.jpg", picture(10), exif=exif, quality=95)
    save(root / "train/a/small turned.jpg", picture(11, 60, 40), exif=exif, quality=95)
    save(root / "train/a/clear.png", picture(12, mode="RGBA"))
    save(root / "train/a/clear.webp", picture(13, mode="RGBA"))
    save(root / "train/a/palette.gif", picture(14).quantize(32))
    save(root / "train/b/grey.png", picture(15, mode="L"))
    save(root / "train/b/cmyk.jpg", picture(16, mode="CMYK"))
    save(root / "train/b/deep.png", Image.fromarray(np.asarray(picture(17, mode="L")).astype(np.uint16) * 257))
    save(root / "train/b/a.tif", picture(18))
    save(root / "train/b/small.bmp", picture(19, 60, 40))
    save(root / "train/b/tall.png", picture(20, 80, 800))
    (root / "train/b/bad.jpg").write_bytes((root / "train/b/3.jpg").read_bytes()[:900])
    (root / "train/b/empty.png").touch()
    return root


@pytest.fixture(scope="module")
def copied(originals, tmp_path_factory):
    out = tmp_path_factory.mktemp("copies") / "small"
    return out, shrink.shrink_folder(shrink_config.Config(data_root=str(originals), side=64, out=str(out), workers=2))


NAMES = {"palette.gif": "palette.gif.png", "a.tif": "a.tif.png"}  # of formats that the copy does not keep


def test_a_copy_is_laid_out_as_its_original(originals, copied):
    out, found = copied
    expected = {
        path.relative_to(originals).with_name(NAMES.get(path.name, path.name))
        for path in originals.rglob("*.*")
        if path.name not in ("bad.jpg", "empty.png")
    }
    assert {path.relative_to(out) for path in out.rglob("[!.]*.*")} == expected
    assert [path for path, _ in found["left_out"]] == ["train/b/bad.jpg", "train/b/empty.png"]
    assert (found["shrunk"], found["files"]) == (15, 18)
    before, after = find_images(originals), find_images(out)
    assert (before.classes, before.layout) == (after.classes, after.layout)
    here = [path for path in before.paths if not path.endswith(("bad.jpg", "empty.png"))]
    assert len(here) == len(after.paths)


def test_images_are_shrunk_upright_and_keep_what_they_show(originals, copied):
    out, _ = copied
    for path in out.rglob("[!.]*.*"):
        original = originals / path.relative_to(out).with_name(
            path.name.replace(".gif.png", ".gif").replace(".tif.png", ".tif")
        )
        now, then = inspect_image(str(path)), inspect_image(str(original))
        upright = decode(str(original), turn=True, background=(255, 255, 255)).permute(1, 2, 0).numpy()
        height, width = upright.shape[:2]
        scale = min(1, 64 / min(height, width))
        assert (now.height, now.width) == (round(scale * height), round(scale * width)), path
        assert (" turned " in now.kind, now.problem) == (False, "")
        assert (" transparent" in now.kind) == (" transparent" in then.kind)
        expected = Image.fromarray(upright).resize((now.width, now.height), Image.Resampling.LANCZOS)
        seen = decode(str(path), background=(255, 255, 255)).permute(1, 2, 0).numpy()
        assert np.abs(seen.astype(int) - np.asarray(expected)).mean() < 4, path
    assert inspect_image(str(out / "train/b/grey.png")).kind == "PNG L"
    assert inspect_image(str(out / "train/a/clear.webp")).kind == "WEBP RGBA transparent"
    assert (out / "train/b/small.bmp").read_bytes() == (originals / "train/b/small.bmp").read_bytes()


def test_the_same_command_goes_on_where_it_was(originals, copied, capsys):
    out, _ = copied
    lost, changed = out / "train/a/deep/1.jpg", originals / "train/b/grey.png"
    kept = (out / "train/b/3.jpg").stat().st_ino
    lost.unlink()
    os.utime(changed)  # another file since
    again = shrink.shrink_folder(shrink_config.Config(data_root=str(originals), side=64, out=str(out), workers=1))
    assert again["shrunk"] == 2
    assert lost.exists()
    assert (out / "train/b/3.jpg").stat().st_ino == kept
    assert "there already       14\n" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"is the copy of '.*' with a side of 64; give the same, or another --out"):
        shrink.shrink_folder(shrink_config.Config(data_root=str(originals), side=48, out=str(out)))


def test_the_command_ends_as_the_check_does(originals, tmp_path, capsys):
    with pytest.raises(Answered) as ended:
        data.main(["shrink", str(originals), "--side", "32", "--out", str(tmp_path / "s")])
    assert (ended.value.code, ended.value.answer["copy"]) == (1, str(tmp_path / "s"))
    out = capsys.readouterr().out
    assert "is empty (0 bytes) (1): 'train/b/empty.png'" in out
    assert out.endswith(f"next: python -m trials.data check {tmp_path / 's'}\n")


def test_the_labels_of_a_flat_val_come_along(tmp_path):
    root, out = tmp_path / "images", tmp_path / "copy"
    for number in range(4):
        save(root / "train" / "ab"[number % 2] / f"{number}.jpg", picture(number))
        save(root / "val" / f"v{number}.jpg", picture(10 + number))
    (root / "val.csv").write_text("".join(f"v{number}.jpg,{'ab'[number % 2]}\n" for number in range(4)))
    shrink.shrink_folder(shrink_config.Config(data_root=str(root), side=32, out=str(out)))
    before, after = find_images(root), find_images(out)
    assert [*before.paths] == [*after.paths]
    assert np.array_equal(before.labels, after.labels)
    assert np.array_equal(before.splits, after.splits)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"side": 15}, "--side 15 is below 16 pixels; give more, such as 336"),
        ({"side": -3}, "--side -3 is below 16 pixels"),
        ({"out": ""}, "--out '' names nothing; give a name"),
        ({"out": "{root}"}, "lies in the image folder, or around it; give a folder beside it, such as"),
        ({"out": "{root}/small"}, "lies in the image folder, or around it"),
        ({"out": "{root}/.."}, "lies in the image folder, or around it"),
        ({"out": str(ROOT / "docs")}, "holds something else than a copy; give a folder that is new or empty"),
        ({"out": str(ROOT / "README.md")}, "holds something else than a copy"),
        ({"out": "/proc/nothing"}, "cannot be written"),
        ({"data_root": "/nothing"}, "data folder '/nothing' does not exist"),
        ({"workers": -1}, "--workers -1 is below 0"),
        ({"val_labels": "/nothing"}, "--val-labels '/nothing' is for a flat val/"),
    ],
)
def test_what_cannot_be_copied_is_refused_in_one_line(words, says, originals, tmp_path):
    given = {"data_root": str(originals), "side": 64, "out": str(tmp_path / "small")} | words
    given["out"] = given["out"].replace("{root}", str(originals))
    with pytest.raises(InputError) as refused:
        shrink.shrink_folder(shrink_config.Config(**given))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "small").exists()


def test_the_record_of_a_copy_may_be_damaged(originals, tmp_path):
    (tmp_path / shrink.RECORD).write_text(json.dumps([1]))
    with pytest.raises(InputError, match="is the copy of 'None'"):
        shrink.shrink_folder(shrink_config.Config(data_root=str(originals), side=64, out=str(tmp_path)))


# when it is advised


@pytest.mark.parametrize(("resolution", "side"), [(224, 336), (160, 240), (128, 192), (32, 56)])
def test_copies_are_large_enough_for_a_crop_of_half_of_the_area(resolution, side):
    assert side_for_copies(resolution) == side
    assert side >= short_side_of(resolution)
    assert side / 2**0.5 >= resolution
    sizes = np.full((3, 2), [3 * max(side, 500), max(1.5 * side, 500)], int)
    assert large.advised_side(sizes, resolution) == side
    assert large.advised_side(sizes - 2, resolution) == 0
    assert large.advised_side(sizes[:0], resolution) == 0


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    for number in range(10):
        save(root / "ab"[number % 2] / f"{number}.jpg", picture(number, 1200, 900))
    return root


def test_the_check_measures_what_a_copy_saves(photographs, capsys):
    found = check.check_folder(check_config.Config(data_root=str(photographs), out=""), data.network_for)
    out = capsys.readouterr().out
    line = f"python -m trials.data shrink {photographs} --side 56 --out {photographs}-56"
    assert found["shrink"] == line
    assert f"  once: {line}\n" in out
    assert "large images: a short side of 900 pixels (median), and a network of preset tiny looks at 32;" in out
    assert "(6 images, PIL, one core): an epoch of\n  8 images saves" in out
    listing = find_images(photographs)
    scanned = scan(listing.paths.under(photographs), 1)
    gain = large.measure(listing.paths.under(photographs), scanned.sizes, 56)
    assert gain.images == 6
    assert gain.before > 2 * gain.after > 0
    assert large.measure(["/nothing"], np.array([[99, 99]]), 56) is None


def test_training_says_it_from_what_it_knows(photographs, capsys):
    listing = find_images(photographs)
    images = select_images(listing, scan(listing.paths.under(photographs), 1), 0.1)
    options = DataOptions(data="folder", data_root=str(photographs), loader="torchvision")
    first_look.report(images, [], options, 32)
    assert f"looks at 32, and every epoch decodes all of them; a smaller copy, once: python -m trials.data shrink {photographs} --side 56" in capsys.readouterr().out  # fmt: skip
    first_look.report(images, [], options, 512)
    assert capsys.readouterr().out == ""


def nearly_equal(root):
    """In each of two classes 4 pictures, and 3 of one that differ in one value of one pixel, which no small copy shows."""
    for name in ("a", "b"):
        for number in range(4):
            save(root / name / f"{number}.png", picture(100 * ord(name) + number))
        pixels = np.asarray(picture(ord(name))).copy()
        for number in range(3):
            pixels[number, 0, 0] ^= 1
            save(root / name / f"alike{number}.png", Image.fromarray(pixels))
    (root / "a" / "twice.png").write_bytes((root / "a" / "0.png").read_bytes())


def test_copies_that_became_equal_are_told(tmp_path, capsys):
    """A run uses one of equal files: the parts of the copy are others. Originals that are equal are no news."""
    root, out = tmp_path / "images", tmp_path / "small"
    nearly_equal(root)
    config = shrink_config.Config(data_root=str(root), side=32, out=str(out), workers=1)
    found = shrink.shrink_folder(config)
    assert found["equal_copies"] == 4
    said = " ".join(capsys.readouterr().out.split())
    assert "note: 4 copies are equal to others, although their originals differ; of equal files a run uses one" in said
    counted = []
    for folder in (root, out):
        listing = find_images(folder)
        counted.append(len(select_images(listing, scan(listing.paths.under(listing.root), 1), 0.1).labels))
    assert counted == [14, 14 - found["equal_copies"]]
    assert shrink.shrink_folder(config)["equal_copies"] == 4  # also where nothing is left to do
    large = shrink_config.Config(data_root=str(root), side=300, out=str(tmp_path / "large"), workers=1)
    assert shrink.shrink_folder(large)["equal_copies"] == 0
    assert "equal to others" not in " ".join(capsys.readouterr().out.split()).rpartition("large")[2]


def test_what_an_earlier_command_copied_is_no_speed_of_this_one(tmp_path, monkeypatch):
    root, out = tmp_path / "images", tmp_path / "small"
    nearly_equal(root)
    config = shrink_config.Config(data_root=str(root), side=32, out=str(out), workers=1)
    shrink.shrink_folder(config)
    for path in sorted(out.glob("a/*.png"))[:5]:
        path.unlink()
    bars, make = [], shrink.cli.progress
    monkeypatch.setattr(shrink, "BAR_ABOVE", 3)
    monkeypatch.setattr(shrink, "CHUNK", 4)
    monkeypatch.setattr(shrink.cli, "progress", lambda *given, **how: bars.append(make(*given, **how)) or bars[-1])
    assert shrink.shrink_folder(config)["shrunk"] == 5
    (bar,) = [bar for bar in bars if bar.desc == "shrink images"]
    assert (bar.total, bar.n, bar.n - bar.initial) == (15, 15, 5)


def test_huge_images_are_named_without_a_warning_of_pillow(tmp_path, monkeypatch):
    """In a process of its own: pytest takes warnings away."""
    for name in ("a", "b"):
        save(tmp_path / "images" / name / "1.png", picture(ord(name)))
    save(tmp_path / "images" / "a" / "huge.png", Image.new("1", (10_000, 9_000)))
    save(tmp_path / "images" / "a" / "bomb.png", Image.new("1", (20_000, 9_000)))
    run = subprocess.run(
        [sys.executable, "-m", "trials.data", "check", str(tmp_path / "images"), "--out", ""],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr == ""
    assert "very large (1): 'a/huge.png' '10,000 x 9,000 pixels'" in run.stdout
    assert "has more pixels than are read (178,956,970); make it smaller (1): 'a/bomb.png'" in run.stdout


def test_lines_stay_within_120_columns_and_no_next_is_said_in_the_road(tmp_path, capsys, monkeypatch):
    long = "a class with a very long name that goes on " * 4
    for number in range(40):
        name = f"{number:02d} {long}"[:200]
        for k in range(1 + 9 * (number == 3)):
            mode = "RGBA" if number % 2 else "RGB"
            save(tmp_path / "images" / name / f"{long[:150]} {k}.png", picture(100 * number + k, 40, 40, mode))
        save(tmp_path / "images" / name / "broken.png", picture(7, 40, 40))
        (tmp_path / "images" / name / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    config = check_config.Config(data_root=str(tmp_path / "images"), out="")
    check.check_folder(config, data.network_for)
    out = capsys.readouterr().out
    assert "classes differ in size" in out
    assert "classes differ in transparent images" in out
    lines = [line for line in out.splitlines() if not line.startswith("next: ")]  # a command is typed whole
    assert max(map(len, lines)) <= 120
    assert "…" in out
    assert "next: " in out
    monkeypatch.setenv("ONEPATH_IN_ROAD", "1")
    assert check.check_folder(config, data.network_for)["next"] is None
    assert "next: " not in capsys.readouterr().out
