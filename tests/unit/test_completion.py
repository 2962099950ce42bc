"""Completion in real shells: what bash and zsh offer for a line that is typed."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

import onepath
from tests.commands import ROOT
from tests.unit.test_options import COMMANDS
from trials.common import completion

BASH, ZSH = (shutil.which(name) or "" for name in ("bash", "zsh"))


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "onepath.bash"
    path.write_text(onepath.completion("bash"))
    return path


def offered(script, line, folder=ROOT):
    """What bash offers for the last word of a line, whose words it cuts at =, as it does while one types."""
    words = line.replace("=", " = ").split() + ([""] if line.endswith((" ", "=")) else [])
    code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _onepath; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run([BASH, "-c", code, "bash", script, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1] if done.stdout.strip() else []


@pytest.mark.skipif(not BASH, reason="no bash")
@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("onepath se", ["search"]),
        ("onepath --completion ", ["bash", "zsh"]),
        ("./onepath supernet --dev", ["--device"]),
        ("onepath supernet --device ", ["auto", "cpu", "cuda"]),
        ("onepath supernet --device=c", ["cpu", "cuda"]),
        ("onepath supernet --out runs/x --strategy s", ["strict-fair", "softmax"]),
        ("onepath evaluate --no-", ["--no-warm"]),
        ("onepath space s", ["single-path-nas", "spos"]),
        ("onepath retrain --space f", ["fbnet"]),
        ("onepath supernet --data cifar", ["cifar10", "cifar100"]),
        ("onepath supernet --epochs ", []),
        ("onepath supernet --max-macs ", []),
        ("onepath data ", ["check", "shrink"]),
        ("onepath data check READM", ["README.md"]),
        ("onepath report docs/glos", ["docs/glossary.md"]),
        ("onepath certify --config pypr", ["pyproject.toml"]),
        ("onepath serch --", []),
    ],
)
def test_bash_offers(script, line, offers):
    assert offered(script, line) == offers


@pytest.mark.skipif(not BASH, reason="no bash")
def test_bash_offers_every_command_and_names_with_blanks(script, tmp_path):
    assert sorted(word for word in offered(script, "onepath ") if word[0] != "-") == COMMANDS
    (tmp_path / "my images").mkdir()
    assert offered(script, "onepath run my", tmp_path) == ["my images"]
    for command in COMMANDS:
        assert {"--json", "--help-all", "--config"} <= set(offered(script, f"onepath {command} --"))


def test_another_shell_is_refused_in_one_line(capsys):
    for shell in ("fish", ""):
        with pytest.raises(SystemExit) as ended:
            onepath.completion(shell)
        assert ended.value.code == 1
        assert "bash, zsh" in capsys.readouterr().err


def test_the_script_of_zsh_is_that_of_bash():
    assert onepath.completion("zsh") == completion.ZSH + onepath.completion("bash").replace("n bash\n", "n zsh\n", 1)


@pytest.mark.skipif(not ZSH, reason="no zsh")
def test_zsh_completes_a_line(tmp_path):
    """In a terminal of its own: zsh completes nowhere else."""
    (tmp_path / "onepath.zsh").write_text(onepath.completion("zsh"))
    process, terminal = pty.fork()
    if not process:
        os.chdir(ROOT)
        names = ("PATH", "FPATH", "MODULE_PATH")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        os.execve(ZSH, ["zsh", "-f", "-i"], {**kept, "TERM": "dumb", "HOME": str(tmp_path), "PS1": "typed: "})

    def said(wanted):
        text, end = "", time.monotonic() + 30
        while not re.search(wanted, text, re.DOTALL) and time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                text += os.read(terminal, 65536).decode(errors="replace")
        return text

    os.write(terminal, f"source {tmp_path}/onepath.zsh; echo re''ady\n".encode())
    assert "ready" in said(r"ready\r\n.*typed: .*\x1b\[\?2004h")
    for typed, completed in (
        ("onepath sup", "supernet "),
        ("./onepath supernet --devi", "--device "),
        ("onepath supernet --device=cp", "--device=cpu"),
        ("onepath supernet --data fash", "fashion-mnist"),
        ("onepath report docs/glos", "docs/glossary.md"),
    ):
        os.write(terminal, f"{typed}\t".encode())
        assert completed in said(completed), typed
        os.write(terminal, b"\x15")
    os.write(terminal, b"exit\n")
    os.waitpid(process, 0)
