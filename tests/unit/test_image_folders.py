"""What is in an image folder: layouts as they are downloaded, label files, and that nothing below the root goes uncounted."""

import gzip
import os
import random
import re
import shutil
import socket
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spaces.errors import InputError
from tests.unit.test_data import open_folder
from trials import data
from trials.common.answers import Answered
from trials.images import check, check_config, heic
from trials.images.image_list import LEFT_OUT, LIST, load_list
from trials.images.listing import find_images
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.images.torch_loader import decode
from trials.images.val_labels import read_val_labels
from trials.images.walk import by_reason
from trials.road import form
from trials.training import sizing
from trials.training.image_warnings import has_test_folder

compress = partial(gzip.compress, mtime=0)  # names of tests must not depend on the time


def fill(*folders, count=2, suffix=".png"):
    """Write images into folders, no two alike."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            seed = abs(hash((str(folder), number))) % 2**32
            pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{folder.name}_{number}{suffix}")


def counts(root, **how):
    """(split, class) -> number of images."""
    listing = find_images(root, **how)
    pairs = zip(listing.splits.tolist(), listing.labels.tolist(), strict=True)
    return Counter((("train", "val", "test")[split], listing.classes[label]) for split, label in pairs)


# layouts


@pytest.mark.parametrize("train", ["train/CLASS/images", "train/inner/CLASS"])
@pytest.mark.parametrize("val", ["val", "val/images", "val/ILSVRC2012_img_val", "val/a/b"])
@pytest.mark.parametrize("place", ["val/val_annotations.txt", "val.txt", "given.tsv"])
def test_a_flat_val_in_folders_of_its_own(train, val, place, tmp_path):
    """Tiny ImageNet as its zip unpacks, and ImageNet's val unpacked one folder deeper."""
    for name in ("n01", "n02"):
        fill(tmp_path / train.replace("CLASS", name), count=3)
    (tmp_path / "train" / "boxes.txt").write_text("")
    fill(tmp_path / val, count=4)
    names = sorted(path.name for path in (tmp_path / val).iterdir() if path.suffix == ".png")
    fill(tmp_path / "test" / "images")
    table = tmp_path / place
    table.write_text("".join(f"{name}\tn0{1 + (k == 3)}\t0\t32\t44\t62\n" for k, name in enumerate(names)))
    expected = {("train", "n01"): 3, ("train", "n02"): 3, ("val", "n01"): 3, ("val", "n02"): 1}
    assert counts(tmp_path, val_labels=str(table) if place == "given.tsv" else "") == expected
    assert ("test/images/", "has no class folders, so no labels") in find_images(tmp_path, val_labels=str(table)).others


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (
            {"flowers/rose": 6, "flowers/tulip": 6, "logos": 1, "more": 5},
            r"holds 2 folders of images, .* \('logos' 1\); did you",
        ),
        ({"flowers/rose": 6, "flowers/tulip": 6, "notes/empty": 0}, r"\('notes' 0\); did you mean '.*/flowers'\?"),
        (
            {"mine/train/a": 3, "mine/train/b": 3, "mine/val/a": 2, "mine/val/b": 2, "other": 7},
            "holds train and other splits",
        ),
    ],
)
def test_a_folder_one_level_too_high_is_refused_in_one_line(folders, said, tmp_path):
    for name, count in folders.items():
        fill(tmp_path / name, count=count)
    with pytest.raises(InputError, match=said) as raised:
        find_images(tmp_path)
    assert str(raised.value).startswith(f"'{tmp_path}' is one folder too high: '{tmp_path}/")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("folders", "notes"),
    [
        ({"flowers/rose": 6, "flowers/tulip": 6, "cars": 6}, 1),  # each may be a class
        ({"flowers/rose": 6, "flowers/tulip": 6, "cars/audi": 5, "cars/bmw": 5}, 0),  # classes of classes
        ({"dog/2021": 3, "dog/2022": 9, "cat": 2}, 0),  # hardly two classes in one
        ({"dog/a": 6, "dog/b": 6, "dog": 2, "cat": 2}, 0),  # it has images of its own
        ({"dog/a": 6, "dog/b": 6, "cat": 20}, 0),  # most are elsewhere
        ({"a/train": 6, "a/val": 2, "b/train": 6, "b/val": 2}, 1),  # splits in the classes, which another note says
    ],
)
def test_folders_in_class_folders_are_doubtful_at_most(folders, notes, tmp_path):
    for name, count in folders.items():
        fill(tmp_path / name, count=count)
    assert len(find_images(tmp_path).notes) == notes


