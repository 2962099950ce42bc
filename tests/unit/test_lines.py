"""What is printed fits a terminal of 120 columns, but for commands, which must stay whole, and errors and warnings, which are one line."""

import importlib
import re

import pytest

from docs.reference import COMMANDS
from spaces.errors import InputError
from strategies.limits import Limits
from tests.commands import ROOT
from trials import space
from trials.common import cli, typed
from trials.common.lines import WIDTH, folded, refilled
from trials.common.run_dir import open_run
from trials.scoring.score_value import SCORE_BY, metric_text
from trials.search_driver import results
from trials.training import supernet_config

LONG = "runs/" + "a folder with a long name " * 8
WHOLE = re.compile(r"python -m|onepath |^(error|warning|next): |&& ")


def too_wide(text: str) -> list[str]:
    return [line for line in text.splitlines() if len(line) > WIDTH and not WHOLE.search(line)]


@pytest.mark.parametrize("option", ["--help", "--help-all"])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits(command, option, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module(f"trials.{command}").main([option])
    said = capsys.readouterr().out
    assert len(said) > 500
    assert [line for line in said.splitlines() if len(line) > WIDTH and not line.startswith("usage: ")] == []


@pytest.mark.parametrize(
    "words",
    [
        ["--list"],
        *([name] for name in ("spos", "fbnet", "proxylessnas", "single-path-nas")),
        ["fbnet", "--preset", "small", "--max-macs", "100M"],
        ["spos", "--for", "100M", "--resolution", "128"],
    ],
)
def test_spaces_fit(words, capsys):
    space.main(words)
    assert too_wide(capsys.readouterr().out) == []


def test_prose_is_folded_and_long_words_stay_whole():
    text = f"  a list: {'word ' * 60}\nand {'x' * 150} is one word"
    lines = folded(text).split("\n")
    assert [len(line) > WIDTH for line in lines] == [False] * (len(lines) - 2) + [True, False]
    assert [re.match(" *", line)[0] for line in lines] == ["  ", "    ", "    ", "", "  ", "  "]
    assert " ".join(folded(text).split()) == " ".join(text.split())
    assert folded("short") == "short"
    command = f"do this:\n  python -m trials.retrain {'--option ' * 20}"
    assert folded(command) == command


def test_docstrings_are_refilled_and_their_commands_are_not():
    doc = f"Title.\n\n    python -m trials.x {'--long ' * 30}\n\n{'word ' * 30}\nend.\n\nshort\nlines\n"
    title, command, prose, short = refilled(doc).split("\n\n")
    assert (title, short) == ("Title.", "short\nlines")
    assert command.split() == ["python", "-m", "trials.x", *["--long"] * 30]
    assert len(command.split("\n")) == 1
    assert [len(line) <= WIDTH for line in prose.split("\n")] == [True, True]


@pytest.mark.parametrize("score_by", SCORE_BY)
def test_texts_of_a_search_fit(score_by, capsys):
    cli.say(f"in the portal: {metric_text(score_by)}")
    cli.say(f"limits ({Limits(max_macs=10**12, min_macs=10**11, max_params=10**12)}) leave 0.1% of the space")
    entries = [{"scoring_images": 1000} for _ in range(1000)]
    cli.say(results.noise_line(ROOT, entries, [True] * 999 + [False]))
    said = capsys.readouterr().out
    assert "is maximised" in said
    assert "998 of the 999 others" in said
    assert too_wide(said) == []


def test_the_line_of_options_fits(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(typed, "_given", {})  # what other tests have typed
    config = supernet_config.Config(
        out=str(tmp_path / "run"), data="digits", preset="tiny", space_options="x=1", lr=0.123
    )
    open_run(config.out, "supernet", config, resume=False)
    said = capsys.readouterr().out
    assert said.startswith("supernet: --")
    assert too_wide(said) == []


def test_long_paths_stay_whole_in_errors():
    with pytest.raises(InputError) as caught:
        cli.parse(supernet_config.Config, [LONG, "--out", "x"], None, "trials.supernet")
    assert "\n" not in str(caught.value)
