"""One entry to all commands: `./onepath search ...` is `python -m trials.search ...`, from any folder.

    ./onepath --help                 the commands
    ./onepath COMMAND --help         what a command takes
    ./onepath --completion bash      completion for the shell: eval "$(./onepath --completion bash)"

Light: a command's module is imported when it is known which one is meant.
"""

from __future__ import annotations

import json
import os
import runpy
import shlex
import sys
from pathlib import Path
from typing import NoReturn

CLONE = Path(__file__).resolve().parent
if not (CLONE / "trials").is_dir():
    sys.exit(
        f"error: '{CLONE}' is no clone of Onepath, which runs from its clone; there: pip install --editable . (or make), and not a copy"
    )
sys.path.insert(0, str(CLONE))

from trials.common.commands import COMMANDS, HEADINGS, config_module  # noqa: E402

OPTIONS = ("--help", "--completion")  # of the entry itself


def help_text(entry: str = "./onepath") -> str:
    """The commands under their headings, on one screen."""
    lines = [f"usage: {entry} COMMAND [options]", ""]
    for heading, commands in HEADINGS.items():
        lines += [f"{heading}:", *(f"  {name:10}{what}" for name, what in commands.items()), ""]
    lines.append(f"{entry} COMMAND --help shows what a command takes.")
    return "\n".join([*lines, f"{entry} --completion bash (or zsh) prints completion for the shell."])


def main() -> None:
    """Run the command that the first word names, as `python -m` would."""
    entry = entry_name(os.environ.pop("ONEPATH_CALLED", sys.argv[0]))
    os.environ["ONEPATH_ENTRY"] = f"{shlex.quote(entry)} "
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CLONE), os.environ.get("PYTHONPATH"))))
    words = sys.argv[1:]
    while words[:1] == ["--json"] and len(words) > 1:  # it belongs to the command
        words = [*words[1:], "--json"]
    if not words or words[0] in ("-h", "--help", "--help-all"):
        say(help_text(entry) + "\n")
        sys.exit(0 if words else 1)
    name, _, shell = words[0].partition("=")
    if name == "--completion":
        shell = shell or (words[1] if len(words) > 1 else "")
        return say(completion(shell))
    if words[0] not in COMMANDS:
        from spaces.errors import unknown

        kind, names = ("option", OPTIONS) if words[0].startswith("-") else ("command", [*COMMANDS])
        fail(unknown(kind, words[0], names))
    sys.argv = [f"onepath {words[0]}", *words[1:]]
    runpy.run_module(f"trials.{words[0]}", run_name="__main__", alter_sys=True)


def say(text: str) -> None:
    """Print, also into a pipe whose reader has gone."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)


def entry_name(called: str) -> str:
    """How this program is begun: `onepath` where the PATH leads to it, else the path that was typed."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = os.path.join(folder, "onepath")
        if os.access(found, os.X_OK):
            return "onepath" if os.path.exists(called) and os.path.samefile(found, called) else called
    return called


def completion(shell: str) -> str:
    """The script that completes commands and options in a shell."""
    import importlib

    import spaces
    from spaces.errors import unknown
    from trials.common.completion import SHELLS, script
    from trials.images.options import DATA

    if shell not in SHELLS:
        fail(
            unknown("shell", shell, SHELLS)
            if shell
            else f"--completion needs a shell; give one of: {', '.join(SHELLS)}"
        )
    configs = {name: importlib.import_module(config_module(name)).Config for name in COMMANDS}
    presets = dict.fromkeys(preset for name in spaces.SPACES for preset, _ in spaces.presets(name))
    offers = {"space": [*spaces.SPACES], "preset": [*presets], "data": DATA}
    return script(shell, configs, offers, str(CLONE / "onepath"))


def fail(message: str) -> NoReturn:
    """End with one line of error."""
    print(f"error: {message}", file=sys.stderr)
    if "--json" in sys.argv:
        print(json.dumps({"command": sys.argv[1], "error": message, "exit_code": 1}))
    sys.exit(1)


if __name__ == "__main__":
    main()
