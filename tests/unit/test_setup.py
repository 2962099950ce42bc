"""The set-up: which Python `make` takes, which the files name, and what the Dockerfile names exists."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.commands import ROOT
from trials.search_driver.ports import PORTS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SUPPORTED = SpecifierSet(PROJECT["project"]["requires-python"])
MINORS = [f"3.{minor}" for minor in range(20) if f"3.{minor}" in SUPPORTED]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))

# Stand-ins for interpreters: one that works makes environments that can be told apart, without the seconds of a real one.
WORKS = f"""#!/bin/sh
[ "$1" = -c ] && exec {sys.executable} "$@"
mkdir -p "$3/bin" && basename "$0" > "$3/made-by" && ln -s {sys.executable} "$3/bin/python" && touch "$3/bin/pip"
"""
SHIM = "#!/bin/sh\necho 'pyenv: command not found' >&2; exit 127\n"  # pyenv's, of a version that is not switched on
OLD = "#!/bin/sh\nexit 1\n"  # what the check ends with for another version, or where the module venv is missing


@pytest.fixture
def make(tmp_path):
    return Make(tmp_path / "clone", tmp_path / "tools")


class Make:
    """Runs make on a copy of the Makefile, with only the given interpreters in PATH."""

    def __init__(self, folder, tools):
        self.folder, self.tools = folder, tools
        folder.mkdir()
        tools.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder)
        for tool in ("make", "sh", "rm", "mkdir", "basename", "ln", "tail", "touch"):
            (tools / tool).symlink_to(str(shutil.which(tool)))

    def __call__(self, *arguments, environment=None, **interpreters):
        for name, text in interpreters.items():
            (self.tools / name.replace("_", ".")).write_text(text)
            (self.tools / name.replace("_", ".")).chmod(0o755)
        words = ["make", "--no-print-directory", *arguments]
        environment = {"PATH": str(self.tools), **(environment or {})}
        return subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("interpreters", "taken"),
    [
        ({"python3_13": WORKS, "python3_12": WORKS, "python3": WORKS}, "python3.13"),
        ({"python3_13": SHIM, "python3_12": WORKS, "python3_11": WORKS}, "python3.12"),
        ({"python3_13": SHIM, "python3_12": SHIM, "python3_11": WORKS, "python3": OLD}, "python3.11"),
        ({"python3_14": WORKS, "python3": WORKS}, "python3"),
        ({"python3_13": OLD, "python3": WORKS}, "python3"),
    ],
)
def test_the_newest_python_that_works_is_taken(make, interpreters, taken):
    done = make(".venv/bin/python", **interpreters)
    assert done.returncode == 0, done.stderr
    assert (make.folder / ".venv/made-by").read_text().strip() == taken


def test_the_python_that_is_named_wins(make):
    named = {"python3_13": WORKS, "python3_12": WORKS}
    assert make(".venv/bin/python", f"PYTHON={make.tools}/python3.12", **named).returncode == 0
    assert (make.folder / ".venv/made-by").read_text() == "python3.12\n"
    done = make("VENV=other", "other/bin/python", environment={"PYTHON": "python3.12"})
    assert done.returncode == 0
    assert (make.folder / "other/made-by").read_text() == "python3.12\n"


@pytest.mark.parametrize(
    ("arguments", "interpreters", "tried"),
    [
        ([], {}, "python3.13 python3.12 python3.11 python3"),
        ([], {"python3_13": SHIM, "python3_11": OLD, "python3": OLD}, "python3.13 python3.12 python3.11 python3"),
        (["PYTHON=/none/python3"], {"python3_13": WORKS}, "/none/python3"),
        (["PYTHON=my python"], {"python3_13": WORKS}, "my python"),
        (["PYTHON=python3.10"], {"python3_10": OLD, "python3_13": WORKS}, "python3.10"),
    ],
)
def test_no_python_is_one_clear_line(make, arguments, interpreters, tried):
    done = make("setup", *arguments, **interpreters)
    assert done.returncode != 0
    error = f"error: Onepath needs Python 3.11, 3.12 or 3.13, with its module venv, and found none as {tried};"
    assert done.stdout == f"{error} run: make PYTHON=/path/to/python3.13 setup\n"
    assert not (make.folder / ".venv").exists()


def test_an_environment_that_stands_stays_in_use(make):
    assert make(".venv/bin/python", python3=WORKS).returncode == 0
    (make.folder / ".venv/.done").touch()
    assert make("setup", python3_13=WORKS).returncode == 0
    assert (make.folder / ".venv/made-by").read_text() == "python3\n"
    for named in ("python3", "python3.13"):  # the same version, under whatever name
        assert make("setup", f"PYTHON={named}").returncode == 0
    done = make("setup", "PYTHON=python3.12", python3_12="#!/bin/sh\necho Python 3.1\n")
    has = f"Python 3.{sys.version_info.minor}"
    assert done.returncode != 0
    assert done.stdout.startswith(f"error: .venv has {has}, and PYTHON=python3.12 is 'Python 3.1'; leave PYTHON out")


def test_an_environment_whose_python_is_gone_is_made_anew(make):
    assert make(".venv/bin/python", python3=WORKS).returncode == 0
    (make.folder / ".venv/bin/python").unlink()
    (make.folder / ".venv/bin/python").symlink_to("/none/python3.11")
    assert make(".venv/bin/python", python3_13=WORKS).returncode == 0
    assert (make.folder / ".venv/made-by").read_text() == "python3.13\n"
    assert os.readlink(make.folder / ".venv/bin/python") == sys.executable


def test_an_environment_that_was_stopped_while_it_was_made_is_made_anew(make):
    assert make(".venv/bin/python", python3=WORKS).returncode == 0
    (make.folder / ".venv/bin/pip").unlink()
    done = make("setup", python3_13=WORKS)  # goes on to the installation, which the stand-in does not have
    assert "set-up: installing into .venv for Python 3." in done.stdout
    assert (make.folder / ".venv/made-by").read_text() == "python3.13\n"


def test_all_files_name_the_same_pythons():
    assert MINORS == ["3.11", "3.12", "3.13"]
    names = " ".join(f"python{minor}" for minor in reversed(MINORS))
    assert f"PYTHONS := {names} python3\n" in MAKEFILE
    low, high = (tuple(map(int, minor.split("."))) for minor in (MINORS[0], MINORS[-1]))
    assert f"{low} <= sys.version_info < {(high[0], high[1] + 1)}" in MAKEFILE
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + MINORS[0].replace(".", "")
    assert PROJECT["tool"]["mypy"]["python_version"] == MINORS[0]
    for text in ("README.md", "constraints.txt", "Makefile"):
        assert "Python 3.11, 3.12 or 3.13" in (ROOT / text).read_text().replace(" and 3.13", " or 3.13")


def test_every_dependency_has_one_version():
    """constraints.txt gives each named package exactly one version for each Python."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] not in ("#", "")]
    pinned = [Requirement(line) for line in lines]
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin in pinned)
    wanted = list(PROJECT["project"]["dependencies"])
    wanted += [line for extra in PROJECT["project"]["optional-dependencies"].values() for line in extra]
    for minor in MINORS:
        names = [pin.name.lower() for pin in pinned if not pin.marker or pin.marker.evaluate({"python_version": minor})]
        assert len(names) == len(set(names))
        assert {Requirement(line).name.lower() for line in wanted} <= set(names)


