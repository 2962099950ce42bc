"""One entry to all commands: `./onepath search ...` is `python -m trials.search ...`, from any folder.

Light: a command's module is imported when it is known which one is meant.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

CLONE = Path(__file__).resolve().parent
COMMANDS = {
    "the road": {
        "run": "the whole road in one: images in, verdict and exported files out",
        "data": "check an image folder: classes, sizes, broken and duplicate files",
        "supernet": "train a supernet on the images",
        "search": "search the supernet under a budget, in NNI or in one process",
        "retrain": "train an architecture, or a baseline, from scratch and test it",
        "certify": "won, or luck? set the winner beside random architectures",
        "export": "write a network as source, torch.export, ONNX and INT8, each checked",
        "report": "show a run as one HTML file and a table",
    },
    "beside it": {
        "space": "show a search space, or list them all",
        "latency": "measure the candidates of a space on this machine",
        "evaluate": "score one architecture on a trained supernet",
    },
}


def help_text() -> str:
    """The commands under their headings, on one screen."""
    lines = ["usage: ./onepath COMMAND [options]", ""]
    for heading, commands in COMMANDS.items():
        lines += [f"{heading}:", *(f"  {name:10}{what}" for name, what in commands.items()), ""]
    return "\n".join([*lines, "./onepath COMMAND --help shows what a command takes."])


def main() -> None:
    """Run the command that the first word names, as `python -m` would."""
    sys.path.insert(0, str(CLONE))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CLONE), os.environ.get("PYTHONPATH"))))
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "--help-all"):
        print(help_text())
        sys.exit(0 if words else 1)
    names = [name for commands in COMMANDS.values() for name in commands]
    if words[0] not in names:
        from spaces.errors import unknown

        print(f"error: {unknown('command', words[0], names)}", file=sys.stderr)
        sys.exit(1)
    sys.argv = [f"onepath {words[0]}", *words[1:]]
    runpy.run_module(f"trials.{words[0]}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
