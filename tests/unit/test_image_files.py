"""Image folders as people have them: layouts, labels, subsets, duplicates, and files that are bad or go bad."""

import csv
import io
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from spaces.errors import InputError
from spaces.files import load_json
from tests.commands import ROOT, assert_one_clear_line, onepath
from tests.unit.test_data import LOADERS, contents, open_folder, read
from trials import retrain, supernet
from trials.images import image_list, inspect_file, scan
from trials.images.crops import central_crops
from trials.images.listing import find_images
from trials.images.load import load_data
from trials.images.options import DataOptions
from trials.images.torch_loader import decode


@pytest.fixture
def copy(tree, tmp_path):
    """A tree of one's own: 20 images of each of two colour classes."""
    for name in ("china", "flower"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for path in sorted((tree / name).iterdir())[:20]:
            shutil.copy(path, tmp_path / "images" / name)
    return tmp_path / "images"


def found_in(files):
    found = scan.scan(files, 2)
    return [found[number] for number in range(len(files))]


def truncated(content):
    return content[: len(content) // 2]


def rotten(content):
    """Bit rot: a few bytes of the coded picture are others."""
    changed = bytearray(content)
    draw = np.random.default_rng(3)
    for place in draw.integers(len(content) // 2, len(content) - 20, 40):
        changed[place] = draw.integers(256)
    return bytes(changed)


BAD = {
    "empty": (lambda content: b"", "is empty (0 bytes)"),
    "truncated": (truncated, "is truncated"),
    "garbage": (lambda content: np.random.default_rng(0).bytes(5000), "is no image"),
    "page": (lambda content: b"<!DOCTYPE html>\n<html><body>404</body></html>", "is an HTML page"),
    "rotten": (rotten, "is damaged"),
    "header": (lambda content: content[:300], "is truncated"),
}


def encoded(image, form, **how):
    buffer = io.BytesIO()
    image.save(buffer, form, **how)
    return buffer.getvalue()


def odd_files(image):
    """name -> content, what the scan calls it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = (np.asarray(image.convert("L")).astype(np.uint16) * 257)[:, ::-1]
    grey = image.convert("L")
    return {
        "cmyk.jpg": (encoded(image.convert("CMYK"), "JPEG"), "CMYK"),
        "grey.jpg": (encoded(grey, "JPEG"), "grey"),
        "deep.png": (encoded(Image.fromarray(deep), "PNG"), "16-bit"),
        "really a png.JPEG": (encoded(image, "PNG"), "PNG named .JPEG"),
        "turned.jpg": (
            encoded(image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), "JPEG", exif=exif),
            "EXIF orientation 6",
        ),
        "a b  c.jpg": (encoded(image.crop((1, 1, 80, 80)), "JPEG"), ""),
        "日本 ñ 'q' \",.jpg": (encoded(image.crop((2, 2, 80, 80)), "JPEG"), ""),
        os.fsdecode(b"latin \xe9.jpg"): (encoded(image.crop((3, 3, 80, 80)), "JPEG"), ""),
        "palette.png": (encoded(image.quantize(16), "PNG"), "palette"),
        "clear.png": (encoded(image.convert("RGBA").crop((4, 4, 80, 80)), "PNG"), "opaque alpha channel"),
        "other.webp": (encoded(image.crop((5, 5, 80, 80)), "WEBP"), ""),
        "other.tif": (encoded(image.crop((6, 6, 80, 80)), "TIFF"), ""),
        "other.bmp": (encoded(image.crop((7, 7, 80, 80)), "BMP"), ""),
        "other.pgm": (encoded(grey.crop((8, 8, 80, 80)), "PPM"), "grey"),
        "photo.jpg": (encoded(image.crop((0, 9, 80, 80)), "MPO", save_all=True, append_images=[image]), ""),
        "colour.ppm": (encoded(image.crop((9, 0, 80, 80)), "PPM"), ""),
        "progressive.jpg": (encoded(image.crop((9, 9, 80, 80)), "JPEG", progressive=True), ""),
    }


# layouts


def test_class_folders_of_any_depth(copy):
    (copy / "china" / "deep" / "deeper").mkdir(parents=True)
    shutil.move(copy / "china" / "00 é.JPEG", copy / "china" / "deep" / "deeper" / "00.JPEG")
    for junk in ("._00.jpg", ".DS_Store", "notes.txt", "Thumbs.db"):
        (copy / "china" / junk).write_bytes(b"junk")
    (copy / "__MACOSX" / "china").mkdir(parents=True)
    (copy / ".cache").mkdir()
    listing = find_images(copy)
    assert listing.classes == ["china", "flower"]
    assert Counter(listing.labels.tolist()) == {0: 20, 1: 20}
    assert "china/deep/deeper/00.JPEG" in listing.paths
    outer = copy.parent / "outer" / "archive"
    outer.mkdir(parents=True)
    shutil.move(copy, outer / "inner")
    again = find_images(copy.parent / "outer")  # unpacked into folders of its own
    assert again.classes == listing.classes
    assert again.paths[0].startswith("archive/inner/china/")


@pytest.mark.parametrize(
    ("train", "val"), [("train", "val"), ("training", "validation"), ("Train", "test"), ("train", "valid")]
)
def test_given_parts(copy, tree, train, val, tmp_path):
    shutil.move(copy, tmp_path / train)
    for name in ("china", "flower"):
        (tmp_path / val / name).mkdir(parents=True)
        for path in sorted((tree / name).iterdir())[20:]:
            shutil.copy(path, tmp_path / val / name)
    shutil.copy(tree / "china" / "25 é.JPEG", tmp_path / train / "china")  # a test image among the training images
    data = open_folder(tmp_path, score_fraction=0.2)
    assert [data.size(part) for part in ("train", "score", "all", "test")] == [32, 8, 40, 20]
    assert data.images.left_out == [(f"{train}/china/25 é.JPEG", f"is the same file as '{val}/china/25 é.JPEG'")]
    assert not set(contents(data.eval_batches("all", 8))) & set(contents(data.eval_batches("test", 8)))


def test_val_and_test_given(tree, tmp_path):
    for part, wanted in (("train", range(14)), ("val", range(14, 20)), ("test", range(20, 30))):
        for name in ("china", "flower"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in wanted:
                shutil.copy(tree / name / f"{number:02d} é.JPEG", tmp_path / part / name)
    data = open_folder(tmp_path)
    assert [data.size(part) for part in ("train", "score", "all", "test")] == [28, 12, 40, 20]
    assert all(data.images.paths[i].startswith("val/") for i in data.parts["score"])
    shutil.rmtree(tmp_path / "test" / "flower")
    with pytest.raises(
        InputError, match="'train' and 'test' of '.*' differ in class 'flower'; give both the same classes"
    ):
        open_folder(tmp_path)


@pytest.fixture
def imagenet(tree, tmp_path):
    """ImageNet's names and shape: class folders of WordNet ids, a flat val in which classes alternate, a test without labels."""
    top = tmp_path / "imagenet"
    wnids = {"n01440764": "china", "n01443537": "flower", "n02979186": "cell a"}
    (top / "val").mkdir(parents=True)
    (top / "test").mkdir()
    truth = []
    for number in range(12):
        wnid, name = list(wnids.items())[(number * 2 + 1) % 3]
        place = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
        shutil.copy(tree / name / f"{20 + number // 3:02d} é.JPEG", top / "val" / place)
        truth.append((place, wnid))
    for wnid, name in wnids.items():
        (top / "train" / wnid).mkdir(parents=True)
        for number in range(20):
            shutil.copy(tree / name / f"{number:02d} é.JPEG", top / "train" / wnid / f"{wnid}_{number}.JPEG")
    shutil.copy(tree / "zelle ü" / "00 é.JPEG", top / "test" / "ILSVRC2012_test_00000001.JPEG")
    return top, truth


def check_truth(data, truth):
    found = {os.path.basename(data.images.paths[i]): data.classes[data.images.labels[i]] for i in data.parts["test"]}
    assert found == dict(truth)
    assert data.classes == ["n01440764", "n01443537", "n02979186"]
    assert data.size("all") == 60


def test_imagenet_with_a_flat_val_and_a_csv(imagenet, tmp_path):
    top, truth = imagenet
    with pytest.raises(InputError, match=r"'.*val' holds images without class folders; give --val-labels: a CSV"):
        open_folder(top)
    for name, text in {
        "file and class.csv": "file,class\n" + "".join(f"{place},{wnid}\n" for place, wnid in truth),
        "no header, numbers.csv": "".join(
            f"val/{place},{sorted({w for _, w in truth}).index(wnid)}\n" for place, wnid in truth
        ),
        "caffe.txt": "".join(f"{place} {sorted({w for _, w in truth}).index(wnid)}\n" for place, wnid in truth),
    }.items():
        (tmp_path / name).write_text(text)
        check_truth(open_folder(top, val_labels=str(tmp_path / name)), truth)
    rows = "".join(f"{place[:-5]},{wnid} 10 20 300 400 \n" for place, wnid in truth)
    (top / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + rows)
    check_truth(open_folder(top), truth)  # Kaggle's, found
    kaggle = tmp_path / "kaggle"
    (kaggle / "ILSVRC" / "Data").mkdir(parents=True)
    (kaggle / "ILSVRC" / "Annotations").mkdir()
    shutil.move(top / "LOC_val_solution.csv", kaggle)
    shutil.move(top, kaggle / "ILSVRC" / "Data" / "CLS-LOC")
    check_truth(open_folder(kaggle), truth)
    short = tmp_path / "short.csv"
    short.write_text("".join(f"{place},{wnid}\n" for place, wnid in truth[1:]))
    with pytest.raises(InputError, match="has no line for 'ILSVRC2012_val_00000001.JPEG'"):
        open_folder(kaggle, val_labels=str(short))
    short.write_text("".join(f"{place},n99\n" for place, _ in truth))
    with pytest.raises(InputError, match="class 'n99' is not among the 3 class folders of train/"):
        open_folder(kaggle, val_labels=str(short))
    short.write_text("".join(f"{place},n0144376\n" for place, _ in truth))
    with pytest.raises(InputError, match="class 'n0144376' is not among .*; did you mean 'n01443537'"):
        open_folder(kaggle, val_labels=str(short))
    short.write_text("".join(f"{place};{wnid}\n" for place, wnid in truth))
    check_truth(open_folder(kaggle, val_labels=str(short)), truth)
    short.write_text(short.read_text() + f"{truth[0][0]};n02979186\n")
    with pytest.raises(
        InputError, match="has 'ILSVRC2012_val_00000001.JPEG' in class '.*' and 'n02979186'; give it one"
    ):
        open_folder(kaggle, val_labels=str(short))
    short.write_text("".join(f"{place}\n" for place, _ in truth))
    with pytest.raises(InputError, match="has no line of the form file,class"):
        open_folder(kaggle, val_labels=str(short))
    with pytest.raises(InputError, match="--val-labels 'nowhere.csv' does not exist"):
        open_folder(kaggle, val_labels="nowhere.csv")
    with pytest.raises(InputError, match="--val-labels 'nowhere.csv' is for a flat val/, which '.*' does not have"):
        open_folder(kaggle / "ILSVRC/Data/CLS-LOC/train", val_labels="nowhere.csv")


def test_imagenet_with_its_devkit(imagenet, tmp_path):
    """meta.mat as ImageNet writes it: ids, WordNet ids, words, and children (0 for leaves), inner nodes among them."""
    import scipy.io

    top, truth = imagenet
    data = top / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    ids = {"n02979186": 1, "n01440764": 2, "n01443537": 3}  # not in the order of the folders, as in ImageNet
    rows = [(number, wnid, "words, more", "gloss", 0, np.zeros((1, 0)), 0, 1300) for wnid, number in ids.items()]
    rows.append((4, "n00001740", "entity", "gloss", 2, np.array([[1, 2]]), 2, 0))
    kinds = [(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images")]  # fmt: skip
    scipy.io.savemat(data / "meta.mat", {"synsets": np.array(rows, dtype=kinds).reshape(-1, 1)})
    ground = data / "ILSVRC2012_validation_ground_truth.txt"
    ground.write_text("".join(f"{ids[wnid]}\n" for _, wnid in truth))
    check_truth(open_folder(top), truth)
    check_truth(open_folder(top, val_labels=str(ground)), truth)
    with tarfile.open(top / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
        archive.add(data.parent, "ILSVRC2012_devkit_t12")
    shutil.move(data.parent, tmp_path / "kit")
    check_truth(open_folder(top), truth)
    (top / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    shutil.move(tmp_path / "kit", data.parent)
    ground.write_text("1\n2\n")
    with pytest.raises(InputError, match="has 2 lines for 12 images"):
        open_folder(top)
    (data / "meta.mat").write_bytes(b"no mat")
    with pytest.raises(InputError, match="is no ImageNet devkit"):
        open_folder(top)


def test_a_subset_is_always_the_same(imagenet, tree):
    top, truth = imagenet
    (top / "LOC_val_solution.csv").write_text("".join(f"{place},{wnid}\n" for place, wnid in truth))
    data = open_folder(top, classes=2, per_class=7)
    assert len(data.classes) == 2
    assert Counter(data.images.labels[data.parts["all"]].tolist()) == {0: 7, 1: 7}
    assert data.size("test") == 8  # fewer than 7 of each: all
    assert {os.path.basename(data.images.paths[i]) for i in data.parts["test"]} <= {place for place, _ in truth}
    assert list(data.images.paths) == list(open_folder(top, classes=2, per_class=7).images.paths)
    with pytest.raises(InputError, match="--classes 5 exceeds the 4 classes in"):
        open_folder(tree, classes=5)


def test_parts_without_train_and_classes_named_like_parts(copy, tmp_path):
    """Trains and cars."""
    for part in ("val", "test"):
        shutil.copytree(copy, tmp_path / "other" / part)
    with pytest.raises(InputError, match="has test, val but no train folder"):
        find_images(tmp_path / "other")
    (copy / "china").rename(copy / "train")
    (copy / "flower").rename(copy / "car")
    assert find_images(copy).classes == ["car", "train"]
    shutil.rmtree(copy / "car")
    with pytest.raises(InputError, match="has one class folder"):
        find_images(copy)


# parts


def test_parts_are_balanced_and_have_no_file_twice(copy):
    shutil.copy(copy / "china" / "03 é.JPEG", copy / "china" / "again.JPEG")
    shutil.copy(copy / "china" / "04 é.JPEG", copy / "flower" / "elsewhere.JPEG")
    data = open_folder(copy, score_fraction=0.25)
    assert dict(data.images.left_out) == {
        "china/again.JPEG": "is the same file as 'china/03 é.JPEG'",
        "china/04 é.JPEG": "is also in class 'flower'",
        "flower/elsewhere.JPEG": "is the same file as 'china/04 é.JPEG'",
    }
    for part in ("train", "score", "test"):
        counts = np.bincount(data.images.labels[data.parts[part]])
        assert counts.max() - counts.min() <= 1
    images = [contents(data.eval_batches(part, 8)) for part in ("train", "score", "test")]
    assert len(set(sum(images, []))) == sum(map(len, images)) == 39  # noqa: RUF017
    assert sorted([*data.parts["weights"], *data.parts["arch"]]) == data.parts["train"].tolist()


@pytest.mark.slow
def test_a_run_keeps_its_images(copy, tmp_path, capsys):
    """Files that come later change no part; the search and the retraining read the list of the run."""
    run = tmp_path / "run"
    flags = ["--preset", "tiny", "--data", "folder", "--data-root", str(copy), "--batch-size", "8", "--epochs", "1"]
    supernet.main([*flags, "--score-fraction", "0.25", "--eval-paths", "0", "--out", str(run)])
    images = image_list.load_list(run)
    given = open_folder(copy).images
    assert (list(images.paths), images.parts.tolist(), images.classes) == (
        list(given.paths),
        given.parts.tolist(),
        given.classes,
    )
    assert np.array_equal(images.sizes, given.sizes)
    mark = open_folder(copy).fingerprint()
    assert (
        load_data(DataOptions(data="folder", data_root=str(copy)), 32, score_fraction=0.9, run=run).fingerprint()
        == mark
    )
    assert [images.kinds[k] for k in images.kind_numbers] == [given.kinds[k] for k in given.kind_numbers]
    for number in range(9):
        image = Image.open(copy / "flower" / f"{number:02d} é.JPEG").rotate(90, expand=True)
        image.save(copy / "flower" / f"0{number} new.JPEG")
    assert len(open_folder(copy).images.paths) == len(given.paths) + 9
    assert open_folder(copy).fingerprint() != mark
    (tmp_path / "arc.json").write_text(str((0,) * 20))
    again = ["--fixed-arc", str(tmp_path / "arc.json"), "--supernet", str(run), "--epochs", "1", "--batch-size", "8"]
    retrain.main(again)
    assert list(image_list.load_list(tmp_path / "retrain").paths) == list(given.paths)
    assert "8 test images" in capsys.readouterr().out
    for path in copy.glob("*/*new*"):
        path.unlink()
    moved = tmp_path / "moved"
    copy.rename(moved)
    with pytest.raises(InputError, match="data folder '.*' does not exist; give the folder of the images"):
        retrain.main([*again, "--out", str(tmp_path / "moved retrain")])
    retrain.main([*again, "--data-root", str(moved), "--out", str(tmp_path / "moved retrain")])
    supernet.main([*flags, "--data-root", str(moved), "--score-fraction", "0.25", "--out", str(run), "--resume"])
    assert load_json(run / "config.json", "")["config"]["data_root"] == str(moved)
    test = [path for path, part in zip(images.paths, images.parts, strict=True) if image_list.PARTS[part] == "test"]
    for path in test[:3]:
        (moved / path).unlink()
    with pytest.raises(InputError, match="3 of 8 images of part 'test' are gone or changed .*; at most 1% may be"):
        retrain.main([*again, "--data-root", str(moved), "--out", str(tmp_path / "too late")])
    (run / image_list.LIST).write_bytes((run / image_list.LIST).read_bytes()[:100])
    with pytest.raises(InputError, match="list of images '.*images.csv.gz' is damaged"):
        retrain.main([*again, "--out", str(tmp_path / "other")])


def test_too_few_images_for_a_part(copy, tmp_path):
    for path in sorted(copy.glob("*/*")):
        if int(path.name[:2]) > 2:
            path.unlink()
    flags = ["--preset", "tiny", "--data", "folder", "--data-root", str(copy), "--batch-size", "4", "--epochs", "1"]
    with pytest.raises(InputError, match="--score-fraction 0.1 of so few images is none; raise it"):
        supernet.main([*flags, "--out", str(tmp_path / "run")])
    for path in sorted(copy.glob("*/*")):
        if int(path.name[:2]) > 1:
            path.unlink()
    with pytest.raises(InputError, match="--cutout 32 is not below the resolution of 32 pixels; give 0 to 31"):
        supernet.main([*flags, "--cutout", "32", "--out", str(tmp_path / "run")])
    (tmp_path / "arc.json").write_text(str((0,) * 20))
    with pytest.raises(InputError, match="has no test images: too few of each class"):
        retrain.main(["--fixed-arc", str(tmp_path / "arc.json"), *flags])


# bad files


@pytest.mark.slow
def test_bad_files_are_found_before_training(copy, tmp_path, capsys):
    good = (copy / "china" / "00 é.JPEG").read_bytes()
    for name, (spoil, _) in BAD.items():
        (copy / "china" / f"{name}.JPEG").write_bytes(spoil(good))
    data = open_folder(copy)
    left = dict(data.images.left_out)
    assert set(left) == {f"china/{name}.JPEG" for name in BAD}
    for name, (_, reason) in BAD.items():
        assert left[f"china/{name}.JPEG"].startswith(reason)
    assert len(data.images.paths) == 40
    output = capsys.readouterr().out
    assert (
        "left out of 46 files: 'china/empty.JPEG' is empty (0 bytes), and 5 more, which the run's left_out.csv"
        in output
    )
    assert len(output.splitlines()) == 1
    with pytest.raises(
        InputError, match=r"6 bad files in '.*', the first: 'china/empty.JPEG' is empty \(0 bytes\); see:"
    ):
        open_folder(copy, bad_files="fail")
    flags = ["--preset", "tiny", "--data", "folder", "--data-root", copy, "--batch-size", "8", "--epochs", "1"]
    refused = onepath("supernet", *flags, "--bad-files", "fail", "--out", tmp_path / "run")
    assert_one_clear_line(refused, "6 bad files in", "python -m trials.data check")
    assert not (tmp_path / "run").exists()
    supernet.main([*map(str, flags), "--eval-paths", "0", "--out", str(tmp_path / "run")])
    with open(tmp_path / "run" / "left_out.csv", newline="") as file:
        assert dict(list(csv.reader(file))[1:]) == left
    for path in (copy / "flower").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="class 'flower' of '.*' has no usable image"):
        open_folder(copy)


@pytest.mark.parametrize("loader", LOADERS)
def test_odd_files_are_read_as_pil_reads_them(loader, copy, tree, capfd):
    image = Image.open(tree / "china" / "29 é.JPEG").convert("RGB")
    image = image.resize((max(90, image.width), max(90, image.height)))
    files = odd_files(image)
    for name, (content, _) in files.items():
        (copy / "china" / name).write_bytes(content)
    data = open_folder(copy, loader, 48)
    assert not data.images.left_out
    plain = open_folder(copy, "torchvision", 48, workers=0)
    found = {os.path.basename(path): seen for path, seen in zip(data.files, found_in(data.files), strict=True)}
    numbers = {os.path.basename(path): number for number, path in enumerate(data.files)}
    for name, (_, odd) in files.items():
        assert found[name].unusual == odd
        assert not found[name].problem
        data.parts["one"] = plain.parts["one"] = np.array([numbers[name]])
        (ours, _), (theirs, _) = next(data.eval_batches("one", 1)), next(plain.eval_batches("one", 1))
        assert (ours.int() - theirs.int()).abs().float().mean() < 0.3, name
        assert decode(data.files[numbers[name]]).shape[1:] == tuple(data.images.sizes[numbers[name]])
    deep = decode(data.files[numbers["deep.png"]])  # 16 bits are scaled, not cut off
    assert np.array_equal(deep[0].flip(1).numpy(), np.asarray(image.convert("L")))
    for name in ("train", "score", "test"):  # all together, in batches
        assert len(contents(data.eval_batches(name, 8))) == data.size(name)
    assert "DALI" not in capfd.readouterr().err  # it was not given what it cannot decode


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("way", [*BAD, "gone", "smaller", "larger", "folder", "fifo"])
def test_a_file_that_goes_bad_costs_its_own_batch_at_most(loader, way, copy, capfd):
    data = open_folder(copy, loader, workers=2 if way == "truncated" else 0)
    whole = read(data, seed=0, epoch=0)
    scored = contents(data.eval_batches("train", 8))
    order = data.epoch_order("train", 8, seed=0, epoch=0)
    victim = order[1][3]
    path, good = data.files[victim], open(data.files[victim], "rb").read()
    capfd.readouterr()
    if way in ("gone", "folder", "fifo"):
        os.unlink(path)
        if way == "fifo":
            os.mkfifo(path)
        if way == "folder":
            os.mkdir(path)
    elif way in ("smaller", "larger"):
        Image.open(io.BytesIO(good)).resize((40, 41) if way == "smaller" else (600, 601)).save(path, "JPEG")
    else:
        with open(path, "wb") as file:
            file.write(BAD[way][0](good))
    after = read(data, seed=0, epoch=0)
    assert len(after) == len(whole)
    for number, ((x, a), (y, b)) in enumerate(zip(whole, after, strict=True)):
        assert y.shape == x.shape
        if number != 1:
            assert torch.equal(x, y)
            assert torch.equal(a, b)
        elif way != "rotten":  # which decodes, to something else
            kept = [place for place in range(8) if place != 3]
            torch.testing.assert_close(x[kept], y[kept], atol=0.3, rtol=0)
            assert b[3] == a[4]
            assert torch.equal(y[3], y[4])
    read(data, seed=0, epoch=1)
    remaining = contents(data.eval_batches("train", 8))
    if way == "rotten":
        assert len(remaining) == len(scored)
        return
    assert len(remaining) == len(scored) - 1
    said = [line for line in capfd.readouterr().err.splitlines() if "cannot be read any more" in line]
    assert len(said) == 1  # once, not for every epoch
    assert f"'{path}'" in said[0]


@pytest.mark.parametrize("loader", LOADERS)
def test_a_disk_that_is_gone_stops_the_run(loader, copy):
    data = open_folder(copy, loader)
    shutil.rmtree(copy)
    with pytest.raises(InputError, match="8 images one after the other cannot be read .*; is the disk there?"):
        read(data, seed=0, epoch=0)
    with pytest.raises(InputError, match="images cannot be read any more .*; at most 1% may be missing"):
        list(data.eval_batches("test", 4))


def test_a_replacement_does_not_depend_on_the_number_of_processes(copy):
    data = open_folder(copy)
    order = data.epoch_order("train", 8, seed=0, epoch=0)[0]
    for place in (3, 4):
        with open(data.files[order[place]], "wb"):
            pass
    whole = next(data.train_batches("train", 8, seed=0, epoch=0))
    assert torch.equal(whole[0][3], whole[0][5])
    for rank in range(8):  # one image each
        images, labels = next(data.train_batches("train", 8, seed=0, epoch=0, take=np.array([rank])))
        torch.testing.assert_close(images[0], whole[0][rank], atol=0.3, rtol=0)  # by PIL here, by DALI there
        assert labels[0] == whole[1][rank]


def test_a_dali_that_does_not_work_says_so(copy, monkeypatch, capfd):
    data = open_folder(copy)
    loader = data.loader()
    with monkeypatch.context() as patch:
        patch.setattr(
            loader, "_copy_output", lambda pipeline: (_ for _ in ()).throw(RuntimeError("x\nencountered:\nno nvJPEG\n"))
        )
        with pytest.raises(InputError, match=r"DALI failed 5 times \(no nvJPEG\); use --loader torchvision"):
            for epoch in range(3):
                read(data, seed=0, epoch=epoch)
    assert "DALI failed on images that PIL can decode (no nvJPEG)" in capfd.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(loader, "_build_pipeline", lambda *a: (_ for _ in ()).throw(RuntimeError("driver too old")))
        with pytest.raises(InputError, match=r"DALI does not work here \(driver too old\); use --loader torchvision"):
            read(data, seed=0, epoch=0)
    with pytest.raises(ZeroDivisionError):  # mistakes of ours are not DALI's, and end no epoch early
        plan = data.loader().read(1 / 0 if number == 5 else central(data, number) for number in range(9))
        assert len([next(plan) for _ in range(5)]) == 5
        next(plan)


def central(data, number):
    return central_crops(np.arange(4) + number, data.images.sizes[number : number + 4], 32, spos=False)


def test_no_batch_of_good_files_leaves_dali(tree, monkeypatch):
    data = open_folder(tree)
    monkeypatch.setattr(data.loader().fallback, "decode_batch", lambda plan: pytest.fail("decoded without DALI"))
    for epoch in range(3):
        assert len(read(data, seed=0, epoch=epoch)) == 9
    for batch in (1, 5, 24):
        assert len(contents(data.eval_batches("score", batch))) == 24


# the scan


def test_a_scan_looks_at_a_file_once(copy, monkeypatch):
    files = sorted(str(path) for path in copy.glob("*/*"))
    first = found_in(files)
    looked = []
    look = inspect_file.inspect_image
    monkeypatch.setattr(scan, "inspect_image", lambda path: looked.append(path) or look(path))
    assert found_in(files) == first
    assert not looked
    content = open(files[3], "rb").read()
    os.utime(files[4], ns=(1, 1))
    with open(files[3], "wb") as file:
        file.write(content[:-400])
    again = found_in(files)
    assert looked == files[3:5]
    assert again[3].problem == "is truncated"
    assert [a == b for a, b in zip(first, again, strict=True)].count(False) == 1
    assert [found_in([path])[0] for path in files[:3]] == first[:3]
    assert "cannot be opened" in found_in([str(copy / "none.jpg")])[0].problem
    os.utime(files[5], ns=(2, 2))
    with monkeypatch.context() as patch:  # a disk that fails today is not remembered
        patch.setattr(scan.Path, "read_bytes", lambda self: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        assert found_in(files)[5].problem == "cannot be opened (Input/output error)"
    assert found_in(files)[5].problem == ""


def test_an_interrupted_scan_goes_on(copy, monkeypatch):
    files = sorted(str(path) for path in copy.glob("*/*"))
    monkeypatch.setattr(scan, "CHUNK", 10)
    look, looked = inspect_file.inspect_image, []

    def interrupted(path):
        if len(looked) == 25:
            raise KeyboardInterrupt
        looked.append(path)
        return look(path)

    monkeypatch.setattr(scan, "inspect_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scan.scan(files, 1)
    monkeypatch.setattr(scan, "inspect_image", lambda path: looked.append(path) or look(path))
    assert not scan.scan(files, 1).problems
    assert 40 <= len(looked) <= 50


def test_a_scan_without_a_home_works(copy, monkeypatch, tmp_path):
    files = sorted(str(path) for path in copy.glob("*/*"))[:5]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [found.kind for found in found_in(files)] == ["JPEG RGB"] * 5
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "onepath").mkdir()
    (tmp_path / "onepath" / "scan.sqlite").write_bytes(b"no database" * 1000)
    assert [found.kind for found in found_in(files)] == ["JPEG RGB"] * 5
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(tmp_path / "onepath" / "scan.sqlite").execute("SELECT 1 FROM sqlite_master")


def test_single_flipped_bits_are_found_as_far_as_they_can_be(tree):
    """A JPEG has no checksum: most single bits change a few pixels and nothing else. PIL alone finds hardly any."""
    content = (tree / "china" / "00 é.JPEG").read_bytes()
    draw = np.random.default_rng(0)
    ours = pil = 0
    path = tree.parent / "flipped.JPEG"
    for _ in range(100):
        changed = bytearray(content)
        changed[draw.integers(700, len(content) - 2)] ^= 1 << draw.integers(8)
        path.write_bytes(changed)
        ours += bool(inspect_file.inspect_image(str(path)).problem)
        try:
            Image.open(path).load()
        except OSError:
            pil += 1
    assert ours > 20
    assert ours > 3 * pil


# the check command


@pytest.mark.slow
def test_check_shows_a_folder(copy, tmp_path):
    sheet = tmp_path / "sheet.png"
    done = onepath("data", "check", copy, "--out", sheet, check=True)
    for text in ("2 class folders, parts cut by us", "train images", "median", "JPEG RGB", str(sheet)):
        assert text in done.stdout
    assert "left out:" not in done.stdout
    with Image.open(sheet) as picture:
        assert picture.width > 600
        assert len(set(picture.convert("RGB").resize((64, 16)).get_flattened_data())) > 100
    good = (copy / "china" / "00 é.JPEG").read_bytes()
    for name, (spoil, _) in BAD.items():
        (copy / "china" / f"{name}.JPEG").write_bytes(spoil(good))
    for name, (content, _) in odd_files(Image.open(copy / "flower" / "01 é.JPEG").resize((99, 98))).items():
        (copy / "flower" / name).write_bytes(content)
    began = time.time()
    done = onepath("data", "check", copy, "--out", "", "--workers", "2")
    assert time.time() - began < 100
    assert done.returncode == 1
    for text in (
        "is truncated",
        "is an HTML page",
        "is empty",
        "'china/rotten.JPEG'",
        "CMYK",
        "EXIF orientation 6",
        "16-bit",
    ):
        assert text in done.stdout, done.stdout
    assert "Traceback" not in done.stderr
    (copy / "china" / os.fsdecode(b"00 latin \xe9.jpg")).write_bytes(b"")
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-m", "trials.data", "check", str(copy), "--out", ""]
    printed = subprocess.run(command, cwd=ROOT, env=strict, capture_output=True, text=True)
    assert "00 latin \\udce9.jpg" in printed.stdout, printed.stderr
    assert_one_clear_line(onepath("data", "check", copy / "none"), "does not exist")
    assert_one_clear_line(onepath("data", "check", copy / "china" / "00 é.JPEG"), "is a file, not a folder")
    done = onepath("data", "check", copy, "--out", "/proc/x.png")
    assert done.returncode == 1
    assert done.stderr.startswith("error: --out '/proc/x.png' cannot be written")
    assert_one_clear_line(onepath("data", "look", copy), "trials.data has the verbs check and shrink, not 'look'")
    assert "check DIR" in onepath("data", "--help").stdout
