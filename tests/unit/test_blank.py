"""--blank leave-out; and one rule for what is counted: numbers of images are of those that are used."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from spaces.errors import InputError
from tests.unit.test_data import open_folder
from trials import data
from trials.common import run_dir
from trials.evidence import image_gates
from trials.images import check, check_config
from trials.images.blank import Blank
from trials.images.image_list import LEFT_OUT
from trials.images.options import DataOptions
from trials.images.survey import survey_folder
from trials.road import form, steps
from trials.training import retrain_config, run_gates, supernet_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Class a: 40 pictures, 10 black ones that differ behind their end, 5 files there twice, one broken. Class b: 40 pictures."""
    root = tmp_path_factory.mktemp("images")
    for number in range(80):
        path = root / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (40, 40, 3)).astype(np.uint8)
        Image.fromarray(noise).save(path)
        if number % 2 == 0 and number < 10:
            path.with_name(f"{number:02d} again.png").write_bytes(path.read_bytes())
    Image.new("RGB", (40, 40)).save(root / "a" / "black0.png")
    for number in range(1, 10):
        (root / "a" / f"black{number}.png").write_bytes((root / "a" / "black0.png").read_bytes() + bytes([number]))
        (root / "a" / f"black{number} again.png").write_bytes((root / "a" / f"black{number}.png").read_bytes())
    (root / "a" / "broken.png").write_bytes(b"no image")
    return root


def config_of(folder, out, **options):
    given = {"data": "folder", "data_root": str(folder), "out": str(out), "preset": "tiny", "loader": "torchvision"}
    return supernet_config.Config(**given, batch_size=8, epochs=400, warm_start=0.0, lr=0.0125, **options)


def test_check_run_and_first_look_count_the_same_images(folder, capsys):
    """Files that are broken or there twice are in no number of images."""
    data = open_folder(folder, "torchvision", workers=0)
    found = check.check_folder(check_config.Config(data_root=str(folder), out=""))
    assert found["files"] == 40 + 10 + 5 + 9 + 1 + 40
    assert sum(found["parts"].values()) == data.size("all") + data.size("test") == 90
    survey = survey_folder(DataOptions(data="folder", data_root=str(folder)))
    assert (survey.images, survey.exact, survey.classes) == (data.size("all"), True, 2)
    assert survey.images == found["parts"]["train"] + found["parts"]["score"] == 72
    assert form.look_at(str(folder), {}).text == "72 images of 40 pixels to train and score with"
    assert form.look_at(str(folder), {"blank": "leave-out"}).text.startswith("64 images")
    assert data.blank == [Blank("a", 10, 50, "black", "a/black0.png", 0)]
    printed = capsys.readouterr().out
    assert "one single colour, which teaches nothing: 10\n  class 'a': 10 of 50, all black 'a/black0.png'" in printed
    assert "--blank leave-out" in printed


def test_a_very_large_folder_is_counted_by_its_files(folder, monkeypatch):
    monkeypatch.setattr("trials.images.survey.ALL", 50)
    survey = survey_folder(DataOptions(data="folder", data_root=str(folder)))
    assert (survey.exact, survey.text, survey.short_side) == (False, "about 84 images", 40)


def test_blank_pictures_are_left_out_where_that_is_asked_for(folder, tmp_path):
    kept, without = (open_folder(folder, "torchvision", workers=0, blank=blank) for blank in (None, "leave-out"))
    assert kept.size("all") + kept.size("test") == 90
    assert without.size("all") + without.size("test") == 80
    assert not any("black" in path for path in without.images.paths)
    assert without.blank == []
    without.save(tmp_path)
    with open(tmp_path / LEFT_OUT) as file:
        reasons = [row["reason"] for row in csv.DictReader(file) if "black" in row["path"]]
    assert reasons == ["is one single colour 'black'"] * 19
    found = check.check_folder(check_config.Config(data_root=str(folder), out="", blank="leave-out"))
    assert (found["blank"], sum(found["parts"].values())) == ({}, 80)
    assert "--blank leave-out" in found["next"]
    assert {why for _, why in found["left_out_as_asked"]} == {"is one single colour 'black'"}
    assert not [path for path, _ in found["left_out"] if "black" in path]


def test_the_exit_code_of_a_check_says_what_is_left_to_mend(tmp_path, capsys):
    """What was asked for is nothing to mend."""
    for number in range(12):
        for name in "ab":
            (tmp_path / "pics" / name).mkdir(parents=True, exist_ok=True)
            colours = np.random.default_rng([number, ord(name)]).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(colours).save(tmp_path / "pics" / name / f"{number}.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "pics" / "a" / "black.png")
    words = ["check", str(tmp_path / "pics"), "--out", "", "--blank", "leave-out"]
    found = data.main(words)
    assert (found["left_out"], len(found["left_out_as_asked"])) == ([], 1)
    printed = capsys.readouterr().out
    assert "left out, as --blank leave-out says: 1\n  is one single colour (1): 'a/black.png' 'black'" in printed
    (tmp_path / "pics" / "a" / "torn.png").write_bytes(b"none")
    with pytest.raises(SystemExit) as ended:
        data.main(words)
    assert ended.value.code == 1


def test_the_warning_has_it_in_its_command(folder, tmp_path):
    config = config_of(folder, tmp_path / "run")
    run_dir.open_run(config.out, "supernet", config, resume=False, quiet=True)
    data = open_folder(folder, "torchvision", workers=0)
    (found,) = [one for one in run_gates.before_supernet(config, data) if one and one.gate == image_gates.BLANK]
    assert found.text.startswith("10 of 50 images of class 'a' are all black")
    assert "--blank leave-out" in found.command
    assert "--blank leave-out" in found.options


def test_it_travels_with_a_run_and_cannot_change(folder, tmp_path):
    run = tmp_path / "run"
    config = config_of(folder, run, blank="leave-out")
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.pt").touch()
    (run / "config.json").write_text(json.dumps({"command": "supernet", "config": dataclasses.asdict(config)}))
    assert config_of(folder, run, resume=True).blank == "leave-out"
    with pytest.raises(InputError, match="was started with --blank leave-out, not ''"):
        run_dir.open_run(run, "supernet", config_of(folder, run, resume=True, blank="keep"), resume=True)
    (run / "arc.json").write_text(json.dumps({f"block{number:02d}": "k3" for number in range(20)}))
    assert retrain_config.Config(fixed_arc=str(run / "arc.json"), supernet=str(run)).blank == "leave-out"
    assert steps.PASSED["blank"] == ("data", "supernet")
    assert DataOptions(data="folder", blank="keep").blank is None
    with pytest.raises(InputError, match="unknown value of --blank 'leaveout'; did you mean 'leave-out'"):
        DataOptions(data="folder", blank="leaveout")
    with pytest.raises(InputError, match="--blank is of --data folder, and --data is digits"):
        DataOptions(blank="leave-out")
