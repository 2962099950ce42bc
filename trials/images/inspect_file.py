"""Look at one image file: its format, size, and what is wrong or unusual about it."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import Image

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
