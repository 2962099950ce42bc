"""Which options a run may go on with: those that it was begun with, but for a few that do not change its result."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from strategies.limits import amount
from trials.common import places, typed

# options that may differ between a run and its continuation: they do not change its result, or are checked elsewhere
MAY_CHANGE = (
    "resume",
    "checkpoint_every",
    "eval_every",
    "eval_paths",
    "workers",
    "data_root",
    "device",
    "cuda_graphs",
    "compile",
    "stop_after",
    "jobs",
    "seeds",
    "fixed_arc",
    "import_official",
    "pretrained",  # start.json has the hash of the weights
    "supernet",
    "out",  # the folder may have moved
    "logger",
)
GROWS = ("supernets",)  # a run may get more of them later
# what runs had of options that their version did not know, where it is not the default of now
OLDER = {"op_warmup": 0.0}
PATHS = ("val_labels", "latency_table")  # the same file may be spelt in several ways
AMOUNTS = ("max_macs", "min_macs")  # and so may the same number: 3M, 3000000


def changed_options(stored: Mapping[str, Any], config: Any) -> list[tuple[str, Any, Any]]:
    """The options that a run was started with otherwise, but for those in MAY_CHANGE.

    Args:
        stored: the options in config.json; one that an older version did not write has its default.
        config: a dataclass.
    Returns:
        Of each its flag, its stored value and its value now; [] where a run may go on with these options.
    """
    changed = []
    given = json.loads(json.dumps(dataclasses.asdict(config)))
    for key, value in given.items():
        was = stored.get(key, OLDER.get(key, type(config).__dataclass_fields__[key].default))
        if key in GROWS and value >= (was or 1):  # an older version stored none
            continue
        chooses_best = key == "eval_every" and given.get("hold_out")  # it decides which epochs can be the best
        if key in PATHS and was and value:
            now = places.relocated(was, stored["out"], config.out) if stored.get("out") else was
            if os.path.realpath(value) in (os.path.realpath(was), os.path.realpath(now)):
                continue
        if (key not in MAY_CHANGE or chooses_best) and not (was == value or same_amount(key, was, value)):
            changed.append(("--" + key.replace("_", "-"), was, value))
    return changed


def same_amount(key: str, was: object, value: object) -> bool:
    """Whether two values of an option are the same amount, however it is spelt."""
    return bool(key in AMOUNTS and was and value) and amount(was, key) == amount(value, key)


def change_texts(changed: Sequence[tuple[str, Any, Any]]) -> tuple[str, str]:
    """What `changed_options` found in words: what differs, such as "--lr 0.1, not 0.2", and what to give, such as "0.1"."""
    differs, give = [], []
    for flag, was, value in changed:
        stored, given = _typed(flag, was, value), _typed(flag, value, was)
        short = stored.startswith(f"{flag} ") and given.startswith(f"{flag} ")
        differs.append(f"{stored}, not {given.removeprefix(f'{flag} ') if short else given}")
        give.append(stored.removeprefix(f"{flag} ") if short and len(changed) == 1 else stored)
    return ", and ".join(differs), " ".join(give)


def _typed(flag: str, value: object, beside: object) -> str:
    """An option as it is typed; "no --resolution" where it was not given and has no value that says so.

    Args:
        beside: its other value, which says whether it is a text.
    """
    if isinstance(value, bool):
        return flag if value else f"--no-{flag.removeprefix('--')}"
    if value is None and not isinstance(beside, str):
        return f"no {flag}"
    return f"{flag} {typed.word(value, beside)}"


def refuse_changed(run: Path, stored: Mapping[str, Any], config: Any, *, decided: bool) -> None:
    """Refuse to go on with other options than a run was started with.

    Args:
        decided: whether all options are; otherwise one that is None is still to be, by the images.
    Raises:
        InputError: some differ.
    """
    if changed := [entry for entry in changed_options(stored, config) if decided or entry[2] is not None]:
        differs, was = change_texts(changed)
        raise InputError(f"'{run}' was started with {differs}; give {was} or another --out")
