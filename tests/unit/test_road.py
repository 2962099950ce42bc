"""trials.run: the whole road as commands, each of which its own parser takes."""

import json

import pytest

from spaces.errors import InputError
from tests.commands import ROOT
from tests.unit.test_options import config_of
from trials import run
from trials.common import cli
from trials.common.answers import Answered


def test_every_step_is_a_command_that_parses(tmp_path):
    road = run.steps(run.Config(images="digits", max_macs="3M", out=str(tmp_path)))
    assert [words[0] for words, _ in road] == ["supernet", "search", "retrain", "export", "certify", "report"]
    for words, _ in road[:2] + road[4:]:
        cli.parse(config_of(words[0]), words[1:], "", f"trials.{words[0]}")
    assert run.steps(run.Config(images=str(tmp_path), out="runs/x"))[0][0][:2] == ["data", "check"]


def road(tmp_path, **changes):
    """A run whose supernet is trained and whose search is complete, with the record of this road, or without one."""
    for name in ("supernet.pt", "arc.json"):
        (tmp_path / name).write_text("{}")
    record = {"images": "digits", "max_macs": "", "steps": {"supernet": {}, "search": {}}} | changes
    (tmp_path / run.RECORD).write_text(json.dumps(record))


def test_complete_steps_are_not_done_again(tmp_path, capsys):
    road(tmp_path)
    found = run.main(["digits", "--out", str(tmp_path), "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("# complete: python -m trials.search")
    assert [line[0] for line in lines] == list("$#$$$$")
    assert [step["did"] for step in found["steps"]] == [*["would run", "was complete"], *["would run"] * 4]


def test_a_file_of_a_start_that_trained_nothing_counts_for_nothing(tmp_path, capsys):
    (tmp_path / "arc.json").write_text("{}")
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


def test_a_section_that_changed_is_refused(tmp_path):
    road(tmp_path, steps={"search": {"max-trials": 6}})
    (tmp_path / "run.yml").write_text("search: {max_trials: 4}")
    with pytest.raises(InputError, match="with max-trials 6 and not with max-trials 4; give that under search"):
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
    stored = {"command": "supernet", "config": {"data": "folder", "data_root": "a/pics", "max_macs": ""}}
    (tmp_path / "runs" / "pics" / "config.json").write_text(json.dumps(stored))
    run.main(["a/pics", "--dry-run"])
    with pytest.raises(InputError, match=r"run of the images '.*/a/pics', not of '.*/b/pics'; .* such as runs/pics-2"):
        run.main(["b/pics", "--dry-run"])
    (tmp_path / "a" / "pics").rename(tmp_path / "c")  # images that have moved are the same
    run.main(["c", "--out", "runs/pics", "--dry-run"])


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
    lines = capsys.readouterr().out.splitlines()
    assert ["--config" in line for line in lines] == [False, True, False, False, False, False]
