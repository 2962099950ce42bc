"""The shape of the project: imports point one way, tuners stay light, errors are one line."""

import ast
import re
import subprocess
import sys

import pytest

from tests.commands import ROOT, assert_one_clear_line, onepath

PACKAGES = ("spaces", "strategies", "trials")


MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
COMMANDS = {name for name, path in MODULES.items() if path.parent == ROOT / "trials" and path.stem != "__init__"}


def imports(name: str) -> list[tuple[str, bool]]:
    """What a module imports, and whether it does so inside a function; imports for types alone count too."""
    tree = ast.parse(MODULES[name].read_text())
    inside = {
        id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.append((submodule if submodule in MODULES else node.module, id(node) in inside))
    return found


def folder(name: str) -> str:
    """The room of a module: spaces, strategies, a package of trials, or `commands`."""
    if name in COMMANDS:
        return "commands"
    return ".".join(name.split(".")[:2]) if MODULES[name].parent.parent == ROOT / "trials" else name.split(".")[0]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other."""
    reached = {node: set(edges) for node, edges in graph.items()}
    for middle in graph:
        for node in graph:
            if middle in reached[node]:
                reached[node] |= reached[middle]
    groups = {tuple(sorted(other for other in reached[node] if node in reached[other])) for node in graph}
    return [list(group) for group in groups if len(group) > 1]


def own_imports() -> dict[str, set[str]]:
    return {name: {other for other, _ in imports(name) if other in MODULES and other != name} for name in MODULES}


def room_imports() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {folder(name): set() for name in MODULES}
    for name, others in own_imports().items():
        graph[folder(name)] |= {folder(other) for other in others} - {folder(name)}
    return graph


def test_no_module_imports_in_a_circle():
    assert circles(own_imports()) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_imports_point_one_way_by_folder():
    """So nothing imports a command, `spaces` nothing of the others, and `strategies` nothing of `trials`."""
    graph = room_imports()
    assert circles(graph) == []
    assert graph["spaces"] == set()
    assert graph["strategies"] == {"spaces"}
    assert not [name for name, others in graph.items() if "commands" in others]


def test_the_picture_of_the_architecture_is_true():
    """docs/architecture.md draws every room and every arrow that no longer way replaces."""
    graph = {
        name.removeprefix("trials."): {other.removeprefix("trials.") for other in others}
        for name, others in room_imports().items()
    }
    graph = {name: others - {"trials"} for name, others in graph.items() if name != "trials"}

    def reach(name: str) -> set[str]:
        return {name}.union(*(reach(other) for other in graph[name]))

    needed = {
        (name, other)
        for name, others in graph.items()
        for other in others
        if not any(other in reach(third) for third in others - {other})
    }
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawn = set(re.findall(r"^ *(\w+) --> (\w+)$", text, re.MULTILINE))
    assert drawn == needed


def test_own_modules_are_imported_at_the_top():
    """An import inside of a function hides a circle. Commands do it after their options have been checked, and `spaces` is light."""
    hidden = [
        (name, other)
        for name in MODULES
        if name not in COMMANDS and name != "spaces"
        for other, inside in imports(name)
        if inside and other.split(".")[0] in PACKAGES
    ]
    assert hidden == []


def test_slow_libraries_have_a_reason():
    """docs/decisions.md has a table of the libraries that are imported inside of functions."""
    text = (ROOT / "docs" / "decisions.md").read_text()
    named = set(re.findall(r"^\| `([a-z_A-Z.]+)` \|", text, re.MULTILINE))
    inner = {
        other.split(".")[0]
        for name in MODULES
        for other, inside in imports(name)
        if inside and other.split(".")[0] not in PACKAGES
    }
    assert inner == named


def test_files_that_the_docs_name_exist():
    """Of the README (its tour through six files among them), of docs/ and CONTRIBUTING: paths in backticks, and links."""
    missing = []
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text()
        for path in re.findall(
            r"`((?:spaces|strategies|trials|tests|docs|benchmarks)/[\w/]+\.(?:py|js|md|txt))`", text
        ):
            if not (ROOT / path).exists():
                missing.append((page.name, path))
        for link in re.findall(r"\]\((?!http)([^)#]+)", text):
            if not (page.parent / link).exists():
                missing.append((page.name, link))
    assert missing == []


def test_the_readme_is_narrow():
    wide = [line for line in (ROOT / "README.md").read_text().splitlines() if len(line) > 110]
    assert wide == []


def test_files_are_short():
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: number for name, number in lines.items() if number > 300} == {}


def test_strategies_name_no_space():
    for path in (ROOT / "strategies").glob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in ("spos", "fbnet", "proxylessnas", "single-path-nas"), path


HEAVY = ("torch", "nni.nas", "pytorch_lightning", "sklearn", "pymoo")


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        "strategies.evolution",
        "strategies.model_guided",
        "strategies.pareto",
        "strategies.random_search",
        "strategies.sampling",
        "strategies.most_probable",
    ],
)
def test_tuners_do_not_import_torch(module):
    """NNI kills a tuner that has not connected after 10 s."""
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tuner", "library"), [("model_guided.ModelGuidedTuner", "scipy.linalg"), ("pareto.ParetoTuner", "pymoo")]
)
def test_a_generation_does_not_import_torch(tuner, library):
    """Nor does the library that a generation is bred with, and it prints nothing."""
    module, name = tuner.split(".")
    code = f"""
import sys
from strategies.{module} import {name}
tuner = {name}("experiments/spaces/spos-tiny.costs.json", population=10)
for number in range(41):
    tuner.receive_trial_result(number, tuner.generate_parameters(number), number % 7)
print([name for name in {HEAVY[:4]} if name in sys.modules], {library!r} in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[] True", "")


@pytest.mark.slow
def test_evaluate_does_not_import_nni_nas_or_lightning():
    code = "import sys, trials.scoring.scorer; print([n for n in ('nni.nas', 'pytorch_lightning', 'torchvision', 'sklearn') if n in sys.modules])"
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
    assert {path.name for path in (ROOT / "trials").iterdir() if path.is_file()} == {
        "__init__.py",
        "nni_guard.js",
        *(f"{name.removeprefix('trials.')}.py" for name in COMMANDS),
    }
    assert all("cli.run(main" in MODULES[name].read_text() for name in COMMANDS)


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("space", "spso", "unknown space 'spso'; did you mean 'spos'? choose from: fbnet, proxylessnas"),
        ("space", "--preset tiny", "no space given; choose from: fbnet, proxylessnas, single-path-nas, spos"),
        ("space", "spos --classes 0", "classes of space spos is 0; give a whole number, at least 2"),
        ("space", "fbnet --resolution 4", "resolution of space fbnet is 4; give a whole number, at least 8"),
        ("space", "spos --space-options variant", "'variant' is not NAME=VALUE; write for example last_width=512"),
        ("space", "spos --space-options classes=3", "classes has no place here; the data or --classes decides it"),
        ("space", "spos --space-options width=3", "unknown option of space spos: 'width'; did you mean 'width_mult'"),
        ("space", "spos --max-macs 100M", "out of reach: the space reaches 270,359,360 to 398,609,216 MACs"),
        (
            "supernet",
            "--out runs/x --preset tiny --space-options affine=true --warm-start 0.3",
            "space spos has no warm start",
        ),
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
            "does not exist; choose one: experiments/fbnet_evo.yml, experiments/own_space.yml",
        ),
        ("retrain", "--fixed-arc none.json --preset tiny", "fixed-arc file 'none.json' does not exist"),
        ("report", "runs/none", "'runs/none' does not exist; make one with: python -m trials.supernet"),
    ],
)
def test_mistakes_get_one_clear_line(command, arguments, says):
    assert_one_clear_line(onepath(command, *arguments.split()), says)
    assert not (ROOT / "runs" / "x").exists()


def test_help_names_every_option_with_its_default():
    text = onepath("supernet", "--help-all", check=True).stdout
    for words in ("--label-smoothing", "(default 0.1)", "--warm-start", "python -m trials.supernet --preset tiny"):
        assert words in text
