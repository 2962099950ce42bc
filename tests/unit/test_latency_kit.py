"""A latency kit: its script runs with onnxruntime and numpy alone, goes on after a kill, and times what is timed here."""

import ast
import csv
import filecmp
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import spaces
from spaces.cost import measure
from spaces.errors import InputError
from spaces.latency import LatencyTable
from tests.commands import ROOT
from trials import latency
from trials.common import cli
from trials.timing import kit as kit_module
from trials.timing import latency_csv, passes, runtimes
from trials.timing import measure as timing
from trials.training import supernet_config

OWN = "--space docs.own_space:space --preset tiny --classes 10 --resolution 32"
TIMING = ROOT / "trials" / "timing"


@pytest.fixture(scope="module")
def kit(shared) -> Path:
    """The kit of a small space of one's own, with as few whole networks as a check needs."""
    flags = f"{OWN} --networks 20 --rounds 4 --kit"
    return shared("latency kit", lambda folder: latency.main([*flags.split(), str(folder / "kit")])) / "kit"


@pytest.fixture
def alone(tmp_path) -> list[str]:
    """The beginning of a command that runs a script with onnxruntime, numpy and Python's own library alone."""
    links = tmp_path / "two libraries"
    links.mkdir()
    for name in ("numpy", "onnxruntime"):
        place = Path(str(importlib.util.find_spec(name).origin)).parent
        for found in (place, place.with_name(f"{name}.libs")):
            if found.exists():
                (links / found.name).symlink_to(found)
    code = f"import runpy, sys; sys.path[:0] = [sys.argv[1].rpartition('/')[0], {str(links)!r}]; del sys.argv[0]; "
    return [sys.executable, "-I", "-S", "-c", code + "runpy.run_path(sys.argv[0], run_name='__main__')"]


@pytest.fixture(scope="module")
def script():
    """The script as a module of this process."""
    sys.path.insert(0, str(TIMING))
    try:
        spec = importlib.util.spec_from_file_location("kit_script", TIMING / "kit_script.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(TIMING))


def test_two_libraries_are_all_that_the_script_gets(alone, tmp_path):
    for name, found in (("numpy", True), ("onnxruntime", True), ("torch", False), ("spaces", False), ("onnx", False)):
        (tmp_path / "try.py").write_text(f"import {name}")
        done = subprocess.run([*alone, str(tmp_path / "try.py")], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode == 0) == found, (name, done.stderr)


def test_a_kit_makes_a_table_after_a_kill(kit, alone, tmp_path, capsys):
    """Killed in the middle, gone on, read, checked against its whole networks, and taken as a table of its space alone."""
    command = [*alone, str(kit / "measure.py"), "--rounds", "150", "--out", str(tmp_path / "pi.csv")]
    progress, table = tmp_path / "pi.csv.progress", tmp_path / "pi.json"
    killed = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (progress.exists() and progress.read_bytes().count(b"\n") > 20):
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "pi.csv").exists()
    whole = progress.read_bytes().count(b"\n") - 1
    with open(progress, "ab") as file:
        file.write(b'{"path": [0, ')  # a line that was being written
    again = [*command[:-1], command[-1]]
    done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"going on after {whole} passes" in done.stdout
    assert not progress.exists()
    rows = list(csv.reader(open(tmp_path / "pi.csv")))
    costs = measure(spaces.describe("docs.own_space:space", "tiny", classes=10, resolution=32))
    parts = 2 + sum(len(block.macs) for block in costs.blocks)
    assert rows[0] == latency_csv.HEADER
    assert [row[0] for row in rows].count("network") == 28
    assert sum(row[0] in ("stem", "block", "head") for row in rows) == parts
    about = {row[0]: row[1] for row in rows if row[0] in latency_csv.ABOUT}
    assert about["space"] == costs.identity()
    assert about["runtime"].startswith("onnxruntime 1.")
    assert (about["threads"], about["batch"], about["rounds"]) == ("1", "1", "150")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("next, where Onepath is: ")]
    words = line.partition(" -m trials.latency ")[2].split()
    assert words[-4:] == ["--csv", "pi.csv", "--out", "latency.json"]
    latency.main([*words[:-4], "--csv", str(tmp_path / "pi.csv"), "--out", str(table)])
    found = LatencyTable.load(table, costs)
    assert found.check["networks"] == 20
    assert str(found) == f"{about['device']}, {about['runtime']}, 1 thread, batch 1"
    printed = capsys.readouterr().out
    assert re.search(r"verdict +(can|cannot) rank", printed)
    # the command that is said comes next, as it is typed
    line = re.search(r"next: python -m trials.supernet (.*?)    # with images of 10 classes", printed)[1]
    if "can rank" in printed:
        words = [*shlex.split(line), "--data", "digits", "--out", str(tmp_path / "run")]
        chosen = cli.parse(supernet_config.Config, words, "", "trials.supernet")
        assert chosen.latency_table == str(table)
        assert found.bounds_ms()[0] <= float(chosen.max_latency_ms) < found.bounds_ms()[1]
    with pytest.raises(
        InputError,
        match=r"is of docs.own_space:space tiny, 10 classes, 32x32 pixels, .*, and this space is .*, 64x64 pixels, ",
    ):
        latency.main(
            [*OWN.replace("32", "64").split(), "--csv", str(tmp_path / "pi.csv"), "--out", str(tmp_path / "64.json")]
        )
    assert not (tmp_path / "64.json").exists()