def test_long_lists_are_folded(tmp_path, capsys):
    fill(tmp_path / "a", tmp_path / "b", count=8)
    for number in range(30):
        (tmp_path / f"x.suffix{number}").write_text("")
    check.check_folder(check_config.Config(data_root=str(tmp_path), out=""))
    out = capsys.readouterr().out
    assert "  ... and 20 more, for 20 other reasons" in out
    assert len(out.splitlines()) < 40
    assert by_reason(find_images(tmp_path).others).endswith(", ... and 25 more")


def test_class_folders_of_val_one_folder_deeper(tmp_path):
    fill(*(tmp_path / part / name for part in ("train", "val/inner") for name in ("a", "b")))
    assert counts(tmp_path) == dict.fromkeys([(part, name) for part in ("train", "val") for name in "ab"], 2)


@pytest.mark.parametrize(
    "folders",
    [
        ("part1/cat", "part2/cat"),
        ("images_001", "images_002", "images_003"),
        ("train2017", "val2017"),
        ("train", "test"),
        ("seg_train/cat", "seg_test/cat", "seg_pred"),
        ("train_0/cat", "train_1/cat"),
        ("archive (1)/cat", "archive (2)/cat"),
        ("train/batch-1/cat", "train/batch-2/cat"),
    ],
)
def test_parts_of_a_download_are_no_classes(folders, tmp_path):
    fill(*(tmp_path / folder for folder in folders))
    with pytest.raises(
        InputError, match="are parts of a data set by their names, no classes; give each class one folder"
    ):
        find_images(tmp_path)


@pytest.mark.parametrize(
    "names", [("car", "train"), ("1", "2"), ("disk", "volume"), ("n01", "n02"), ("person1", "person2")]
)
def test_classes_that_are_no_parts(names, tmp_path):
    fill(*(tmp_path / name for name in names))
    assert find_images(tmp_path).classes == list(names)


def test_folders_that_may_be_classes_or_parts_are_said(tmp_path, capsys):
    fill(*(tmp_path / one / other for one in ("first", "second") for other in ("cat", "dog")), count=9)
    (note,) = find_images(tmp_path).notes
    assert "2 class folders ('first', ...) hold no image, and each holds the folders 'cat', 'dog'; if these are" in note
    open_folder(tmp_path, "torchvision")
    assert f"note: {note}" in capsys.readouterr().out
    fill(tmp_path / "second" / "cow")
    assert find_images(tmp_path).notes == []


# labels


CLASSES = {
    "words": ("ant", "bee", "cow"),
    "one": ("1", "2", "3"),
    "zero": ("0", "1", "2"),
    "padded": ("01", "02", "03"),
}


@pytest.mark.parametrize(
    ("classes", "labels", "found"),
    [
        ("words", "ant bee cow", [0, 1, 2]),
        ("words", "0 1 2", [0, 1, 2]),
        ("words", "00 01 02", [0, 1, 2]),
        ("words", "ant,5,6 bee,7,8 bee,9,9", [0, 1, 1]),
        ("one", "0 1 2", [0, 1, 2]),  # 0 is no folder's name, so all are numbers
        ("one", "1 2 3", [0, 1, 2]),
        ("one", "0 1 1", [0, 1, 1]),
        ("one", "3 3 3", [2, 2, 2]),
        ("zero", "0 1 2", [0, 1, 2]),
        ("zero", "1 1 2", [1, 1, 2]),
        ("padded", "1 2 3", [0, 1, 2]),
        ("padded", "01 02 03", [0, 1, 2]),
        ("padded", "0 1 2", [0, 1, 2]),
        ("one", "1 2 2", "may be names of class folders or numbers"),
        ("padded", "1 1 2", "may be names of class folders or numbers"),
        ("words", "ant 1 cow", "class '1' is not among the 3 class folders"),
        ("words", "1 2 3", "class '3' is not among the 3 class folders of train/; numbers count from 0 to 2"),
        ("one", "1 2 4", "class '4' is not among"),
        ("one", "-1 0 1", "class '-1' is not among"),
        ("words", "²  1 2", "class '²' is not among"),
    ],
)
def test_a_label_file_has_one_meaning(classes, labels, found, tmp_path):
    fill(*(tmp_path / "train" / name for name in CLASSES[classes]))
    fill(tmp_path / "val", count=3)
    rows = (f"val_{k}.png,{label}\n" for k, label in enumerate(labels.split()))
    (tmp_path / "val.csv").write_text("".join(rows))
    if isinstance(found, str):
        with pytest.raises(InputError, match=found):
            find_images(tmp_path)
    else:
        listing = find_images(tmp_path)
        assert sorted(listing.labels[listing.splits == 1].tolist()) == found
        without = 3 - len(set(found))
        assert [note.split(" have")[0] for note in listing.notes] == [f"{without} of 3 classes"] * bool(without)


