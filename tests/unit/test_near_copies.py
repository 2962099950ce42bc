"""`data check` finds test images that are nearly equal to a training image, and is silent where there are none."""

import dataclasses
import re
import shlex

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from sklearn.datasets import load_digits, load_sample_images

from tests.commands import ROOT
from trials import data
from trials.common import run_dir
from trials.evidence import gates, image_gates
from trials.images import check, check_config, near_copies, print_check
from trials.images.folder import FolderData
from trials.images.load import load_data
from trials.training import run_gates, supernet_config

SAID = "nearly equal to one that trains"


def checked(folder, capsys, *words):
    """What `data check` prints of a folder, in one line, and its answer."""
    found = data.main(["check", str(folder), "--out=", "--workers", "1", *words])
    return " ".join(capsys.readouterr().out.split()), found["near_copies"]


def film(folder, scenes, frames=10):
    """Frames of scenes: a window that moves over a photograph by a pixel a frame; files CLASS/SCENE-FRAME.jpg."""
    folder.mkdir(parents=True)
    photographs = dict(zip(("china", "flower"), load_sample_images().images, strict=True))
    for name, photograph in photographs.items():
        (folder / name).mkdir()
        for scene in range(scenes):
            top, left = 150 + 90 * (scene // 5), 110 * (scene % 5)
            for frame in range(frames):
                window = photograph[top : top + 60, left + frame : left + frame + 80]
                Image.fromarray(window).save(folder / name / f"{scene}-{frame:02d}.jpg", quality=90)


def test_frames_of_one_scene_are_found_and_none_where_scenes_are_kept_together(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "images", scenes=15)
    printed, found = checked("images", capsys)
    assert f"{found['near']} of 60 pictures that would test are {SAID} (such as '" in printed
    title = print_check.FRAMES.rpartition("#")[2].replace("-", " ")
    assert f"## {title.capitalize()}\n" in (ROOT / "docs" / "data.md").read_text()
    assert print_check.FRAMES in printed
    assert found["near"] >= 50
    assert (found["other_class"], found["test"], found["training"]) == (0, 60, 240)
    one, two = found["example"]
    assert one.rpartition("-")[0] == two.rpartition("-")[0]

    printed, found = checked("images", capsys, "--group-by", found["group_by"])
    assert SAID not in printed
    assert (found["near"], found["test"], found["training"]) == (0, 60, 240)


def test_between_given_parts_copies_are_found(tmp_path, capsys):
    """Augmented copies in train/ of what is in val/: brighter, smaller, of less quality. One of them has another class."""
    film(tmp_path / "train", scenes=15, frames=1)
    for path in sorted((tmp_path / "train").glob("*/*.jpg"))[::3]:
        name = "flower" if path.stem == "0-00" else path.parent.name  # china's first is the one with another class
        other = tmp_path / "val" / name / f"copy of {path.parent.name} {path.name}"
        other.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            ImageEnhance.Brightness(image.resize((64, 48))).enhance(1.2).save(other, quality=70)
    printed, found = checked(tmp_path, capsys)
    assert (found["near"], found["test"], found["other_class"]) == (8, 10, 1)  # two are hardly more than sky and shade
    assert "; 1 of them to one of another class)" in printed


@pytest.mark.parametrize("kind", ["digits", "photographs"])
def test_images_that_are_merely_alike_are_none(tmp_path, capsys, kind):
    if kind == "digits":
        images, labels = (load_digits().images * 15.9).astype(np.uint8), load_digits().target
    else:  # side by side, so that none has a part of another
        places = [(k, y, x) for k in (0, 1) for y in range(0, 400, 40) for x in range(0, 640, 40)]
        images = [load_sample_images().images[k][y : y + 40, x : x + 40] for k, y, x in places]
        labels = [place[0] for place in places]
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / str(label) / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    printed, found = checked(tmp_path, capsys)
    assert SAID not in printed
    assert found["near"] <= 0.03 * found["test"]


def test_a_part_is_compared_where_there_are_many_and_that_is_said(tmp_path, monkeypatch, capsys):
    """In stretches of neighbours: a scene stands together, so that its frames are found."""
    monkeypatch.setattr(near_copies, "CHECK", near_copies.CHECK._replace(pixels=60 * 80 * 200))
    film(tmp_path / "images", scenes=15, frames=20)
    printed, found = checked(tmp_path / "images", capsys)
    assert found["test"] + found["training"] == 200
    assert (found["of_test"], found["of_training"]) == (120, 480)
    assert f"({found['test']} of 120 were compared with {found['training']} of 480 that train)" in printed
    assert found["near"] >= 0.8 * found["test"]


def test_copies_in_another_class_are_said_to_be_so(capsys):
    found = near_copies.NearCopies(9, 6, 20, 80, 20, 80, ("a/1.png", "b/2.png"))
    print_check.print_near_copies(found, None)
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "; 6 of them to one of another class): what is in two classes cannot be told; decide for one class: docs"
        in printed
    )