def test_the_parts_are_those_that_are_timed_here(tmp_path):
    """Every file of a kit is what ONNX Runtime is given here; its networks consist of its parts."""
    chain = spaces.describe("docs.own_space:space", "tiny", classes=10, resolution=32)
    combinations = [list(block.combinations()) for block in chain.blocks]
    archs = timing.random_archs(chain, 3, 0)
    torch.manual_seed(0)
    here = runtimes.OnnxRuntime("cpu", 1)
    prepared = timing.prepare_parts(chain, combinations, archs, here, 1, lambda: None)
    torch.manual_seed(0)
    settings = timing.MeasureSettings("onnxruntime", "cpu", 1, 1, 4, 3, 0)
    kit_module.write_kit(tmp_path / "kit", settings, chain, measure(chain), archs)
    content = json.loads((tmp_path / "kit" / "kit.json").read_text())
    rows = [[content["stem"]], *content["blocks"], [content["head"]]]
    assert [len(row) for row in rows[1:-1]] == [len(row) for row in combinations]
    for (position, index), key in prepared.keys.items():
        ours = onnx.load_from_string(here.exported[key])
        theirs = onnx.load(tmp_path / "kit" / rows[position][index]["file"])
        assert [str(node) for node in ours.graph.node] == [str(node) for node in theirs.graph.node]
        for one, other in zip(ours.graph.initializer, theirs.graph.initializer, strict=True):
            one, other = (onnx.numpy_helper.to_array(tensor) for tensor in (one, other))
            assert one.shape == other.shape
            assert position > 1 or np.array_equal(one, other)  # later ones are calibrated on images of other parts
    x = here.input((1, 3, 32, 32))
    for arch, network in zip(archs, content["networks"], strict=True):
        assert network["choice"] == latency_csv.arch_text(arch)
        files = [network["file"]]
        chosen = [
            row[combinations[n].index({k: arch[k] for k in combinations[n][0]})] for n, row in enumerate(rows[1:-1])
        ]
        files += [part["file"] for part in (rows[0][0], *chosen, rows[-1][0])]
        whole, *parts = [load(tmp_path / "kit" / file) for file in files]
        y = x.numpy()
        for part in parts:
            y = part.run(["y"], {"x": y})[0]
        assert np.allclose(whole.run(["y"], {"x": x.numpy()})[0], y, atol=1e-4)
        kinds = [node.op_type for node in onnx.load(tmp_path / "kit" / files[0]).graph.node]
        plain = onnx.load_from_string(
            runtimes.onnx_bytes(timing.calibrated_network(chain, arch), torch.zeros(1, 3, 32, 32))
        )
        assert kinds == [node.op_type for node in plain.graph.node]


def load(path: Path):
    return runtimes.onnxruntime.InferenceSession(path, passes.session_options(1), providers=["CPUExecutionProvider"])


def test_one_arithmetic_for_kits_and_tables(kit):
    assert filecmp.cmp(kit / "passes.py", TIMING / "passes.py", shallow=False)
    assert filecmp.cmp(kit / "measure.py", TIMING / "kit_script.py", shallow=False)
    assert timing.evaluate_passes is passes.evaluate_passes
    assert runtimes.run_sessions is passes.run_sessions
    for name in ("passes.py", "measure.py"):
        text = (kit / name).read_text()
        ast.parse(text, feature_version=(3, 9))
        assert "strict=" not in text
        assert "pairwise" not in text


