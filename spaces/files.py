"""Files: written atomically, so that they are complete or absent even after a kill; read with one line for all that is wrong."""

from __future__ import annotations

import codecs
import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from spaces.errors import InputError, Stopped, shown

CLONE = Path(__file__).resolve().parent.parent  # root of the git clone that Onepath is run from
# what is wrong with the path, not with the machine
_PATH_ERRORS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.EINVAL)
MERGE = "tag:yaml.org,2002:merge"  # the key "<<", which may stand there several times
RESTORE = "mend it there, or restore it from a copy"
_logger = logging.getLogger(__name__)
_told: list[tuple[str, list[int]]] = []  # files whose damaged lines were told of, and these lines
_swept: set[Path] = set()  # folders in which this process has looked for what killed writers left behind


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write a file through a temporary one: yield its path, then flush it to disk and rename it to `path`.

    Folders above `path` are made. When the body raises, `path` is left as it was. What killed writers left in its folder
    is removed.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        with open(temporary, "wb") as lock:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # say what could not be written by the name that it has for a user
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def draft_folder(path: str | Path) -> Iterator[Path]:
    """A folder beside `path` for drafts of it, removed at the end.

    What killed processes left there, of this kind or as drafts of a file, is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    folder = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    folder.mkdir()
    lock = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def temporary_files_in(folder: str | Path) -> Iterator[None]:
    """Let libraries put their temporary files into a folder of drafts, where a killed process leaves nothing for good.

    To be held around single calls: a module that is imported meanwhile may keep the folder's name for ever.
    """
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _remove_leftovers(folder: Path) -> None:
    """Remove the drafts, files and folders, of writers that were killed; one that is being written is locked by its writer."""
    if folder in _swept:
        return
    _swept.add(folder)
    for entry in os.scandir(folder):
        if not re.fullmatch(r"\..+\.\d+\.tmp", entry.name):
            continue
        with contextlib.suppress(OSError):
            handle = os.open(entry.path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)
            finally:
                os.close(handle)


def save_json(path: str | Path, value: Any, *, indent: int | None = 1) -> None:
    """Write a value as JSON, atomically; `indent` as for `json.dumps`."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=indent) + "\n", encoding="utf-8")


def unreadable(what: str, path: str | Path, error: OSError) -> InputError:
    """The exception for a file that the system does not let us read; the file itself is never called damaged.

    Args:
        what: the kind of file, such as "cost table".
    Returns:
        An InputError where another path or permission mends it; else Stopped, because the machine is at fault.
    """
    reason = error.strerror or str(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return InputError(f"{what} '{path}' does not exist; check the path")
    if isinstance(error, IsADirectoryError):
        return InputError(f"{what} '{path}' is a folder, not a file; name the file in it")
    if isinstance(error, PermissionError):
        return InputError(
            f"{what} '{path}' cannot be read ({reason}); the file is as it was: give yourself the right to read it"
        )
    if error.errno in _PATH_ERRORS:
        return InputError(f"{what} '{shown(str(path))}' cannot be read ({reason}); check the path")
    fix = {errno.EMFILE: "raise the limit (ulimit -n)", errno.ENOMEM: "free memory"}.get(error.errno or 0, "mend that")
    return Stopped(
        f"{what} '{path}' cannot be read ({reason}); the file is as it was: {fix} and run the same command again"
    )


def read_text(path: str | Path, what: str, fix: str = "name another file") -> str:
    """Read a text file: UTF-8, or UTF-16 with a byte order mark, as editors of Windows write it; the mark is left out.

    Args:
        what: the kind of file in an error, such as "cost table".
        fix: the end of the message about a file that is no text.
    Raises:
        InputError: the file is missing, no regular file, not ours to read, or no text.
        Stopped: the machine could not read it.
    """
    try:
        content = require_file(path, what).read_bytes()
    except OSError as error:
        raise unreadable(what, path, error) from None
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{what} '{path}' is not a text file ({len(content):,} bytes); {fix}") from None


def require_file(path: str | Path, what: str) -> Path:
    """Check that a path leads to a regular file: a pipe would be waited for without end. Raises as `read_text`."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise unreadable(what, path, error) from None
    except ValueError:  # a null byte
        raise InputError(f"{what} {shown(repr(str(path)))} is no name of a file; check the path") from None
    if stat.S_ISDIR(mode):
        raise unreadable(what, path, IsADirectoryError())
    if not stat.S_ISREG(mode):
        raise InputError(f"{what} '{path}' is a pipe, a socket or a device; name a file")
    return Path(path)


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, is nested too deeply, has a number beyond all measure, or a key stands twice in it.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError: a key stands there twice, of which Python would silently take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"key '{shown(twice)}' stands there twice")
    return found


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping in which a key stands twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != MERGE)
        for (_, name), count in Counter((key.tag, key.value) for key in names).items():
            if count > 1:
                raise ValueError(f"key '{shown(name)}' stands there twice (line {node.start_mark.line + 1} and below)")
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text, of plain values alone.

    Raises:
        ValueError: it is not YAML, is nested too deeply, or a key stands twice in a mapping.
    """
    try:
        return yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
    ) as error:  # a tag on a value that is not of its type
        raise ValueError(f"a value is not of the type that its tag says ({shown(str(error))})") from None


def load_json(path: str | Path, what: str) -> Any:
    """Read a JSON file.

    Args:
        what: the name of the file's kind in an error, for example "cost table".
    Raises:
        InputError: the file is missing, cannot be read, or is not JSON.
        Stopped: the machine could not read it.
    """
    text = read_text(path, what)
    try:
        return parse_json(text)
    except ValueError as error:
        raise InputError(f"{what} '{path}' is not valid JSON ({shown(str(error))}); {RESTORE}") from None


def append_json(path: str | Path, value: Any) -> None:
    """Append one line of JSON to a file and flush it to disk; a kill can only truncate this last line."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_jsonl(path: str | Path, *, repair: bool = False) -> list[dict[str, Any]]:
    """Read a file written by `append_json`. A line that is damaged costs itself alone, and is told of once.

    Args:
        repair: cut off a last line that a kill has left incomplete, so that more lines can be appended.
    Raises:
        InputError: the file is missing or cannot be read.
        Stopped: the machine could not read it.
    """
    try:
        content = require_file(path, "file").read_bytes()
    except OSError as error:
        raise unreadable("file", path, error) from None
    values, damaged = [], []
    complete, newline, rest = content.rpartition(b"\n")
    lines = complete.split(b"\n") if newline else []
    for number, line in enumerate(lines, 1):
        try:
            value = parse_json(line.decode())
            if not isinstance(value, dict):
                raise ValueError
            values.append(value)
        except ValueError:  # UnicodeDecodeError is one
            damaged.append(number)
    if damaged and (str(path), damaged) not in _told:
        _told.append((str(path), damaged))
        _logger.warning(
            "'%s': %d of %d lines are damaged and were left out (line %s); all others were read",
            *(path, len(damaged), len(lines), shown(", ".join(map(str, damaged)))),
        )
    if repair and rest:
        os.truncate(path, len(content) - len(rest))
    return values
