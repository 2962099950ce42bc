"""trials.run: the whole road as commands, each of which its own parser takes."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import spaces
from spaces.cost import measure
from spaces.errors import InputError, Stopped
from strategies import budget
from tests.commands import ROOT
from tests.unit.test_options import config_of
from trials import run, space
from trials.common import cli, typed
from trials.common.answers import Answered
from trials.evidence import gates
from trials.report import print_summary
from trials.road import form, hours, look, minutes, record, steps


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """The hours are timed in one test alone, for it takes seconds."""
    if "hours" not in request.node.name:
        monkeypatch.setattr(run, "say_hours", lambda *_: None)


def test_a_dry_run_says_about_how_many_hours_each_step_takes(tmp_path, capsys):
    words = ["digits", "--preset", "tiny", "--epochs", "30", "--seeds", "2", "--random", "3", "--max-trials", "7"]
    run.main([*words, "--out", str(tmp_path / "new"), "--dry-run"])
    out = capsys.readouterr().out
    rows = {
        line.split()[0]: line
        for line in out.splitlines()
        if line.startswith(("supernet ", "search ", "retrain ", "certify ", "export ", "report "))
    }
    assert rows["supernet"].endswith("30 epochs")
    assert rows["search"].endswith("7 architectures")
    assert "2 trainings of 30 epochs, about " in rows["retrain"]
    assert "8 trainings of 30 epochs, about " in rows["certify"]
    taken = [float(row.split()[1]) for row in rows.values()]
    all_hours = float(re.search(r"about ([\d.]+) hours in all", out)[1])
    assert all_hours == pytest.approx(sum(taken), abs=0.03)
    assert all_hours > 0
    assert not (tmp_path / "new").exists()


def test_hours_that_cannot_be_known_stop_nothing(tmp_path):
    config = run.Config(images="digits", out=str(tmp_path / "new"))
    words = [words for words, _ in steps.steps(config)]
    words[0] += ["--batch-size", "100000"]
    assert "100000" in hours.ask(words).replace(",", "")


def test_every_step_is_a_command_that_parses(tmp_path):
    road = steps.steps(run.Config(images="digits", max_macs="3M", out=str(tmp_path)))
    # the export comes after the certificate, which its model card has
    assert [words[0] for words, _ in road] == ["supernet", "search", "retrain", "certify", "export", "report"]
    for words, _ in [*road[:2], road[3], road[5]]:
        cli.parse(config_of(words[0]), words[1:], "", f"trials.{words[0]}")
    assert steps.steps(run.Config(images=str(tmp_path), out="runs/x"))[0][0][:2] == ["data", "check"]


def test_a_winner_that_is_learned_is_not_searched(tmp_path, capsys):
    config = run.Config(images="digits", max_macs="3M", out=str(tmp_path / "new"), strategy="gumbel")
    assert [words[0] for words, _ in steps.steps(config)] == ["supernet", "retrain", "certify", "export", "report"]
    words = ["--max-macs", "3M", "--strategy", "gumbel", "--space", "spos", "--space-options", "variant=channel"]
    found = commands(capsys, "digits", "--out", str(tmp_path / "new"), "--preset", "tiny", *words)
    assert list(found) == ["supernet", "retrain", "certify", "export", "report"]
    assert "--strategy gumbel --max-macs 3M" in found["supernet"]
    assert "--space-options variant=channel" in found["supernet"]
    assert (
        "--strategy window"
        in commands(capsys, "digits", "--out", str(tmp_path / "new"), "--max-macs", "3M")["supernet"]
    )


def test_the_minutes_of_a_road_that_learns_its_winner(tmp_path):
    """What is not done takes no time and is not cut."""
    config = run.Config(images="digits", max_macs="3M", out=str(tmp_path / "new"), strategy="gumbel")
    found = hours.ask(
        [[*words, *(["--preset", "tiny"] if words[0] == "supernet" else [])] for words, _ in steps.steps(config)]
    )
    assert not isinstance(found, str), found
    rates, work = found
    assert work.architectures == 0
    assert rates.trial == 0
    assert rates.supernet_epoch > 0
    taken = sum(entry.hours for entry in hours.hours_of(rates, work, [words[0] for words, _ in steps.steps(config)]))
    fitted = minutes.fit_work(60 * taken, rates, work, frozenset(), [words[0] for words, _ in steps.steps(config)])
    assert fitted.architectures == 0
    with pytest.raises(InputError) as raised:
        minutes.fit_work(0.01, rates, work, frozenset(), ["supernet", "certify"])
    assert "architectures scored" not in str(raised.value)


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("gumbel", [], "was begun with --strategy gumbel, not with no --strategy"),
        ("gumbel", ["--strategy", "softmax"], "was begun with --strategy gumbel, not with --strategy softmax"),
        ("window", ["--strategy", "gumbel"], "was begun with --strategy window, not with --strategy gumbel"),
        (
            "window",
            ["--supernets", "3"],
            "was begun with supernets 1 and not with supernets 3",
        ),  # or the search would stay
    ],
)
def test_another_strategy_is_refused(tmp_path, was, now, says):
    road(tmp_path, max_macs="3M")
    options = {"space": "spos", "preset": "tiny", "space_options": "", "seed": 0, "score_fraction": 0.1, "epochs": 1}
    stored = {"command": "supernet", "config": {**options, "data": "digits", "max_macs": "3M", "strategy": was}}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=says):
        run.main(["digits", "--out", str(tmp_path), "--max-macs", "3M", *now])


def test_a_limit_that_is_spelt_in_another_way_is_the_same(tmp_path):
    road(tmp_path, max_macs="3M")
    kept = json.loads((tmp_path / record.RECORD).read_text())
    (tmp_path / "config.json").write_text(json.dumps({"command": "supernet", "config": {}}))
    for given, differs in (("3000000", False), ("3,000k", False), ("3.1M", True), ("", True)):
        config = run.Config(images="digits", out=str(tmp_path), max_macs=given)
        assert bool(record.road_differences(config, kept)) is differs, given


def test_a_road_keeps_its_strategy_before_its_supernet_has_begun(tmp_path):
    config = run.Config(images="digits", max_macs="3M", out=str(tmp_path), strategy="gumbel")
    kept = record.earlier_road(config)
    record.keep_record(config, {**kept, "typed": "python -m trials.run digits"})
    assert record.begun_strategy(tmp_path) == "gumbel"
    assert "typed" in record.earlier_road(config)
    assert "typed" not in record.earlier_road(dataclasses.replace(config, strategy="softmax"))  # nothing was trained


def road(tmp_path, **changes):
    """A run whose supernet is trained and whose search is complete, with the record of this road, or without one."""
    for name in ("supernet.pt", "arc.json"):
        (tmp_path / name).write_text('{"block0": "k3"}')
    kept = {"images": "digits", "max_macs": "", "steps": {"supernet": {}, "search": {}}} | changes
    (tmp_path / record.RECORD).write_text(json.dumps(kept))


def test_complete_steps_are_not_done_again(tmp_path, capsys):
    road(tmp_path)
    found = run.main(["digits", "--out", str(tmp_path), "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("# complete: python -m trials.search")
    assert [line[0] for line in lines] == list("$#$$$$")
    assert [step["did"] for step in found["steps"]] == [*["would run", "was complete"], *["would run"] * 4]


def test_a_file_of_a_start_that_trained_nothing_counts_for_nothing(tmp_path, capsys):
    (tmp_path / "arc.json").write_text('{"block0": "k3"}')
    run.main(["digits", "--out", str(tmp_path), "--dry-run"])
    assert "# complete" not in capsys.readouterr().out


def test_a_step_of_another_command_is_taken_as_it_is_and_said(tmp_path, capsys):
    road(tmp_path, steps={})
    run.main(["digits", "--out", str(tmp_path), "--dry-run", "--in-process"])
    assert "# search was not done by this command" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words", "says"),
    [
        ({}, ["--in-process"], "search of '.*' is complete, with no in-process and not with in-process True"),
        ({"steps": {"search": {"max-trials": 6}}}, [], "complete, with max-trials 6 and not with no max-trials"),
        ({"max_macs": "3M"}, [], "was begun with --max-macs 3M, not with no --max-macs; .* such as .*-2"),
        (
            {"steps": {"search": {"max-trials": 6, "seed": 2}}},
            ["--max-trials", "7"],
            "complete, with max-trials 6, seed 2 and not with max-trials 7, no seed; give that again",
        ),
        ({}, ["--max-macs", "4M"], "was begun with no --max-macs, not with --max-macs 4M"),
        ({"images": "cifar10"}, [], "is a run of the images 'cifar10', not of 'digits'; give another --out"),
        ({"images": str(ROOT)}, [], "is a run of the images '.*', not of 'digits'"),
    ],
)
def test_other_options_and_images_are_refused_in_one_line(tmp_path, changes, words, says):
    road(tmp_path, **changes)
    before = sorted((path, path.read_text()) for path in tmp_path.iterdir())
    with pytest.raises(InputError, match=says) as raised:
        run.main(["digits", "--out", str(tmp_path), *words])
    assert "\n" not in str(raised.value)
    assert sorted((path, path.read_text()) for path in tmp_path.iterdir()) == before


def test_all_that_differs_is_refused_at_once(tmp_path, monkeypatch):
    """The limit, the minutes, a step that is complete, and one that its own command would refuse."""
    monkeypatch.setattr(hours, "ask", lambda _: pytest.fail("a few steps were timed"))
    road(tmp_path, max_macs="3M", steps={"supernet": {}, "search": {"max-trials": 6}})
    options = {"space": "spos", "preset": "tiny", "space_options": "", "seed": 0, "score_fraction": 0.1, "epochs": 20}
    stored = {"command": "supernet", "config": {**options, "data": "digits", "max_macs": "3M"}}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    words = ["--max-macs", "4M", "--minutes", "40", "--max-trials", "7", "--epochs", "9", "--preset", "tiny"]
    with pytest.raises(InputError) as raised:
        run.main(["digits", "--out", str(tmp_path), *words])
    assert str(raised.value) == (
        f"'{tmp_path}' was begun with --max-macs 3M and no --minutes, not with --max-macs 4M and --minutes 40; "
        f"supernet of '{tmp_path}' was begun with epochs 20 and not with epochs 9; "
        f"search of '{tmp_path}' is complete, with max-trials 6 and not with max-trials 7; "
        f"give all of that again, or another --out, such as {tmp_path}-2"
    )


def test_a_section_that_changed_is_refused(tmp_path):
    road(tmp_path, steps={"search": {"max-trials": 6}})
    (tmp_path / "run.yml").write_text("search: {max_trials: 4}")
    with pytest.raises(InputError, match="with max-trials 6 and not with max-trials 4; give that again"):
        run.main(["digits", "--out", str(tmp_path), "--dry-run", "--config", str(tmp_path / "run.yml")])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("retrain: {epocs: 3}", "retrain: unknown option 'epocs'; did you mean 'epochs'"),
        ("certify: {random: many}", "argument --random: invalid int value: 'many'"),
        ("certify: 3", "certify in .* is '3'; write its options below it"),
        ("export: {weights: runs/y}", "export: weights is decided by trials.run itself; leave it out there"),
        ("retrain: {frontier: 3}", "retrain: frontier has no place in trials.run, which trains the winner"),
        ("retrain: {top_random: 4}", "retrain: top.random has no place in trials.run"),
        ("certify: {run: runs/y}", "certify: run is decided by trials.run itself"),
        ("supernet: {max-macs: 3M}", "supernet: max-macs is decided by trials.run itself"),
        ("data: {out: x.png}", "data: out is decided by trials.run itself"),
    ],
)
def test_sections_of_all_steps_are_checked_before_the_first(tmp_path, text, says):
    (tmp_path / "pics").mkdir()
    (tmp_path / "run.yml").write_text(text)
    words = ["--max-macs", "2M", "--out", str(tmp_path / "new"), "--config", str(tmp_path / "run.yml")]
    with pytest.raises(InputError, match=says):
        run.main([str(tmp_path / "pics"), *words])
    assert not (tmp_path / "new").exists()


def test_a_section_wins_over_what_the_road_prefers(tmp_path, capsys):
    (tmp_path / "run.yml").write_text("retrain: {seeds: 3}")
    run.main(["digits", "--out", str(tmp_path / "new"), "--dry-run", "--config", str(tmp_path / "run.yml")])
    assert "--seeds" not in capsys.readouterr().out
    run.main(["digits", "--out", str(tmp_path / "new"), "--dry-run"])
    assert "--seeds 2" in capsys.readouterr().out


def test_a_run_is_not_written_among_the_classes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="lies in the folder of the images, whose folders are classes; give --out"):
        run.Config(images=".")
    with pytest.raises(InputError, match="gives the run no name; give --out RUN"):
        run.Config(images="/")


def test_folders_of_one_name_do_not_meet_in_one_run(tmp_path, monkeypatch):
    """The run has no record yet: it was made by an older version, or by commands that were typed one by one."""
    monkeypatch.chdir(tmp_path)
    for place in ("a/pics", "b/pics", "runs/pics"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "runs" / "pics" / "supernet.pt").write_text("")
    options = {"space": "spos", "preset": "tiny", "space_options": "", "seed": 0, "score_fraction": 0.1, "epochs": 1}
    stored = {"command": "supernet", "config": {**options, "data": "folder", "data_root": "a/pics", "max_macs": ""}}
    (tmp_path / "runs" / "pics" / "config.json").write_text(json.dumps(stored))
    run.main(["a/pics", "--dry-run"])
    with pytest.raises(InputError, match=r"run of the images '.*/a/pics', not of '.*/b/pics'; .* such as runs/pics-2"):
        run.main(["b/pics", "--dry-run"])
    (tmp_path / "a" / "pics").rename(tmp_path / "c")  # images that have moved are the same
    run.main(["c", "--out", "runs/pics", "--dry-run"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--max-macs", "-3"], "max_macs is '-3'; give a positive number"),
        (
            ["--max-macs", "1k", "--space", "fbnet"],
            r"out of reach at 32x32 pixels; the least .* python -m trials.run .* --max-macs [\d.]+[kM]$",
        ),
        (["--preset", "tini"], "unknown preset 'tini'; did you mean 'tiny'"),
        (["--space", "spso"], "unknown space 'spso'; did you mean 'spos'"),
        (["--resolution", "4"], "resolution of space spos is 4; give a whole number, at least 8"),
        (["--width-mult", "9"], "width_mult of space spos.* is 9.0; give 0.1"),
        (["--epochs", "0"], "--epochs 0 is not above 0"),
        (["--seeds", "0"], "--seeds 0 is not above 0"),
        (["--random", "0"], "--random 0 is below 1"),
        (["--strategy", "gumble", "--max-macs", "3M"], "argument --strategy: invalid choice: 'gumble'"),
        (["--strategy", "gumbel"], "--strategy gumbel learns one architecture under a limit; give --max-macs"),
        (
            ["--strategy", "gates", "--max-macs", "3M", "--max-trials", "9"],
            "--max-trials has no effect with --strategy gates",
        ),
        (
            ["--strategy", "gumbel", "--max-macs", "3M", "--supernets", "2"],
            "--supernets has no effect with --strategy gumbel",
        ),
        (["--supernets", "0"], "--supernets 0 is out of range; give 1 to 32"),
        (["--space-options", "variant=chanel"], "did you mean|variant"),
        (["--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["--max-macs", "3M", "--preset", "gpu", "--space", "spos"], "unknown preset 'gpu'"),
    ],
)
def test_options_are_refused_before_the_images_are_looked_at(tmp_path, words, says, monkeypatch):
    monkeypatch.setattr(run, "run_step", lambda *_: pytest.fail("a step was begun"))
    with pytest.raises(InputError, match=says) as raised:
        run.main(["digits", "--out", str(tmp_path / "new"), *words])
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "new").exists()


def commands(capsys, *words):
    found = run.main([*words, "--dry-run"])
    capsys.readouterr()
    return {step["command"].split()[2].removeprefix("trials."): step["command"] for step in found["steps"]}


def test_options_are_passed_on_to_the_steps_that_have_them(tmp_path, capsys):
    words = ["--epochs", "3", "--seeds", "4", "--random", "5", "--max-trials", "6", "--jobs", "2", "--device", "cpu"]
    found = commands(capsys, "digits", "--out", str(tmp_path), *words)
    takes = {name: {word for word in line.split() if word.startswith("--")} for name, line in found.items()}
    assert takes["supernet"] == {"--data", "--out", "--resume", "--epochs", "--device"}
    assert takes["search"] == {"--resume", "--max-trials"}
    assert takes["retrain"] >= {"--epochs", "--device", "--seeds", "--jobs"}
    assert takes["certify"] == {"--seeds", "--random", "--jobs", "--device"}
    assert "--seeds 4" in found["retrain"]
    found = commands(capsys, "digits", "--out", str(tmp_path), "--class-weights", "balanced")
    weighted = {name for name, line in found.items() if "--class-weights balanced" in line}
    assert weighted == {"supernet", "retrain"}  # of which the certificate takes it


def test_what_is_typed_wins_over_the_file(tmp_path, capsys):
    (tmp_path / "run.yml").write_text("retrain: {seeds: 3, epochs: 9}")
    words = ["digits", "--out", str(tmp_path / "new"), "--config", str(tmp_path / "run.yml"), "--seeds", "4"]
    assert "--seeds 4" in commands(capsys, *words)["retrain"]
    assert "--epochs" not in commands(capsys, *words)["retrain"]  # the step reads it


@pytest.fixture
def folder(tmp_path):
    """1,450 images of 64 pixels in two classes, which differ behind their end alone."""
    for name in ("a", "b"):
        (tmp_path / "pics" / name).mkdir(parents=True)
        first = tmp_path / "pics" / name / "0.png"
        Image.new("RGB", (64, 80), "red" if name == "a" else "blue").save(first)
        for number in range(1, 725):
            (tmp_path / "pics" / name / f"{number}.png").write_bytes(first.read_bytes() + f"{name}{number}".encode())
    return tmp_path / "pics"


def test_a_small_budget_takes_a_smaller_preset_at_the_resolution_of_the_images(folder, capsys, monkeypatch):
    """Preset small, which such images take, needs 15M MACs and more."""
    monkeypatch.chdir(folder.parent)
    options, said = form.choose_form("pics", "8M", {"space": "fbnet"})
    assert options == {"preset": "tiny", "resolution": 64, "space-options": "width_mult=0.65"}
    assert said == (
        "chosen for --max-macs 8M and 1,160 images of 64 pixels to train and score with: fbnet tiny at 64x64 pixels, width_mult 0.65; "
        "32 % of its architectures stay within the budget"
    )
    assert form.choose_form("pics", "60M", {"space": "fbnet"})[0]["preset"] == "small"
    options, _ = form.choose_form("pics", "8M", {"space": "fbnet", "width-mult": 0.7, "preset": "tiny"})
    assert options == {"resolution": 64, "space-options": "width_mult=0.7"}


def test_a_budget_that_nothing_reaches_names_the_commands_that_do(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    typed.remember("trials.run", ["pics", "--max-macs", "2M", "--resolution", "64", "--preset", "tiny"])
    with pytest.raises(InputError) as raised:
        form.choose_form("pics", "500k", {"space": "fbnet", "resolution": 64, "preset": "tiny"})
    assert str(raised.value).startswith("--max-macs 500k is out of reach at 64x64 pixels; the least with room")
    assert "trials.run pics --resolution 64 --preset tiny --max-macs " in str(raised.value)
    with pytest.raises(InputError, match="or python -m trials.run pics --max-macs 2M --preset tiny --resolution 32"):
        form.choose_form("pics", "3M", {"space": "fbnet", "resolution": 64, "preset": "tiny", "width-mult": 1.0})


def test_a_limit_with_little_room_is_named_alike_by_space_and_run(folder, monkeypatch):
    """It leaves 5 % of the cheapest form at 64 pixels, which is what trials.run would take there."""
    monkeypatch.chdir(folder.parent)
    options = {"classes": 2, "resolution": 64, "width_mult": budget.WIDTHS[0]}
    table = measure(spaces.describe("fbnet", "tiny", **options))
    macs = int(np.quantile(budget.drawn_macs(table), 0.05))
    with pytest.raises(InputError, match="give --resolution 64, or a larger --for"):
        space.main(["fbnet", "--for", str(macs), "--resolution", "96", "--classes", "2"])
    typed.remember("trials.run", ["pics", "--max-macs", str(macs), "--resolution", "96"])
    with pytest.raises(InputError, match="--resolution 64$"):
        form.choose_form("pics", str(macs), {"space": "fbnet", "resolution": 96})


def test_a_limit_is_checked_against_the_options_of_a_space_before_the_first_step():
    given = {"space-options": "variant=channel", "preset": "tiny"}
    with pytest.raises(InputError) as raised:
        form.choose_form("digits", "1k", given)
    assert str(raised.value) == (
        "--max-macs 1k is out of reach: spos tiny at 32x32 pixels, variant channel reaches 1.14M to 6.51M MACs; a quarter of its "
        "architectures stay within --max-macs 2.83M"
    )
    assert form.choose_form("digits", "2.83M", given) == ({}, "")
    note = "note: --max-macs 7M limits nothing, for all of spos tiny at 32x32 pixels, variant channel stays within it; a limit would"
    assert form.choose_form("digits", "7M", given)[1].startswith(note)


def test_a_preset_at_a_resolution_that_no_choice_would_take_is_taken_as_by_the_supernet():
    """The last block of fbnet tiny sees 2x2 pixels there."""
    given = {"space": "fbnet", "resolution": 16}
    with pytest.raises(
        InputError, match="^no preset of fbnet suits 16x16 pixels, .*; name one all the same, such as --preset tiny"
    ):
        form.choose_form("digits", "1M", given)
    assert form.choose_form("digits", "1M", given | {"preset": "tiny"}) == ({}, "")
    with pytest.raises(
        InputError, match="^--max-macs 100K is out of reach: fbnet tiny at 16x16 pixels, width_mult 1.5 reaches"
    ):
        form.choose_form("digits", "100K", given | {"preset": "tiny", "width-mult": 1.5})


def test_a_road_without_a_limit_says_what_the_networks_cost_and_names_one(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    note = form.no_limit_text("pics", {"space": "fbnet"})
    assert note.startswith(
        "note: no --max-macs, so the winner may cost what any network of fbnet small at 64x64 pixels costs, 15M to 187M MACs, a "
    )
    limit = note.rpartition(" ")[2]
    options, said = form.choose_form("pics", limit, {"space": "fbnet"})
    assert "25 % of its architectures stay within the budget" in said
    assert options == {"preset": "small", "resolution": 64}
    assert "single-path-nas tiny at 32x32 pixels, width_mult 0.7 costs" in form.no_limit_text(
        "pics", {"space": "single-path-nas", "preset": "tiny", "width-mult": 0.7}
    )
    words = ["digits", "--dry-run", "--out", str(tmp_path / "new")]
    run.main(words)
    assert "note: no --max-macs, so the winner may cost what any network of spos tiny" in capsys.readouterr().out
    file = tmp_path / "run.yml"
    file.write_text("supernet: {max-macs: 3M, strategy: window}")
    for more in (["--max-macs", "3M"], ["--config", str(file)]):
        run.main([*words, *more])
        assert "no --max-macs" not in capsys.readouterr().out


def test_costs_that_take_a_while_are_counted_under_a_bar(capsys, monkeypatch):
    found, taken = look.first_choice(1000, look.smaller_sides(64), 10, "spos", preset="tiny")
    assert (len(found), taken) == (3, None)  # block, channel and plus at 32 pixels
    assert "count costs" not in capsys.readouterr().err
    monkeypatch.setattr(look, "SILENT", 0)
    look.every_form(1000, 32, 10, "fbnet")
    assert "count costs" in capsys.readouterr().err


def test_a_budget_above_all_is_said(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    options, said = form.choose_form("pics", "100G", {"space": "fbnet"})
    assert not options
    assert said.startswith("note: --max-macs 100G limits nothing, for all of fbnet ")


def test_a_supernet_of_a_command_of_its_own_is_gone_on_with(tmp_path, capsys):
    """The options that it has and the road has not would otherwise be refused, and a gate advises such a supernet."""
    options = {"space": "spos", "preset": "tiny", "space_options": "", "seed": 0, "score_fraction": 0.1, "epochs": 150}
    stored = {"command": "supernet", "config": {**options, "data": "digits", "max_macs": ""}}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    (tmp_path / "supernet.pt").write_text("")
    found = run.main(["digits", "--out", str(tmp_path), "--epochs", "3", "--dry-run"])["steps"]
    assert [step["did"] for step in found[:2]] == ["was complete", "would run"]
    assert "supernet was not done by this command" in capsys.readouterr().out


def test_what_was_chosen_stays(tmp_path, capsys):
    """A road that has begun is not measured anew, and a width that was given is in what was chosen."""
    road(tmp_path, max_macs="3M", network={"space": "spos", "space-options": "variant=channel,width_mult=0.9"})
    line = commands(capsys, "digits", "--out", str(tmp_path), "--max-macs", "3M")["supernet"]
    assert "--space spos --space-options variant=channel,width_mult=0.9" in line
    line = commands(capsys, "digits", "--out", str(tmp_path), "--max-macs", "3M", "--width-mult", "0.9")["supernet"]
    assert line.count("--space-options") == 1
    assert "variant=channel,width_mult=0.9" in line
    line = commands(capsys, "digits", "--out", str(tmp_path), "--max-macs", "3M", "--width-mult", "0.5")["supernet"]
    assert "--space-options width_mult=0.5" in line  # which the supernet refuses


def test_a_road_of_a_folder_goes_on_with_a_retraining_that_has_begun(folder, capsys, monkeypatch):
    """What the retraining stored of the images is checked beside the supernet's images, not beside the default ones."""
    monkeypatch.chdir(folder.parent)
    supernet = config_of("supernet")(data="folder", data_root=str(folder), out="run", space="spos", preset="tiny")
    stored = {"command": "supernet", "config": dataclasses.asdict(supernet)}
    retrain = {"command": "retrain", "config": {"data": "folder", "data_root": str(folder), "background": "white"}}
    for run_folder, config in (("run", stored), ("run/retrain", retrain)):
        (folder.parent / run_folder / "checkpoints").mkdir(parents=True)
        (folder.parent / run_folder / "checkpoints" / "last.pt").touch()
        (folder.parent / run_folder / "config.json").write_text(json.dumps(config))
    (folder.parent / "run" / "arc.json").write_text('{"block0": "k3"}')
    assert "--resume" in commands(capsys, "pics", "--out", "run")["retrain"]
    found = commands(capsys, "pics", "--out", "other", "--background", "black")
    assert {name for name, line in found.items() if "--background black" in line} == {"data", "supernet"}


