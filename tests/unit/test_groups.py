"""--group-by: pictures that belong together by their names are in one part, wherever parts are cut; runs and checks know it."""

import csv
import dataclasses
import gzip
import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image

from spaces.errors import InputError
from tests.unit.test_data import open_folder
from tests.unit.test_near_copies import checked
from trials.certifying import certify_config, jobs
from trials.common import run_dir
from trials.common.supernet_run import SupernetRun
from trials.images.groups import group_images, without_suffix
from trials.images.image_list import LIST, PARTS, load_list, notes_on_groups
from trials.images.listing import find_images
from trials.images.options import DataOptions
from trials.images.split import split
from trials.road import steps
from trials.training import retrain_config, supernet_config

SCENES = r"(.+)_\d+"


def make(root, names):
    """Pictures of noise, no two alike, by their paths."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (40, 40, 3)).astype(np.uint8)
        Image.fromarray(noise).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of 10 scenes of 4 frames, and in each 4 pictures without a scene."""
    root = tmp_path_factory.mktemp("scenes")
    make(root, [f"{c}/{c}{scene}_{frame}.png" for c in "ab" for scene in range(10) for frame in range(4)])
    make(root, [f"{c}/single{c}{k}.jpg" for c in "ab" for k in range(4)])
    return root


# the split


def shares(labels, chosen):
    return np.bincount(labels[chosen], minlength=labels.max() + 1) / np.bincount(labels)


def distance(labels, chosen, fraction):
    return float(((shares(labels, chosen) - fraction) ** 2).sum())


def test_without_groups_the_split_is_what_it_was():
    labels = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1])
    rest, cut = split(labels, 0.4)
    generator = np.random.default_rng(0)
    expected = [
        generator.permutation(np.flatnonzero(labels == label))[: round(0.4 * n)] for label, n in ((0, 5), (1, 7))
    ]
    assert cut.tolist() == sorted(np.concatenate(expected).tolist())
    assert sorted([*rest, *cut]) == list(range(12))


@pytest.mark.parametrize("seed", range(8))
def test_whole_groups_come_as_near_to_the_shares_as_they_can(seed):
    """Against all ways to choose groups, of which the best has each class on both sides."""
    draw = np.random.default_rng(seed)
    group_of_class = [(group, group % 3 if seed % 2 else int(draw.integers(3))) for group in range(12)]
    sizes = draw.integers(1, 12, 12)
    groups = np.repeat(np.arange(12), sizes)
    labels = np.repeat([label for _, label in group_of_class], sizes)
    labels = np.where(
        draw.random(len(labels)) < 0.1 * (seed % 3), (labels + 1) % 3, labels
    )  # groups of several classes
    rest, cut = split(labels, 0.25, groups)
    assert not set(groups[rest]) & set(groups[cut])
    assert sorted([*rest, *cut]) == list(range(len(labels)))
    best, usual = np.inf, bool(min(len(np.unique(groups[labels == label])) for label in range(3)) > 1)
    for chosen in itertools.product((False, True), repeat=12):
        inside = np.array(chosen)[groups]
        found = shares(labels, inside)
        if (found > 0).all() and (found < 1).all():
            best = min(best, distance(labels, inside, 0.25))
    assert distance(labels, cut, 0.25) <= best + 0.003  # of three classes, so about 0.03 of a share
    assert (shares(labels, cut) > 0).all() == usual
    again = split(labels, 0.25, groups * 7 + 3)
    assert np.array_equal(again[1], cut)  # by which images are together, not by the groups' numbers


def test_many_small_groups_give_the_shares_that_were_asked_for():
    draw = np.random.default_rng(0)
    labels = np.sort(draw.integers(0, 20, 20_000))
    groups = labels * 1000 + draw.integers(0, 100, 20_000)
    _, cut = split(labels, 0.2, groups)
    assert np.abs(shares(labels, cut) - 0.2).max() < 0.003


def test_a_class_of_one_group_is_trained_on_and_one_of_two_is_tested_too():
    labels = np.repeat([0, 1, 2], [10, 10, 20])
    groups = np.concatenate((np.repeat(0, 10), np.repeat([1, 2], 5), np.arange(3, 23)))
    for fraction in (0.1, 0.2, 0.5, 0.9):
        rest, cut = split(labels, fraction, groups)
        assert set(labels[rest]) == {0, 1, 2}
        assert set(labels[cut]) == {1, 2}
    assert [len(part) for part in split(np.zeros(0, np.int64), 0.2, np.zeros(0, np.int64))] == [0, 0]


