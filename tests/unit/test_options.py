"""The options of every command: their surface is pinned, and each has a whole sentence and one owner."""

import difflib
import importlib
import re
from pathlib import Path

import pytest

from tests.commands import ROOT
from trials.common import cli
from trials.common.commands import config_module

SURFACE = Path(__file__).with_name("options.txt")
COMMANDS = sorted(path.stem for path in (ROOT / "trials").glob("*.py") if path.stem != "__init__")


def config_of(command: str) -> type:
    return importlib.import_module(config_module(command)).Config


def surface() -> str:
    """A line for each option of each command: group, flag, type, default, choices."""
    lines = []
    for command in COMMANDS:
        lines.append(f"python -m trials.{command}")
        for heading, fields in cli.groups(config_of(command)).items():
            lines.append(f"  {heading or 'options of this command'}")
            for field in fields:
                default = "required" if field.default is cli.REQUIRED else repr(field.default)
                choices = f" one of {', '.join(field.metadata['choices'])}" if field.metadata["choices"] else ""
                lines.append(f"    {cli.flag(field.name)} {field.type} {default}{choices}")
    return "\n".join(lines) + "\n"


def test_options_are_those_that_are_pinned():
    """A changed option is a change for users: say so in the CHANGELOG, then write the new surface into options.txt."""
    now, pinned = surface(), SURFACE.read_text()
    diff = "".join(difflib.unified_diff(pinned.splitlines(True), now.splitlines(True), "options.txt", "now"))
    assert not diff, f"{diff}\nwrite the new surface with: python -m tests.unit.test_options"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_sentence(command):
    for fields in cli.groups(config_of(command)).values():
        for field in fields:
            text = field.metadata["help"]
            assert re.match(r"[A-Z0-9]", text), f"--{field.name}: {text}"
            assert len(text.split()) >= 2, f"--{field.name}: {text}"
            assert not text.endswith((".", " ")), f"--{field.name}: {text}"


def test_an_option_is_declared_once():
    """Two groups with the same option would have two sentences for it; a Config takes it with `cli.reuse`."""
    owners: dict[str, set[str]] = {}
    for command in COMMANDS:
        for owner in config_of(command).__mro__:
            if "group" in vars(owner):
                for name in vars(owner).get("__annotations__", {}):
                    if name != "group":
                        owners.setdefault(name, set()).add(f"{owner.__module__}.{owner.__name__}")
    # `classes` of images are drawn from a folder; `classes` of a space without images are its size
    twice = {name: places for name, places in owners.items() if len(places) > 1 and name != "classes"}
    assert not twice
    assert len(owners) > 40


def test_help_shows_the_groups():
    from trials.training.supernet_config import Config

    headings = list(cli.groups(Config))
    assert headings[1:4] == ["search space", "images", "strategy"]
    assert {"limits", "optimiser", "device", "checkpoints"} <= set(headings)


if __name__ == "__main__":
    SURFACE.write_text(surface())