@pytest.mark.parametrize("separator", ["\t", ",", ";", " "])
@pytest.mark.parametrize("header", ["", "file{}class\n"])
def test_separators_of_a_label_file(separator, header, tmp_path):
    """A file has one separator: a name may hold the others."""
    fill(tmp_path / "train" / "a", tmp_path / "train" / "b")
    fill(tmp_path / "val", count=4)
    odd = (
        "v a;l,1.png"
        if separator == "\t"
        else "v a,1.png"
        if separator == ";"
        else "v a;1.png"
        if separator == ","
        else "v,1.png"
    )
    (tmp_path / "val" / "val_1.png").rename(tmp_path / "val" / odd)
    more = "" if separator == " " else f"{separator}0{separator}32"
    names = ["val_0.png", odd, "val_2.png", "val_3.png"]
    rows = "".join(f"{name}{separator}{'aabb'[k]}{more}\n" for k, name in enumerate(names))
    (tmp_path / "labels").write_text(header.format(separator) + rows)
    found = counts(tmp_path, val_labels=str(tmp_path / "labels"))
    assert (found["val", "a"], found["val", "b"]) == (2, 2)


@pytest.mark.parametrize(
    "spoil", [b"\xff\xfea\x00", b"\x00" * 3000, b"", b"x" * 5000 + b"\n", b"\n\n", "folder", "fifo"]
)
def test_label_files_that_cannot_be_read(spoil, tmp_path):
    fill(tmp_path / "train" / "a", tmp_path / "train" / "b", tmp_path / "val")
    table = tmp_path / "labels.csv"
    if spoil == "fifo":
        os.mkfifo(table)
    elif spoil == "folder":
        table.mkdir()
    else:
        table.write_bytes(spoil)
    with pytest.raises(
        InputError, match="^--val-labels '.*labels.csv' (cannot be read|has no line|is no|is not|is a pipe)"
    ) as caught:
        find_images(tmp_path, val_labels=str(table))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 300


def test_label_files_in_utf_16(tmp_path):
    fill(tmp_path / "train" / "ä", tmp_path / "train" / "b", tmp_path / "val")
    (tmp_path / "val.csv").write_text("val_0.png,ä\r\nval_1.png,b\r\n", encoding="utf-16")  # as Excel writes it
    assert counts(tmp_path)["val", "ä"] == 1


@pytest.mark.parametrize(
    "spoil",
    [
        b"",
        b"no gzip",
        compress(b""),
        compress(b"path,class\na,b\n"),
        *(compress(b"path,class,part,height,width,bytes,kind\n" + row) for row in (b"a,a,train,x,1,1,PNG\n", b"a,a,no,1,1,1,PNG\n",
          b"a,a,train,%d,1,1,PNG\n" % 10**30, b"a,a,train,0,1,1,PNG\n", b"a,a,train,%d,1,1,PNG\n" % 2**40, b"a,a,train,1,1,1,PNG,more\n")),
        compress(b"path,class\n" * 99)[:-9],
        "folder",
    ],
)  # fmt: skip
def test_a_damaged_list_of_images_is_one_line(spoil, tmp_path):
    path = tmp_path / LIST
    if spoil == "folder":
        path.mkdir()
    else:
        path.write_bytes(spoil)
    with pytest.raises(InputError, match="^list of images '.*images.csv.gz' is (damaged|a folder)") as caught:
        load_list(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spoil", [b"", b"no gzip", compress(b"few"), compress(b"x" * 60_008)[:-20], "fifo"])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"])