# which pictures belong together


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (SCENES, ["barn", "barn", "", "barn"]),
        ("(.+)/", ["", "", "2021/day1", ""]),
        ("([^/]+)/", ["", "", "2021", ""]),
        (r"(?:barn)_\d", ["barn_1", "barn_2", "", "barn_1"]),
        (r"(.*?)_\d+$", ["barn", "barn", "", "barn"]),  # without the suffix
        ("(n)|y", ["n", "n", "", "n"]),  # what the brackets do not find is nothing
    ],
)
def test_groups_are_what_the_expression_finds_inside_the_class_folder(expression, expected):
    paths = ["train/x_1/barn_1.png", "train/x_1/barn_2.gif.png", "train/x_1/2021/day1/y.JPG", "train/y_2/barn_1.jpg"]
    inside = np.array([len("train/x_1/")] * 4)
    try:
        groups = group_images(paths, inside, expression)
    except InputError:
        assert len(set(filter(None, expected))) == sum(map(bool, expected))  # no two together
        return
    assert [groups.names[number] for number in groups.numbers.tolist()] == expected
    alone = [number for number, name in zip(groups.numbers.tolist(), expected, strict=True) if not name]
    assert len(set(alone)) == len(alone)
    assert without_suffix("a.b/c_1.5.GIF.png") == "a.b/c_1.5"


