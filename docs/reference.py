"""Write docs/options.md from the Configs of all commands, and docs/json.md; tests/unit/test_docs.py compares them.

python -m docs.reference
"""

import importlib
from pathlib import Path

from trials.common import answers, cli
from trials.common.commands import config_module

PAGE, JSON_PAGE = (Path(__file__).with_name(name) for name in ("options.md", "json.md"))
ROOT = Path(__file__).parent.parent
COMMANDS = sorted(path.stem for path in (ROOT / "trials").glob("*.py") if path.stem != "__init__")
HEAD = """# All options

Written by `python -m docs.reference` from the code. A dash means that nothing holds unless it is given.
"""


JSON_HEAD = """# What `--json` prints

With `--json` a command prints one JSON object on its output when it ends, and everything else (tables, progress, warnings, the
line of an error) on its errors:

    python -m trials.certify runs/mine --json 2> certify.log | jq .certificate.verdict

Every key of a command is always there; what does not apply is null, and so is a number that is none (NaN). Exit codes are the
same as without it ([exit_codes.md](exit_codes.md)). `command` names the command. Paths are as they were given, percentages 0 to 100.
Written by `python -m docs.reference` from the code.
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
    for command in sorted([*COMMANDS, "data shrink"]):
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


def json_page() -> str:
    """The page of --json: a table of keys for each command."""
    lines = [JSON_HEAD]
    for command, keys in {**answers.ANSWERS, "errors": answers.ERROR}.items():
        title = "an error" if command == "errors" else f"trials.{command}"
        lines += [f"## {title}", "", "| key | what it is |", "|---|---|"]
        lines += [f"| `{key}` | {cell(text)} |" for key, text in keys.items()]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(options_page())
    JSON_PAGE.write_text(json_page())
