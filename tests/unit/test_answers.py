"""--json: one object on the output, everything else on the errors, the keys of the documentation, errors too."""

import json
import math
import subprocess

import pytest

from spaces.errors import InputError
from tests.commands import ROOT
from tests.unit.test_options import COMMANDS
from trials import data, space
from trials.common import answers


def test_every_command_has_keys():
    assert sorted(answers.ANSWERS) == COMMANDS


def test_an_answer_has_all_keys_and_no_others():
    found = answers.answer("report", run="runs/x")
    assert found == {"command": "report", "run": "runs/x", "report": None, "summary": None, "more": None}
    with pytest.raises(AssertionError):
        answers.answer("report", runn="runs/x")


def test_what_is_no_number_is_null():
    assert json.loads(answers.as_json({"a": [math.nan, math.inf, 1.5], "b": ROOT})) == {
        "a": [None, None, 1.5],
        "b": str(ROOT),
    }


def onepath(*words, **settings):
    return subprocess.run([ROOT / "onepath", *words], capture_output=True, text=True, **settings)


def test_the_object_stands_alone_on_the_output(tmp_path):
    done = onepath("space", "spos", "--preset", "tiny", "--max-macs", "3M", "--json", "--out", str(tmp_path))
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["space"]["resolution"] == 32
    assert found["bounds"]["min_macs"] <= found["within"]["min_macs"] <= found["within"]["max_macs"] <= 3_000_000
    assert [path.split(".", 1)[1] for path in found["files"]] == ["json", "costs.json"]
    assert "20 choice blocks" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("space spso --json", "unknown space 'spso'; did you mean 'spos'"),
        ("serch --json", "unknown command 'serch'"),
        ("report --json runs/none", "'runs/none' does not exist; make one with"),
        ("supernet --json --out", "argument --out: expected one argument"),
        ("data --json", "trials.data has the verbs check and shrink"),
        ("run --json none", "'none' is no folder"),
        ("space --json --preset", "argument --preset: expected one argument"),
        ("search x --json --no-json", "unknown option '--no-json'; did you mean '--json'?"),
        ("SEARCH --json", "unknown command 'SEARCH'; did you mean 'search'?"),
        ("certify --json --random 0 x", "--random 0 is below 1"),
    ],
)
def test_an_error_is_an_object_too(words, says, tmp_path):
    done = onepath(*words.split(), cwd=tmp_path)
    found = json.loads(done.stdout)
    assert (found["exit_code"], done.returncode, set(found)) == (1, 1, set(answers.ERROR))
    assert found["command"] == words.split()[0]
    assert says in found["error"]
    assert done.stderr == f"error: {found['error']}\n"


@pytest.mark.parametrize("words", ["space --json --help", "data --json --help", "data check --help-all --json"])
def test_help_is_help(words, tmp_path):
    done = onepath(*words.split(), cwd=tmp_path)
    assert done.stdout.startswith("usage: ")


def test_it_may_stand_before_the_command(tmp_path):
    assert json.loads(onepath("--json", "space", "spos", "--preset", "tiny", cwd=tmp_path).stdout)["command"] == "space"


def test_closed_streams_are_no_fault(tmp_path):
    for closed, code in (("1>&-", 0), ("2>&-", 0)):
        line = f"{ROOT}/onepath space spos --preset tiny --json {closed}"
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_what_a_library_prints_goes_to_the_errors(tmp_path):
    """So does what processes print that a command starts."""
    script = tmp_path / "echoes.py"
    script.write_text(
        "import os\nfrom trials.common import answers, cli\n"
        "def main():\n    os.system('echo child')\n    os.write(1, b'library\\n')\n    print('own')\n"
        "    return answers.answer('report', run='x')\ncli.run(main)\n"
    )
    done = subprocess.run(
        [ROOT / ".venv/bin/python", script, "--json"], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert json.loads(done.stdout)["run"] == "x"
    assert sorted(done.stderr.split()) == ["child", "library", "own"]


def test_a_fault_of_ours_is_an_error(tmp_path):
    script = tmp_path / "report.py"
    script.write_text("from trials.common import cli\ncli.run(lambda: 1 / 0)\n")
    done = subprocess.run(
        [ROOT / ".venv/bin/python", script, "--json"], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "command": "report",
        "error": "a fault of Onepath: ZeroDivisionError: division by zero",
        "exit_code": 1,
    }
    assert "Traceback" in done.stderr


def test_spaces_and_budgets_are_listed(capsys):
    listed = space.main(["--list"])
    assert {entry["name"] for entry in listed["spaces"]} == {"fbnet", "proxylessnas", "single-path-nas", "spos"}
    assert all(entry["source"] for entry in listed["published"])
    found = space.main(["--for", "3M", "--resolution", "32", "--rivals"])
    reach = found["reach"]
    assert [entry["baseline"] for entry in found["rivals"]] == []  # with an output stride of 8 the least costs 6.5M
    assert "no usual network of timm comes within a factor of 2" in capsys.readouterr().out
    with pytest.raises(InputError, match="--rivals lists networks of a budget; give --for, such as --for 100M"):
        space.main(["spos", "--rivals"])
    assert [entry["best"] for entry in reach].count(True) == 1
    assert all(0 < entry["share"] <= 1 for entry in reach)
    json.loads(answers.as_json(listed))


def test_a_folder_is_told(tmp_path, capsys):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("RGB", (8, 8), (number, ord(name), 0)).save(tmp_path / name / f"{number}.png")
    found = data.main(["check", str(tmp_path), "--out="])
    assert (found["classes"], found["left_out"], found["picture"]) == ({"a": 10, "b": 10}, [], None)
    assert sum(found["parts"].values()) == 20
    assert found["next"].startswith("python -m trials.run")
    assert set(json.loads(answers.as_json(found))) == {"command", *answers.ANSWERS["data"]}
