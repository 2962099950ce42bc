"""The paths of a data set, which may be millions, in little memory."""

from __future__ import annotations

import os
import zlib
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload


class PackedPaths(Sequence[str]):
    """Many paths in one piece of memory: those of ImageNet take 60 MB, as a list of str 200 MB.

    Args:
        paths: the paths; names of files that are not UTF-8 are kept as they are.
        prefix: a folder, with a slash, that is put before each path when it is read.
    """

    def __init__(self, paths: Iterable[str] = (), prefix: str = "") -> None:
        self.prefix = prefix
        self._bytes, self._ends = bytearray(), array("q", (0,))
        for path in paths:
            self.append(path)

    def append(self, path: str) -> None:
        """Add a path at the end."""
        self._bytes += os.fsencode(path)
        self._ends.append(len(self._bytes))

    def under(self, folder: str | Path) -> PackedPaths:
        """The same paths, in a folder; the memory is shared."""
        other = PackedPaths(prefix=os.path.join(folder, ""))
        other._bytes, other._ends = self._bytes, self._ends
        return other

    def crc(self) -> int:
        """A checksum of all paths, without the prefix, 32 bits."""
        return zlib.crc32(self._bytes)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, number: int) -> str: ...

    @overload
    def __getitem__(self, number: slice) -> list[str]: ...

    def __getitem__(self, number: int | slice) -> str | list[str]:
        numbers = range(len(self))[number]
        if isinstance(numbers, range):
            return [self[k] for k in numbers]
        return self.prefix + os.fsdecode(bytes(self._bytes[self._ends[numbers] : self._ends[numbers + 1]]))
