"""Files that are either there in full or not there at all, even when the process is killed while it writes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spaces.errors import InputError

CLONE = Path(__file__).resolve().parent.parent  # the root of the clone that Onepath is run from


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed to `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_json(path: str | Path, value: Any, *, indent: int | None = 1) -> None:
    """Write `value` as JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=indent) + "\n", encoding="utf-8")


def load_json(path: str | Path, what: str) -> Any:
    """Read JSON.

    Args:
        what: how to call the file in an error, for example "cost table".
    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{what} '{path}' does not exist; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{what} '{path}' is a folder, not a file; name the file in it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{what} '{path}' is not valid JSON ({error}); write it again") from None


def append_json(path: str | Path, value: Any) -> None:
    """Add one line of JSON to a file and flush it to disk; a kill can only cut off this last line."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_jsonl(path: str | Path, *, repair: bool = False) -> list[Any]:
    """The lines of a file written by `append_json`, without one that was cut off.

    Args:
        repair: cut such a line off in the file too, so that more can be appended.
    """
    content = Path(path).read_bytes()
    values, complete = [], 0
    for line in content.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            values.append(json.loads(line))
        except ValueError:
            break
        complete += len(line)
    if repair and complete < len(content):
        os.truncate(path, complete)
    return values