def test_ci_names_what_exists():
    script = (ROOT / ".ci" / "run").read_text()
    targets = re.findall(r"^ *make (?:VENV=\S+ )?([a-z]+)$", script, re.MULTILINE)
    assert targets == ["lint", "test", "quick"]
    assert set(targets) <= TARGETS
    ((file, name),) = re.findall(r"-m pytest (\S+) -k (\w+)", script)
    assert f"def test_{name}(" in (ROOT / file).read_text()
    assert re.search(r"for version in ([\d. ]+);", script)[1].split() == MINORS[::-1]
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"]).returncode == 0


@pytest.fixture(scope="module")
def dockerfile():
    return DockerfileParser(str(ROOT / "Dockerfile"))


def values(dockerfile, instruction):
    return [step["value"] for step in dockerfile.structure if step["instruction"] == instruction]


def test_the_image_has_a_python_that_is_supported(dockerfile):
    image = re.fullmatch(r"python:(3\.\d+)-slim-bookworm", dockerfile.baseimage)
    assert image[1] in MINORS


def test_what_is_copied_into_the_image_exists(dockerfile):
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    sources = [word for value in values(dockerfile, "COPY") for word in value.split()[:-1] if not word.startswith("--")]
    assert {"pyproject.toml", "constraints.txt", "Makefile", "."} <= set(sources)
    assert [source for source in sources if not (ROOT / source).exists() or source in ignored] == []
    assert {".git", ".venv*", "runs"} <= set(ignored)  # gigabytes, and what is private
    needed = re.findall(
        r"^readme = \"(.+)\"|^license = \{ file = \"(.+)\"", (ROOT / "pyproject.toml").read_text(), re.M
    )
    assert {name for pair in needed for name in pair if name} <= set(sources)  # the installation reads them


def test_the_image_calls_what_exists(dockerfile):
    named = [target for value in values(dockerfile, "RUN") for target in re.findall(r"\bmake ([a-z][\w-]*)", value)]
    assert named == ["setup"]
    assert set(named) <= TARGETS
    (entry,) = map(json.loads, values(dockerfile, "ENTRYPOINT"))
    assert os.access(ROOT / entry[0], os.X_OK)


def test_the_image_is_used_as_nobody_special(dockerfile):
    """Its user is not root, can write where the volumes are, and its port is the portal's."""
    assert values(dockerfile, "USER") == ["onepath"]
    assert values(dockerfile, "EXPOSE") == [str(PORTS[0])]
    (folder,) = values(dockerfile, "WORKDIR")
    (volumes,) = map(json.loads, values(dockerfile, "VOLUME"))
    assert volumes == [f"{folder}/runs", "/images"]
    made = next(value for value in values(dockerfile, "RUN") if "useradd" in value)
    assert set(volumes) <= set(made.split())
    assert dockerfile.envs["NNI_LISTEN_HOST"] == "0.0.0.0"  # else the published port leads nowhere


def test_the_docs_use_the_image_as_it_is(dockerfile):
    page = (ROOT / "docs" / "docker.md").read_text()
    arguments = {value.split("=")[0] for value in values(dockerfile, "ARG")}
    assert set(re.findall(r"--build-arg (\w+)=", page)) == arguments
    assert set(re.findall(r"-p 127\.0\.0\.1:(\d+:\d+)", page)) == {f"{PORTS[0]}:{PORTS[0]}"}
    (volumes,) = map(json.loads, values(dockerfile, "VOLUME"))
    assert set(re.findall(r"-v [^:\s]+:([/\w]+)", page)) == set(volumes)
