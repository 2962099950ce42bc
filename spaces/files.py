"""Writing files atomically: a file is complete or absent, even if the process is killed while it writes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spaces.errors import InputError

CLONE = Path(__file__).resolve().parent.parent  # root of the git clone that Onepath is run from


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write a file through a temporary one: yield its path, then flush it to disk and rename it to `path`.

    Folders above `path` are made. When the body raises, `path` is left as it was.
    """
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
    """Write a value as JSON, atomically; `indent` as for `json.dumps`."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=indent) + "\n", encoding="utf-8")


def load_json(path: str | Path, what: str) -> Any:
    """Read a JSON file.

    Args:
        what: the name of the file's kind in an error, for example "cost table".
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
    """Append one line of JSON to a file and flush it to disk; a kill can only truncate this last line."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_jsonl(path: str | Path, *, repair: bool = False) -> list[Any]:
    """Read a file written by `append_json`, up to the first line that is truncated or damaged.

    Args:
        repair: truncate the file there too, so that more lines can be appended.
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
