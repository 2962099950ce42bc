"""The notebook of the tutorial as it is stored: executed, quiet, small, and its commands have options that exist.

tests/end_to_end/test_notebook.py executes it.
"""

import json
import re
import shlex

import pytest

from docs.notebook import PAGE
from docs.reference import config_of
from tests.commands import ROOT
from trials.common import cli

NOTEBOOK = json.loads(PAGE.read_text())
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
OUTPUTS = [output for cell in CODE for output in cell["outputs"]]


def text(lines):
    """What nbformat stores as a list of lines, or as one string."""
    return lines if isinstance(lines, str) else "".join(lines)


COMMANDS = [line for cell in CODE for line in text(cell["source"]).splitlines() if "-m trials." in line]
WRITTEN = "".join(text(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown")


def test_it_was_executed_once_from_above_to_below():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))


def test_its_outputs_are_quiet_and_small():
    assert {output["output_type"] for output in OUTPUTS} <= {"stream", "display_data", "execute_result"}
    assert {output.get("name", "stdout") for output in OUTPUTS} == {"stdout"}
    assert PAGE.stat().st_size < 60_000
    printed = "".join(text(output["text"]) for output in OUTPUTS if output["output_type"] == "stream")
    assert "Traceback" not in printed
    assert not re.findall(r"/(?:root|home|tmp|work)/", printed)


def test_it_goes_the_whole_road():
    steps = [line.split()[2].removeprefix("trials.") for line in COMMANDS]
    assert steps == ["supernet", "search", "retrain", "certify", "export"]
    printed = "".join(text(output["text"]) for output in OUTPUTS if output["output_type"] == "stream")
    for line in ("trained in ", "Of these, the winner is ", "model.onnx", "digit.png: "):
        assert line in printed


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_have_options_that_exist(line):
    command, *words = shlex.split(line)[2:]
    groups = cli.groups(config_of(command.removeprefix("trials."))).values()
    known = {cli.flag(field.name) for fields in groups for field in fields}
    assert {word for word in words if word.startswith("--")} - known - {f"--no-{name[2:]}" for name in known} == set()


def test_its_links_lead_somewhere_and_others_lead_to_it():
    pages = re.findall(r"\]\(([\w.]+)\)", WRITTEN)
    assert len(pages) > 3
    assert [page for page in pages if not (PAGE.parent / page).exists()] == []
    for page in ("docs/README.md", "docs/tutorial.md", "mkdocs.yml"):
        assert PAGE.name in (ROOT / page).read_text()
