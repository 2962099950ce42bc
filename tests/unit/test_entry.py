"""./onepath: one entry to all commands."""

import dataclasses
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

import onepath
from tests.commands import ROOT
from tests.unit.test_options import COMMANDS, config_of
from trials.common import cli, commands, short_help


def test_help_names_every_command_on_one_screen():
    lines = onepath.help_text().splitlines()
    assert sorted(commands.COMMANDS) == COMMANDS
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("serch runs/x", "unknown command 'serch'; did you mean 'search'?"),
        ("space spos --prset tiny", "unknown option '--prset'; did you mean '--preset'?"),
    ],
)
def test_mistakes_get_one_line_from_any_folder(words, says, tmp_path):
    ended = subprocess.run([ROOT / "onepath", *words.split()], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert says in ended.stderr


def test_it_works_from_any_folder_through_a_link(tmp_path):
    """In a folder of the PATH it is named by its name, elsewhere by the path that was typed; so are the commands that it advises."""
    (tmp_path / "bin").mkdir()
    for link in (tmp_path / "bin" / "onepath", tmp_path / "other"):
        link.symlink_to(ROOT / "onepath")
    path = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    for called, env in (("onepath", path), (str(tmp_path / "other"), os.environ)):
        done = subprocess.run([called, "report", "x"], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr == f"error: 'x' does not exist; make one with: {called} supernet --out x\n"
    done = subprocess.run(["onepath", "space", "spos"], cwd=tmp_path, env=path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_of_an_editable_install_is_this_entry(tmp_path):
    """No package is installed, `onepath` alone; a copy of it outside of the clone says so in one line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"onepath": "onepath:main"}
    assert project["tool"]["setuptools"] == {"packages": [], "py-modules": ["onepath"]}
    shutil.copy(ROOT / "onepath.py", tmp_path)
    done = subprocess.run([sys.executable, tmp_path / "onepath.py", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "is no clone of Onepath" in done.stderr


def test_a_reader_that_has_gone_is_no_fault():
    for words in ("--help", "--completion bash"):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([ROOT / "onepath", *words.split()], stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_one_screen_of_whole_lines(command, capsys):
    module = importlib.import_module(f"trials.{command}")
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= short_help.ROWS
    assert max(map(len, lines)) <= short_help.COLUMNS
    config = config_of(command)
    fields = {field.name: field for field in dataclasses.fields(config)}
    often = getattr(config, "often", tuple(fields))
    assert set(often) <= set(fields)
    required = {name for name, field in fields.items() if field.default is cli.REQUIRED}
    assert required <= set(often)
    for name in often:
        shown = (cli.flag(name), name.upper(), cli.flag("no_" + name))
        [line] = [line for line in lines if line.startswith("  ") and line.split()[0] in shown]
        assert len(line.split()) >= 3, line
        assert line.count("(") == line.count(")"), line


@pytest.mark.parametrize("command", COMMANDS)
def test_help_all_has_every_option(command, capsys):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"trials.{command}").main(["--help-all"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(config_of(command)):
        assert re.search(rf"^  ({cli.flag(field.name)}|{field.name})\b", text, re.MULTILINE), field.name


HELP = """
import sys, onepath
for words in (["--help"], *([name, kind] for name in onepath.COMMANDS for kind in ("--help", "--help-all"))):
    sys.argv = ["onepath", *words]
    try:
        onepath.main()
    except SystemExit as ended:
        assert ended.code == 0, words
    if words == ["--help"]:
        assert not {"numpy", "yaml", "argparse"} & {*sys.modules}
print({"torch", "torchvision", "nni", "scipy", "pandas", "sklearn", "matplotlib", "PIL", "onnxruntime", "timm"} & {*sys.modules})
"""


def test_help_of_no_command_imports_what_takes_long():
    """A time would depend on the machine; torch takes 1.2 s, nni 1.1."""
    ended = subprocess.run([sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "set()"
