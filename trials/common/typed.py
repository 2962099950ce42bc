"""The command line of this process, printed again with changes: what mends a run is mostly the same command with other numbers."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trials.common import locks, places, run_files

# they belong to one call, and have no value
SWITCHES = tuple(f"--{no}{name}" for name in ("resume", "dry-run", "check", "list") for no in ("", "no-"))
OF_ONE_CALL = (*SWITCHES, "--stop-after")
# options that say what a run is of, where its command is not known as it was typed
NAMED = ("fixed_arc", "baseline", "pretrained", "supernet", "space", "preset", "data", "data_root", "seeds")
_lines: dict[str, str] = {}  # module -> the command as it was last typed in this process
_given: dict[str, set[str]] = {}  # module -> the options that were typed, or stood in the file of --config


def remember(module: str, arguments: Sequence[str], given: Iterable[str] = ()) -> None:
    """Keep a command as it was typed.

    Args:
        module: such as "trials.supernet".
        arguments: what follows it on the command line.
        given: names of the options in it that are not as they are by default.
    """
    _given[module] = set(given)
    world = int(os.environ.get("WORLD_SIZE", 1))
    start = ["torchrun", "--nproc-per-node", str(world)] if world > 1 else ["python"]
    _lines[module] = shlex.join([*start, "-m", module, *arguments])


def line(module: str) -> str | None:
    """The command as it was typed; None where this process was not started by it."""
    return _lines.get(module)


def given(module: str) -> set[str] | None:
    """The names of the options that were given otherwise than by default; None where this process was not started by that command."""
    return _given.get(module)


def word(value: object, beside: object) -> str:
    """The value of an option as it is typed; where it is None, and a text stands `beside` it, it is an empty text."""
    return shlex.quote(str(value or "")) if isinstance(value, str) or isinstance(beside, str) else str(value)


def changed(line: str, changes: Mapping[str, object]) -> str:
    """A command with some options changed, and without what belongs to one call, such as --resume.

    Args:
        line: a command as it is typed.
        changes: option -> value, such as {"--epochs": 60}; None leaves the option out.
    """
    changes = {**dict.fromkeys(OF_ONE_CALL), **changes}
    words, kept, skip = shlex.split(line), list[str](), False
    for word, after in zip(words, [*words[1:], "--"], strict=True):
        if skip:
            skip = False
        elif word.partition("=")[0] not in changes:
            kept.append(word)
        else:
            skip = "=" not in word and word not in SWITCHES and not after.startswith("--")
    for option, value in changes.items():
        if value is not None:
            kept += [option, str(value)]
    return shlex.join(kept)


def again(run: str | Path, changes: Mapping[str, object]) -> str:
    """The command that began a run, with some options changed, into another folder beside it.

    Args:
        changes: as for `changed`.
    """
    return changed(_began(run), {**changes, "--out": free_name(run)})


def anew(run: str | Path, changes: Mapping[str, object]) -> str:
    """The command that puts a run aside, which other commands look for by its name, and begins it with some options changed.

    Args:
        changes: as for `changed`.
    """
    run = Path(run)
    home = run.parent.parent if run.parent.name == "baselines" else run.parent  # all of baselines/ is compared
    return f"{put_aside(home / f'undertrained-{run.name}', run)} && {changed(_began(run), changes)}"


def go_on(run: str | Path) -> str:
    """The command that goes on with a run where it stopped: the one that began it, with --resume."""
    return f"{changed(_began(run), {})} --resume"


def put_aside(name: str | Path, *folders: str | Path) -> str:
    """The commands that move folders into a new one, whose name begins with `name`.

    A folder that is there already stops them before they move anything, so that nothing is overwritten or mixed where they are
    typed twice, or where two warnings lead to the same folder.
    """
    aside = free_name(name)
    return f"{shlex.join(['mkdir', aside])} && {shlex.join(['mv', *map(str, folders), aside])}"


def moves_of(command: str) -> list[list[str]]:
    """The folders that each `mv` of a command moves, as `put_aside` writes them."""
    return [shlex.split(part)[1:-1] for part in command.split(" && ") if part.startswith("mv ")]


def moves_what_is_trained(command: str) -> bool:
    """Whether a command, as `put_aside` begins it, moves a folder whose training is going on, or that holds such a folder."""
    locked = (
        path
        for words in moves_of(command)
        for word in words
        for at in ("", "*/")
        for path in Path(word).glob(f"{at}.training.lock")
    )
    return any(map(locks.is_held, locked))


def _began(run: str | Path) -> str:
    """The command that began a run."""
    stored = run_files.read(Path(run) / "config.json", "run configuration")
    if stored.get("typed"):
        supernet = stored["config"].get("supernet")
        command = places.follow(str(stored["typed"]), supernet, places.supernet_of(run, stored["config"]) or "")
        return places.follow(command, stored["config"].get("out"), run)
    words = ["python", "-m", f"trials.{stored['command']}"]  # of an older version, or begun by another command
    for name in NAMED:
        value = stored["config"].get(name)
        words += ["--" + name.replace("_", "-"), str(value)] if value else []
    return shlex.join(words)


def free_name(run: str | Path) -> str:
    """A folder beside a run that is not there yet: RUN-2, RUN-3 and so on."""
    number = 2
    while Path(f"{run}-{number}").exists():
        number += 1
    return f"{run}-{number}"


def given_text(config: Any, given: Collection[str] | None = None) -> str:
    """The options that differ from their defaults, such as `--data folder --epochs 60`; all of them stand in config.json.

    Args:
        given: names of the options that were given: what a recipe or the number of images decides is no difference; None where
            that is not known.
    """
    words = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default and value is not None and (given is None or field.name in given):
            flag = field.name.replace("_", "-")
            words.append(
                f"--{flag if value is not False else f'no-{flag}'}" + ("" if isinstance(value, bool) else f" {value}")
            )
    return " ".join(words) or "all options as they are by default"
