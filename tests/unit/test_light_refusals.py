"""A mistake is refused before torch, NNI and the like are imported, which takes 2 to 10 s here and a minute on a busy machine."""

import importlib
import inspect
import json
import subprocess
import sys

import pytest
import timm
import torch
import torchvision

from spaces import names
from spaces.errors import InputError
from tests.commands import ROOT
from tests.unit.test_options import COMMANDS
from trials.common import machine
from trials.networks import baselines

HEAVY = ("torch", "torchvision", "nni", "pytorch_lightning", "lightning_fabric", "sklearn", "matplotlib", "pandas")
# command -> mistakes; {here} is an empty folder, and every command is also given an unknown option and --help
MISTAKES = {
    "agree": ["{here}/none", "{here}", "{here}/none --archs 3"],
    "certify": ["{here}/none", "{here}", "{here}/none --seeds 0", "{here}/none --jobs 100000"],
    "data": ["{here}/none", "{here}", "{here}/none --workers 100000"],
    "evaluate": ["--run {here}/none --arch {here}/arc.json", "--run {here} --arch {here}/arc.json --max-macs 1Q"],
    "export": [
        *("--weights {here}/none", "--weights {here}", "--weights {here}/network.pt", "--weights {here} --opset 7"),
        "--weights {here} --formats onx",
    ],
    "latency": [
        *("--out {here}/x.json", "--space spso --out {here}/x.json", "--supernet {here} --out {here}/x.json"),
        *("--space spos --preset tinny --out {here}/x.json", "--table {here}/none.json --fixed-arc spos-block"),
        "--space spos --preset tiny --csv {here}/none.csv --out {here}/x.json",
        "--space spos --space-options last_width=0 --out {here}/x.json",
    ],
    "report": ["{here}/none", "{here}"],
    "retrain": [
        *("", "--fixed-arc {here}/none.json --preset tiny", "--fixed-arc spos-block --space fbnet"),
        *("--fixed-arc spos-block --data folder --data-root {here}/none", "--supernet {here} --top 4"),
        *("--baseline mobilenet", "--baseline timm:mobilenetv2_100 --data cifar10", "--fixed-arc spos-block --seeds 0"),
        *("--baseline timm:mobilenetv2_10", "--baseline torchvision:resnet19"),
        "--fixed-arc spos-block --data digits --space-options affine=3",
    ],
    "run": [
        *("{here}/none", "{here}", "digits --space spso", "digits --preset tinny", "digits --max-macs 1Q"),
        *("digits --minutes 0", "digits --resolution 3", "{here} --max-macs 100M"),
        "digits --width-mult 9",
    ],
    "search": ["{here}/none", "{here}", "{here}/none.yml", "{here}/bad.yml", "{here}/none --port 99999999"],
    "space": [
        *("", "spso", "spos --preset tinny", "spos --resolution 3", "--for 1Q", "--for 100M --resolution 3"),
        "spos --space-options bias=true",
    ],
    "status": ["{here}/none", "{here}"],
    "supernet": [
        *("--out {here}/new --space spso", "--out {here}/new --preset tinny", "--out {here}/new --resolution 3"),
        *("--out {here}/new --data folder", "--out {here}/new --data folder --data-root {here}/none"),
        *("--out {here}/new --data digits --epochs -1", "--out {here}/new --strategy uniformly"),
        *(
            "--out {here}/new --data digits --device cudda",
            "--out {here}/new --data digits --space-options lastwidth=3",
        ),
        *(f"--out {{here}}/new --data digits --space-options {one}" for one in ("variant=chanel", "width_mult=9")),
    ],
}
CODE = """
import importlib, json, sys
from spaces.errors import InputError
command, heavy, lines = json.loads(sys.argv[1])
module = importlib.import_module("trials." + command)
for line in lines:
    try:
        module.main(line.split())
        print("not refused:", line)
    except InputError as error:
        if loaded := [name for name in heavy if name in sys.modules]:
            sys.exit(f"{line}: {error}: {loaded}")
    except SystemExit as ended:
        if ended.code:
            print("not refused as a mistake:", line)
"""


