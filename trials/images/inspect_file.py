"""Look into one image file: its format, its size, and what is wrong or unusual about it.

What is said of a file is a verdict on the file alone. Where the program or the machine fails, that is raised.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import math
from pathlib import Path
from typing import NamedTuple

from PIL import Image, features

from spaces.errors import InputError, Stopped, require_library
from trials.images import heic
from trials.images.looks import Looks, flat_of, looks_of
from trials.images.to_rgb import transparent_colour, unknown_white

with contextlib.suppress(Exception):  # `require_decoders` says that it is missing, before a file is opened
    import simplejpeg

# kinds of files that DALI decodes to the very pixels that PIL gives; all others are decoded by PIL
PLAIN = ("JPEG RGB", "JPEG L", "PNG RGB", "PNG L")
TRANSPARENT = " transparent"  # in a kind, where pixels are transparent
TURNED = " turned "  # in a kind, before the number of the EXIF orientation
# how files of a format are named
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "HEIF": heic.SUFFIXES,
}
# PIL's name -> ours: an MPO is several JPEGs in one file, as many cameras write them; the first is the photograph
FORMATS = {"MPO": "JPEG"}
# PIL's modes that are unusual, for people
MODES = {"L": "grey", "1": "black and white", "P": "palette"} | dict.fromkeys(("RGBA", "LA"), "opaque alpha channel")
ORIENTATION = 274  # number of the EXIF tag
UNDECIDED = "?"  # libjpeg cannot decode this kind of JPEG; PIL may be able to


class FileInfo(NamedTuple):
    """What a scan knows about a file.

    Attributes:
        height, width: pixels, as stored (without EXIF's rotation).
        kind: format, PIL's mode, whether pixels are transparent, and the EXIF orientation where there is one, such as "JPEG RGB",
            "PNG RGBA transparent" and "JPEG RGB turned 6".
        unusual: what is unusual about a file that can be read, else "".
        problem: why the file cannot be used, else "".
        digest: hash of the content, a signed number of 64 bits; 0: the file could not be read.
        flat: see Looks; "" for a file with a problem.
    """

    height: int
    width: int
    kind: str
    unusual: str
    problem: str
    digest: int
    flat: str = ""


def require_decoders() -> None:
    """Check that what decodes images is there.

    Raises:
        InputError: simplejpeg does not import, or this Pillow decodes no JPEG, PNG, TIFF or WebP.
    """
    require_library("simplejpeg", "the look for damaged images")
    if without := [name for name in ("jpg", "zlib", "libtiff", "webp") if not features.check(name)]:
        raise InputError(
            f"Pillow was built here without {', '.join(without)}; install another: pip install --force-reinstall pillow"
        )


def inspect_image(path: str) -> FileInfo:
    """Decode one file; whatever is wrong with it stands in the result.

    JPEGs are decoded at an eighth of their size, which still reads every byte of them.

    Raises:
        Stopped: a library is missing, or the machine can open no more files.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        require_innocence(error, path)
        return FileInfo(0, 0, "", "", f"cannot be opened ({error.strerror})", 0)
    digest = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), signed=True)
    height, width, kind, unusual, flat = 0, 0, "", "", ""
    problem = _not_an_image(content)
    if not problem:
        try:
            with Image.open(io.BytesIO(content)) as image:
                (width, height), form = image.size, FORMATS.get(str(image.format), str(image.format))
                key = transparent_colour(image)  # before EXIF is asked for, which loads a PNG
                sixteen = image.mode.startswith("I") or (form == "PNG" and content[24:25] == b"\x10")
                kind = f"{form} {image.mode}" + (" 16-bit" if sixteen else "")
                orientation = image.getexif().get(ORIENTATION, 1) if form != "TIFF" else 1  # a TIFF is turned by PIL
                turned = int(orientation) if orientation in range(2, 9) else 0
                unusual = _describe_unusual(image, path, form, kind.split(" ", 1)[1], turned)
                problem, looks = _look_at_jpeg(content) if form == "JPEG" else (unknown_white(image), Looks(False, ""))
                if problem:
                    image.load()  # raises where the image is not whole
                elif form != "JPEG":
                    looks = looks_of(image, key)  # raises too
                if looks.transparent:
                    unusual = _describe_unusual(image, path, form, TRANSPARENT.strip(), turned)
                    kind += TRANSPARENT
                kind += f"{TURNED}{turned}" if turned else ""
                problem, flat = problem.removeprefix(UNDECIDED), looks.flat
        except Image.UnidentifiedImageError:
            problem = "is no image"
        except Image.DecompressionBombError:
            problem = f"has more pixels than are read ({2 * (Image.MAX_IMAGE_PIXELS or 0):,}); make it smaller"
        except Exception as error:  # whatever a damaged file leads PIL to
            if isinstance(error, MemoryError):
                return FileInfo(0, 0, "", "", "needs more memory than there is", 0)
            require_innocence(error, path)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            problem = "is truncated" if "truncated" in reason.lower() else f"is damaged ({reason})"
    return FileInfo(height, width, kind, unusual, problem, digest, "" if problem else flat)


