"""Command lines from frozen dataclasses: one option per field, help from the field, errors in one line."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import io
import os
import shlex
import signal
import sys
import threading
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from spaces.errors import InputError, Stopped, shown
from trials.common import answers, machine, numbers, option_files, short_help, typed
from trials.common.commands import as_typed, in_road
from trials.common.fields import REQUIRED, flag, groups, option, reuse, sentence, spelled  # noqa: F401  for other modules
from trials.common.lines import refilled, say, say_next, short  # noqa: F401  for other modules
from trials.common.machine import rank_and_world
from trials.common.parser import Parser
from trials.common.progress import count_earlier, progress  # noqa: F401  for other modules
from trials.common.tables import table  # noqa: F401  for other modules

C = TypeVar("C")
NO_FIELDS = ("config", "save_config", "json")  # options of every command, which are read here


def only_first_process_speaks() -> bool:
    """Let the other processes of torchrun print nothing. Returns whether this is the first one."""
    rank, _ = rank_and_world()
    if rank:
        sys.stdout = open(os.devnull, "w")
    return rank == 0


def parse(config: type[C], argv: Sequence[str] | None, doc: str | None, command: str) -> C:
    """Read a command line, and make the options of it.

    Args:
        argv: arguments; those of the process where None.
        config, doc, command: as for `read`.
    Returns:
        An instance of `config`.
    Raises:
        InputError: unknown option, missing or unusable value, or a GPU that is needed where none can be.
    """
    option_files.forget()
    options, defaults, words, written = read(config, sys.argv[1:] if argv is None else list(argv), doc, command)
    given = {name: value for name, value in options.items() if value != defaults[name]}
    typed.remember(command, words, given)
    checked = config(**options)
    require_gpu(checked)
    if written:
        kept = {k: v for k, v in given.items() if flag(k) not in typed.OF_ONE_CALL}
        option_files.save(written, name_of(command), kept)
    return checked


def require_gpu(config: Any) -> None:
    """Refuse what needs a GPU where this is sure without torch; `distributed.use_cuda` refuses the rest.

    Args:
        config: the options of a command.
    Raises:
        InputError: it asks for a GPU, or for what needs one, and there is none.
    """
    device, wants = getattr(config, "device", None), ("precision", "cuda_graphs")
    given = {name: value for name in wants if isinstance(value := getattr(config, name, None), str)}
    machine.refuse_without_gpu(device != "cpu" and machine.may_have_gpu(), device, **given)


def name_of(command: str) -> str:
    """The command of a module: `data` of "trials.data check"."""
    return command.removeprefix("trials.").split()[0]


def read(
    config: type, words: list[str], doc: str | None, command: str
) -> tuple[dict[str, Any], dict[str, Any], list[str], str]:
    """Read a command line without making its Config, which may look at files.

    Args:
        config: a frozen dataclass whose fields are made with `option`; its groups of options are headings of --help, and
            `positional` of it names the one field that is given without a flag.
        words: arguments.
        doc: the command's docstring, shown by --help.
        command: the module that is run, such as "trials.supernet".
    Returns:
        Field -> value; field -> default; the words with those of --config; the file of --save-config.
    Raises:
        InputError: unknown option, missing or unusable value.
    """
    hints, positional = typing.get_type_hints(config), getattr(config, "positional", None)
    formatter = argparse.RawDescriptionHelpFormatter
    required = [field for field in dataclasses.fields(config) if field.default is REQUIRED]
    needed = [f"{flag(field.name)} {field.name.upper()}" for field in required if field.name != positional]
    if positional is not None:
        optional = positional not in [field.name for field in required]
        needed.append(f"[{positional.upper()}]" if optional else positional.upper())
    prog = as_typed(f"python -m {command}")
    usage = " ".join((prog, *needed, "[options]"))
    parser = Parser(
        prog=prog,
        usage=usage,
        description=refilled(doc or ""),
        formatter_class=formatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.short = short_help.short_help(config, doc, usage)
    for group, fields in groups(config).items():
        notes = getattr(config, "group_notes", {})
        section = parser.add_argument_group(group or "options of this command", notes.get(group))
        for field in fields:
            kind = hints[field.name]
            if isinstance(kind, types.UnionType):  # X | None
                kind = next(member for member in typing.get_args(kind) if member is not types.NoneType)
            settings: dict[str, Any] = {"help": sentence(field).replace("%", "%%")}
            if field not in required:
                settings["default"] = field.default
            if field.metadata["choices"]:
                settings["choices"] = field.metadata["choices"]
            if kind is bool:
                settings["action"] = argparse.BooleanOptionalAction
            else:
                settings["type"] = {int: numbers.whole_number, float: numbers.finite_number}.get(kind, kind)
            if field.name == positional:
                if field not in required:
                    settings["nargs"] = "?"
                section.add_argument(field.name, **settings)
            else:
                section.add_argument(flag(field.name), dest=field.name, required=field in required, **settings)
    parser.add_common(short_help.OF_EVERY_COMMAND)
    parser.words = words
    parser.require_known(words)
    file, words = option_files.split(words, "--config")
    written, words = option_files.split(words, "--save-config")
    if file:
        fields_of = {field.name: field.metadata["choices"] for field in dataclasses.fields(config)}
        words, first = option_files.with_options(file, name_of(command), words, fields_of, positional)
        parser.words = words
        if first is not None and parser.lacks(positional, words):
            words = [first, *words]
    parser.words = words
    found = parser.parse_intermixed_args(words)  # an argument without a flag may stand anywhere
    options = spelled(config, {name: value for name, value in vars(found).items() if name not in NO_FIELDS})
    return options, {name: parser.get_default(name) for name in options}, words, written


def command(name: str, *words: object) -> str:
    """A command as it must be typed, such as `python -m trials.search runs/mine/search.yml`."""
    return as_typed(shlex.join(["python", "-m", f"trials.{name}", *map(str, words)]))


def fill_and_check(
    config: Any, recipe: Mapping[str, Any], *, positive: Sequence[str], fractions: Sequence[str]
) -> None:
    """For a frozen dataclass's __post_init__: put a recipe's values where none were given, then check ranges.

    What is still None then, because the images decide it, is not checked.

    Raises:
        InputError: a field of `positive` is not above 0, or one of `fractions` not in [0, 1).
    """
    for name, value in recipe.items():
        if getattr(config, name) is None:
            object.__setattr__(config, name, value)
    for name in positive:
        if getattr(config, name) is not None and not getattr(config, name) > 0:
            raise InputError(f"{flag(name)} {getattr(config, name)} is not above 0; give a larger number")
    for name in fractions:
        if getattr(config, name) is not None and not 0 <= getattr(config, name) < 1:
            raise InputError(f"{flag(name)} {getattr(config, name)} is out of range; give 0 to below 1")


def not_negative(config: Any, *names: str) -> None:
    """Raises InputError: a field is given and below 0."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value >= 0:
            raise InputError(f"{flag(name)} {value} is below 0; give 0 or more")


