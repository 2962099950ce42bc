"""Look into every image file once, before training: can it be decoded, how large is it, what is it made of.

Threads decode all files, JPEGs at an eighth of their size, which still reads every byte of them. The results are kept in
~/.cache/onepath (or $XDG_CACHE_HOME/onepath) and used again while a file's size and time of change stay the same. Files that
cannot be used are looked at each time: what was wrong may have been wrong with the program.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from trials.common import cli, locks
from trials.images.inspect_file import FileInfo, inspect_image, require_decoders

TABLE = "files_5"  # rename it when the results of a scan change, so that older ones are not used
OLDER = "files_4"  # knows all but the colours of JPEGs of one single colour, of which it has grey values
COLUMNS = "path BLOB PRIMARY KEY, bytes INT, changed INT, height INT, width INT, kind TEXT, odd TEXT, problem TEXT, digest INT, flat TEXT"
INSERT = f"INSERT OR REPLACE INTO {TABLE} VALUES ({','.join('?' * 10)})"
Stamp = tuple[int, int]  # size of a file in bytes, time of its last change in nanoseconds
GONE: Stamp = (-1, -1)  # stamp of a file that is not there
CHUNK = 1000  # files after which the results are written to the cache
BAR_ABOVE = 200  # files; fewer are done before anyone would read a progress bar


class Scan:
    """What is known about n files, in arrays, because there may be millions of them.

    Attributes:
        sizes: height and width in pixels, int (n, 2).
        nbytes: sizes of the files in bytes, (n,).
        kinds: the kinds of files that there are, such as "JPEG RGB".
        kind_numbers: which of these kinds each file is, (n,).
        digests: hashes of the contents, int64, (n,).
        unusual, problems, flats: texts of FileInfo that are not "", by file number.
    """

    def __init__(self, n: int) -> None:
        self.sizes = np.zeros((n, 2), np.int32)
        self.nbytes = np.zeros(n, np.int64)
        self.kinds: list[str] = []
        self.kind_numbers = np.zeros(n, np.uint8)
        self.digests = np.zeros(n, np.int64)
        self.unusual: dict[int, str] = {}
        self.problems: dict[int, str] = {}
        self.flats: dict[int, str] = {}

    def put(self, number: int, nbytes: int, info: FileInfo) -> None:
        """Keep what is known about a file.

        Args:
            number: its place among the files of the scan.
            nbytes: its size in bytes.
        """
        self.nbytes[number] = nbytes
        if info.kind not in self.kinds:
            self.kinds.append(info.kind)
        self.sizes[number] = info.height, info.width
        self.kind_numbers[number] = self.kinds.index(info.kind)
        self.digests[number] = info.digest
        told = ((self.unusual, info.unusual), (self.problems, info.problem), (self.flats, info.flat))
        for texts, text in told:
            if text:
                texts[number] = text

    def __getitem__(self, number: int) -> FileInfo:
        """What is known about a file."""
        height, width = self.sizes[number].tolist()
        kind, digest = self.kinds[self.kind_numbers[number]], int(self.digests[number])
        unusual, problem, flat = (texts.get(number, "") for texts in (self.unusual, self.problems, self.flats))
        return FileInfo(height, width, kind, unusual, problem, digest, flat)


def scan(paths: Sequence[str], workers: int, desc: str = "look at images") -> Scan:
    """Look into files; those that the cache knows, and that have not changed since, are not read.

    An interrupted scan keeps what it found. Where the cache cannot be used, all files are looked into.

    Args:
        paths: the files; results are in the same order.
        workers: number of threads that decode.
        desc: text of the progress bar.
    Raises:
        InputError: a library that decodes images is missing.
        Stopped: one is found to be missing on the way, or the machine can open no more files.
    """
    require_decoders()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onepath"
    # a lock for each data folder, so that only processes with the same images wait for each other
    common = zlib.crc32(os.fsencode(os.path.commonpath([paths[0], paths[-1]]))) if len(paths) else 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(folder / "scan.sqlite", timeout=60)) as cache:
            results, unknown = _look_up(paths, workers, cache)
            if unknown:
                told = "waiting for another process that looks at these images"
                with locks.waiting(folder / f"scan-{common:08x}.lock", told):
                    _inspect(paths, unknown, results, workers, desc, cache)
            return results
    except (OSError, sqlite3.Error) as error:  # no home, a full disk
        print(f"looking at all files, because what is known of them in '{folder}' cannot be used ({error})")
        with contextlib.closing(sqlite3.connect(":memory:")) as cache:
            results, unknown = _look_up(paths, workers, cache)
            _inspect(paths, unknown, results, workers, desc, cache)
            return results


def _look_up(paths: Sequence[str], workers: int, cache: sqlite3.Connection) -> tuple[Scan, array[int]]:
    """What the cache knows about files, and the numbers of the files that it does not know."""
    _make_table(cache)
    results, unknown = Scan(len(paths)), array("q")
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for first in range(0, len(paths), CHUNK):
            names = [_absolute(path) for path in paths[first : first + CHUNK]]
            groups = [names[start : start + 50] for start in range(0, len(names), 50)]
            stamps = [stamp for group in pool.map(_stamps, groups) for stamp in group]
            cached = _read_cache(names, stamps, cache)
            for number, (path, stamp) in enumerate(zip(names, stamps, strict=True), first):
                if path in cached:
                    results.put(number, stamp[0], cached[path])
                else:
                    unknown.append(number)
    return results, unknown


def _make_table(cache: sqlite3.Connection) -> None:
    """Make the table of the cache where there is none, with what an older version knows, so that large folders are not read anew."""
    tables = {name for (name,) in cache.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if TABLE in tables:
        return
    with cache:
        cache.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} ({COLUMNS})")
        if OLDER in tables:
            cache.execute(
                f"INSERT OR IGNORE INTO {TABLE} SELECT * FROM {OLDER} WHERE flat = '' OR kind NOT LIKE 'JPEG %'"
            )


def _inspect(
    paths: Sequence[str], unknown: array[int], results: Scan, workers: int, desc: str, cache: sqlite3.Connection
) -> None:
    """Look into the files with the numbers `unknown`, but for those that another process put into the cache meanwhile."""
    bar = cli.progress(len(unknown), desc=desc, unit="file") if len(unknown) > BAR_ABOVE else None
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for first in range(0, len(unknown), CHUNK):
            numbers = unknown[first : first + CHUNK]
            names = [_absolute(paths[number]) for number in numbers]
            stamps = _stamps(names)
            cached = _read_cache(names, stamps, cache)
            inspected = pool.map(inspect_image, [path for path in names if path not in cached])
            rows = []
            for number, path, stamp in zip(numbers, names, stamps, strict=True):
                info = cached[path] if path in cached else next(inspected)
                results.put(number, stamp[0], info)
                if path not in cached and not info.problem:
                    rows.append((os.fsencode(path), *stamp, *info))
            if rows:
                cache.executemany(INSERT, rows)
                cache.commit()
            if bar:
                bar.update(len(names))
    if bar:
        bar.close()


def _absolute(path: str) -> str:
    return path if os.path.isabs(path) else os.path.abspath(path)


def _read_cache(paths: list[str], stamps: list[Stamp], cache: sqlite3.Connection) -> dict[str, FileInfo]:
    """What the cache knows, by path, about the files that still have the stamp they had then."""
    marks = ",".join("?" * len(paths))
    rows = cache.execute(f"SELECT * FROM {TABLE} WHERE path IN ({marks})", [os.fsencode(path) for path in paths])
    current = dict(zip(paths, stamps, strict=True))
    cached = {}
    for name, nbytes, changed, *info in rows:
        path = os.fsdecode(name)
        if current[path] == (nbytes, changed):
            cached[path] = FileInfo(*info)
    return cached


def _stamps(paths: list[str]) -> list[Stamp]:
    """The stamps of files as they are now."""
    stamps = []
    for path in paths:
        try:
            status = os.stat(path)
            stamps.append((status.st_size, status.st_mtime_ns))
        except OSError:
            stamps.append(GONE)
    return stamps
