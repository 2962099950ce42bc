"""trials.run: the whole road as commands, each of which its own parser takes."""

import pytest

from spaces.errors import InputError
from tests.unit.test_options import config_of
from trials import run
from trials.common import cli


def test_every_step_is_a_command_that_parses(tmp_path):
    road = run.steps(run.Config(images="digits", max_macs="3M", out=str(tmp_path)))
    assert [words[0] for words, _ in road] == ["supernet", "search", "retrain", "export", "certify", "report"]
    for words, _ in road[:2] + road[4:]:
        cli.parse(config_of(words[0]), words[1:], "", f"trials.{words[0]}")
    assert run.steps(run.Config(images=str(tmp_path), out="runs/x"))[0][0][:2] == ["data", "check"]


def test_complete_steps_are_not_done_again(tmp_path, capsys):
    (tmp_path / "arc.json").write_text("{}")
    run.main(["digits", "--out", str(tmp_path), "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("# complete: python -m trials.search")
    assert [line[0] for line in lines] == list("$#$$$$")


@pytest.mark.parametrize("words", [["none"], ["digits", "--max-macs", "many"], ["digits", "--config", "none.yml"]])
def test_mistakes_are_refused_before_the_first_step(words, tmp_path):
    with pytest.raises(InputError):
        run.main([*words, "--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_a_step_that_fails_ends_the_road_with_its_code(tmp_path):
    with pytest.raises(SystemExit) as ended:
        run.run_step(["report", str(tmp_path)], None)
    assert ended.value.code == 1


def test_a_step_takes_its_section_of_the_file(tmp_path, capsys):
    (tmp_path / "run.yml").write_text("search: {max-trials: 4}")
    run.main(["digits", "--out", str(tmp_path), "--dry-run", "--config", str(tmp_path / "run.yml")])
    lines = capsys.readouterr().out.splitlines()
    assert ["--config" in line for line in lines] == [False, True, False, False, False, False]
