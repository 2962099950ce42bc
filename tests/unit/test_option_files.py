"""Options of commands in YAML: what is typed wins, what is wrong is one line."""

import pytest
import yaml

from spaces.errors import InputError
from tests.unit.test_options import COMMANDS
from trials import run as road
from trials import space, supernet
from trials.certifying.certify_config import Config as CertifyConfig
from trials.common import cli, commands, typed
from trials.training.supernet_config import Config


def parse(*words):
    return cli.parse(Config, [*map(str, words)], "", "trials.supernet")


def test_every_command_has_a_section():
    assert sorted(commands.COMMANDS) == COMMANDS


def test_what_is_typed_wins(tmp_path):
    file = tmp_path / "run.yml"
    file.write_text(
        "supernet: {out: runs/x, epochs: 3, lr: 1e-2, resume: false, max_macs: 2M, strategy: window, preset: tiny}"
    )
    config = parse("--epochs", 5, "--config", file)
    assert (config.epochs, config.lr, config.out, config.max_macs) == (5, 0.01, "runs/x", "2M")
    assert parse(f"--config={file}").epochs == 3
    assert "--config" not in typed.line("trials.supernet")
    assert "--epochs=3" in typed.line("trials.supernet")


def test_what_is_saved_is_read(tmp_path):
    file = tmp_path / "run.yml"
    file.write_text("search: {max-trials: 3}")
    given = parse("--out", "runs/x", "--epochs", 5, "--save-config", file)
    assert yaml.safe_load(file.read_text()) == {
        "search": {"max-trials": 3},
        "supernet": {"epochs": 5, "out": "runs/x"},
    }
    assert parse("--config", file) == given


@pytest.mark.parametrize("word", ["--dry-run", "--resume", "--stop-after=3"])
def test_what_belongs_to_one_call_is_not_saved(tmp_path, word):
    """Else the file could only ever dry-run, and would resume what nobody meant to."""
    file = tmp_path / "run.yml"
    parse("--out", "runs/x", word, "--save-config", file)
    assert yaml.safe_load(file.read_text()) == {"supernet": {"out": "runs/x"}}


def test_the_argument_without_a_flag(tmp_path):
    """It may stand anywhere, and wins over the file."""
    file = tmp_path / "run.yml"
    file.write_text("certify: {run: runs/a, random: 3}")
    for words in (["--seeds", "2", "runs/b", "--config", str(file)], ["--config", str(file), "runs/b", "--seeds=2"]):
        config = cli.parse(CertifyConfig, words, "", "trials.certify")
        assert (config.run, config.random, config.seeds) == ("runs/b", 3, 2)
    assert space.main(["--preset", "tiny", "spos"])["space"]["resolution"] == 32
    file.write_text("space: {for: 3M, resolution: 32}")
    assert space.main(["--config", str(file)])["reach"]
    file.write_text("certify: {run: runs/a, random: 3}")
    for words, run in ((["--config", str(file)], "runs/a"), (["runs/b", "--config", str(file)], "runs/b")):
        assert cli.parse(CertifyConfig, words, "", "trials.certify").run == run


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epochs: 3", "unknown command 'epochs'"),
        ("[1, 2]", "holds no mapping"),
        ("supernet: 3", "supernet in .* is '3'"),
        ("supernet: {epoch: 3}", "unknown option 'epoch'; did you mean 'epochs'"),
        ("supernet: {epochs: [3]}", "epochs is '\\[3\\]'; give one number"),
        ("supernet: {epochs: }", "epochs is 'None'"),
        ("supernet: {epochs: many}", "invalid int value: 'many'"),
        ("supernet: {schedule: round}", "invalid choice: 'round'"),
        ("supernet: {resume: maybe}", "ignored explicit argument 'maybe'"),
        ("a: b: c", "cannot be read"),
        ("supernet: {epochs: 3, epochs: 4}", "cannot be read .*epochs.* stands there twice"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, says):
    file = tmp_path / "run.yml"
    file.write_text(text)
    with pytest.raises(InputError, match=says) as raised:
        parse("--out", "runs/x", "--config", file)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--config"], "needs a file"),
        (["--config", "--resume"], "needs a file"),
        (["--config", "none.yml"], "file of options 'none.yml' does not exist"),
        (["--save-config="], "needs a file"),
    ],
)
def test_a_missing_file_is_one_line(words, says):
    with pytest.raises(InputError, match=says):
        parse("--out", "runs/x", *words)


def test_an_unknown_option_is_told_before_one_that_is_missing():
    with pytest.raises(InputError, match=r"unknown option '--ouut'; did you mean '--out'\? see: "):
        parse("--ouut", "runs/x")


@pytest.mark.parametrize(
    ("section", "words", "says"),
    [
        ("supernet: {epochs: -3}", [], "'run.yml', supernet: --epochs -3 is not above 0"),
        ("supernet: {epochs: many}", [], "'run.yml', supernet: argument --epochs: invalid int value: 'many'"),
        ("supernet: {lr: -1}", [], "'run.yml', supernet: --lr -1.0 is not above 0"),
        ("supernet: {data: pictures}", [], "'run.yml', supernet: unknown data set 'pictures'"),
        ("supernet: {data: folder, data-root: nowhere}", [], "'run.yml', supernet: data folder 'nowhere'"),
        ("supernet: {resolution: 3}", [], "'run.yml', supernet: resolution of space spos is 3; give"),
        ("supernet: {resolution: 32}", ["--resolution", "3"], "error: resolution of space spos is 3; give"),
        (
            "supernet: {space-options: variant=chanel}",
            [],
            "'run.yml', supernet: --space-options 'variant=chanel': unknown variant of space spos: 'chanel'; did you mean",
        ),
        ("supernet: {epochs: 3}", ["--epochs", "-3"], "error: --epochs -3 is not above 0"),
        ("supernet: {epochs: 3}", ["--lr", "-1"], "error: --lr -1.0 is not above 0"),
        ("supernet: {epoch: 3}", [], "error: 'run.yml', supernet: unknown option 'epoch'"),
    ],
)
def test_a_wrong_value_is_said_with_its_file(tmp_path, monkeypatch, capsys, section, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yml").write_text(section)
    monkeypatch.setattr("sys.argv", ["supernet", "--out", "runs/x", "--config", "run.yml", *words])
    with pytest.raises(SystemExit) as ended:
        cli.run(supernet.main)
    assert ended.value.code == 1
    line = capsys.readouterr().err
    assert says in line
    assert line.count("\n") == 1
    assert line.count("run.yml") == (1 if "'run.yml'" in says else 0)


def test_a_wrong_value_for_a_step_of_the_road_is_said_with_its_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yml").write_text("certify: {jobs: 0}")
    monkeypatch.setattr("sys.argv", ["run", "digits", "--config", "run.yml"])
    with pytest.raises(SystemExit):
        cli.run(road.main)
    assert "error: 'run.yml', certify: --jobs 0 is below 1" in capsys.readouterr().err