def test_every_time_goes_to_its_row(kit, script, tmp_path):
    """Passes in which each part takes what its number says: the rows of the CSV have these times."""
    content = script.read_kit(str(kit))
    rows = [[content["stem"]], *content["blocks"], [content["head"]]]
    files = sorted({part["file"] for row in rows for part in row})
    options = script.read_options(content, ["--out", str(tmp_path / "x.csv"), "--rounds", "30"])
    journal = script.Journal(str(tmp_path / "x.progress"), script.settings_of(content, options))
    sizes = [len(block) for block in content["blocks"]]
    number = 30 * max(sizes)
    for path, visited in zip(
        passes.draw_paths(sizes, number, 0), passes.spread_visits(number, len(content["networks"])), strict=True
    ):
        chosen = [0, *path, 0]
        times = [1e6 + 1e4 * files.index(row[index]["file"]) for row, index in zip(rows, chosen, strict=True)]
        journal.write({"path": chosen, "parts": times, "networks": [[n, 9e6 + 1e5 * n] for n in visited]})
    script.write_csv(content, options, journal)
    written = list(csv.reader(open(tmp_path / "x.csv")))[1:]
    expected = [1 + 0.01 * files.index(part["file"]) for row in rows for part in row]
    assert [float(row[2]) for row in written[: len(expected)]] == pytest.approx(expected)
    networks = [float(row[2]) for row in written if row[0] == "network"]
    assert networks == pytest.approx([9 + 0.1 * n for n in range(28)])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--threads 0", "--threads 0 is out of range; give 1 to 100000"),
        ("--threads many", "argument --threads: invalid int value: 'many'; see: python measure.py --help"),
        ("--rounds -3", "--rounds -3 is out of range; give 1 to 100000"),
        ("--rounds 1e9", "invalid int value: '1e9'"),
        ("--provider TPU", "--provider TPU is not in this onnxruntime; choose from: "),
        ("--out table.json", "--out 'table.json' is no name for a CSV file; give one that ends in .csv"),
        ("--out none/x.csv", "cannot write to 'none/x.csv.progress' (No such file or directory); choose another --out"),
        ("--out there.csv", "'there.csv' is there already; choose another --out"),
        (
            "--out begun.csv",
            "'begun.csv.progress' was begun with rounds 9, not 4; give the same, or choose another --out",
        ),
        ("--out torn.csv", "'torn.csv.progress' is damaged; move it away, or choose another --out"),
        ("--speed 3", "unrecognized arguments: --speed 3"),
    ],
)
def test_mistakes_are_refused_before_anything_is_measured(kit, script, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script, "__file__", str(kit / "measure.py"))
    content = script.read_kit(str(kit))
    (tmp_path / "there.csv").touch()
    begun = script.settings_of(content, script.read_options(content, ["--rounds", "9"]))
    (tmp_path / "begun.csv.progress").write_text(json.dumps(begun) + "\n")
    (tmp_path / "torn.csv.progress").write_text("not JSON\n")
    with pytest.raises(SystemExit) as ended:
        script.main(arguments.split())
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "weights.bin").write_bytes(b"short"), "weights.bin' is damaged; copy the folder"),
        (lambda folder: next(folder.glob("part*.onnx")).unlink(), "cannot be read (No such file or directory); copy"),
        (lambda folder: (folder / "kit.json").write_text("{}"), "kit.json' is damaged, or of another version"),
        (lambda folder: (folder / "kit.json").unlink(), "kit.json' cannot be read (No such file or directory)"),
    ],
)
def test_a_kit_that_was_not_copied_whole(kit, script, tmp_path, capsys, damage, says):
    shutil.copytree(kit, tmp_path / "kit")
    damage(tmp_path / "kit")
    with pytest.raises(SystemExit) as ended:
        script.read_kit(str(tmp_path / "kit"))
    assert ended.value.code == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--out x.json", "--out has no effect with --kit, which measures elsewhere; leave --out out"),
        ("--csv x.csv", "--csv has no effect with --kit"),
        ("--device cuda", "--device has no effect with --kit"),
        ("--template x.csv", "--template has no effect with --kit"),
        ("--batch 0", "--batch 0 is not above 0"),
        ("--networks 5", "--networks 5 is too few for a check; give 20 or more"),
    ],
)
def test_options_that_a_kit_does_not_take(tmp_path, flags, says):
    with pytest.raises(InputError, match=re.escape(says)):
        latency.main([*OWN.split(), "--kit", str(tmp_path / "kit"), *flags.split()])
    assert not os.listdir(tmp_path)


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "mine").touch()
    with pytest.raises(InputError, match="kit' is there already; choose the name of a new folder"):
        latency.main([*OWN.split(), "--kit", str(tmp_path / "kit")])
    assert os.listdir(tmp_path / "kit") == ["mine"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (["device", "twice", ""], "device is there twice; leave one out"),
        (["threads", "many", ""], "threads is 'many'; give a whole number above 0"),
        (["batch", "0", ""], "batch is '0'; give a whole number above 0"),
        (
            ["space", "own_space tiny, 9 classes, 32x32 pixels, 0", ""],
            "is of own_space tiny, 9 classes, 32x32 pixels, 0, and",
        ),
    ],
)
def test_rows_about_the_machine_are_checked(tmp_path, row, says):
    costs = measure(spaces.describe("docs.own_space:space", "tiny", classes=10, resolution=32))
    form = tmp_path / "form.csv"
    latency_csv.write_template(str(form), costs, [])
    rows = [[*r[:2], "0.5"] for r in list(csv.reader(open(form)))[1:] if r[0] != row[0]]
    about = [["device", "a phone", ""]] if row[0] in ("device", "threads", "batch") else []
    csv.writer(open(form, "w", newline="")).writerows([latency_csv.HEADER, *rows, *about, row])
    with pytest.raises(InputError, match=re.escape(says)):
        latency_csv.read(str(form), costs)
    csv.writer(open(form, "w", newline="")).writerows([latency_csv.HEADER, *rows, *about])
    assert latency_csv.read(str(form), costs).measured["device"] == ("a phone" if about else "that of form.csv")
