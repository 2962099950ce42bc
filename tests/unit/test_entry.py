"""./onepath: one entry to all commands."""

import subprocess
import sys

import pytest

import onepath
from tests.commands import ROOT
from tests.unit.test_options import COMMANDS


def test_help_names_every_command_on_one_screen():
    lines = onepath.help_text().splitlines()
    assert sorted(name for commands in onepath.COMMANDS.values() for name in commands) == COMMANDS
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


def test_help_imports_no_library():
    code = "import sys, onepath; sys.argv = ['onepath', '--help']\ntry: onepath.main()\nexcept SystemExit: print({'torch', 'numpy', 'yaml'} & {*sys.modules})"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.endswith("set()\n")