@pytest.mark.parametrize(
    ("command", "ends"),
    [
        (
            "python -m trials.supernet --epochs 60 --out RUN-2",
            "train for longer (about 0.10 hours): python -m trials.supernet --epochs 60 --out RUN-2 && "
            "python -m trials.run digits --seeds 2 --out RUN-2",
        ),
        (
            "python -m trials.supernet --lr 1 --out RUN-3",
            "train for longer: python -m trials.supernet --lr 1 --out RUN-3 && python -m trials.run digits --seeds 2 --out RUN-3",
        ),
    ],
)
def test_a_gate_ends_the_road_with_the_command_that_does_better(tmp_path, command, ends):
    typed.remember("trials.run", ["digits", "--resume", "--seeds", "2"])
    config, command = run.Config(images="digits", out=str(tmp_path)), command.replace("RUN", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"command": "supernet", "config": {"batch_size": 60}}))
    line = {"step": 20, "epoch": 2.0, "loss": 1.0, "images_per_second": 100.0}  # 600 images an epoch
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n")
    warning = {"from": "supernet", "gate": "nothing learned", "text": "5 paths know nothing", "command": command}
    for gate in ("near chance", "few scoring images", "flat loss"):  # weaker evidence
        (tmp_path / "warnings.json").write_text(json.dumps([{**warning, "gate": gate}]))
        run.stop_at_gate("supernet", config)
    (tmp_path / "warnings.json").write_text(json.dumps([warning]))
    for step in ("search", "retrain", "report"):
        run.stop_at_gate(step, config)
    with pytest.raises(Stopped) as stopped:
        run.stop_at_gate("supernet", config)
    assert str(stopped.value).endswith(ends.replace("RUN", str(tmp_path)))
    assert "a search of this supernet would choose by luck" in str(stopped.value)
    assert stopped.value.exit_code == 3
    learned = dataclasses.replace(config, max_macs="3M", strategy="gumbel")
    with pytest.raises(Stopped, match="know nothing; the architecture that it learned was found by luck; train"):
        run.stop_at_gate("supernet", learned)


