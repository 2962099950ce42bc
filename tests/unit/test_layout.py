"""The shape of the project: imports point one way, tuners stay light, errors are one line."""

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT, assert_one_clear_line, onepath

PACKAGES = ("spaces", "strategies", "trials")


def test_imports_point_one_way():
    allowed = {"spaces": {"spaces"}, "strategies": {"spaces", "strategies"}, "trials": set(PACKAGES)}
    seen = set()
    for package in PACKAGES:
        for path in (ROOT / package).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                for name in names:
                    top = name.split(".")[0]
                    if top in PACKAGES:
                        seen.add((package, top))
                        assert top in allowed[package], f"{path} imports {name}"
    assert ("trials", "strategies") in seen


def test_strategies_name_no_space():
    for path in (ROOT / "strategies").glob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in ("spos", "fbnet", "proxylessnas", "single-path-nas"), path


HEAVY = ("torch", "nni.nas", "pytorch_lightning", "sklearn", "pymoo")


@pytest.mark.parametrize(
    "module",
    [
        "strategies.evolution",
        "strategies.model_guided",
        "strategies.pareto",
        "strategies.random_search",
        "strategies.sampling",
        "strategies.budget",
    ],
)
def test_tuners_do_not_import_torch(module):
    """NNI kills a tuner that has not connected after 10 s."""
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("tuner", ["model_guided.ModelGuidedTuner", "pareto.ParetoTuner"])
def test_a_generation_does_not_import_torch(tuner):
    """Nor does the library that a generation is bred with, and it prints nothing."""
    module, name = tuner.split(".")
    code = f"""
import sys
from strategies.{module} import {name}
tuner = {name}("experiments/spaces/spos-tiny.costs.json", population=10)
for number in range(41):
    tuner.receive_trial_result(number, tuner.generate_parameters(number), number % 7)
print([name for name in {HEAVY[:3]} if name in sys.modules], [name for name in {HEAVY[3:]} if name in sys.modules] != [])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[] True", "")


def test_evaluate_does_not_import_nni_nas_or_lightning():
    code = "import sys, trials.scoring; print([n for n in ('nni.nas', 'pytorch_lightning', 'torchvision', 'sklearn') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_installed_package_of_the_same_name_is_noticed(tmp_path):
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces" / "__init__.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.path.append({str(ROOT)!r}); import strategies"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "uninstall the package of that name, or run from the root of the Onepath clone" in done.stderr


def test_tree():
    for name in (*PACKAGES, "experiments", "tests", "pyproject.toml", "Makefile", "LICENSE", "CHANGELOG.md"):
        assert (ROOT / name).exists()
    for package in PACKAGES:
        assert not [path for path in (ROOT / package).iterdir() if path.is_dir() and path.name != "__pycache__"]


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("space", "spso", "unknown space 'spso'; did you mean 'spos'? choose from: fbnet, proxylessnas"),
        ("space", "--preset tiny", "no space given; choose from: fbnet, proxylessnas, single-path-nas, spos"),
        ("space", "spos --classes 0", "classes of space spos is 0; give a whole number, at least 2"),
        ("space", "fbnet --resolution 4", "resolution of space fbnet is 4; give a whole number, at least 8"),
        ("space", "spos --space-options variant", "'variant' is not NAME=VALUE; write for example last_width=512"),
        ("space", "spos --space-options classes=3", "classes has no place here; the data or --classes decides it"),
        ("space", "spos --space-options width=3", "unknown option of space spos: 'width'; did you mean 'last_width'"),
        ("space", "spos --max-macs 100M", "out of reach: the space reaches 270,359,360 to 398,609,216 MACs"),
        ("supernet", "--out runs/x --preset tiny --space fbnet --warm-start 0.3", "space fbnet has no warm start"),
        ("retrain", "--preset tiny", "give either --fixed-arc FILE or --import-official FILE"),
        ("space", "spos --prset tiny", "unknown option '--prset'; did you mean '--preset'?"),
        ("space", "spos --classes many", "argument --classes: invalid int value: 'many'"),
        ("supernet", "--out runs/x --data folder --data-root /nowhere", "data folder '/nowhere' does not exist"),
        ("supernet", "--out runs/x --preset tiny --batch-size 5000", "--batch-size 5000 exceeds the 1295 images"),
        ("supernet", "--out runs/x --preset tiny --epochs 0", "--epochs 0 is not above 0"),
        (
            "retrain",
            "--fixed-arc none.json --label-smoothing 2",
            "--label-smoothing 2.0 is out of range; give 0 to below 1",
        ),
        ("supernet", "--preset tiny", "the following arguments are required: --out"),
        (
            "search",
            "experiments/none.yml",
            "does not exist; choose one: experiments/fbnet_evo.yml, experiments/own_images.yml",
        ),
        ("retrain", "--fixed-arc none.json --preset tiny", "fixed-arc file 'none.json' does not exist"),
        ("report", "runs/none", "'runs/none' holds no run; make one with: python -m trials.supernet"),
    ],
)
def test_mistakes_get_one_clear_line(command, arguments, says):
    assert_one_clear_line(onepath(command, *arguments.split()), says)
    assert not (ROOT / "runs" / "x").exists()


def test_help_names_every_option_with_its_default():
    text = onepath("supernet", "--help", check=True).stdout
    for words in ("--label-smoothing", "(default 0.1)", "--warm-start", "python -m trials.supernet --preset tiny"):
        assert words in text