def test_damaged_files_of_fashion_mnist_are_one_line(spoil, name, tmp_path):
    number = (60_000).to_bytes(4)
    images = bytes((0, 0, 8, 3)) + number + bytes((0, 0, 0, 28, 0, 0, 0, 28)) + bytes(60_000 * 28 * 28)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(compress(images, 1))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(compress(bytes((0, 0, 8, 1)) + number + bytes(60_000)))
    (tmp_path / name).unlink()
    if spoil == "fifo":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(spoil)
    with pytest.raises(InputError, match=f"^data file '.*{name}' is (damaged|a pipe)") as caught:
        load_data(DataOptions(data="fashion-mnist", data_root=str(tmp_path)), 32, score_fraction=0.1)
    assert "\n" not in str(caught.value)


# all that is below the root


@pytest.mark.skipif(heic.READS_HEIC, reason="HEIC is read here")
def test_everything_is_used_or_listed_with_its_reason(tmp_path, capsys):
    images = tmp_path / "images"
    fill(images / "a", images / "b", count=10)
    fill(images / "b" / "deep", suffix=".gif")
    fill(images / "b" / "deep", suffix=".jfif")
    for name in ("a/one.heic", "b/two.HEIF", "b/deep/raw.CR2", "b/x.avif", "loose.jpg"):
        (images / name).write_bytes(b"content")
    for name in ("a/notes.txt", "b/boxes.xml", "b/deep/.DS_Store", "b/._b_0.png", "README", "b/no suffix"):
        (images / name).write_bytes(b"text")
    (images / ".cache").mkdir()
    listing = find_images(images)
    assert len(listing.paths) == 24
    assert [path for path, _ in listing.left_out] == [
        "a/one.heic",
        "b/deep/raw.CR2",
        "b/two.HEIF",
        "b/x.avif",
        "loose.jpg",
    ]
    reasons = dict(listing.left_out)
    assert "is HEIC, which is not read; convert it to JPEG or PNG, or install what reads it" in reasons["b/two.HEIF"]
    assert reasons["loose.jpg"] == "is beside the folders that are read"
    assert dict(listing.others) == {
        ".cache/": "is hidden",
        "README": "has no suffix of an image",
        "a/notes.txt": "is no image by its suffix .txt",
        "b/._b_0.png": "is hidden",
        "b/boxes.xml": "is no image by its suffix .xml",
        "b/deep/.DS_Store": "is hidden",
        "b/no suffix": "has no suffix of an image",
    }
    on_disk = sum(len(files) for _, _, files in os.walk(images))
    folders = sum(path.endswith("/") for path, _ in listing.others)
    assert on_disk == len(listing.paths) + len(listing.left_out) + len(listing.others) - folders

    data = open_folder(images, "torchvision", workers=0)  # GIFs, by their first frame, and JPEGs of that name
    assert len(data.images.paths) == 24
    output = capsys.readouterr().out
    assert "left out of 29 files: 'a/one.heic' is HEIC" in output
    assert "3 hidden, 2 no suffix of an image, 1 no image by its suffix .txt, 1 no image by its suffix .xml" in output
    data.save(tmp_path)
    lines = (tmp_path / LEFT_OUT).read_text().splitlines()
    assert len(lines) == 1 + 5 + 7
    with pytest.raises(InputError, match="5 bad files in .* 'a/one.heic' is HEIC"):
        open_folder(images, "torchvision", bad_files="fail")
    for path in sorted(images.glob("a/*.png")):
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(InputError, match=r"no image in 'a'; 'a/.*heic' is HEIC, which is not read"):
        find_images(images)


