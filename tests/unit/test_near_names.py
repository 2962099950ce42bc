"""What is not there is said with the nearest names that are, a few of them."""

import json

import pytest

from spaces.errors import InputError, unknown
from trials import export, report
from trials.common import near_runs, run_dir
from trials.search_driver import experiment_file


def test_of_many_names_the_nearest_are_listed():
    names = [f"name-{number}" for number in range(60)] + ["epochs"]
    said = unknown("option", "epocs", names, "x --help-all")
    assert said.startswith("unknown option 'epocs'; did you mean 'epochs'? nearest of 61: epochs, ")
    assert said.endswith("; all: x --help-all")
    assert said.count(",") == 4
    assert unknown("option", "b", ["aa", "bb"]) == "unknown option 'b'; did you mean 'bb'? choose from: aa, bb"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of = {"digits": "supernet", "digits-2": "supernet", "icons": "supernet", "digit": "retrain", "damaged": "supernet"}
    for name, command in of.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text(json.dumps({"command": command, "config": {}}))
    (tmp_path / "runs" / "damaged" / "config.json").write_text("{")
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("named", "command", "says"),
    [
        ("runs/digts", "supernet", "'runs/digts' does not exist; .* is there: runs/digits, runs/digits-2, runs/icons$"),
        ("elsewhere/icon", "supernet", "'elsewhere/icon' does not exist; .* is there: runs/icons, "),
        (
            "runs",
            "supernet",
            "'runs' holds no run; make one with: python -m trials.supernet --out runs/mine; or name one",
        ),
        ("runs/none", "retrain", "make one with: python -m trials.retrain --out runs/none; .* is there: runs/digit$"),
    ],
)
def test_a_run_that_is_not_there(runs, named, command, says):
    with pytest.raises(InputError, match=says):
        run_dir.load_run(named, command)


@pytest.mark.parametrize(
    ("named", "command", "says"),
    [
        (
            "runs/icons",
            "retrain",
            "'runs/icons' holds a run of supernet, not of retrain; .* there: runs/icons/retrain, ",
        ),
        (
            "runs/icons/retrain",
            "supernet",
            "holds a run of retrain, not of supernet; name one that is there: runs/icons$",
        ),
        ("runs/icons/baselines/m", "supernet", "holds a run of retrain, not of supernet; .* is there: runs/icons$"),
        ("runs/digits", "retrain", "not of retrain; first: .*; or name one that is there: runs/digit$"),
        ("runs/digit", "certify", "not of certify; make one with: python -m trials.certify$"),
    ],
)
def test_a_run_of_another_command_leads_to_one_of_this(runs, named, command, says, monkeypatch):
    monkeypatch.setitem(run_dir.NEEDED, "certify", ())
    for inner in ("retrain", "baselines/m"):
        (runs / "icons" / inner).mkdir(parents=True)
        (runs / "icons" / inner / "config.json").write_text('{"command": "retrain", "config": {}}')
    with pytest.raises(InputError, match=says):
        run_dir.load_run(named, command)


def test_a_run_that_is_not_at_its_end_says_how_to_go_on(tmp_path):
    run = tmp_path / "my run"
    run.mkdir()
    typed = "python -m trials.supernet --data digits --epochs 9 --resume --out 'my run'"
    config = {"command": "supernet", "config": {"out": "my run"}, "typed": typed}
    (run / "config.json").write_text(json.dumps(config))
    said = (
        f"is not trained to the end; first: python -m trials.supernet --data digits --epochs 9 --out '{run}' --resume"
    )
    with pytest.raises(InputError) as caught:
        run_dir.require_supernet(run)
    assert str(caught.value).endswith(said)


def test_at_most_five_runs_are_named(runs):
    for number in range(9):
        (runs / f"more{number}").mkdir()
        (runs / f"more{number}" / "config.json").write_text('{"command": "supernet", "config": {}}')
    assert len(near_runs.nearest_runs(runs / "mores", "supernet")) == 5


def test_a_search_of_no_run_names_runs(runs):
    """Not the shipped experiments, which a name without .yml is none of."""
    with pytest.raises(InputError, match="'runs/nowhere' does not exist; make one with: python -m trials.supernet"):
        experiment_file.find_yaml((runs / "nowhere").relative_to(runs.parent))


def test_a_run_of_which_nothing_was_retrained_is_said_how_to_retrain_it(runs):
    """The whole line, to be typed: what is missing of training, search and retraining."""
    run = runs / "digits"
    retrain = f"python -m trials.retrain --fixed-arc {run}/arc.json --supernet {run}"
    (run / "supernet.pt").touch()
    assert near_runs.retrains_winner(run) == f"python -m trials.search {run} && {retrain}"
    (run / "arc.json").touch()
    assert near_runs.retrains_winner(run) == retrain
    with pytest.raises(InputError) as caught:
        export.main(["runs/digits"])
    relative = retrain.replace(str(run), "runs/digits")
    assert str(caught.value).startswith(
        f"'runs/digits' holds a run of supernet, not of retrain; first: {relative}; or name one that is there: runs/digit"
    )
    with pytest.raises(InputError) as caught:
        export.main(["--weights", "runs/digits"])
    assert f"; first: {relative}; or name one that is there: runs/digit" in str(caught.value)


@pytest.mark.parametrize("name", ["retrain", "retrain-0123456789ab"])
def test_export_of_a_supernets_run_names_what_was_retrained_in_it(runs, name):
    for inner in (name, "baselines/m"):
        (runs / "icons" / inner).mkdir(parents=True)
        (runs / "icons" / inner / "config.json").write_text('{"command": "retrain", "config": {}}')
    with pytest.raises(InputError, match=f"are required: --weights; give --weights runs/icons/{name}; see"):
        export.main(["runs/icons"])


@pytest.mark.parametrize(
    ("command", "word", "says"),
    [
        (report.main, "--opn", "unknown option '--opn'; see: "),  # --json has no more in common with it than the dashes
        (report.main, "--jsn", "unknown option '--jsn'; did you mean '--json'\\? see"),
        (report.main, "--hlp", "did you mean '--help'?"),
        (export.main, "--wieghts", "did you mean '--weights'?"),
        (export.main, "--opse", "did you mean '--opset'?"),
    ],
)
def test_the_nearest_option_is_near(command, word, says):
    with pytest.raises(InputError, match=says):
        command(["runs/x", word])
