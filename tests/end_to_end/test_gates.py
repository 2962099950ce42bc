"""A run that was set up badly is warned of at each step, with commands that work; a healthy one is not."""

import json
import shlex
import subprocess

import pytest

from tests.commands import Command
from trials import retrain, supernet
from trials.evidence.gates import read_warnings

SMALL = ["--preset", "tiny", "--resolution", "16"]


@pytest.fixture
def warned(capsys):
    """A function that gives the warnings that were printed since its last call, and all that was printed."""

    def read() -> tuple[list[str], str]:
        output = capsys.readouterr().out
        return [line for line in output.splitlines() if line.startswith("warning: ")], output

    return read


def assert_it_works(command: str, *more: str) -> None:
    """A command that was printed does as it is typed; `more` keeps it short."""
    *before, last = command.split(" && ")
    for words in before:
        subprocess.run(shlex.split(words), check=True)
    python, dash, module, *arguments = shlex.split(last)
    assert (python, dash) == ("python", "-m")
    process = Command(module, *arguments, *more)
    output, errors = process.communicate()
    assert process.returncode == 0, output + errors


def test_a_badly_set_run_is_warned_of_at_each_step(tree, tmp_path, warned):
    run = tmp_path / "my run"
    bad = ["--epochs", "12", "--batch-size", "48", "--lr", "0.0004"]
    images = ["--data", "folder", "--data-root", str(tree)]
    supernet.main([*SMALL, *images, *bad, "--eval-paths", "3", "--out", str(run)])
    lines, _ = warned()
    found = {entry["gate"]: entry for entry in read_warnings(run)}
    assert found.keys() >= {"few steps", "large batch", "rate and batch", "small test part", "near chance"}
    assert {f"warning: {entry['text']}; {entry['command']}" for entry in found.values()} <= set(lines)
    command = found["few steps"]["command"]
    assert shlex.split(command)[-2:] == ["--out", f"{run}-2"]
    assert_it_works(command, "--dry-run")
    assert not (tmp_path / "my run-2").exists()

    # the network of this recipe is worse than a forest
    arc = run / "arc.json"
    arc.write_text(str((0,) * 20))
    retrain.main(["--fixed-arc", str(arc), "--supernet", str(run), *bad])
    lines, output = warned()
    floor = json.loads((run / "floor.json").read_text())
    assert floor["name"] == "random forest on 16x16 pixels"
    assert f"\nfloor {floor['top1']:.2f}% [" in output
    assert sum("is undertrained" in line and f"the floor of {floor['top1']:.1f}%" in line for line in lines) == 1
    entries = {entry["gate"]: entry for entry in read_warnings(run) if entry["run"] == "retrain"}
    assert entries.keys() >= {"few steps", "large batch", "below the floor"}
    assert "small test part" not in entries  # the supernet's says it already
    assert_it_works(entries["below the floor"]["command"], "--epochs", "1")
    config = json.loads((run / "retrain" / "config.json").read_text())["config"]
    assert (config["batch_size"], config["lr"]) == (8, 0.025)
    assert not [entry for entry in read_warnings(run) if entry["gate"] == "large batch" and entry["run"]]
    assert (run / "undertrained-retrain-2" / "retrain" / "result.json").exists()


def test_a_healthy_run_is_silent(tmp_path, warned):
    run = tmp_path / "run"
    supernet.main([*SMALL, "--data", "digits", "--warm-start", "0.3", "--epochs", "16", "--out", str(run)])
    assert warned()[0] == []
    arc = run / "arc.json"
    arc.write_text(str((0,) * 20))
    training = ["--fixed-arc", str(arc), "--supernet", str(run), "--epochs", "24"]
    retrain.main(training)
    lines, output = warned()
    assert lines == []
    assert "\nfloor 9" in output
    assert read_warnings(run) == []
    before = (run / "floor.json").stat().st_mtime_ns
    retrain.main([*training, "--resume"])
    assert (run / "floor.json").stat().st_mtime_ns == before  # it is measured once