def refuse_all(command, lines):
    """Give a command these mistakes in a process of its own, and see that none of them made it import what is heavy."""
    words = json.dumps([command, HEAVY, lines])
    done = subprocess.run([sys.executable, "-c", CODE, words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "not refused" not in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistake_is_refused_without_torch(command, tmp_path):
    (tmp_path / "bad.yml").write_text("trial: [1")
    verb = "check " if command == "data" else ""
    lines = [verb + line.format(here=tmp_path) for line in MISTAKES[command]]
    refuse_all(command, [*lines, f"{verb}{lines[0].removeprefix(verb)} --no-such-option", f"{verb}--help"])


def test_a_run_that_does_not_fit_is_refused_without_torch(run):
    """It is trained, and nothing was searched in it."""
    refuse_all("certify", [str(run)])
    refuse_all("export", [f"--weights {run}"])
    refuse_all("retrain", [f"--supernet {run} --fixed-arc {run}/arc.json"])
    again = f"--out {run} --data digits --preset tiny"
    refuse_all("supernet", [again, f"{again} --preset cifar"])
    others = ("--lr 0.7", "--epochs 4", "--warm-start 0.1", "--resolution 16", "--space fbnet")
    refuse_all(
        "supernet", [f"{again} --score-fraction 0.25 --epochs 3 --warm-start 0.7 --resume {other}" for other in others]
    )


def test_what_a_run_without_a_search_cannot_choose_is_refused_without_torch(run):
    refuse_all("retrain", [f"--supernet {run} {choice}" for choice in ("--top 4", "--top-random 4", "--frontier 3")])


@pytest.mark.skipif(machine.may_have_gpu(), reason="there may be a GPU")
def test_a_gpu_that_cannot_be_there_is_refused_without_torch(tmp_path):
    lines = ("--device cuda", "--precision 16-mixed", "--cuda-graphs on")
    refuse_all("supernet", [f"--out {tmp_path}/new --data digits {line}" for line in lines])
    refuse_all("retrain", [f"--fixed-arc spos-block --data digits {line}" for line in lines])
    refuse_all("latency", [f"--space spos --out {tmp_path}/x.json --device cuda"])
    (tmp_path / "run.yml").write_text("supernet: {device: cuda}")
    refuse_all("run", ["digits --device cuda", f"digits --config {tmp_path}/run.yml"])


def test_where_torch_sees_a_gpu_there_may_be_one():
    assert machine.may_have_gpu() or not torch.cuda.is_available()


def test_the_models_of_a_library_are_those_in_its_files():
    # an exported folder that another test has loaded registers its own
    its_own = [name for name in timm.list_models() if timm.models.model_entrypoint(name).__module__.startswith("timm.")]
    assert baselines.model_names("timm") == sorted(its_own)
    assert baselines.model_names("torchvision") == sorted(torchvision.models.list_models(module=torchvision.models))
    assert baselines.model_names("no_such_library") == []


def test_a_library_that_was_absent_is_looked_for_again(monkeypatch):
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "timm", None)
        assert baselines.model_names("timm") == []
    assert "test_resnet" in baselines.model_names("timm")


def test_the_names_that_are_checked_without_a_space_s_module_are_those_in_it():
    presets = {name: importlib.import_module(path.partition(":")[0]).PRESETS for name, path in names.SPACES.items()}
    assert {name: tuple(known) for name, known in presets.items()} == names.PRESETS
    functions = {
        name: getattr(importlib.import_module(path.partition(":")[0]), path.partition(":")[2])
        for name, path in names.SPACES.items()
    }
    own = {name: set(inspect.signature(function).parameters) for name, function in functions.items()}
    sizes = {"preset", "classes", "resolution"}
    assert own == {name: sizes | set(options) for name, options in names.OPTIONS.items()}
    assert tuple(importlib.import_module("spaces.spos").WIDTHS) == names.VARIANTS


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("spso",), "unknown space 'spso'; did you mean 'spos'"),
        (("spos", "gpu"), "unknown preset of space spos: 'gpu'"),
        (("spos", "tiny", 7), "resolution of space spos is 7; give a whole number, at least 8"),
        (("spos", "tiny", 32, 1), "classes of space spos is 1; give a whole number, at least 2"),
    ],
)
def test_what_is_refused_of_a_space_by_its_name(given, says):
    name, preset, resolution, classes = (*given, *[None] * 3)[:4]
    with pytest.raises(InputError, match=says):
        names.check_names(name, preset, resolution=resolution, classes=classes)
    names.check_names("proxylessnas", "mobile-14", resolution=224, classes=1000)
    names.check_names("my.module:space", "gpu", resolution=7)  # whatever it takes
