"""The commands: their names under headings, what each does, and where its options are. Light: it imports nothing of Onepath.

The entry (`./onepath`), files of options, completion and the reference in docs/ read this one table.
"""

from __future__ import annotations

import os
import re

HEADINGS = {
    "the road": {
        "run": "the whole road in one: images in, verdict and exported files out",
        "data": "check an image folder, or copy it with smaller images",
        "supernet": "train a supernet on the images",
        "search": "search the supernet under a budget, in NNI or in one process",
        "retrain": "train an architecture, or a baseline, from scratch and test it",
        "certify": "won, or luck? set the winner beside random architectures",
        "export": "write a network as source, torch.export, ONNX and INT8, each checked",
        "report": "show a run as one HTML file and a table",
        "status": "where a run is on the road, also while it is going on",
    },
    "beside it": {
        "space": "show a search space, or list them all",
        "latency": "measure the candidates of a space on this machine",
        "agree": "do the supernets of a run rank alike?",
        "evaluate": "score one architecture on a trained supernet",
    },
}
IN_ROAD = "ONEPATH_IN_ROAD"  # set for the steps of trials.run; see `in_road`
COMMANDS = {name: what for commands in HEADINGS.values() for name, what in commands.items()}
VERBS = {"data": ("check", "shrink")}  # the word between a command and its options; the first is the command's own
CONFIGS = {
    "data": "trials.images.check_config",
    "data shrink": "trials.images.shrink_config",
}  # modules with a Config that is not in the command's own file

# ./onepath, onepath, or a quoted path to it, where a command begins
ENTRY = re.compile(rf"(?:^|(?<=&& ))(?:'[^']*onepath'|\S*onepath) (?=(?:{'|'.join(COMMANDS)})(?!\S))")


def config_module(command: str) -> str:
    """The module that has the options of a command as its `Config`."""
    return CONFIGS.get(command, f"trials.{command}")


def in_road() -> bool:
    """Whether this command is a step of trials.run, which goes on by itself, and says why where it ends."""
    return bool(os.environ.get(IN_ROAD))


def entry() -> str:
    """How a command is begun, such as `python -m trials.`; `./onepath ` where it came through the one entry."""
    return os.environ.get("ONEPATH_ENTRY", "") or "python -m trials."


def neutral(command: str) -> str:
    """A command line as it is stored: `python -m trials.search ...`, whichever entry it was made for, at its start and after each &&."""
    return ENTRY.sub("python -m trials.", command)


def as_typed(text: str) -> str:
    """A text with its commands as they are typed here: through ./onepath where it was begun so."""
    return neutral(text).replace("python -m trials.", entry())