@pytest.mark.skipif(not heic.READS_HEIC, reason="pillow-heif is not installed")
def test_heic_is_read_where_it_can_be(tmp_path, capsys):
    import pillow_heif

    values = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    pixels = np.kron(values, np.ones((16, 16, 1), np.uint8))  # blocks, which survive the encoder
    for name in "abcdefgh":
        path = tmp_path / "images" / ("one" if name < "e" else "two") / f"{name}.heic"
        path.parent.mkdir(parents=True, exist_ok=True)
        changed = np.roll(pixels, 16 * ord(name), axis=1)
        pillow_heif.from_pillow(Image.fromarray(changed)).save(path, quality=100)
        assert np.abs(decode(str(path)).numpy().transpose(1, 2, 0) - changed.astype(float)).mean() < 12
    (tmp_path / "images" / "two" / "x.heif").write_bytes(b"content")
    batches = []
    for loader in ("dali", "torchvision"):
        data = open_folder(tmp_path / "images", loader, workers=0)
        assert "left out of 9 files: 'two/x.heif' is no image" in capsys.readouterr().out
        assert sorted(data.images.kinds) == ["", "HEIF RGB"]
        batches.append(torch.cat([images.cpu() for images, _ in data.eval_batches("all", 3)]))
    assert len(batches[0]) + data.size("test") == 8
    assert (batches[0].float() - batches[1].float()).abs().max() <= 1


@pytest.fixture
def locked():
    """A folder whose part `a/secret` this process may not read, nor `c`, and a function that lets it be somebody."""
    root = Path(tempfile.mkdtemp(prefix="onepath-locked-", dir="/tmp"))
    root.chmod(0o755)
    fill(root / "a", root / "b", root / "a" / "secret", root / "c")
    me = os.geteuid()
    (root / "a" / "secret").chmod(0)
    (root / "c").chmod(0)
    if not me:
        os.seteuid(65534)
    yield root
    if not me:
        os.seteuid(me)
    for folder in (root / "a" / "secret", root / "c"):
        if folder.exists():
            folder.chmod(0o700)
    shutil.rmtree(root)


def test_folders_that_cannot_be_read(locked):
    with pytest.raises(
        InputError, match="folder '.*/c' cannot be read .Permission denied.; give this user the right to read it"
    ):
        find_images(locked)
    with pytest.raises(InputError, match="folder '.*/c' cannot be read"):
        find_images(locked / "c")
    os.seteuid(os.getuid())
    (locked / "c").rename(locked / "__c")
    if not os.getuid():
        os.seteuid(65534)
    assert find_images(locked).left_out == [("a/secret/", "cannot be read (Permission denied)")]


@pytest.mark.timeout(60)
def test_links_that_lead_back_are_followed_once(tmp_path):
    """Two links to the folder around are exponential where each is followed; links to elsewhere are read."""
    images = tmp_path / "images"
    fill(images / "a", images / "b", images / "b" / "deep", tmp_path / "elsewhere")
    for name, target in (
        ("one", "."),
        ("two", "."),
        ("up", ".."),
        ("top", "../.."),
        ("root", "/"),
        ("other", "../../elsewhere"),
    ):
        (images / "a" / name).symlink_to(target)
    for name in ("x", "y"):
        (images / "b" / "deep" / name).symlink_to("..")
        (images / "b" / name).symlink_to("deep")
    (images / "b" / "lost.png").symlink_to("nowhere")
    (images / "b" / "self.png").symlink_to("self.png")
    listing = find_images(images)
    assert Counter(listing.labels.tolist()) == {0: 4, 1: 4}
    looped = [
        path for path, reason in listing.others if reason.startswith("is a link to a folder around it, or to one")
    ]
    assert {"a/one/", "a/two/", "a/up/", "a/top/", "a/root/"} < set(looped)
    assert [path for path, reason in listing.left_out if "is a link that cannot be followed" in reason] == [
        "b/lost.png",
        "b/self.png",
    ]


@pytest.mark.timeout(60)
def test_what_is_no_file_is_not_opened(tmp_path):
    fill(tmp_path / "a", tmp_path / "b", count=10)
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    (tmp_path / "b" / "zero.png").symlink_to("/dev/zero")
    here = os.getcwd()
    try:
        os.chdir(tmp_path / "b")  # the path of a socket may not be long
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s.png")
    finally:
        os.chdir(here)
    (tmp_path / "b" / "folder.png").mkdir()
    data = open_folder(tmp_path, "torchvision", workers=0)
    assert data.images.left_out == [
        ("a/pipe.jpg", "is a FIFO, no file"),
        ("b/s.png", "is a socket, no file"),
        ("b/zero.png", "is a device, no file"),
    ]
    assert len(data.images.paths) == 20