LAYOUTS = {
    "classes": ("", "a/s1/1.png", "s1/1.png"),
    "train": ("", "train/a/s1/1.png", "s1/1.png"),
    "inside": ("x", "x/a/s1/1.png", "s1/1.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_class_folder_is_known_in_every_layout(layout, tmp_path):
    _, first, inside = LAYOUTS[layout]
    make(tmp_path, [first, first.replace("a/", "b/")])
    if layout == "train":
        make(tmp_path, ["val/v_1.png", "val/v_2.png"])
        (tmp_path / "labels.csv").write_text("v_1.png,a\nv_2.png,b\n")
    listing = find_images(tmp_path, val_labels=str(tmp_path / "labels.csv") if layout == "train" else "")
    found = [path[start:] for path, start in zip(listing.paths, listing.inside.tolist(), strict=True)]
    assert found == [inside, inside, *(["v_1.png", "v_2.png"] if layout == "train" else [])]


REFUSED = {
    "(.+": r"--group-by '\(\.\+' is no regular expression \(.*at character 1\); give one, such as",
    r"(.+)_(\d+)": "has 2 groups in brackets, and one is taken",
    "(x)": r"matches none of 88 pictures; it is looked for in paths inside the class folder, without suffix, such as 'a0_0'",
    ".+": r"puts no two of 88 pictures together \(of 'a0_0' it says 'a0_0'\)",
    "()a": "matches none of 88 pictures",
    "([ab0-9]|s)": "leaves no image for the part 'score': it makes 3 groups, the largest .* of 40 of 88 images",
}


@pytest.mark.parametrize("expression", REFUSED)
def test_an_expression_that_is_no_use_is_refused_in_one_line(expression, folder):
    with pytest.raises(InputError, match=REFUSED[expression]) as error:
        open_folder(folder, "torchvision", workers=0, group_by=expression)
    assert "\n" not in str(error.value)


def test_only_folders_have_groups():
    with pytest.raises(InputError, match="--group-by is of --data folder, and --data is digits; leave --group-by out"):
        DataOptions(data="digits", group_by=SCENES)


# runs


def scene_of(path):
    found = re.search(r"([ab]\d)_", path)
    return found[1] if found else path


def test_all_parts_of_a_run_hold_whole_groups(folder, tmp_path):
    """Also those that a differentiable strategy learns from, and those of a run that reads its list again."""
    data = open_folder(folder, "torchvision", workers=0, score_fraction=0.25, group_by=SCENES)
    for names in (("train", "score", "test"), ("weights", "arch", "score")):
        scenes = [{scene_of(data.images.paths[int(k)]) for k in data.parts[name]} for name in names]
        assert all(not one & two for one, two in itertools.combinations(scenes, 2))
    assert [data.class_counts(part) for part in ("train", "score", "test")] == [
        {"a": 26, "b": 26}, {"a": 9, "b": 9}, {"a": 9, "b": 9}
    ]  # fmt: skip
    data.save(tmp_path)
    read = load_list(tmp_path)
    assert np.array_equal(read.parts, data.images.parts)
    _, one = np.unique(data.images.groups.numbers, return_inverse=True)
    assert np.array_equal(read.groups.numbers, one)
    assert list(read.groups.names) == list(data.images.groups.names)
    assert list(read.groups.names).count("") == 8
    with gzip.open(tmp_path / LIST, "rt") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["group"] == "a0"
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    with gzip.open(tmp_path / LIST, "rt") as file, gzip.open(damaged / LIST, "wt") as other:
        other.write(file.read().replace(",a0\n", "\n", 1).replace(",a0\r\n", "\r\n", 1))
    with pytest.raises(InputError, match="is damaged"):
        load_list(damaged)


def test_the_list_of_a_run_without_groups_is_what_it_was(folder, tmp_path):
    data = open_folder(folder, "torchvision", workers=0)
    data.save(tmp_path)
    with gzip.open(tmp_path / LIST, "rt") as file:
        assert next(csv.reader(file)) == ["path", "class", "part", "height", "width", "bytes", "kind"]
    assert load_list(tmp_path).groups is None
    labels = data.images.labels
    rest, test = split(labels, 0.2)
    assert np.array_equal(test, data.parts["test"])
    assert np.array_equal(rest[split(labels[rest], 0.25)[1]], data.parts["score"])


def test_given_parts_stay_and_groups_in_several_of_them_are_told(tmp_path, capsys):
    names = [f"train/{c}/{c}{scene}_{frame}.png" for c in "ab" for scene in range(6) for frame in range(3)]
    make(tmp_path, [*names, *(f"val/{c}/{c}{scene}_9.png" for c in "ab" for scene in (0, 1))])
    data = open_folder(tmp_path, "torchvision", workers=0, group_by=SCENES)
    assert data.size("test") == 4
    train, score = ({scene_of(data.images.paths[int(k)]) for k in data.parts[part]} for part in ("train", "score"))
    assert not train & score
    assert "note: 4 groups of --group-by are in several of the parts that the folders give" in capsys.readouterr().out


def test_classes_without_a_group_in_a_part_are_told(tmp_path, capsys):
    make(tmp_path, [f"{c}/{c}{k % n}_{k}.png" for c, n in (("a", 1), ("b", 2), ("c", 9)) for k in range(18)])
    data = open_folder(tmp_path, "torchvision", workers=0, group_by=SCENES)
    assert data.class_counts("test")["a"] == 0
    assert min(data.class_counts("train").values()) > 0
    said = notes_on_groups(data.images)
    assert said[0] == (
        "2 of 3 classes have so few groups that none is in the part 'score': a, b; what is measured there says nothing of them"
    )
    assert "1 of 3 classes have so few groups that none is in the part 'test': a;" in said[1]
    assert all(f"note: {line}" in capsys.readouterr().out for line in said[:1])


def begin(folder, out, **options):
    """The configuration of a run of trials.supernet that has begun."""
    given = {"data": "folder", "data_root": str(folder), "out": str(out), "preset": "tiny", **options}
    config = supernet_config.Config(**given)
    (out / "checkpoints").mkdir(parents=True)
    (out / "checkpoints" / "last.pt").touch()
    (out / "config.json").write_text(json.dumps({"command": "supernet", "config": dataclasses.asdict(config)}))
    return given | {"resume": True}


def test_the_option_travels_with_a_run_and_cannot_change(folder, tmp_path):
    run = tmp_path / "run"
    again = begin(folder, run, group_by=SCENES)
    resumed = supernet_config.Config(**{**again, "group_by": None})
    assert resumed.group_by == SCENES
    run_dir.open_run(run, "supernet", resumed, resume=True)
    message = r"was started with --group-by '\(\.\+\)_\\d\+', not '\(\.\+\)/'; give '\(\.\+\)_\\d\+' or another --out"
    with pytest.raises(InputError, match=message):
        run_dir.open_run(run, "supernet", supernet_config.Config(**{**again, "group_by": "(.+)/"}), resume=True)
    with pytest.raises(InputError, match=r"was started with --group-by '\(\.\+\)_\\d\+', not ''"):
        changed = dataclasses.replace(resumed, group_by="", resume=False)
        run_dir.open_run(run, "supernet", changed, resume=True)
    (run / "arc.json").write_text(json.dumps({f"block{number:02d}": "k3" for number in range(20)}))
    winner = retrain_config.Config(fixed_arc=str(run / "arc.json"), supernet=str(run))
    rival = retrain_config.Config(baseline="timm:mobilenetv2_100", supernet=str(run))
    opened = SupernetRun.open(run, trained=False)
    certified = jobs.recipe_config(opened, "retrain", 2, certify_config.Config(run=str(run), jobs=1))
    assert winner.group_by == rival.group_by == certified.group_by == DataOptions.of(opened.config).group_by == SCENES
    with pytest.raises(InputError, match=r"--group-by \(.\+\)/: supernet '.*' has .*; leave --group-by out"):
        retrain_config.Config(fixed_arc=str(run / "arc.json"), supernet=str(run), group_by="(.+)/")
    assert steps.PASSED["group_by"] == ("data", "supernet")


def test_a_run_without_groups_gets_none_later(folder, tmp_path):
    """Also one of older code, which does not know the option."""
    run = tmp_path / "run"
    again = begin(folder, run)
    stored = json.loads((run / "config.json").read_text())
    for known in (True, False):
        if not known:
            del stored["config"]["group_by"]
            (run / "config.json").write_text(json.dumps(stored))
        run_dir.open_run(run, "supernet", supernet_config.Config(**again), resume=True)
        with pytest.raises(
            InputError, match=r"was started with --group-by '', not '\(\.\+\)/'; give '' or another --out"
        ):
            run_dir.open_run(run, "supernet", supernet_config.Config(**again, group_by="(.+)/"), resume=True)
    assert supernet_config.Config(**again, group_by="").group_by is None


# what `data check` proposes

NAMES = {
    "a folder of its own": ("{c}/{s}/{f}.jpg", "(.+)/"),
    "numbers at the end": ("{c}/{s}-{f:02d}.jpg", r"(.*\D)\d+$"),
    "words at the end": ("{c}/{s}_{w}.jpg", r"(.+)[-_.\s]"),
    "numbers, and a word at the end": ("{c}/{s}_{f}_{w}.jpg", r"(.+)[-_.\s].*[-_.\s]"),
    "words, numbers and more words": ("{c}/{s}_{w}_{f}_x.jpg", r"([^-_.\s/]+)"),
    "one number for all": ("{c}/{s:02d}{f:02d}.jpg", r"(.+)\d\d$"),
    "nothing": ("{c}/{h}.jpg", None),
}


@pytest.mark.parametrize("kind", NAMES)
def test_near_copies_lead_to_an_expression_that_was_tried(kind, tmp_path, capsys):
    """Frames of scenes under names of seven kinds; what is proposed leaves none, and the same command says so."""
    form, expected = NAMES[kind]
    draw = np.random.default_rng(0)
    for c, s in itertools.product("ab", range(15)):
        clouds = Image.fromarray(draw.integers(0, 256, (9, 12, 3)).astype(np.uint8)).resize(
            (120, 90), Image.Resampling.BICUBIC
        )
        for f in range(10):
            code = "".join(chr(97 + int(k)) for k in draw.integers(0, 26, 9))
            path = tmp_path / "images" / form.format(c=c, s=s, f=f, w="abcdefghij"[f], h=code)
            path.parent.mkdir(parents=True, exist_ok=True)
            clouds.crop((f, 0, 100 + f, 90)).save(path, quality=90)
    printed, found = checked(tmp_path / "images", capsys)
    assert found["near"] >= 45
    assert found["group_by"] == expected
    if expected is None:
        assert "; --group-by, or folders train/ and val/, put whole scenes into one part: docs/data.md" in printed
        return
    assert f"with --group-by '{expected}' whole scenes are in one part, and it would be 0 of " in printed
    assert f"run {tmp_path / 'images'} --group-by '{expected}' --max-macs" in printed
    printed, found = checked(tmp_path / "images", capsys, "--group-by", expected)
    assert "nearly equal" not in printed
    assert (found["near"], found["group_by"]) == (0, None)
    assert "groups (--group-by) " in printed
    assert found["of_test"] == pytest.approx(60, abs=20)


def test_groups_are_counted_by_the_check(folder, capsys):
    printed, _ = checked(folder, capsys, "--group-by", SCENES)
    assert "groups (--group-by) 20, the largest of 4 images; 8 images match nothing, and each is by itself" in printed
    assert len(PARTS) == 3
