"""Every gate fires on a case made for it, is silent on a healthy one, and names a command; warnings are kept in the run."""

import contextlib
import json
import random
import subprocess

import numpy as np
import pytest

from trials.common import cli, locks, typed
from trials.common.commands import IN_ROAD
from trials.evidence import gates, image_gates
from trials.evidence.classes import balanced_of
from trials.evidence.gates import GateWarning, keep_warnings, read_warnings
from trials.evidence.intervals import Interval, accuracy_interval
from trials.evidence.learned import is_below, learned_nothing, not_above_text
from trials.evidence.trade import not_above_sentence
from trials.images.blank import Blank
from trials.images.near_copies import NearCopies
from trials.reporting import verdict
from trials.training import sizing

FLOOR = {"top1": 93.0, "interval": [84.6, 97.0], "name": "random forest on 16x16 pixels", "test_images": 71}


def flat(level: float, noise: float, lines: int, seed: int) -> list[float]:
    draw = random.Random(seed)
    return [level + draw.gauss(0, noise) for _ in range(lines)]


def falling(start: float, end: float, noise: float, lines: int, seed: int = 0) -> list[float]:
    return [end + (start - end) * 0.9**k + error for k, error in enumerate(flat(0, noise, lines, seed))]


def looks(gate, *arguments, **options):
    return gate(*arguments, "python -m trials.supernet --out runs/x-2", **options)


def known(mean: list[float], best: list[float], images: int, classes: int) -> dict:
    """What the fixed paths tell a gate."""
    return {"mean": mean, "best": best, "images": images, "classes": classes}


FIRES = {
    # the known case: 354 photographs, 254 of them to train on, at defaults that were made for more images
    "few steps": (
        gates.few_steps,
        (42, 704, 64, 254),
        "42 steps of 64 images are too few: each of 254 is seen 11 times, and the recipe shows it 177 times (704 such steps)",
    ),
    "large batch": (gates.large_batch, (64, 254), "64 is above an eighth of the 254 training images: 3 steps an epoch"),
    "rate and batch": (gates.rate_of_batch, (0.2, 16, 0.2, 64), "0.2 is 4 times too high for batches of 16"),
    "rate too low": (gates.rate_of_batch, (0.025, 1024, 0.1, 64), "0.025 is 64 times too low for batches of 1,024"),
    "flat loss": (gates.flat_loss, (flat(1.4, 0.1, 20, 0),), "the loss does not fall beyond its noise: "),
    "rising loss": (
        gates.flat_loss,
        ([1.3] * 5 + [1.32, 1.35, 1.4, 1.42, 1.42],),
        "1.300 in the first fifth, 1.420 in",
    ),
    "near chance": (
        gates.near_chance,
        (known([27.6, 14.7, 45.7], [28.0, 15.0, 46.0], 29, 4),),
        "fixed paths have a balanced accuracy of 27.60% [14.7, 45.7], near the 25.0% of always the same class",
    ),
    "few scoring images": (
        gates.near_chance,
        (known([35.0, 19.9, 52.7], [36.0, 20.0, 54.0], 29, 4),),
        "[19.9, 52.7], which 29 scoring images cannot tell from the 25.0% of always",
    ),
    "noisy scores": (gates.noisy_scores, ([80.0, 80.5, 81.0], 29), "noise of 7.25 that 29 scoring images"),
    "equal scores": (gates.noisy_scores, ([24.1] * 4, 29), "all 4 architectures score 24.10%"),
    "small test part": (image_gates.small_test, ({"a": 35, "b": 36},), "71 test images: one answer is 1.4 points"),
    "no test part": (image_gates.small_test, ({"a": 0, "b": 0},), "no test images"),
    "a small class": (image_gates.small_test, ({"a": 300, "b": 3},), "class 'b' has 3 test images"),
    "unequal classes": (
        image_gates.unequal_classes,
        ({"good": 90, "bad": 10},),
        "class 'good' has 90% of the training",
    ),
    "blank images": (
        image_gates.blank_images,
        ([Blank("people", 45, 59, "black", "people/a.png", 0), Blank("food", 3, 50, "black", "food/b.png", 0)],),
        "45 of 59 images of class 'people' are all black, such as 'people/a.png', and 3 in 1 more class;",
    ),
    "near copies": (
        image_gates.near_copies,
        (NearCopies(298, 3, 982, 3927, 982, 3927, ("a/1.png", "a/2.png")),),
        "298 of 982 test images are nearly equal to a training image, such as 'a/1.png' and 'a/2.png'; accuracies are too good",
    ),
    "near copies in another class, of some images": (
        image_gates.near_copies,
        (NearCopies(9, 6, 20, 80, 40, 80, ("a/1.png", "b/2.png")),),
        "9 of 20 test images that were compared are nearly equal to a training image, such as 'a/1.png' and 'b/2.png'; most ",
    ),
    "below the floor": (
        gates.below_floor,
        (Interval(76.8, 65.7, 85.0), FLOOR),
        "76.80% [65.7, 85.0] is below the floor",
    ),
}
SILENT = [
    (gates.few_steps, (224, 840, 64, 1078)),
    (gates.large_batch, (64, 1078)),
    (gates.rate_of_batch, (0.1, 64, 0.1, 64)),
    (gates.rate_of_batch, (0.05, 16, 0.2, 64)),  # in proportion
    (gates.rate_of_batch, (0.2, 32, 0.2, 64)),  # a factor of 2
    (gates.flat_loss, (falling(2.3, 0.5, 0.05, 20),)),
    (gates.flat_loss, ([2.3] + [0.5] * 9,)),  # learned at once
    (gates.flat_loss, ([1.5] * 9,)),  # too few lines to tell
    (gates.near_chance, (known([82.0, 78.0, 86.0], [85.0, 81.0, 88.0], 360, 10),)),
    (gates.near_chance, (known([60.3, 52.8, 67.4], [67.4, 59.6, 74.3], 178, 2),)),  # 60 % are right, 68 % of one class
    (gates.near_chance, (known([54.0, 47.0, 61.0], [67.4, 59.6, 74.3], 178, 2),)),  # one path shows that it learned
    (gates.near_chance, (known([100.0, 90.0, 100.0], [100.0, 90.0, 100.0], 20, 1),)),
    (gates.noisy_scores, ([80.0, 85.0, 90.0, 93.0], 360)),
    (gates.noisy_scores, ([80.0, 80.0], 360)),  # too few to tell
    (image_gates.small_test, ({"a": 60, "b": 50},)),
    (image_gates.unequal_classes, ({"a": 70, "b": 30},)),
    (image_gates.blank_images, ([],)),
    (image_gates.near_copies, (NearCopies(4, 0, 100, 400, 100, 400, ("a/1.png", "a/2.png")),)),
    (image_gates.near_copies, (NearCopies(0, 0, 0, 0, 4, 9, None),)),
    (
        image_gates.blank_images,
        ([Blank("a", 1, 10, "white", "a/b.png", 0), Blank("b", 4, 100, "white", "b/c.png", 0)],),
    ),
    (image_gates.unequal_classes, ({"a": 80, "b": 70, "c": 60},)),
    (gates.below_floor, (Interval(90.0, 85.0, 95.0), FLOOR)),  # within the noise
    (gates.below_floor, (Interval(97.0, 95.0, 98.0), FLOOR)),
]


