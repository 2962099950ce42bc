"""Look at every image file once, before training: can it be decoded, how large is it, what is it made of.

Threads decode all files, JPEGs at an eighth of their size, which still reads every byte of them. What was found is kept
in ~/.cache/onepath (or $XDG_CACHE_HOME/onepath) and used again while a file's size and time of change stay the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import zlib
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np

from trials.common import cli
from trials.images.inspect_file import Found, look

TABLE = "files_1"  # another name when what a scan finds changes
COLUMNS = "path BLOB PRIMARY KEY, bytes INT, changed INT, height INT, width INT, kind TEXT, odd TEXT, problem TEXT, digest INT"
INSERT = f"INSERT OR REPLACE INTO {TABLE} VALUES ({','.join('?' * 9)})"
GONE = (-1, -1)  # instead of size and time of change
PART = 1000  # files between two times that results are kept


class Scan:
    """What is known of n files, in arrays, because there may be millions of them.

    Attributes:
        sizes: height, width, int (n, 2).
        nbytes: of the files, (n,).
        kinds, kind_numbers: the kinds there are; which of them each file is, (n,).
        digests: int64, (n,).
        odd, problems: those that are not "", by file number.
    """

    def __init__(self, n: int) -> None:
        self.sizes = np.zeros((n, 2), np.int32)
        self.nbytes = np.zeros(n, np.int64)
        self.kinds: list[str] = []
        self.kind_numbers = np.zeros(n, np.uint8)
        self.digests = np.zeros(n, np.int64)
        self.odd: dict[int, str] = {}
        self.problems: dict[int, str] = {}

    def put(self, number: int, nbytes: int, found: Found) -> None:
        """Keep what is known of a file of `nbytes` bytes."""
        self.nbytes[number] = nbytes
        if found.kind not in self.kinds:
            self.kinds.append(found.kind)
        self.sizes[number] = found.height, found.width
        self.kind_numbers[number] = self.kinds.index(found.kind)
        self.digests[number] = found.digest
        for texts, text in ((self.odd, found.odd), (self.problems, found.problem)):
            if text:
                texts[number] = text

    def __getitem__(self, number: int) -> Found:
        height, width = self.sizes[number].tolist()
        kind, digest = self.kinds[self.kind_numbers[number]], int(self.digests[number])
        return Found(height, width, kind, self.odd.get(number, ""), self.problems.get(number, ""), digest)


def scan(paths: Sequence[str], workers: int, desc: str = "look at images") -> Scan:
    """Look at files, those that are new or changed since the last time; nothing is lost when it is interrupted."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onepath"
    where = zlib.crc32(os.fsencode(os.path.commonpath([paths[0], paths[-1]]))) if len(paths) else 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(folder / "scan.sqlite", timeout=60)) as cache:
            results, todo = _known(paths, workers, cache)
            if todo:
                with open(folder / f"scan-{where:08x}.lock", "w") as lock:
                    _lock(lock)
                    _look_at(paths, todo, results, workers, desc, cache)
            return results
    except (OSError, sqlite3.Error) as error:  # no home, a full disk
        print(f"looking at all files, because what is known of them in '{folder}' cannot be used ({error})")
        with contextlib.closing(sqlite3.connect(":memory:")) as cache:
            results, todo = _known(paths, workers, cache)
            _look_at(paths, todo, results, workers, desc, cache)
            return results


def _lock(lock: IO[str]) -> None:
    """Of several processes one looks at files, the others then read what it found."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another process that looks at these images")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _known(paths: Sequence[str], workers: int, cache: sqlite3.Connection) -> tuple[Scan, array[int]]:
    """What the cache knows; numbers of the files that it does not."""
    cache.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} ({COLUMNS})")
    results, todo = Scan(len(paths)), array("q")
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for first in range(0, len(paths), PART):
            names = [_absolute(path) for path in paths[first : first + PART]]
            pieces = [names[start : start + 50] for start in range(0, len(names), 50)]
            stamps = [stamp for part in pool.map(_stamps, pieces) for stamp in part]
            known = _rows(names, stamps, cache)
            for number, (path, stamp) in enumerate(zip(names, stamps, strict=True), first):
                if path in known:
                    results.put(number, stamp[0], known[path])
                else:
                    todo.append(number)
    return results, todo


def _look_at(
    paths: Sequence[str], todo: array[int], results: Scan, workers: int, desc: str, cache: sqlite3.Connection
) -> None:
    """Look at the files of `todo`, but for those that another process looked at meanwhile."""
    bar = cli.progress(len(todo), desc=desc, unit="file") if len(todo) > 200 else None
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for first in range(0, len(todo), PART):
            numbers = todo[first : first + PART]
            names = [_absolute(paths[number]) for number in numbers]
            stamps = _stamps(names)
            known = _rows(names, stamps, cache)
            looks = pool.map(look, [path for path in names if path not in known])
            rows = []
            for number, path, stamp in zip(numbers, names, stamps, strict=True):
                found = known[path] if path in known else next(looks)
                results.put(number, stamp[0], found)
                if path not in known and found.digest:  # what could not be read today may be there tomorrow
                    rows.append((os.fsencode(path), *stamp, *found))
            if rows:
                cache.executemany(INSERT, rows)
                cache.commit()
            if bar:
                bar.update(len(names))
    if bar:
        bar.close()


def _absolute(path: str) -> str:
    return path if os.path.isabs(path) else os.path.abspath(path)


def _rows(paths: list[str], stamps: list[tuple[int, int]], cache: sqlite3.Connection) -> dict[str, Found]:
    """What the cache knows of files that have not changed since."""
    marks = ",".join("?" * len(paths))
    rows = cache.execute(f"SELECT * FROM {TABLE} WHERE path IN ({marks})", [os.fsencode(path) for path in paths])
    wanted = dict(zip(paths, stamps, strict=True))
    known = {}
    for name, nbytes, changed, *found in rows:
        path = os.fsdecode(name)
        if wanted[path] == (nbytes, changed):
            known[path] = Found(*found)
    return known


def _stamps(paths: list[str]) -> list[tuple[int, int]]:
    """Size and time of change."""
    stamps = []
    for path in paths:
        try:
            status = os.stat(path)
            stamps.append((status.st_size, status.st_mtime_ns))
        except OSError:
            stamps.append(GONE)
    return stamps
