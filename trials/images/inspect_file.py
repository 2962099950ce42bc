"""Look into one image file: its format, its size, and what is wrong or unusual about it."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import NamedTuple

import simplejpeg
from PIL import Image

# kinds of files that DALI decodes to the very pixels that PIL gives; all others are decoded by PIL
PLAIN = ("JPEG RGB", "JPEG L", "PNG RGB", "PNG L")
# how files of a format are named
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
}
# PIL's name -> ours: an MPO is several JPEGs in one file, as many cameras write them; the first is the photograph
FORMATS = {"MPO": "JPEG"}
# PIL's modes that are unusual, for people
MODES = {"L": "grey", "1": "black and white", "P": "palette", "RGBA": "transparency", "LA": "transparency"}
ORIENTATION = 274  # number of the EXIF tag
UNDECIDED = "?"  # libjpeg cannot decode this kind of JPEG; PIL may be able to


class FileInfo(NamedTuple):
    """What a scan knows about a file.

    Attributes:
        height, width: pixels, as stored (without EXIF's rotation).
        kind: format and PIL's mode, such as "JPEG RGB".
        unusual: what is unusual about a file that can be read, else "".
        problem: why the file cannot be used, else "".
        digest: hash of the content, a signed number of 64 bits; 0: the file could not be read.
    """

    height: int
    width: int
    kind: str
    unusual: str
    problem: str
    digest: int


def inspect_image(path: str) -> FileInfo:
    """Decode one file; whatever is wrong with it stands in the result.

    JPEGs are decoded at an eighth of their size, which still reads every byte of them.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return FileInfo(0, 0, "", "", f"cannot be opened ({error.strerror})", 0)
    digest = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), signed=True)
    height, width, kind, unusual = 0, 0, "", ""
    problem = _not_an_image(content)
    if not problem:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(io.BytesIO(content)) as image:
                    (width, height), form = image.size, FORMATS.get(str(image.format), str(image.format))
                    sixteen = image.mode.startswith("I") or (form == "PNG" and content[24:25] == b"\x10")
                    kind = f"{form} {image.mode}" + (" 16-bit" if sixteen else "")
                    unusual = _describe_unusual(image, path, form, kind.split(" ", 1)[1])
                    problem = _jpeg_problem(content) if form == "JPEG" else ""
                    if form != "JPEG" or problem:
                        image.load()  # raises where the image is not whole
                    problem = problem.removeprefix(UNDECIDED)
        except MemoryError:
            return FileInfo(0, 0, "", "", "needs more memory than there is", 0)
        except Image.UnidentifiedImageError:
            problem = "is no image"
        except Exception as error:  # whatever a damaged file leads PIL to
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            problem = "is truncated" if "truncated" in reason.lower() else f"is damaged ({reason})"
    return FileInfo(height, width, kind, unusual, problem, digest)


def _not_an_image(content: bytes) -> str:
    """Why a file is no image at first sight, else "": downloads often leave empty files or a page with an error."""
    if not content:
        return "is empty (0 bytes)"
    text = content[:512].lstrip().lower()
    return "is an HTML page" if text.startswith((b"<!doctype html", b"<html")) or b"<html" in text else ""


def _jpeg_problem(content: bytes) -> str:
    """Why a JPEG is damaged, else ""; UNDECIDED where PIL has to tell.

    libjpeg warns of damage in an image that it can decode, and PIL does not pass these warnings on; simplejpeg does.
    """
    try:
        simplejpeg.decode_jpeg(
            content, colorspace="GRAY", fastdct=True, fastupsample=True, min_height=1, min_width=1, min_factor=8
        )
    except ValueError as error:
        if any(word in str(error) for word in ("Corrupt", "remature end", "Unsupported marker")):
            return f"is damaged ({error})"
        return UNDECIDED
    return ""


def _describe_unusual(image: Image.Image, path: str, form: str, mode: str) -> str:
    """What is unusual about an image that can be read, else ""."""
    remarks = []
    suffix = Path(path).suffix
    if form in SUFFIXES and suffix.lower() not in SUFFIXES[form]:
        remarks.append(f"{form} named {suffix}")
    if mode != "RGB":
        remarks.append("16-bit" if "16-bit" in mode else MODES.get(mode, mode))
    orientation = image.getexif().get(ORIENTATION, 1)
    if orientation not in (0, 1):
        remarks.append(f"EXIF orientation {orientation}")
    return ", ".join(remarks)
