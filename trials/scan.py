"""Look at every image file once, before training: can it be decoded, how large is it, what is it made of.

Threads decode all files, JPEGs at an eighth of their size, which still reads every byte of them. What was found is kept
in ~/.cache/onepath (or $XDG_CACHE_HOME/onepath) and used again while a file's size and time of change stay the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import sqlite3
import warnings
import zlib
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

from trials import cli

# What DALI decodes to the very image that PIL gives; all else goes through PIL.
PLAIN = ("JPEG RGB", "JPEG L", "PNG RGB", "PNG L")
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
}
FORMATS = {"MPO": "JPEG"}  # several JPEGs in one file, as many cameras write them; the first is the photograph
MODES = {"L": "grey", "1": "black and white", "P": "palette", "RGBA": "transparency", "LA": "transparency"}
ORIENTATION = 274  # EXIF tag
TABLE = "files_1"  # another name when what a scan finds changes
COLUMNS = "path BLOB PRIMARY KEY, bytes INT, changed INT, height INT, width INT, kind TEXT, odd TEXT, problem TEXT, digest INT"
INSERT = f"INSERT OR REPLACE INTO {TABLE} VALUES ({','.join('?' * 9)})"
GONE = (-1, -1)  # instead of size and time of change
PART = 1000  # files between two times that results are kept
UNKNOWN = "?"  # a kind of JPEG that only PIL may be able to decode


class Found(NamedTuple):
    """What a scan knows of a file.

    Attributes:
        height, width: pixels, as stored (without EXIF's rotation).
        kind: format and PIL's mode, such as "JPEG RGB".
        odd: what is unusual though it can be read, else "".
        problem: why it cannot be used, else "".
        digest: of the content, 64 bits; 0: the file could not be read.
    """

    height: int
    width: int
    kind: str
    odd: str
    problem: str
    digest: int


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


def look(path: str) -> Found:
    """Decode one file."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return Found(0, 0, "", "", f"cannot be opened ({error.strerror})", 0)
    digest = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), signed=True)
    height, width, kind, odd = 0, 0, "", ""
    problem = _not_an_image(content)
    if not problem:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(io.BytesIO(content)) as image:
                    (width, height), form = image.size, FORMATS.get(str(image.format), str(image.format))
                    sixteen = image.mode.startswith("I") or (form == "PNG" and content[24:25] == b"\x10")
                    kind = f"{form} {image.mode}" + (" 16-bit" if sixteen else "")
                    odd = _odd(image, path, form, kind.split(" ", 1)[1])
                    problem = _corrupt(content) if form == "JPEG" else ""
                    if form != "JPEG" or problem:
                        image.load()  # raises where the image is not whole
                    problem = problem.removeprefix(UNKNOWN)
        except MemoryError:
            return Found(0, 0, "", "", "needs more memory than there is", 0)
        except Image.UnidentifiedImageError:
            problem = "is no image"
        except Exception as error:  # whatever a damaged file leads PIL to
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            problem = "is truncated" if "truncated" in reason.lower() else f"is damaged ({reason})"
    return Found(height, width, kind, odd, problem, digest)


def _not_an_image(content: bytes) -> str:
    if not content:
        return "is empty (0 bytes)"
    text = content[:512].lstrip().lower()
    return "is an HTML page" if text.startswith((b"<!doctype html", b"<html")) or b"<html" in text else ""


def _corrupt(content: bytes) -> str:
    """What libjpeg has to say of a JPEG that it can decode; PIL does not pass that on."""
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(
            content, colorspace="GRAY", fastdct=True, fastupsample=True, min_height=1, min_width=1, min_factor=8
        )
    except ValueError as error:
        if any(word in str(error) for word in ("Corrupt", "remature end", "Unsupported marker")):
            return f"is damaged ({error})"
        return UNKNOWN
    return ""


def _odd(image: Image.Image, path: str, form: str, mode: str) -> str:
    """What is unusual, but is understood."""
    odd = []
    suffix = Path(path).suffix
    if form in SUFFIXES and suffix.lower() not in SUFFIXES[form]:
        odd.append(f"{form} named {suffix}")
    if mode != "RGB":
        odd.append("16-bit" if "16-bit" in mode else MODES.get(mode, mode))
    orientation = image.getexif().get(ORIENTATION, 1)
    if orientation not in (0, 1):
        odd.append(f"EXIF orientation {orientation}")
    return ", ".join(odd)