def named(config: Any, name: str) -> None:
    """Raises InputError: a field that names a file or folder is given and empty, which would be the current folder."""
    if getattr(config, name) == "":
        raise InputError(
            f"{flag(name)} '' names nothing; give a name, or leave {flag(name)} out where it has a default"
        )


def space_options(text: str) -> dict[str, Any]:
    """Options of a space from a command line.

    Args:
        text: "variant=channel,last_width=512"; numbers, true and false are understood.
    Raises:
        InputError: not of this form, or an option that another flag or the data decides.
    """
    options: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, given, value = part.strip().partition("=")
        if not given or not name or not value:
            raise InputError(f"--space-options '{text}': '{part}' is not NAME=VALUE; write for example last_width=512")
        if name in options:
            raise InputError(f"--space-options '{text}': {name} stands there twice; give it once")
        if name in ("classes", "resolution", "preset"):
            raise InputError(f"--space-options '{text}': {name} has no place here; the data or --{name} decides it")
        options[name] = numbers.plain_value(value)
    return options


def run(main: Callable[[], dict[str, Any] | None]) -> NoReturn:
    """Run a command's `main` and exit with one of the codes of docs/exit_codes.md.

    Args:
        main: returns what the command found, for --json: see answers.py. The `Config` of its module has the options that may be
            advised where the machine fails.
    """
    for name in ("stdout", "stderr"):  # closed (>&-): else the next file that is opened would take its place
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))
    for stream in (sys.stdout, sys.stderr):  # names of files need not be UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    output, answer = answers.Output(sys.argv), None  # last: a stream whose file was exchanged cannot be set up any more
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP, and this stays so
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    threading.excepthook = _leave_to_main
    config = getattr(main, "__globals__", {}).get("Config")
    has = {flag(field.name) for field in dataclasses.fields(config)} if config else set()
    again = "run the same command with --resume to go on" if "--resume" in has else "run the same command again"
    stopped = "" if in_road() else f"\nstopped; what was written is complete, {again}"  # trials.run says it of all
    line, code = "", 0
    try:
        answer = main()
    except InputError as error:
        begun = isinstance(error, Stopped)  # what stops a run later on is no matter of a file
        line, code = f"error: {as_typed(str(error) if begun else option_files.with_file(str(error)))}", error.exit_code
    except KeyboardInterrupt:
        line, code = stopped, 130
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        line = stopped if code in (130, 128 + signal.SIGTERM, 128 + signal.SIGHUP) else ""
        answer = getattr(ended, "answer", None)
    except BrokenPipeError:
        code = 141
    except Exception as error:
        failed = machine.failure(error, has)
        if failed is None:
            output.write(None, f"a fault of Onepath: {type(error).__name__}: {shown(str(error))}", 1)
            raise
        line, code = f"error: {failed}, then {again}", Stopped.exit_code
    gc.collect()  # of progress bars that an exception held, whose last line would come after ours
    _say_last(line)
    try:
        output.write(answer, line.strip().removeprefix("error: "), code)
    except OSError:  # the reader has gone, or the disk is full
        code = code or 141
    sys.exit(code)


def _leave_to_main(failed: threading.ExceptHookArgs) -> None:
    """Say nothing of a thread that the machine failed, such as TensorBoard's on a full disk: `main` hears of it at its next write."""
    if not isinstance(failed.exc_value, OSError):
        threading.__excepthook__(failed)


def _say_last(line: str) -> None:
    """Print the last line of a command, now that the progress bars of `main` are gone.

    Where output or errors go to a file on a full disk, nothing more can be said: the exit code is all that is left.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if line and stream is sys.stderr:
                print(line, file=sys.stderr)
            stream.flush()
        except OSError:  # else the interpreter would try once more at its end, and exit with a code of its own
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