@pytest.mark.parametrize("case", FIRES)
def test_a_gate_fires_on_its_case(case):
    gate, arguments, says = FIRES[case]
    warning = looks(gate, *arguments)
    assert says in warning.text
    assert "\n" not in str(warning)
    assert str(warning).endswith("; python -m trials.supernet --out runs/x-2")
    assert len(warning.text) < 160


@pytest.mark.parametrize(("batch", "steps"), [(32, "14,400"), (64, "7,200"), (128, "3,600")])
def test_few_steps_say_what_does_not_follow_the_batch(batch, steps):
    """The steps of a recipe are those of its batch; how often it shows an image is not."""
    wanted = sizing.enough_steps({"epochs": 60, "batch_size": 64, "lr": 0.1}, 7680, "network", batch)
    warning = looks(gates.few_steps, wanted // 10, wanted, batch, 7680)
    assert f"each of 7,680 is seen 6 times, and the recipe shows it 60 times ({steps} such steps)" in warning.text


@pytest.mark.parametrize(("gate", "arguments"), SILENT)
def test_a_gate_is_silent_on_a_healthy_case(gate, arguments):
    assert looks(gate, *arguments) is None


@pytest.mark.parametrize(
    ("mean", "best", "flat", "gate"),
    [
        ([50.0, 48.0, 52.0], [50.4, 48.4, 52.4], True, "nothing learned"),
        ([50.0, 48.0, 52.0], [50.4, 48.4, 52.4], False, "near chance"),  # the loss fell
        ([50.0, 42.0, 58.0], [50.4, 42.0, 58.4], True, "near chance"),  # too few images to be certain
        ([50.0, 48.0, 52.0], [54.0, 49.0, 59.0], True, "near chance"),  # one path may know something
        ([60.3, 52.8, 67.4], [67.4, 59.6, 74.3], True, None),  # it learned, whatever the loss did
    ],
)
def test_only_with_certainty_is_said_that_nothing_was_learned(mean, best, flat, gate):
    warning = looks(gates.near_chance, known(mean, best, 2000, 2), flat=flat)
    assert (warning and warning.gate) == gate


@pytest.mark.parametrize("lines", [10, 16, 40])
def test_noise_is_not_taken_for_a_trend(lines):
    """Of 300 runs that learn none is warned of; of 300 that learn nothing nearly all, however noisy their losses are."""
    healthy = [looks(gates.flat_loss, falling(2.0, 0.8, 0.06, lines, seed)) for seed in range(300)]
    assert sum(warning is not None for warning in healthy) <= 3
    stuck = [looks(gates.flat_loss, flat(1.4, 0.1, lines, seed)) for seed in range(300)]
    assert sum(warning is None for warning in stuck) <= 60


@pytest.mark.parametrize("lines", [10, 16, 40])
def test_before_the_end_only_a_rise_beyond_noise_is_said(lines):
    stuck = [looks(gates.flat_loss, flat(1.4, 0.1, lines, seed), whole=False) for seed in range(300)]
    assert sum(warning is not None for warning in stuck) <= 60
    rising = [2.0 - loss for loss in falling(1.0, 0.3, 0.03, lines)]
    assert "the loss rises after half of the steps: " in looks(gates.flat_loss, rising, whole=False).text


def test_a_network_is_below_the_floor_only_beyond_its_own_noise():
    few, many = accuracy_interval([65], 71), accuracy_interval([6500], 7100)  # 91.5 % both
    assert looks(gates.below_floor, few, FLOOR) is None
    assert "undertrained" in looks(gates.below_floor, many, {**FLOOR, "test_images": 7100}).text
    unequal = accuracy_interval([50, 59], 71)  # the known case, 70.4 and 83.1 %
    assert unequal.high > 93
    assert "76.76% [44.1, 93.3] is below the floor of 93.0%" in looks(gates.below_floor, unequal, FLOOR).text


@pytest.mark.parametrize(
    ("correct", "below", "said"),
    [
        (
            [346, 350],
            False,
            "the winner is not above the floor: 78.20% beside 79.55% (random forest on 16x16 pixels); ",
        ),
        ([354], False, "the winner is not above the floor: 79.55% beside 79.55%"),
        ([334], True, ""),  # the gate says it
        ([360], False, ""),
    ],
)
def test_a_network_that_is_not_above_the_floor_is_said_to_be_so(correct, below, said):
    """The known case: 445 test images, a forest with 354 of them, a winner with 78.20 [74.0, 81.9]."""
    floor = {"top1": 100 * 354 / 445, "name": "random forest on 16x16 pixels", "test_images": 445}
    accuracy = accuracy_interval(correct, 445)
    text = not_above_text("the winner", accuracy, floor)
    assert text.startswith(said) if said else not text
    assert (looks(gates.below_floor, accuracy, floor) is not None) == is_below(accuracy, floor) == below
    row = {"id": "a", "mean": accuracy.value, "below_floor": below}
    assert not_above_sentence([row], floor) == ("not above the floor, within noise: a" if said else "")


def test_warnings_are_printed_and_kept_by_command(tmp_path, capsys):
    first, second = GateWarning("few steps", "a", "do x"), GateWarning("flat loss", "b", "do y")
    keep_warnings(tmp_path, "supernet", [None])
    assert not (tmp_path / "warnings.json").exists()
    keep_warnings(tmp_path, "supernet", [first, None])
    keep_warnings(tmp_path, "search", [second])
    keep_warnings(tmp_path, "supernet", [GateWarning("flat loss", "c", "do z")], more=True)
    assert capsys.readouterr().out.splitlines() == ["warning: a; do x", "warning: b; do y", "warning: c; do z"]
    entries = json.loads((tmp_path / "warnings.json").read_text())
    assert [(e["from"], e["gate"], e["text"], e["command"]) for e in entries] == [
        ("supernet", "few steps", "a", "do x"),
        ("search", "flat loss", "b", "do y"),
        ("supernet", "flat loss", "c", "do z"),
    ]
    keep_warnings(tmp_path, "supernet", [])  # the run is begun again, without mistakes
    assert [entry["from"] for entry in read_warnings(tmp_path)] == ["search"]


@pytest.mark.parametrize("kept_by", ["", "./onepath ", "'/my clone/onepath' "])
@pytest.mark.parametrize(("shown_by", "begins"), [("", "python -m trials."), ("./onepath ", "./onepath ")])
def test_a_kept_command_is_shown_for_the_entry_that_shows_it(tmp_path, monkeypatch, capsys, kept_by, shown_by, begins):
    monkeypatch.setenv("ONEPATH_ENTRY", kept_by)
    mends = f"mkdir a && mv my-onepath search a && {cli.command('retrain', '--out', 'x/onepath run')}"
    keep_warnings(tmp_path, "retrain", [GateWarning("few steps", "a", mends)])
    assert capsys.readouterr().out == f"warning: a; {mends}\n"
    neutral = "mkdir a && mv my-onepath search a && python -m trials.retrain --out 'x/onepath run'"
    entries = json.loads((tmp_path / "warnings.json").read_text())
    assert [entry["command"] for entry in entries] == [neutral]
    monkeypatch.setenv("ONEPATH_ENTRY", shown_by)
    shown = neutral.replace("python -m trials.", begins)
    assert [entry["command"] for entry in read_warnings(tmp_path)] == [shown]
    (tmp_path / "warnings.json").write_text(json.dumps([entries[0] | {"command": mends}]))  # of older code
    assert [entry["command"] for entry in read_warnings(tmp_path)] == [shown]


@pytest.mark.parametrize("held", [None, "retrain", "retrain/seed", "baselines"])
def test_a_folder_that_is_being_trained_is_not_to_be_moved(tmp_path, capsys, held, monkeypatch):
    mends = f"{typed.put_aside(tmp_path / 'undertrained', tmp_path / 'retrain')} && python -m trials.retrain --epochs 9"
    found = [GateWarning("few steps", "7 are few", mends, "--epochs 9"), GateWarning("small test part", "71", "look")]
    entries = [
        {"from": "retrain", "run": "", "gate": each.gate, "text": each.text, "command": each.command} for each in found
    ]
    with locks.exclusive(tmp_path / held, "training") if held else contextlib.nullcontext():
        keep_warnings(tmp_path, "retrain", found)
        trained = held in ("retrain", "retrain/seed")
        first = "better with --epochs 9" if trained else mends
        assert capsys.readouterr().out.splitlines() == [f"warning: 7 are few; {first}", "warning: 71; look"]
        assert read_warnings(tmp_path) == entries  # kept whole, for later
        commands = [verdict.mending(entry).command for entry in entries]
        assert commands == ["" if trained else mends, "look"]
    assert verdict.mending(entries[0]).command == mends
    monkeypatch.setenv(IN_ROAD, "1")
    keep_warnings(tmp_path, "retrain", found)  # the road goes on with that folder
    said = ["warning: 7 are few; better with --epochs 9", "warning: 71; look"]
    assert capsys.readouterr().out.splitlines() == said
    assert read_warnings(tmp_path) == entries
    assert not typed.moves_what_is_trained(mends)


def test_warnings_of_all_networks_of_a_run_are_read(tmp_path):
    assert read_warnings(tmp_path) == []
    warning, twice = GateWarning("below the floor", "a", "do x"), GateWarning("small test part", "71", "more")
    keep_warnings(tmp_path, "supernet", [twice])
    for folder in ("retrain", "retrain-2", "baselines/timm-x", "controls/abc", "frontier"):
        (tmp_path / folder).mkdir(parents=True)
        keep_warnings(tmp_path / folder, "retrain", [GateWarning(warning.gate, folder, "do x"), twice])
    found = read_warnings(tmp_path)
    assert [entry["run"] for entry in found] == ["", "retrain", "retrain-2", "baselines/timm-x", "controls/abc"]
    assert sum(entry["text"] == "71" for entry in found) == 1


def test_the_command_is_the_one_that_was_typed(tmp_path):
    typed.remember(
        "trials.supernet", ["--data-root", "my images", "--epochs=3", "--lr", "0.1", "--resume", "--out", "a"]
    )
    line = typed.line("trials.supernet")
    assert line == "python -m trials.supernet --data-root 'my images' --epochs=3 --lr 0.1 --resume --out a"
    changed = typed.changed(line, {"--epochs": 60, "--lr": None, "--out": typed.free_name(tmp_path)})
    assert changed == f"python -m trials.supernet --data-root 'my images' --epochs 60 --out {tmp_path}-2"
    tmp_path.with_name(tmp_path.name + "-2").mkdir()
    assert typed.free_name(tmp_path) == f"{tmp_path}-3"


def test_a_run_of_an_older_version_gets_a_command_too(tmp_path):
    config = {"space": "spos", "preset": "tiny", "data": "digits", "data_root": "", "epochs": 20}
    (tmp_path / "config.json").write_text(json.dumps({"command": "supernet", "config": config}))
    line = typed.again(tmp_path, {"--epochs": 60})
    assert line == f"python -m trials.supernet --space spos --preset tiny --data digits --epochs 60 --out {tmp_path}-2"


def test_networks_are_put_aside_apart_and_nothing_twice(tmp_path):
    """The commands of all warnings may be typed, one after another and again: nothing is mixed or overwritten."""
    places = [tmp_path / "retrain", tmp_path / "baselines" / "timm-a", tmp_path / "baselines" / "timm-b"]
    for place in places:
        place.mkdir(parents=True)
        config = {"baseline": "timm:a", "supernet": str(tmp_path)}
        (place / "config.json").write_text(json.dumps({"command": "retrain", "config": config}))
    lines = [typed.anew(place, {"--lr": rate}) for place in places for rate in (0.1, 0.2)]
    lines.append(f"{typed.put_aside(tmp_path / 'undertrained', *places[:1])} && true")
    moved = []
    for line in lines:
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
            (place / "now").write_text(line)
        *moving, _ = line.split(" && ")
        moved.append(subprocess.run(" && ".join(moving), shell=True, capture_output=True).returncode)
    assert moved == [0, 1] * 3 + [0]  # the second command of a network stops before it moves anything
    asides = sorted(tmp_path.glob("undertrained*"))
    assert [[path.relative_to(tmp_path).as_posix() for path in aside.iterdir()] for aside in asides] == [
        ["undertrained-2/retrain"],
        ["undertrained-retrain-2/retrain"],
        ["undertrained-timm-a-2/timm-a"],
        ["undertrained-timm-b-2/timm-b"],
    ]
    assert [
        (aside / name).read_text() for aside, name in zip(asides, ("retrain/now", "retrain/now"), strict=False)
    ] == [
        lines[-1],
        lines[0],
    ]


def test_warnings_of_one_run_have_one_command(tmp_path):
    from trials.training.run_gates import _with_one_command

    few, other = gates.GateWarning("few steps", "few", ""), gates.GateWarning("unequal classes", "unequal", "")
    wanted = [(few, {"--epochs": 9}), (None, {"--lr": 1}), (other, {"--class-weights": "balanced"})]
    found = _with_one_command(wanted, lambda changes: f"x {changes}")
    assert [warning and warning.command for warning in found] == [
        "x {'--epochs': 9, '--class-weights': 'balanced'}",
        None,
        "x {'--epochs': 9, '--class-weights': 'balanced'}",
    ]


@pytest.mark.parametrize(
    ("accuracies", "says"),
    [
        (
            [60.0, 70.0, 50.0],
            "none of these 3 networks reaches what needs no deep learning (random forest on 16x16 pixels: 93.0%)",
        ),
        ([60.0, 97.0, 50.0], ""),
        ([91.0, 60.0], ""),  # within the noise of the floor
    ],
)
def test_networks_that_learned_nothing_are_said_so_first(accuracies, says):
    floor = {"name": "random forest on 16x16 pixels", "top1": 93.0, "test_images": 71}
    assert learned_nothing([Interval(value, 0.0, 100.0) for value in accuracies], floor) == says


@pytest.mark.parametrize(
    ("accuracies", "says"),
    [
        ([22.0, 25.0], "none of these 2 networks knows more than always answering 'cat' does (22.0%)"),
        ([22.0, 60.0], ""),
    ],
)
def test_networks_at_chance_are_said_so_first(accuracies, says):
    """The forest is no better than chance either, so they are not below the floor."""
    same = {"class": "cat", "top1": 22.0}
    floor = {"name": "random forest on 16x16 pixels", "top1": 24.0, "test_images": 71, "majority": same}
    assert learned_nothing([Interval(value, 0.0, 100.0) for value in accuracies], floor) == says


def test_a_balanced_loss_is_not_taken_for_chance():
    """Of 40 and 160 images of two classes: 90 % and 70 % are right, less than always the larger class is."""
    labels = np.repeat([0, 1], [40, 160])
    right = np.concatenate([np.arange(40) < 36, np.arange(160) < 112])[None]
    balanced, same = balanced_of(right, labels), {"class": "good", "top1": 80.0}
    assert balanced.value == pytest.approx(80.0)
    floor = {"name": "forest", "top1": 75.0, "test_images": 200, "majority": same}
    top1 = [accuracy_interval([148], 200)]  # 74.0 %
    assert (
        learned_nothing(top1, floor) == "none of these 1 networks knows more than always answering 'good' does (80.0%)"
    )
    assert learned_nothing(top1, floor, [balanced], 2) == ""
    assert "always answering" in learned_nothing(top1, floor, [balanced_of(labels[None] == 1, labels)], 2)