def test_few_images_and_blank_ones_are_not_compared(tmp_path, capsys):
    assert not near_copies.fine_structure(np.full((16, 16, 3), 200, np.uint8)).any()
    film(tmp_path / "images", scenes=1)
    printed, found = checked(tmp_path / "images", capsys)
    assert SAID not in printed
    assert (found["test"], found["example"], found["of_test"]) == (0, None, 4)


def test_the_nearest_image_is_that_of_a_loop(monkeypatch):
    monkeypatch.setattr(near_copies, "BLOCK", 3)
    draw = np.random.default_rng(1)
    both = draw.integers(0, 256, (60, 16, 16, 3)).astype(np.float32)
    both[:5] = both[20:25] + draw.normal(0, 10, both[:5].shape)
    looks = np.stack([near_copies.fine_structure(pixels) for pixels in both])
    nearest, correlation, near = near_copies.nearest_images(looks[:20], looks[20:])
    expected = np.corrcoef(looks)[:20, 20:]
    assert nearest.tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(correlation, expected.max(1), atol=1e-5)
    assert near.tolist() == [True] * 5 + [False] * 15


@pytest.mark.parametrize(("classes", "left"), [(20, 0), (22, 2)])
def test_the_picture_says_which_classes_it_leaves_out(tmp_path, capsys, classes, left):
    names = [f"c{k:02d}" for k in range(classes)]
    for k, name in enumerate(names):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(np.full((24, 24, 3), 4 * k + number, np.uint8)).save(
                tmp_path / "images" / name / f"{number}.png"
            )
    check.check_folder(check_config.Config(data_root=str(tmp_path / "images"), out=str(tmp_path / "sheet.png")))
    said = re.findall(r"\n  20 of \d+ classes are drawn, without: (.*)\n", capsys.readouterr().out)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 20 + 20 * 100
        rows = np.asarray(sheet)[20 + 48 :: 100, 160 + 48, 0] // 4  # the colour of a class is its number
    without = [name for k, name in enumerate(names) if k not in rows]
    assert len(without) == left
    assert said == ([", ".join(without)] if left else [])


def test_the_start_of_a_training_warns_and_keeps_it(tmp_path, monkeypatch):
    """A run that goes on does not look again; report, card and certificate read what was kept."""
    film(tmp_path / "images", scenes=15)
    given = {"data": "folder", "data_root": str(tmp_path / "images"), "preset": "tiny", "loader": "torchvision"}
    config = supernet_config.Config(
        **given, out=str(tmp_path / "run"), batch_size=16, epochs=400, warm_start=0.0, lr=0.025, workers=1
    )
    run_dir.open_run(config.out, "supernet", config, resume=False, quiet=True)

    def warned(data):
        found = run_gates.before_supernet(config, data)
        return [warning.plain() for warning in found if warning and warning.gate == image_gates.NEAR_COPIES]

    data = opened(config)
    data.save(tmp_path / "run")
    found = run_gates.before_supernet(config, data)
    gates.keep_warnings(tmp_path / "run", "supernet", found)
    (kept,) = [entry for entry in gates.read_warnings(tmp_path / "run") if entry["gate"] == image_gates.NEAR_COPIES]
    assert re.match(r"5\d of 60 test images are nearly equal to a training image, such as '", kept["text"])
    assert f"--group-by {shlex.quote(near_expression(tmp_path))}" in kept["command"]
    assert data.near_copies() is None  # what is known of the files is not held for longer
    read = opened(config, tmp_path / "run")
    assert [(one["text"], one["command"]) for one in warned(read)] == [(kept["text"], kept["command"])]
    grouped = dataclasses.replace(config, group_by=near_expression(tmp_path))
    assert not opened(grouped).near_copies()[0].notable
    monkeypatch.setattr("trials.images.folder.RUN", near_copies.Bounds(20, 60, 10**9))
    bounded, _ = opened(config).near_copies()
    assert bounded.test + bounded.training <= 80
    assert bounded.notable
    assert "test images that were compared are" in image_gates.near_copies(bounded, "").text


def opened(config, run=None) -> FolderData:
    """The images of a training, or of a run that has begun."""
    opened = load_data(config, 32, score_fraction=0.1, run=run)
    assert isinstance(opened, FolderData)
    return opened


def near_expression(folder):
    """What `data check` proposes for a film."""
    return check.check_folder(check_config.Config(data_root=str(folder / "images"), out="", workers=1))["near_copies"][
        "group_by"
    ]
