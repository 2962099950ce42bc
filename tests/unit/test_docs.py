"""The documentation is true: options, commands, gates, keys, links and the blocks of code are those of the code."""

import importlib
import inspect
import re
import shlex
import subprocess
import sys

import pytest
import schema

from docs.reference import COMMANDS, JSON_PAGE, PAGE, config_of, json_page, options_page
from spaces.errors import InputError
from strategies.limits import Limits
from strategies.tuner import ArchTuner
from tests.commands import ROOT
from trials.common import cli, run_files
from trials.evidence import gates, image_gates

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
READ = [ROOT / "README.md", *PAGES]


def anchors(text: str) -> set[str]:
    """What a heading is called in a link, as GitHub and MkDocs do."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands_of(text: str) -> list[str]:
    """The commands of a page: indented lines that begin with `python -m trials.`, without their remarks."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(r"^    (python -m trials\.[^\n]+)$", joined, re.MULTILINE)
    return [re.sub(r"\s{2,}#.*| # .*", "", line).strip() for line in found]


def test_options_page_is_that_of_the_code():
    assert PAGE.read_text() == options_page(), "write it anew with: python -m docs.reference"


def test_json_page_is_that_of_the_code():
    assert JSON_PAGE.read_text() == json_page(), "write it anew with: python -m docs.reference"


def test_every_page_is_in_the_index():
    linked = set(re.findall(r"\]\(([\w]+\.md)", (DOCS / "README.md").read_text()))
    assert {page.name for page in PAGES} - {"README.md"} == linked


def test_links_to_headings_lead_somewhere():
    wrong = []
    for page in READ:
        for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text()):
            there = page.parent / target if target else page
            if anchor not in anchors(there.read_text()):
                wrong.append((page.name, target, anchor))
    assert wrong == []


GATES = {call.group(1) for call in re.finditer(r'GateWarning\("([a-z ]+)"', inspect.getsource(gates))}
GATES |= {call.group(1) for call in re.finditer(r'GateWarning\("([a-z ]+)"', inspect.getsource(image_gates))}
GATES |= {
    gates.FEW_STEPS,
    gates.SHORT,
    image_gates.SMALL_TEST,
    image_gates.BLANK,
    image_gates.NEAR_COPIES,
    gates.NEAR_CHANCE,
    gates.NOTHING,
    gates.FEW_SCORING,
    gates.EQUAL_SCORES,
}


@pytest.mark.parametrize("gate", sorted(GATES))
def test_every_gate_has_a_paragraph(gate):
    assert f"\n**{gate.capitalize()}.** " in (DOCS / "trust.md").read_text()
    assert f"\n| {gate} | " in (DOCS / "faq.md").read_text()


def names_of(form: object) -> set[str]:
    """The keys of the outer mapping of a schema, or of a list or choice of mappings."""
    if isinstance(form, schema.Schema):
        return names_of(form.schema)
    if isinstance(form, schema.Or):
        return set().union(*(names_of(part) for part in form.args))
    if isinstance(form, list):
        return set().union(*map(names_of, form))
    if isinstance(form, dict):
        keys = (key.schema if isinstance(key, schema.Optional) else key for key in form)
        return {key for key in keys if isinstance(key, str)}
    return set()


@pytest.mark.parametrize("kind", sorted(run_files.schemas()))
def test_every_key_of_a_run_is_named(kind):
    rows = [line for line in (DOCS / "run_folder.md").read_text().splitlines() if f"| {kind} |" in line]
    assert len(rows) == 1
    missing = names_of(run_files.schemas()[kind]) - set(re.findall(r"`(\w+)`", rows[0]))
    assert not missing


def test_every_key_of_the_yaml_is_named():
    from trials.search_driver import experiment_yaml, plan

    named = set(re.findall(r"`(\w+)`", (DOCS / "yaml.md").read_text()))
    arguments = set(inspect.signature(ArchTuner.__init__).parameters) - {"self", "limits"}
    wanted = {*experiment_yaml.NEEDED, *experiment_yaml.TEXTS, *plan.NNI_TUNERS, *Limits.__annotations__, *arguments}
    assert not wanted - named


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_commands_have_options_that_exist(page):
    """Each option of each command in the docs is one of that command; words in capitals stand for something."""
    wrong = []
    for line in commands_of(page.read_text()):
        words = shlex.split(line)[2:]
        command = words[0].removeprefix("trials.") + " shrink" * (words[1:2] == ["shrink"])
        known = {cli.flag(field.name) for fields in cli.groups(config_of(command)).values() for field in fields}
        known |= {flag.replace("--", "--no-", 1) for flag in known} | {
            "--help",
            "--help-all",
            "--json",
            "--config",
            "--save-config",
        }
        wrong += [(line, word) for word in words if word.startswith("--") and word.split("=")[0] not in known]
    assert wrong == []


def test_an_option_that_does_not_exist_is_found():
    assert commands_of("text\n    python -m trials.report runs/x --opne 1    # why\n") == [
        "python -m trials.report runs/x --opne 1"
    ]
    with pytest.raises(InputError):
        cli.parse(config_of("report"), ["runs/x", "--opne", "1"], None, "trials.report")


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", [line for page in READ for line in commands_of(page.read_text()) if " trials.space " in line]
)
def test_cheap_commands_run(line, capsys):
    if "--out" in line or "docs.own_space" in line:
        pytest.skip("it writes files, or its module is tested elsewhere")
    importlib.import_module("trials.space").main(shlex.split(line)[3:])
    assert len(capsys.readouterr().out.splitlines()) > 3


def test_python_blocks_run(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "python_api.md").read_text(), re.DOTALL):
        exec(block, names)
    assert capsys.readouterr().out.startswith("2685056 138736\nspos ")


def test_commands_of_the_reference_are_those_of_trials():
    assert {"supernet", "search", "retrain", "certify"} <= set(COMMANDS)


def test_every_page_is_on_the_site():
    named = re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(page.name for page in PAGES)


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(tmp_path):
    """Skipped where the extra `docs` is not installed."""
    pytest.importorskip("mkdocs")
    subprocess.run([sys.executable, "-m", "mkdocs", "build", "-q", "-d", str(tmp_path)], cwd=ROOT, check=True)
    for page in tmp_path.glob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]+>", page.read_text())
        assert not [tag for tag in loaded if "://" in tag]
        assert 'class="mermaid"' not in page.read_text()  # which the browser would load Mermaid for
    assert re.search(r"<svg[^>]+flowchart.*>search_driver<", (tmp_path / "architecture.html").read_text(), re.DOTALL)
