"""One entry to all commands: `./onepath search ...` is `python -m trials.search ...`, from any folder.

Light: a command's module is imported when it is known which one is meant.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

CLONE = Path(__file__).resolve().parent
sys.path.insert(0, str(CLONE))

from trials.common.commands import COMMANDS, HEADINGS  # noqa: E402


def help_text() -> str:
    """The commands under their headings, on one screen."""
    lines = ["usage: ./onepath COMMAND [options]", ""]
    for heading, commands in HEADINGS.items():
        lines += [f"{heading}:", *(f"  {name:10}{what}" for name, what in commands.items()), ""]
    return "\n".join([*lines, "./onepath COMMAND --help shows what a command takes."])


def main() -> None:
    """Run the command that the first word names, as `python -m` would."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CLONE), os.environ.get("PYTHONPATH"))))
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "--help-all"):
        print(help_text())
        sys.exit(0 if words else 1)
    if words[0] not in COMMANDS:
        from spaces.errors import unknown

        message = unknown("command", words[0], COMMANDS)
        print(f"error: {message}", file=sys.stderr)
        if "--json" in words:
            print(json.dumps({"command": words[0], "error": message, "exit_code": 1}))
        sys.exit(1)
    sys.argv = [f"onepath {words[0]}", *words[1:]]
    runpy.run_module(f"trials.{words[0]}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