@pytest.mark.parametrize("part", ["", "train"])
def test_class_names_that_are_not_utf_8(part, tmp_path):
    fill(tmp_path / part / "katze", tmp_path / part / os.fsdecode(b"k\xf6ter"))
    with pytest.raises(InputError, match=r"class folder 'k\\udcf6ter' of '.*' has a name that is not UTF-8; rename it"):
        find_images(tmp_path)


@pytest.mark.parametrize(
    ("grey", "said", "named"),
    [
        (8, "\nall 8 images: grey\n", 0),
        (6, "\n6 of 8 images: grey\n", 0),
        (4, "\nunusual, but readable (EXIF orientation is not applied): 4\n  grey (4): ", 4),
    ],
)
def test_what_most_images_are_is_said_in_one_line(tmp_path, monkeypatch, capsys, grey, said, named):
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        path = tmp_path / "cells" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).convert("L" if number < grey else "RGB").save(path)
    found = data.main(["check", "cells/", "--workers", "1"])
    printed = capsys.readouterr().out
    assert said in printed
    assert printed.count(".png'") == named
    assert len(found["unusual"]) == grey
    assert found["picture"] == "runs/check-cells.png"  # nothing is written beside runs/
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells", "runs"]


@pytest.mark.parametrize("words", [[], ["--background", "black"]])
def test_check_leads_to_the_whole_road(tmp_path, monkeypatch, capsys, words):
    """By the entry that was typed, with the options that the road has, too, and a budget that leaves it a choice."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONEPATH_ENTRY", "./onepath ")
    fill(*(tmp_path / "cells" / name for name in "ab"), count=8)
    found = data.main(["check", "cells", "--out=", *words])
    given = " ".join(["run cells", *words, "--max-macs"])
    assert f"\nnext: ./onepath {given} " in capsys.readouterr().out
    limit = found["next"].rpartition(" ")[2]
    chosen, said = form.choose_form("cells", limit, {})
    assert chosen == {"space": "spos", "preset": "tiny", "resolution": 32}
    share = int(re.search(r"(\d+) % of its architectures stay within the budget", said)[1])
    assert abs(share - 25) <= 5, limit


@pytest.mark.parametrize("gpu", [False, True])
def test_check_and_run_propose_the_same_networks_for_this_machine(tmp_path, monkeypatch, capsys, gpu):
    """On a CPU those of a preset that is made for one: the others would take it days."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sizing, "MANY_FOR_SMALL", 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    for number in range(12):
        path = tmp_path / "cells" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (128, 140, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    found = data.main(["check", "cells", "--workers", "1"])
    words = found["next"].partition("trials.run cells ")[2]
    side = 128 if gpu else 32
    assert found["resolution"] == side
    assert re.fullmatch(r"--max-macs \S+" if gpu else r"--preset tiny --resolution 32 --max-macs \S+", words)
    printed = capsys.readouterr().out
    assert f"picture: runs/check-cells.png, images as networks see them at {side}x{side} pixels" in printed
    assert ("for this CPU; with a GPU: --max-macs " in printed) != gpu
    # the run chooses the networks that were meant, and without any limit advises the same
    given = {} if gpu else {"preset": "tiny", "resolution": 32}
    chosen, said = form.choose_form("cells", words.split()[-1], given)
    assert {"preset": "small" if gpu else "tiny", "resolution": side}.items() <= {**chosen, **given}.items()
    share = int(re.search(r"(\d+) % of its architectures stay within the budget", said)[1])
    assert abs(share - 25) <= 5
    assert form.no_limit_text("cells", {}).endswith(words if gpu else f"on this CPU better: {words}")
    # where the machine is no matter, nothing is said of it
    assert "CPU" not in form.no_limit_text("cells", {"preset": "tiny"})
    assert form.resolution_for("cells", {}) == 128
    assert form.resolution_for("cells", {"preset": "tiny"}) == 32


def test_the_picture_shows_the_pixels_that_a_network_sees(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        path = tmp_path / "cells" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (200, 200, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    for side, drawn in ((32, 96), (64, 128), (128, 96)):
        data.main(["check", "cells", "--workers", "1", "--resolution", str(side), "--out", f"{side}.png"])
        sheet = np.array(Image.open(f"{side}.png"))
        assert sheet.shape[:2] == (20 + 2 * (drawn + 4), 160 + 8 * (drawn + 4))
        first = sheet[20 : 20 + drawn, 160 : 160 + drawn].astype(int)
        if drawn >= side:  # every pixel is a square of one colour
            times = drawn // side
            assert (first == first[::times, ::times].repeat(times, 0).repeat(times, 1)).all()
    with pytest.raises(InputError, match="resolution of space spos is 3; give a whole number, at least 8"):
        data.main(["check", "cells", "--resolution", "3"])


@pytest.mark.skipif(heic.READS_HEIC, reason="HEIC is read here")
def test_check_counts_all_and_names_the_options_for_the_run(tmp_path, capsys):
    fill(*(tmp_path / "train" / name for name in "ab"), tmp_path / "val", count=4)
    table = tmp_path / "my labels"
    table.write_text("".join(f"val_{k}.png\t{k % 2}\n" for k in range(4)))
    (tmp_path / "val" / "x.heic").write_bytes(b"")
    with pytest.raises(Answered) as ended:
        data.main(["check", str(tmp_path), "--out=", "--val-labels", str(table), "--exif-orientation"])
    assert ended.value.code == 1
    assert [path for path, _ in ended.value.answer["left_out"]] == ["val/x.heic"]
    printed = capsys.readouterr().out
    assert f"--val-labels '{table}' --exif-orientation --out runs/mine" in printed
    as_one_line = " ".join(printed.split())  # a long value of the table takes several lines
    assert "classes from my labels (numbers of class folders in the order of their names, from 0)" in as_one_line
    assert "'val/x.heic'" in printed
    for path in (tmp_path / "train" / "a").iterdir():
        path.write_bytes(b"")
    check.check_folder(check_config.Config(data_root=str(tmp_path), out="", val_labels=str(table)))
    assert "next:" not in capsys.readouterr().out  # a class has no image left


# whatever there is


def refusal_of(function):
    """What a function returns, or the message where it refuses its input."""
    try:
        return function()
    except InputError as error:
        return str(error)


PIECES = (
    *("v0.png", "v1.png", "v2", "a", "b", "1", "0", "-1", "1e9", "²", "٣", "cell a", ",", ";", "\t", " ", "\n", "\r\n", '"', "'", "\x00"),
    *("\ufeff", "\x1f", "\u2028", "9" * 400, "x" * 300, "#c", "file,class\n", "\n\n", "v0.png,1\n", "v1.png 2\n", "v2.png\t10\n"),
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_any_label_file_is_read_or_refused_in_one_line(seed, tmp_path):
    draw = random.Random(seed)
    for _ in range(150):
        source = tmp_path / draw.choice(["l.csv", "l.txt", "l.tar.gz", "ground_truth.txt"])
        text = "".join(draw.choices(PIECES, k=draw.randrange(25)))
        source.write_bytes(
            draw.randbytes(80) if draw.random() < 0.1 else text.encode(draw.choice(["utf-8", "utf-8", "utf-16"]))
        )
        classes = draw.choice([["a", "b", "c"], ["1", "2", "3"], ["01", "02", "10"], ["cell", "cell a", "cell b"]])
        found = refusal_of(partial(read_val_labels, source, ["/x/v0.png", "/x/v1.png", "/x/v2.png"], classes))
        if isinstance(found, str):
            assert "\n" not in found
            assert len(found.replace(str(tmp_path), "")) < 400
        else:
            assert set(found[0]) <= {0, 1, 2}


NAMES = (
    *(
        "train",
        "val",
        "test",
        "a",
        "b",
        "images",
        "Train",
        "part1",
        "part2",
        "x.jpg",
        "c.JPEG",
        "d.heic",
        "e.txt",
        ".h",
        "__m",
    ),
    *("val.txt", "n01", "ILSVRC", "Data", "CLS-LOC", os.fsdecode(b"k\xf6")),
)


def grow(folder, draw, depth):
    """Fill a folder with anything."""
    for name in draw.sample(NAMES, draw.randrange(5)):
        path, kind = folder / name, draw.random()
        if depth and kind < 0.6:
            path.mkdir()
            grow(path, draw, depth - 1)
        elif kind < 0.8:
            path.write_bytes(b"c.JPEG,0\nx.jpg,0\n")
        elif kind < 0.9:
            path.symlink_to(draw.choice(["..", ".", "a", "/dev/null", "../..", "nowhere", name]))
        else:
            os.mkfifo(path)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(4))
def test_any_folder_is_refused_in_one_line_or_counted_to_the_last_file(seed, tmp_path):
    draw, listed = random.Random(seed), 0
    for number in range(80):
        root = tmp_path / str(number)
        root.mkdir()
        for name in ("n01", "n02") if number % 2 else ("train/n01", "train/n02"):
            (root / name).mkdir(parents=True)
            (root / name / "first.jpg").write_bytes(b"")
            grow(root / name, draw, 2)
        listing = refusal_of(partial(find_images, root))
        if isinstance(listing, str):
            assert "\n" not in listing
            continue
        listed += 1
        known = {*listing.paths, *(path for path, _ in [*listing.left_out, *listing.others])}
        unread = tuple(path for path in known if path.endswith("/"))
        for below, _, names in os.walk(root):
            for name in names:
                path = os.path.relpath(os.path.join(below, name), root)
                assert path in known or path.startswith(unread) or name == "val.txt"
    assert listed > 40


@pytest.mark.parametrize(
    ("folders", "own"),
    [
        (("a", "b"), False),
        (("train/a", "train/b", "val/a", "val/b"), True),
        (("archive/train/a", "archive/train/b", "archive/test/a", "archive/test/b"), True),
        (("Training/a", "Training/b", "Test/a", "Test/b"), True),
        (("train/a", "train/b", "testing/a", "testing/b"), True),
        (("train/a", "train/b"), False),  # the test part is cut from it
        (("cat", "test"), False),  # a class
        (("a/test", "b/test"), False),  # a folder inside a class
        (("train/a", "train/test"), False),  # a class
    ],
)
def test_whether_the_test_images_have_a_folder_of_their_own(folders, own, tmp_path):
    """A gate advises a larger test part only where it is cut from the training images."""
    fill(*(tmp_path / folder for folder in folders), count=10)
    options = DataOptions(data="folder", data_root=str(tmp_path), loader="torchvision", workers=0)
    assert has_test_folder(load_data(options, 32, score_fraction=0.25)) is own


@pytest.mark.parametrize(
    ("folders", "classes", "says"),
    [
        (("cat", "dog", "Test"), ["Test", "cat", "dog"], "'Test' is a class here, for no folder train/ is beside it"),
        (("train", "cat"), ["cat", "train"], ""),  # photographs of trains
        (("train/a", "train/test", "val/a", "val/test"), ["a", "test"], ""),
        (("train/a", "train/b", "Test/a", "Test/b"), ["a", "b"], ""),
        (
            ("train/a", "train/b", "val/a", "val/b", "Valid/a", "Valid/b"),
            ["a", "b"],
            "'Valid' is left alone, for 'val' is",
        ),
        (
            ("train/a", "train/b", "test/a", "test/b", "Test/a", "Test/b"),
            ["a", "b"],
            "'Test' is left alone, for 'test'",
        ),
    ],
)
def test_a_class_with_the_name_of_a_part_is_said(folders, classes, says, tmp_path):
    fill(*(tmp_path / folder for folder in folders), count=6)
    found = find_images(tmp_path)
    assert found.classes == classes
    assert [note for note in found.notes if not note.startswith(says)] == []
    assert len(found.notes) == bool(says)


def test_a_test_part_without_a_train_folder_beside_it_is_refused(tmp_path):
    fill(*(tmp_path / folder for folder in ("cat", "dog", "test/cat", "test/dog")), count=6)
    with pytest.raises(
        InputError, match=r"test' holds a folder 'cat', as '.*' itself does, .* put the other folders into"
    ):
        find_images(tmp_path)
