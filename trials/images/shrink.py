"""Copy an image folder with smaller images: the work of `python -m trials.data shrink`.

A copy has the same folders, so the same splits, classes and labels. Images whose short side is longer than wanted are resized,
with antialiasing, and those with an EXIF orientation turned upright; all others are copied as they are. JPEG stays JPEG (quality
95), WebP WebP (95), PNG PNG, with its transparency; of the other formats HEIC becomes JPEG and the rest PNG, with the suffix added.
A copy has the time of change of its original, by which a command that is given again knows what it has done.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from spaces.errors import InputError
from spaces.files import atomic, load_json, save_json
from trials.common import cli
from trials.images.inspect_file import FORMATS, orientation_of, require_innocence
from trials.images.listing import Listing, find_images
from trials.images.options import require_data_folder
from trials.images.print_files import print_facts, print_files
from trials.images.scan import BAR_ABOVE, Scan, scan
from trials.images.shrink_config import Config
from trials.images.to_rgb import to_rgb, transparent_colour, unknown_white, with_alpha
from trials.images.val_labels import LABEL_FILES

RECORD = ".shrink.json"  # in the copy: of which folder it is, and how small
QUALITY = 95  # of JPEG and WebP
# PIL's name of a format -> what the copy is, and what is added to its name
KEPT = {"JPEG": ("JPEG", ""), "PNG": ("PNG", ""), "WEBP": ("WEBP", ""), "HEIF": ("JPEG", ".jpg")}
OTHERS = ("PNG", ".png")
DRAFT = 2  # a JPEG is decoded at no less than so many times the side that is wanted, then resized
CHUNK = 64  # files after which Ctrl-C is heard


class Job(NamedTuple):
    """One image: its path, from the folder; whether it has to be resized or turned, or is copied as it is; a hash of its content."""

    path: str
    changes: bool
    digest: int


def shrink_folder(config: Config) -> dict[str, Any]:
    """Write the copy, print what was done, and the command that comes next.

    Returns:
        What --json says; `left_out` are files that cannot be read.
    Raises:
        InputError: the folder is missing or no image folder, or --out holds something else.
    """
    root = require_data_folder(config.data_root, "folder")
    listing = find_images(root, val_labels=config.val_labels)
    out = Path(config.out)
    _claim(out, listing.root, config.side)
    scanned = scan(listing.paths.under(listing.root), config.workers)
    jobs = _plan(listing, scanned, config.side)
    began = time.monotonic()
    bar = cli.progress(len(jobs), desc="shrink images", unit="file") if len(jobs) > BAR_ABOVE else None
    work = partial(_do, root=listing.root, out=out, side=config.side)
    told: list[str] = []  # what was done with each image: see `_do`
    with ThreadPoolExecutor(max(1, config.workers)) as pool:
        for first in range(0, len(jobs), CHUNK):
            told += pool.map(work, jobs[first : first + CHUNK])
            if bar:
                # What an earlier command did says nothing of the speed of this one.
                earlier = told[first:].count(THERE)
                cli.count_earlier(bar, earlier)
                bar.update(len(told) - first - earlier)
    if bar:
        bar.close()
    _copy_labels(listing, out)
    done = Counter(what if what in DONE else "left out" for what in told)
    bad = [(job.path, what) for job, what in zip(jobs, told, strict=True) if what not in DONE]
    left_out = sorted([*listing.left_out, *((listing.paths[i], why) for i, why in scanned.problems.items()), *bad])
    _print_done(config, done, jobs, scanned, len(left_out), out, time.monotonic() - began)
    equal = _equal_copies(jobs, out)
    if equal:
        cli.say(
            f"note: {equal:,} copies are equal to others, although their originals differ; of equal files a run uses one, so the parts of "
            "the copy are not those of the originals; a larger --side may keep them apart"
        )
    print_files("left out", left_out)
    following = cli.command(
        "data", "check", config.out, *(["--val-labels", config.val_labels] if config.val_labels else [])
    )
    print()
    cli.say_next(following)
    return {
        "folder": config.data_root,
        "layout": listing.layout,
        "files": len(listing.paths) + len(listing.left_out),
        "left_out": left_out,
        "copy": config.out,
        "shrunk": done["shrunk"],
        "equal_copies": equal,
        "next": following,
    }


THERE = "there already"
DONE = ("shrunk", "copied", THERE)


def _claim(out: Path, root: Path, side: int) -> None:
    """Write into --out of which folder it is the copy. Raises InputError: it holds something else, or cannot be written."""
    ours = {"of": str(root), "side": side}
    path = out / RECORD
    if path.exists():
        found = load_json(path, "record of a copy")
        if found != ours:
            was = found if isinstance(found, dict) else {}
            raise InputError(
                f"--out '{out}' is the copy of '{was.get('of')}' with a side of {was.get('side')}; give the same, or another --out"
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out '{out}' holds something else than a copy; give a folder that is new or empty")
    try:
        save_json(path, ours)
    except OSError as error:
        raise InputError(f"--out '{out}' cannot be written ({error.strerror}); give another folder") from None


def _plan(listing: Listing, scanned: Scan, side: int) -> list[Job]:
    """What is to be done with each image that can be read."""
    turned = np.array([orientation_of(kind) > 1 for kind in scanned.kinds], bool)[scanned.kind_numbers]
    changes = (scanned.sizes.min(1) > side) | turned
    return [
        Job(path, bool(changes[number]), int(scanned.digests[number]))
        for number, path in enumerate(listing.paths)
        if number not in scanned.problems
    ]


def _do(job: Job, root: Path, out: Path, side: int) -> str:
    """Make the copy of one image.

    Returns:
        One of DONE; or why the image cannot be read any more.
    Raises:
        OSError: the copy cannot be written.
    """
    source = root / job.path
    try:
        stamp = os.stat(source)
        names = _names(out / job.path) if job.changes else [out / job.path]
        if any(path.exists() and path.stat().st_mtime_ns == stamp.st_mtime_ns for path in names):
            return THERE
        image, form, suffix = small_image(source, side) if job.changes else (None, "", "")
    except Exception as error:  # it went away, or bad, since it was looked at
        require_innocence(error, str(source))
        return f"cannot be read any more ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    target = out / (job.path + suffix)
    with atomic(target) as temporary:
        if image is None:
            shutil.copyfile(source, temporary)
        else:
            save_image(image, temporary, form)
        os.utime(temporary, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    return "shrunk" if job.changes else "copied"


def _names(path: Path) -> list[Path]:
    """The names that a copy may have."""
    return [
        path.with_name(path.name + suffix)
        for suffix in ("", *{suffix for _, suffix in KEPT.values() if suffix}, OTHERS[1])
    ]


def small_image(path: str | Path, side: int) -> tuple[Image.Image, str, str]:
    """Read an image upright, and with a short side of at most so many pixels; smaller ones keep their size.

    Returns:
        The image, of 8 bits (L, RGB or RGBA); the format of its copy, and what is added to the name.
    Raises:
        OSError, ValueError, SyntaxError: as `torch_loader.decode`.
    """
    with open(path, "rb") as file, Image.open(file) as image:
        form = FORMATS.get(str(image.format), str(image.format))
        if reason := unknown_white(image):
            raise ValueError(reason)
        key, scale = transparent_colour(image), side / min(image.size)
        if form == "JPEG" and DRAFT * scale < 1:
            image.draft(None, (round(DRAFT * scale * image.width), round(DRAFT * scale * image.height)))
        plain = _of_8_bits(ImageOps.exif_transpose(image), key)
    scale = side / min(plain.size)
    if scale < 1:
        plain = plain.resize(
            (max(side, round(scale * plain.width)), max(side, round(scale * plain.height))), Image.Resampling.LANCZOS
        )
    kept, suffix = KEPT.get(form, OTHERS)
    if kept == "JPEG" and plain.mode == "RGBA":
        kept, suffix = OTHERS
    return plain, kept, suffix


def _of_8_bits(image: Image.Image, key: Any) -> Image.Image:
    """An image as L, RGB or, where it has transparency, RGBA; `key` is what `transparent_colour` said."""
    if image.mode.startswith("I"):
        pixels = to_rgb(image)
        if not isinstance(key, int):
            return Image.fromarray(pixels[:, :, 0])
        alpha = np.where(np.asarray(image) == key, 0, 255).astype(np.uint8)
        return Image.fromarray(np.dstack((pixels, alpha)), "RGBA")
    if image.has_transparency_data:
        return with_alpha(image, key)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def save_image(image: Image.Image, path: Any, form: str) -> None:
    """Write an image into a file, or into memory; a JPEG with as many values of colour as of brightness, as it is small."""
    how: dict[str, Any] = {"JPEG": {"quality": QUALITY, "subsampling": "4:4:4"}, "WEBP": {"quality": QUALITY}}
    image.save(path, form, **how.get(form, {}))


def _copy_labels(listing: Listing, out: Path) -> None:
    """Copy the files that hold the classes of a flat val, from all folders around it."""
    folders = {parent for path in listing.paths for parent in Path(path).parents} | {Path(".")}
    for folder in folders:
        for name in LABEL_FILES:
            source, target = listing.root / folder / name, out / folder / name
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.exists():
                with atomic(target) as temporary:
                    shutil.copyfile(source, temporary)


def _equal_copies(jobs: Sequence[Job], out: Path) -> int:
    """How many copies have the content of another one, although their originals differ. Only files of equal size are read."""
    by_size: dict[int, list[tuple[Path, int]]] = {}
    for job in jobs:
        for path in _names(out / job.path):
            if path.exists():
                by_size.setdefault(path.stat().st_size, []).append((path, job.digest))
    equal = 0
    for copies in by_size.values():
        if len(copies) > 1:
            originals: dict[bytes, set[int]] = {}
            for path, digest in copies:
                with open(path, "rb") as file:
                    originals.setdefault(hashlib.file_digest(file, "sha256").digest(), set()).add(digest)
            equal += sum(len(different) - 1 for different in originals.values())
    return equal


def _print_done(
    config: Config, done: Counter[str], jobs: Sequence[Job], scanned: Scan, left_out: int, out: Path, seconds: float
) -> None:
    """Print how many images there are of each kind, and how much smaller they are."""
    good = np.array([number not in scanned.problems for number in range(len(scanned.sizes))], bool)
    short = scanned.sizes[good].min(1) if good.any() else np.zeros(1)
    after = sum(path.stat().st_size for job in jobs for path in _names(out / job.path) if path.exists())
    rows = [("folder", str(out)), *((name, f"{done[name]:,}") for name in DONE)]
    rows += [
        ("left out", f"{left_out:,}"),
        ("short side, median", f"{np.median(short):,.0f} to {np.median(np.minimum(short, config.side)):,.0f} pixels"),
        ("size of the files", f"{scanned.nbytes[good].sum() / 1e6:,.1f} to {after / 1e6:,.1f} MB"),
        ("time", f"{seconds:,.1f} s"),
    ]
    print_facts(rows, "copy")