def require_innocence(error: Exception, path: str) -> None:
    """Stop where an error is none of the file that was read: nothing may be said of the file then.

    Raises:
        Stopped: a library does not import, a name in the code is unknown, or the machine can open no more files.
    """
    if isinstance(error, (ImportError, NameError)) or getattr(error, "errno", None) in (
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
    ):
        reason = getattr(error, "strerror", None) or str(error)
        raise Stopped(
            f"the program failed at '{path}' ({type(error).__name__}: {reason}), which says nothing about that file; mend that and "
            "run the same command again"
        ) from error


def _not_an_image(content: bytes) -> str:
    """Why a file is no image at first sight, else "": downloads often leave empty files or a page with an error."""
    if not content:
        return "is empty (0 bytes)"
    text = content[:512].lstrip().lower()
    return "is an HTML page" if text.startswith((b"<!doctype html", b"<html")) or b"<html" in text else ""


def _look_at_jpeg(content: bytes) -> tuple[str, Looks]:
    """Why a JPEG is damaged, else ""; UNDECIDED where PIL has to tell. And what it shows.

    libjpeg warns of damage in an image that it can decode, and PIL does not pass these warnings on; simplejpeg does.
    """
    small = {"fastdct": True, "fastupsample": True, "min_height": 1, "min_width": 1, "min_factor": 8}
    try:
        grey = simplejpeg.decode_jpeg(content, colorspace="GRAY", **small)
    except ValueError as error:
        if any(word in str(error) for word in ("Corrupt", "remature end", "Unsupported marker")):
            return f"is damaged ({error})", Looks(False, "")
        return UNDECIDED, Looks(False, "")
    flat = flat_of(grey)
    with contextlib.suppress(ValueError):  # no such conversion: the grey value is all that is known
        flat = flat and flat_of(simplejpeg.decode_jpeg(content, colorspace="RGB", **small))  # colours may be as bright
    return "", Looks(False, flat)


def orientation_of(kind: str) -> int:
    """The EXIF orientation that a kind of file has, 2 to 8; 1: as it is stored."""
    return int(kind.partition(TURNED)[2] or 1)


def _describe_unusual(image: Image.Image, path: str, form: str, mode: str, orientation: int) -> str:
    """What is unusual about an image that can be read, else ""; `orientation` is that of EXIF, 0 where there is none."""
    remarks = ["first image of several"] if form != "JPEG" and getattr(image, "is_animated", False) else []
    suffix = Path(path).suffix
    if form in SUFFIXES and suffix.lower() not in SUFFIXES[form]:
        remarks.append(f"{form} named {suffix}")
    if mode == TRANSPARENT.strip():
        remarks.append("transparency")
    elif mode != "RGB":
        remarks.append("16-bit" if "16-bit" in mode else MODES.get(mode, mode))
    if orientation:
        remarks.append(f"EXIF orientation {orientation}")
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
        remarks.append(f"very large '{image.width:,} x {image.height:,} pixels'")
    return ", ".join(remarks)
