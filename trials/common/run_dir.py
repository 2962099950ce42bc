"""A run directory: config.json, log.jsonl, checkpoints/last.pt. What it holds is complete or absent, never half."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spaces.errors import InputError, Stopped, is_whole_number
from spaces.files import CLONE, RESTORE, atomic, read_jsonl, save_json
from trials.common import changes, machine, run_files, typed
from trials.common.changes import refuse_changed
from trials.common.lines import say
from trials.common.locks import is_held, same_file
from trials.common.near_runs import no_run, other_command

PACKAGES = ("torch", "torchvision", "nni", "pytorch-lightning", "numpy")
# options of a run that other commands ask for, in all versions
NEEDED = {
    "supernet": ("space", "preset", "space_options", "data", "seed", "score_fraction", "epochs"),
    "retrain": ("data",),
}
# what there is only once something was trained, or an official checkpoint was read
TRAINED = (
    *("supernet.pt", "checkpoints/*.pt", "result.json"),
    *("seed*/checkpoints/*.pt", "seed*/network.pt", "seed*/result.json", "top.json"),
)


def provenance() -> dict[str, Any]:
    """Say what made a file: git commit, versions of Python and the main packages, the machine, local time."""
    try:
        git = ["git", "-C", str(CLONE)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True).stdout
        commit += " with uncommitted changes" if changed.strip() else ""
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "commit": commit,
        "versions": versions,
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": machine.processor_name(),
        **{"cores": machine.usable_cores(), "threads": machine.threads()},
        "gpus": machine.gpu_names(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def begun(run: str | Path) -> bool:
    """Whether a run directory holds something that was trained, so that --resume has something to continue."""
    return any(next(Path(run).glob(pattern), None) is not None for pattern in TRAINED)


def left_over(run: str | Path, command: str) -> bool:
    """Whether a run directory holds no more than the configuration of a start that was refused or killed before it trained.

    Such a run blocks no other of its command, and what it holds beside binds nobody.
    """
    path = Path(run) / "config.json"
    if begun(run) or not path.exists():
        return False
    return run_files.read(path, "run configuration").get("command") == command


def refuse_taken(out: str | Path, command: str, *, resume: bool) -> None:
    """Refuse a directory that holds a run already: with `resume` one of another command. See `open_run` for the rest.

    Raises:
        InputError: it does.
    """
    run = Path(out)
    if left_over(run, command) or not (run / "config.json").exists():
        return
    if not resume:
        raise InputError(f"'{run}' already holds a run; add --resume to continue it, or choose another --out")
    holds = run_files.read(run / "config.json", "run configuration").get("command")
    if holds != command:
        raise InputError(f"'{run}' holds a run of {holds}, not of {command}; choose another --out")


def refuse_before_training(command: str, config: Any) -> None:
    """Refuse what `open_run` would, as far as it is known before the images are read, by the options of a training.

    One that is going on is left to the lock, which names it.

    Raises:
        InputError: `config.out` holds a run, and `config.resume` is off, or it is of another command, or has other options.
    """
    run = Path(config.out)
    if is_held(run / ".training.lock"):
        return
    refuse_taken(run, command, resume=config.resume)
    if begun(run) and (run / "config.json").exists():
        refuse_changed(run, run_files.read(run / "config.json", "run configuration")["config"], config, decided=False)


def open_run(
    out: str | Path, command: str, config: Any, *, resume: bool, quiet: bool = False, discards: Iterable[str] = ()
) -> Path:
    """Make or reopen a run directory, write and print its configuration.

    Args:
        out: the directory.
        command: the command without `trials.`, such as "supernet".
        config: a dataclass; with `resume`, it must equal the stored one but for the options in changes.MAY_CHANGE.
        quiet: print no configuration.
        discards: files of a run that is `left_over` which the new one must not take for its own.
    Raises:
        InputError: the directory holds a run and `resume` is off, or a run with another configuration.
    """
    run = Path(out)
    given = json.loads(json.dumps(dataclasses.asdict(config)))
    path = run / "config.json"
    refuse_taken(out, command, resume=resume)
    if left_over(run, command):
        for name in discards:
            (run / name).unlink(missing_ok=True)
    elif path.exists():
        stored = run_files.read(path, "run configuration")
        refuse_changed(run, stored["config"], config, decided=True)
        renewed = {
            key: given[key] for key in ("data_root", *changes.GROWS) if key in given
        }  # the images may have moved
        if any(stored["config"].get(key) != value for key, value in renewed.items()):
            grown = {
                f"--{key}": given[key] for key in changes.GROWS if stored["config"].get(key, 1) != given.get(key, 1)
            }
            if grown and stored.get("typed"):  # what is advised later is of the run as it is now
                stored["typed"] = typed.changed(stored["typed"], grown)
            stored["config"] |= renewed
            save_json(path, stored)
        return run
    contents = {"command": command, "typed": typed.line(f"trials.{command}"), "config": given, **provenance()}
    try:
        save_json(path, contents)
    except OSError as error:
        raise InputError(f"cannot write to '{run}' ({error.strerror}); choose another --out") from None
    if quiet:
        return run
    say(f"{command}: {typed.given_text(config, typed.given(f'trials.{command}'))}")
    print(
        f"commit {contents['commit'][:12]}, "
        + ", ".join(f"{name} {number}" for name, number in contents["versions"].items())
    )
    return run


def take_stored(config: Any, command: str, names: Iterable[str], run: str | Path | None = None) -> None:
    """For the __post_init__ of a Config with `resume`: what is not given is what a run was started with.

    So a run goes on as it began, although newer defaults differ. Another command's run is left to `open_run` to refuse.

    Args:
        command: the command without `trials.`.
        names: options whose default is None, because something else decides it.
        run: the run; `config.out` where it is None.
    """
    stored = begun_with(config, command, config.out if run is None else run) or {}
    for name in names if stored else ():
        if getattr(config, name) is None:
            object.__setattr__(config, name, stored.get(name, changes.OLDER.get(name)))


def begun_with(config: Any, command: str, run: str | Path) -> dict[str, Any] | None:
    """The options that a run was begun with, as far as its version stored them; None where --resume goes on with none."""
    path = Path(run) / "config.json"
    if not (config.resume and path.exists() and begun(path.parent)):
        return None
    stored = run_files.read(path, "run configuration")
    return stored["config"] if stored.get("command") == command else None


def load_run(run: str | Path, command: str) -> dict[str, Any]:
    """Read the configuration stored in a run directory.

    Returns:
        Option -> value, as the command's Config had them.
    Raises:
        InputError: there is no such run, or it is one of another command.
    """
    if not (Path(run) / "config.json").exists():
        raise InputError(no_run(run, command))
    stored = run_files.read(Path(run) / "config.json", "run configuration")
    if stored.get("command") != command:
        raise InputError(other_command(Path(run), str(stored.get("command")), command))
    for option in NEEDED[command]:
        if option not in stored["config"]:
            raise InputError(f"run configuration '{Path(run) / 'config.json'}' lacks the option '{option}'; {RESTORE}")
    config: dict[str, Any] = stored["config"]
    return config


def supernets_of(config: Mapping[str, Any]) -> int:
    """How many supernets a run has by its stored options; older versions, which trained one, stored none."""
    return config.get("supernets") or 1


def require_supernet(run: str | Path) -> Path:
    """Return the path of a run's supernet.pt. Raises InputError: the run is not trained to the end yet."""
    path = Path(run) / "supernet.pt"
    if not path.exists():
        raise InputError(f"'{run}' is not trained to the end; first: {typed.go_on(run)}")
    return path


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and JSON-able values into one file, atomically.

    Raises:
        OSError: the disk is full, for example; a checkpoint that was there before is whole.
    """
    import torch

    # by way of memory: where a write fails, torch.save hides the reason, and may crash the process later on
    with io.BytesIO() as buffer:
        torch.save(state, buffer)
        with atomic(path) as temporary, open(temporary, "wb") as file:
            file.write(buffer.getbuffer())


def file_hash(path: str | Path) -> str:
    """16 hex digits of a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class Log:
    """A log of one JSON object per line, each with its step.

    Args:
        path: log.jsonl of a run.
        after_step: the step of the checkpoint that the run goes on from; later lines are dropped, as they will come again.
    Attributes:
        kept: the lines that are there already.
    """

    def __init__(self, path: Path, *, after_step: int) -> None:
        lines = read_jsonl(path) if path.exists() else []
        self.kept = [line for line in lines if is_whole_number(line.get("step"), 0) and line["step"] <= after_step]
        with atomic(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in self.kept))
        self.path, self.file = path, open(path, "a", buffering=1)

    def write(self, **values: Any) -> None:
        """Add a line; `step` must be among the values."""
        self.file.write(json.dumps(values) + "\n")

    def require_in_place(self) -> None:
        """Raises Stopped: the file is no longer where it was begun, so the run was deleted, or moved away."""
        if not same_file(self.file, self.path):
            raise Stopped(
                f"'{self.path}' was deleted or moved away while the run was trained; where the folder was moved, --resume goes on "
                "with its new place as --out"
            )
