"""Values of options that mean nothing are refused as one line, before anything is imported or written."""

import dataclasses
import typing

import pytest

import spaces
from spaces.errors import InputError
from tests.unit.test_options import COMMANDS, config_of
from trials import retrain, supernet
from trials.common import changes, cli, machine
from trials.export_formats import export_config
from trials.training import retrain_config, supernet_config

SUPERNET = ["--preset", "tiny", "--data", "digits"]


def refusal(config, *words):
    with pytest.raises(InputError) as caught:
        cli.parse(config, words, None, "trials.x")
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 700
    return line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", "1e999", "99999999999999999999", "9" * 5000, "x" * 3000, "", "0x10"]
)
def test_no_option_takes_what_is_no_number(command, value):
    """All numbers of all commands, so that a new option is among them."""
    config = config_of(command)
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        kinds = {hints[field.name], *typing.get_args(hints[field.name])}
        if not kinds & {int, float} or (float in kinds and value == "99999999999999999999"):
            continue
        line = refusal(config, f"{cli.flag(field.name)}={value}")
        assert cli.flag(field.name) in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--seed -1", "--seed -1 is below 0; give 0 or more"),
        (
            "--seed 9223372036854775808",
            "argument --seed: 9223372036854775808 is out of range; give a number of at most 18",
        ),
        ("--stop-after 0", "--stop-after 0 is not above 0; give a larger number"),
        ("--stop-after -5", "--stop-after -5 is not above 0"),
        ("--weight-decay -0.1", "--weight-decay -0.1 is below 0; give 0 or more"),
        ("--lr inf", "argument --lr: inf is not a finite number; give one"),
        ("--lr nan", "argument --lr: nan is not a finite number; give one"),
        ("--lr -1", "--lr -1.0 is not above 0"),
        ("--clip-norm nan", "argument --clip-norm: nan is not a finite number"),
        ("--strategy gates --arch-weight-decay -1", "--arch-weight-decay -1.0 is below 0; give 0 or more"),
    ],
)
def test_numbers_of_a_supernet_that_mean_nothing(words, says):
    assert says in refusal(supernet_config.Config, *SUPERNET, "--out", "none", *words.split())


@pytest.mark.parametrize(
    ("command", "words", "name"),
    [
        ("retrain", "--fixed-arc none --preset tiny --jobs 100000", "--jobs 100000"),
        ("retrain", "--fixed-arc none --preset tiny --workers 100000", "--workers 100000"),
        ("supernet", "--out none --preset tiny --workers 100000", "--workers 100000"),
        ("certify", "none --jobs 100000", "--jobs 100000"),
        ("data", "none --workers 100000", "--workers 100000"),
        ("latency", "--space spos --out x.json --threads 100000", "--threads 100000"),
    ],
)
def test_more_processes_than_any_machine_runs(command, words, name, monkeypatch):
    """All counts that start processes or threads; more cores take more."""
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    line = refusal(config_of(command), *words.split())
    assert f"{name} is too many: each is a " in line
    assert line.endswith("of its own, and this machine has 2 cores; give at most 64")
    monkeypatch.setattr(machine, "usable_cores", lambda: 100)
    machine.require_few("--jobs", 800, "a process")
    with pytest.raises(InputError, match="100 cores; give at most 800"):
        machine.require_few("--jobs", 801, "a process")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--int8-drop nan", "argument --int8-drop: nan is not a finite number; give one"),
        ("--opset 7", "--opset 7 is out of range; give 18 to 21"),
        ("--out class.py", "--out 'class.py': 'class' is no name for a Python module"),
        ("--out a/None", "--out 'a/None': 'None' is no name for a Python module"),
        ("--out my-net.onnx", "--out 'my-net.onnx': 'my-net' is no name for a Python module"),
    ],
)
def test_options_of_an_export_that_mean_nothing(words, says):
    assert says in refusal(export_config.Config, "--weights", "none", *words.split())


def test_a_long_value_is_cut_off():
    line = refusal(supernet_config.Config, *SUPERNET, "--out", "none", "--strategy", "u" * 9000)
    assert "uuu..." in line
    assert len(line) < 500


@pytest.mark.parametrize("space", ["spos", "fbnet", "proxylessnas", "single-path-nas"])
@pytest.mark.parametrize("resolution", [100_000_000, 10**30, 8193])
def test_a_resolution_without_bounds_is_refused_by_the_space(space, resolution):
    with pytest.raises(InputError, match=f"resolution of space {space} is .*; give a whole number, at most 8,192"):
        spaces.describe(space, "tiny", resolution=resolution)


