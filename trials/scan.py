"""Look at every image file once, before training: can it be decoded, how large is it, what is it made of.

Threads decode all files, JPEGs at an eighth of their size, which still reads every byte of them. What was found is kept
in ~/.cache/onepath (or $XDG_CACHE_HOME/onepath) and used again while a file's size and time of change stay the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sqlite3
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

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
ORIENTATION = 274  # EXIF tag
COLUMNS = "path BLOB PRIMARY KEY, bytes INT, changed INT, height INT, width INT, kind TEXT, odd TEXT, problem TEXT, digest INT"
GONE = (-1, -1)  # instead of size and time of change
PART = 1000  # files between two times that results are kept
UNKNOWN = "?"  # a kind of JPEG that only PIL may be able to decode
TABLE = "files_1"  # another name when what a scan finds changes


class Found(NamedTuple):
    """What a scan knows of a file.

    Attributes:
        height, width: pixels, as stored (without EXIF's rotation).
        kind: format and PIL's mode, such as "JPEG RGB".
        odd: what is unusual though it can be read, else "".
        problem: why it cannot be used, else "".
        digest: of the content, 64 bits.
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
        kinds, kind_numbers: the kinds there are; which of them each file is, (n,).
        digests: int64, (n,).
        odd, problems: those that are not "", by file number.
    """

    def __init__(self, n: int) -> None:
        self.sizes = np.zeros((n, 2), np.int32)
        self.kinds: list[str] = []
        self.kind_numbers = np.zeros(n, np.uint8)
        self.digests = np.zeros(n, np.int64)
        self.odd: dict[int, str] = {}
        self.problems: dict[int, str] = {}

    def __setitem__(self, number: int, found: Found) -> None:
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "scan.lock", "w") as lock:
            _lock(lock)
            with contextlib.closing(sqlite3.connect(folder / "scan.sqlite")) as cache:
                return _scan(paths, workers, desc, cache)
    except (OSError, sqlite3.Error) as error:  # no home, a full disk
        print(f"looking at all files, because what is known of them in '{folder}' cannot be used ({error})")
        with contextlib.closing(sqlite3.connect(":memory:")) as cache:
            return _scan(paths, workers, desc, cache)


def _lock(lock: IO[str]) -> None:
    """Of several processes one looks at files, the others then read what it found."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another process that looks at images")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _scan(paths: Sequence[str], workers: int, desc: str, cache: sqlite3.Connection) -> Scan:
    cache.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} ({COLUMNS})")
    select = f"SELECT bytes, changed, height, width, kind, odd, problem, digest FROM {TABLE} WHERE path = ?"
    insert = f"INSERT OR REPLACE INTO {TABLE} VALUES ({','.join('?' * 9)})"
    results = Scan(len(paths))
    bar = cli.progress(len(paths), desc=desc, unit="file") if len(paths) > 200 else None
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for first in range(0, len(paths), PART):
            names = [os.path.abspath(path) for path in paths[first : first + PART]]
            stamps = [stamp for part in pool.map(_stamps, _pieces(names)) for stamp in part]
            todo = []
            for number, (path, stamp) in enumerate(zip(names, stamps, strict=True), first):
                known = cache.execute(select, (os.fsencode(path),)).fetchone()
                if known and known[:2] == stamp:
                    results[number] = Found(*known[2:])
                else:
                    todo.append(number)
            new = []
            for number, found in zip(todo, pool.map(look, [names[number - first] for number in todo]), strict=True):
                results[number] = found
                if stamps[number - first] != GONE:
                    new.append((os.fsencode(names[number - first]), *stamps[number - first], *found))
            if new:
                cache.executemany(insert, new)
                cache.commit()
            if bar:
                bar.update(len(names))
    if bar:
        bar.close()
    return results


def _pieces(names: list[str]) -> list[list[str]]:
    return [names[first : first + 50] for first in range(0, len(names), 50)]


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
    import io

    from PIL import Image

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
                    (width, height), form = image.size, image.format or ""
                    sixteen = image.mode.startswith("I") or (form == "PNG" and content[24:25] == b"\x10")
                    kind = f"{form} {image.mode}" + (" 16-bit" if sixteen else "")
                    odd = _odd(image, path, kind)
                    problem = _corrupt(content) if form == "JPEG" else ""
                    if form != "JPEG" or problem:
                        image.load()  # raises where the image is not whole
                    problem = problem.removeprefix(UNKNOWN)
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


def _odd(image: object, path: str, kind: str) -> str:
    """What is unusual, but is understood."""
    form = image.format  # type: ignore[attr-defined]
    odd = []
    suffix = Path(path).suffix
    if form in SUFFIXES and suffix.lower() not in SUFFIXES[form]:
        odd.append(f"{form} named {suffix}")
    if kind not in ("JPEG RGB", "PNG RGB", "WEBP RGB", "BMP RGB", "TIFF RGB"):
        names = {
            "L": "grey",
            "1": "black and white",
            "P": "palette",
            "CMYK": "CMYK",
            "RGBA": "transparency",
            "LA": "transparency",
        }
        mode = kind.split(" ", 1)[1]
        odd.append("16-bit" if "16-bit" in mode else names.get(mode, mode))
    orientation = image.getexif().get(ORIENTATION, 1)  # type: ignore[attr-defined]
    if orientation not in (0, 1):
        odd.append(f"EXIF orientation {orientation}")
    return ", ".join(odd)
