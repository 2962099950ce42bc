"""Go through the folders of a data set and keep account of all that is not used: nothing below the root goes uncounted.

No file is opened. Links are followed, and a folder that was read already, as in a loop of links, is not read again.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from spaces.errors import InputError
from trials.images import heic

# as torchvision's ImageFolder, with further names of JPEG, and GIF
EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".jfif", ".jpe", ".gif",
    *(heic.SUFFIXES if heic.READS_HEIC else ()),
)  # fmt: skip
# suffixes of images that are not read -> why, and what to do
CONVERT = "which is not read; convert it to JPEG or PNG"
NOT_READ = {
    **dict.fromkeys(heic.SUFFIXES, f"is HEIC, {CONVERT}, or install what reads it: pip install pillow-heif"),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2"), f"is a raw photograph, {CONVERT}"),
    **{
        suffix: f"is {suffix[1:].upper()}, {CONVERT}"
        for suffix in (".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".tga", ".psd", ".svg", ".ico", ".exr", ".hdr", ".pnm", ".pbm",
                       ".dcm", ".pcx", ".qoi", ".dds", ".eps", ".apng", ".mpo")
    },
}  # fmt: skip
NAMED = 5  # reasons that a line names
MAX_DEPTH = 8  # folders that hold one folder each and are gone through
HIDDEN = (".", "__")  # beginnings of the names of files and folders that are passed over
SPECIAL = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
Reason = tuple[str, str]  # path from the root, of a folder with / at its end; why it is not used


class Walk:
    """Reads folders below a root.

    Args:
        root: folder that all paths start from.
    Attributes:
        left_out: images that are not used, and folders that may hold some and cannot be read.
        others: what is no image by its name, or is left alone, such as tables and hidden files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out: list[Reason] = []
        self.others: list[Reason] = []

    def entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """What is in a folder, sorted by name, but for what is hidden.

        Raises:
            InputError: it cannot be read.
        """
        try:
            return sorted((e for e in _read(folder) if not e.name.startswith(HIDDEN)), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(
                f"folder '{folder}' cannot be read ({error.strerror}); give this user the right to read it, or move it away"
            ) from None

    def folders(self, folder: Path) -> list[str]:
        """Names of the folders in a folder, in order."""
        return [entry.name for entry in self.entries(folder) if is_folder(entry)]

    def images(self, folder: Path) -> list[str]:
        """Paths of the images right in a folder, in order."""
        return [entry.path for entry in self.entries(folder) if is_image(entry.name) and _is_file(entry)]

    def through(self, folder: Path, stop: Collection[str] = (), *, steps: int = MAX_DEPTH) -> Path:
        """Go on from a folder that holds one folder and no image into that one.

        Args:
            stop: names, in lower case, of folders that are not gone into.
            steps: how many folders are gone into at most.
        """
        for _ in range(steps):
            inside = self.folders(folder)
            if len(inside) != 1 or inside[0].lower() in stop or inside[0] in stop or self.images(folder):
                break
            folder = folder / inside[0]
        return folder

    def account(self, used: dict[Path, set[str]]) -> None:
        """Keep account of what is beside the folders and files that are used.

        Args:
            used: folder -> names of those in it; folders on the way from the root need not be named.
        """
        for folder in list(used):
            while folder != self.root:
                used.setdefault(folder.parent, set()).add(folder.name)
                folder = folder.parent
        reason = "is beside the folders that are read"
        for folder, names in used.items():
            for entry in _read(folder):
                if entry.name in names:
                    continue
                if entry.name.startswith(HIDDEN) or not is_folder(entry):
                    self._account_file(entry, reason)
                else:
                    self.others.append((self._relative(entry.path) + "/", reason))

    def images_below(self, folder: Path) -> list[str]:
        """Paths of all images in a folder and in the folders inside, in order."""
        paths = []
        seen = {_identity(parent) for parent in folder.parents}
        waiting = [str(folder)]
        while waiting:
            below = waiting.pop()
            try:
                entries, identity = _read(below), _identity(below)
            except OSError as error:
                self.left_out.append((self._relative(below) + "/", f"cannot be read ({error.strerror})"))
                continue
            if identity in seen:
                self.others.append(
                    (self._relative(below) + "/", "is a link to a folder around it, or to one that was read already")
                )
                continue
            seen.add(identity)
            for entry in entries:
                if is_folder(entry) and not entry.name.startswith(HIDDEN):
                    waiting.append(entry.path)
                elif is_image(entry.name) and not entry.name.startswith(".") and _is_file(entry):
                    paths.append(entry.path)
                else:
                    self._account_file(entry)
        return sorted(paths)

    def _account_file(self, entry: os.DirEntry[str], unused: str = "") -> None:
        """Keep account of a file that is not used, of something hidden, or of what is neither file nor folder.

        Args:
            unused: why an image that could be read is not used.
        """
        path, suffix = self._relative(entry.path), os.path.splitext(entry.name)[1].lower()
        if entry.name.startswith("." if suffix in EXTENSIONS else HIDDEN):
            self.others.append((path + "/" * is_folder(entry), "is hidden"))
        elif suffix in EXTENSIONS or suffix in NOT_READ:
            reason = NOT_READ.get(suffix, unused) if _is_file(entry) else _special(entry.path)
            self.left_out.append((path, reason))
        else:
            self.others.append((path, f"is no image by its suffix {suffix}" if suffix else "has no suffix of an image"))

    def _relative(self, path: str) -> str:
        return path[len(os.path.join(self.root, "")) :].replace(os.sep, "/")


def by_reason(reasons: list[Reason]) -> str:
    """How many files and folders there are for each of the most frequent reasons, for people."""
    counts = Counter(reason for _, reason in reasons).most_common()
    named = [f"{count:,} {reason.removeprefix('is ').removeprefix('has ')}" for reason, count in counts[:NAMED]]
    rest = sum(count for _, count in counts[NAMED:])
    return ", ".join(named) + f", ... and {rest:,} more" * bool(rest)


def is_image(name: str) -> bool:
    """Whether a file is an image that is read, by its name."""
    return name.lower().endswith(EXTENSIONS)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; False where a link leads in circles."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link to one: nothing that reading would wait for, as a FIFO."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _special(path: str) -> str:
    """What something is that is neither a file nor a folder."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:  # a link that leads nowhere, or in circles
        return f"is a link that cannot be followed ({error.strerror})"
    return f"is {SPECIAL.get(stat.S_IFMT(mode), 'something special')}, no file"


def _read(folder: Path | str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _identity(folder: Path | str) -> tuple[int, int]:
    """Tells a folder from others, by whatever path it is reached. Raises OSError: it is not there."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino
