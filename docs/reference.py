"""Write docs/options.md from the Configs of all commands; tests/unit/test_docs.py compares the two.

python -m docs.reference
"""

import importlib
from pathlib import Path

from trials.common import cli
from trials.common.commands import config_module

PAGE = Path(__file__).with_name("options.md")
ROOT = Path(__file__).parent.parent
COMMANDS = sorted(path.stem for path in (ROOT / "trials").glob("*.py") if path.stem != "__init__")
HEAD = """# All options

Written by `python -m docs.reference` from the code. A dash means that nothing holds unless it is given.
"""


def config_of(command: str) -> type:
    """The dataclass of a command's options."""
    return importlib.import_module(config_module(command)).Config


def cell(text: object) -> str:
    """Text that does not end a cell of a table."""
    return str(text).replace("|", "\\|")


def options_page() -> str:
    """The page: a table for each command, a heading row for each group."""
    lines = [HEAD]
    for command in COMMANDS:
        lines += [f"## trials.{command}", "", "| option | default | what it is |", "|---|---|---|"]
        for group, fields in cli.groups(config_of(command)).items():
            lines.append(f"| **{group or 'this command'}** | | |")
            for field in fields:
                if field.default is cli.REQUIRED:
                    default = "must be given"
                else:
                    default = field.metadata["unset"] or ("-" if field.default in (None, "") else f"`{field.default}`")
                choices = f": {', '.join(field.metadata['choices'])}" if field.metadata["choices"] else ""
                lines.append(
                    f"| `{cli.flag(field.name)}` | {cell(default)} | {cell(field.metadata['help'] + choices)} |"
                )
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(options_page())