@pytest.mark.parametrize("words", [["none"], ["digits", "--max-macs", "many"], ["digits", "--config", "none.yml"]])
def test_mistakes_are_refused_before_the_first_step(words, tmp_path):
    with pytest.raises(InputError):
        run.main([*words, "--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_a_step_that_fails_ends_the_road_with_its_code(tmp_path):
    with pytest.raises(Answered) as ended:
        run.run_step(["report", str(tmp_path)], None)
    assert ended.value.code == ended.value.answer["exit_code"] == 1


def test_a_step_takes_its_section_of_the_file(tmp_path, capsys):
    (tmp_path / "run.yml").write_text("search: {max-trials: 4}")
    run.main(["digits", "--out", str(tmp_path), "--dry-run", "--config", str(tmp_path / "run.yml")])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("$ ")]
    assert ["--config" in line for line in lines] == [False, True, False, False, False, False]


@pytest.mark.parametrize("where", ["", "1"])
def test_a_step_of_the_road_does_not_say_what_comes_next(where, capsys, monkeypatch):
    monkeypatch.setenv("ONEPATH_IN_ROAD", where)
    cli.say_next("python -m trials.search x", "why")
    print_summary([("run", "x"), ("next", "python -m trials.certify x")])
    out = capsys.readouterr().out
    assert out.count("next: python -m trials.") == (0 if where else 2)
    assert ("# why" in out) == (not where)


@pytest.mark.parametrize("where", ["", "1"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_that_a_step_was_stopped_is_said_once_by_the_road(where, number):
    code = (  # Ctrl-C is ignored in what a shell began in the background, as these tests may have been
        "import os, signal\nfrom trials.common import cli\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"cli.run(lambda: os.kill(os.getpid(), {int(number)}))"
    )
    environment = os.environ | {"ONEPATH_IN_ROAD": where}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert ended.returncode == 128 + number
    assert ended.stderr.count("stopped; what was written is complete") == (not where)
    road = f"import sys\nfrom trials.common import cli\ncli.run(lambda: sys.exit({128 + number}))"
    ended = subprocess.run([sys.executable, "-c", road], capture_output=True, text=True, cwd=ROOT)
    assert ended.stderr.count("stopped; what was written is complete") == 1


@pytest.mark.parametrize("where", ["", "1"])
def test_what_ends_the_road_is_warned_of_once(where, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ONEPATH_IN_ROAD", where)
    found = [gates.GateWarning(gate, f"text of {gate}", "do x") for gate in (gates.NOTHING, gates.FEW_STEPS)]
    gates.keep_warnings(tmp_path, "supernet", found)
    out = capsys.readouterr().out
    assert ("text of nothing learned" in out) == (not where)
    assert "text of few steps" in out
    assert len(gates.warnings_from(tmp_path, "supernet")) == 2


def test_only_say_next_prints_what_comes_next():
    """Others would contradict trials.run where it stops; they are the road's own end, and what can be copied of a report."""
    printed = [path.name for path in (ROOT / "trials").rglob("*.py") if re.search(r"print\(.*next: ", path.read_text())]
    assert sorted(printed) == ["lines.py", "run.py"]