@pytest.mark.parametrize(
    "words", ["--resolution 100000000", "--seed -1", "--score-fraction 0.999", "--score-fraction 0.001"]
)
def test_they_are_refused_before_the_run_folder_exists(words, tmp_path):
    out = tmp_path / "deep" / "run"
    with pytest.raises(InputError) as caught:
        supernet.main([*SUPERNET, "--out", str(out), *words.split()])
    assert words.split()[0].lstrip("-") in str(caught.value)
    assert not out.parent.exists()


def test_a_retraining_s_resolution_is_refused_before_its_folder_exists(tmp_path, arc):
    with pytest.raises(InputError, match="at most 8,192"):
        retrain.main(["--fixed-arc", str(arc), "--preset", "tiny", "--resolution", "100000000"])
    assert not (tmp_path / "retrain").exists()


def test_a_folder_that_is_spelt_in_another_way_is_the_same(tmp_path, monkeypatch, run):
    monkeypatch.chdir(run.parent)
    config = retrain_config.Config(supernet="run", top=2, out=str(run / "retrain"))
    assert config.out == str(run / "retrain")
    with pytest.raises(InputError, match="--top 2 writes into 'run'; leave --out out"):
        retrain_config.Config(supernet="run", top=2, out="elsewhere")
    (tmp_path / "labels.csv").touch()
    monkeypatch.chdir(tmp_path)

    @dataclasses.dataclass
    class Options:
        val_labels: str = ""
        lr: float = 0.1

    stored = {"val_labels": "labels.csv", "lr": 0.1}
    for same in ("./labels.csv", str(tmp_path / "labels.csv"), "labels.csv"):
        assert changes.changed_options(stored, Options(same)) == []
    assert changes.changed_options(stored, Options("other.csv")) == [("--val-labels", "labels.csv", "other.csv")]
    assert changes.changed_options(stored, Options()) == [("--val-labels", "labels.csv", "")]
    both = changes.changed_options(stored, Options("other.csv", 0.2))
    assert changes.change_texts(both) == (
        "--val-labels labels.csv, not other.csv, and --lr 0.1, not 0.2",
        "--val-labels labels.csv --lr 0.1",
    )


def test_an_amount_that_is_spelt_in_another_way_is_the_same():
    @dataclasses.dataclass
    class Options:
        max_macs: str = ""

    for same in ("3M", "3000000", "3e6", "3_000k"):
        assert changes.changed_options({"max_macs": "3M"}, Options(same)) == []
    for other in ("3.1M", ""):
        assert changes.changed_options({"max_macs": "3M"}, Options(other)) == [("--max-macs", "3M", other)]


def test_an_option_that_was_not_given_and_a_switch_are_said_as_they_are_typed():
    assert changes.change_texts([("--resolution", None, 16)]) == (
        "no --resolution, not --resolution 16",
        "no --resolution",
    )
    assert changes.change_texts([("--nesterov", False, True)]) == ("--no-nesterov, not --nesterov", "--no-nesterov")


@pytest.mark.parametrize(
    ("command", "words", "says"),
    [
        (
            "supernet",
            "images --out x",
            "'images' belongs to no option; give it to --data folder --data-root, or leave it out",
        ),
        ("report", "runs/a runs/b", "'runs/b' belongs to no option; give it to an option, or leave it out"),
        ("space", "--space spos", "unknown option '--space'; give SPACE without a flag; see"),
        ("export", "runs/a", "the following arguments are required: --weights; give --weights runs/a; see"),
        (
            "supernet",
            "--data digits --data-root images --out x",
            "--data digits has no folder, and --data-root is 'images'; leave",
        ),
        ("evaluate", "--run x --batch-size 0", "--batch-size 0 is not above 0; give a larger number"),
        ("evaluate", "--run x --scoring-images -1", "--scoring-images -1 is below 0; give 0 or more"),
        ("search", "x --concurrency 0", "--concurrency 0 is below 1; give a whole number above 0"),
        ("supernet", "--out=", "--out '' names nothing; give a name, or leave --out out where it has a default"),
        ("retrain", "--fixed-arc spos-block --out=", "--out '' names nothing"),
        ("export", "--weights x --out=", "--out '' names nothing"),
        ("run", "digits --out=", "--out '' names nothing"),
        ("search", "x --max-trials -4", "--max-trials -4 is below 1; give a whole number above 0"),
    ],
)
def test_what_new_users_type(command, words, says):
    assert says in refusal(config_of(command), *words.split())
