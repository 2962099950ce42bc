"""Check an image folder: the work of `python -m trials.data check`."""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spaces.errors import InputError
from spaces.files import atomic
from trials.common import cli
from trials.common.cli import flag
from trials.common.commands import in_road
from trials.common.tables import WIDTH
from trials.images import large
from trials.images.background import colour_of, laid_on
from trials.images.blank import Blank, blank_classes, notable
from trials.images.check_config import Config, list_files
from trials.images.crops import losing_much
from trials.images.fit import CROP, WORDS
from trials.images.image_list import (
    PARTS,
    ImageList,
    count_transparent,
    select_images,
    transparent_images,
    turned_sizes,
    without_training_images,
)
from trials.images.listing import Listing
from trials.images.near_copies import find_near_copies, print_near_copies
from trials.images.options import require_data_folder
from trials.images.print_files import LIST_LENGTH, print_facts, print_files, print_list, print_two
from trials.images.scan import Scan, scan
from trials.images.sheet import draw_sheet, sheet_classes

NAME = 24  # characters of the name of a class in a line
UNEVEN = 0.25  # difference of the shares of transparent images of two classes that is worth a word


def check_folder(
    config: Config,
    network_for: Callable[[int, float], tuple[str, int]] | None = None,
    budget_for: Callable[[int, float, int], str] | None = None,
    listing: Listing | None = None,
) -> dict[str, Any]:
    """Look into all files of a folder, print what is in them, and draw a picture sheet.

    Args:
        network_for: the preset of a network for so many training images with such a median of their short sides, and its
            resolution in pixels; None: nothing is said of large images.
        budget_for: a limit on MACs, as it is typed, for such a network of so many classes; None: the supernet comes next.
        listing: the files of the folder, where they are listed already.
    Returns:
        What --json says; `left_out` are the files that training would leave out.
    Raises:
        InputError: the folder is missing or has no classes, or the picture cannot be written.
    """
    root = require_data_folder(config.data_root, "folder")
    beside = Path(config.out).absolute().parent  # runs/ may be missing, and is made
    if config.out and not os.access(beside if beside.exists() else beside.parent, os.W_OK):
        raise InputError(f"--out '{config.out}' cannot be written; name a file in a folder of yours, or '' for none")
    listing = listing or list_files(config)
    scanned = scan(listing.paths.under(listing.root), config.workers)
    images = select_images(listing, scanned, config.score_fraction, config.test_fraction)
    if config.exif_orientation:
        images = dataclasses.replace(images, sizes=turned_sizes(images))
    blank = blank_classes(scanned.flats, listing.paths, listing.labels, listing.classes, config.background)
    _print_facts(listing, scanned, images, config)
    _print_fit(images, config.fit)
    _print_transparent(images, config.background)
    _print_blank(blank)
    copies = find_near_copies(images, root, colour_of(config.background), config.workers)
    print_near_copies(copies)
    shrink = _advise_copy(images, root, config, network_for) if network_for and len(images.sizes) else None
    drawn, following = None, None
    if config.out and len(images.labels):
        try:
            with atomic(config.out) as temporary:
                draw_sheet(images, root, temporary, config)
        except OSError as error:
            raise InputError(f"--out '{config.out}' cannot be written ({error.strerror}); name another file") from None
        drawn = config.out
        print(f"\npicture: {drawn}")
        _print_undrawn(images.classes)
    if not without_training_images(images) and not in_road():  # the road goes on by itself
        following, why = _next(images, config, budget_for)
        cli.say_next(following, why)
    counts = np.bincount(images.labels, minlength=len(images.classes))
    return {
        "folder": config.data_root,
        "layout": listing.layout,
        "files": len(listing.paths) + len(listing.left_out),
        "parts": {part: int((images.parts == k).sum()) for k, part in enumerate(PARTS)},
        "classes": dict(zip(images.classes, counts.tolist(), strict=True)),
        "formats": {images.kinds[kind]: count for kind, count in Counter(images.kind_numbers.tolist()).most_common()},
        "transparent": count_transparent(images),
        "background": config.background,
        "fit": config.fit,
        "cut": losing_much(images.sizes),
        "blank": {one.name: one.images for one in blank},
        "near_copies": copies._asdict(),
        "unusual": _unusual(listing, scanned),
        "left_out": images.left_out,
        "not_read": images.others,
        "picture": drawn,
        "shrink": shrink,
        "next": following,
    }


def _next(images: ImageList, config: Config, budget_for: Callable[[int, float, int], str] | None) -> tuple[str, str]:
    """The command that comes next, and what it does: the whole road; the supernet alone where options decide which images are used."""
    words = _given(config)
    if budget_for is None or {word for word in words if word.startswith("--")} - {"--background", "--fit", "--mirror"}:
        words = ["--data", "folder", "--data-root", config.data_root, *words, "--out", "runs/mine"]
        return cli.command("supernet", *words), ""
    training = int((images.parts != PARTS.index("test")).sum())
    limit = budget_for(training, float(np.median(images.sizes.min(1))), len(images.classes))
    return cli.command(
        "run", config.data_root, *words, "--max-macs", limit
    ), "all of it; --dry-run says how long it takes"


def _advise_copy(
    images: ImageList, root: Path, config: Config, network_for: Callable[[int, float], tuple[str, int]]
) -> str | None:
    """Say what large images cost. Returns: the command that makes a copy with smaller ones; None where it is not worth it."""
    training = int((images.parts != PARTS.index("test")).sum())
    network = network_for(training, float(np.median(images.sizes.min(1))))
    side = large.advised_side(images.sizes, network[1])
    if not side:
        return None
    line = large.command(config.data_root, side, config.val_labels)
    large.print_advice(images.paths.under(root), images.sizes, training, network, (side, line))
    return line


def _unusual(listing: Listing, scanned: Scan) -> list[tuple[str, str]]:
    """Path and reason of files that are readable but odd."""
    return [(listing.paths[i], text) for i, text in sorted(scanned.unusual.items()) if i not in scanned.problems]


def _given(config: Config) -> list[str]:
    """The options that decide which images are used, and how, where they are not as they are by default."""
    words = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in ("data_root", "out", "workers") and value != field.default:
            words += [flag(field.name)] if value is True else [flag(field.name), str(value)]
    return words


def _print_facts(listing: Listing, scanned: Scan, images: ImageList, config: Config) -> None:
    """Print parts, sizes and formats, classes that differ in size, and the files that are unusual or left out."""
    # images per class, for each part
    counts = [np.bincount(images.labels[images.parts == k], minlength=len(images.classes)) for k in range(len(PARTS))]
    rows = [
        ("layout", listing.layout),
        ("files", f"{len(listing.paths) + len(listing.left_out):,}"),
        ("left out", f"{len(images.left_out):,}"),
    ]
    for part, n in zip(PARTS, counts, strict=True):
        rows.append(
            (f"{part} images", f"{n.sum():,}; per class {n.min():,} to {n.max():,}, median {np.median(n):,.0f}")
        )
    if len(images.sizes):
        height, width = images.sizes.T
        short = images.sizes.min(1)
        rows.append(("height", f"{height.min():,} to {height.max():,} pixels, median {np.median(height):,.0f}"))
        rows.append(("width", f"{width.min():,} to {width.max():,} pixels, median {np.median(width):,.0f}"))
        rows.append(("short side below 256", f"{(short < 256).mean():.1%}"))
    formats = Counter(images.kind_numbers.tolist()).most_common()
    rows += [(f"format {images.kinds[kind]}", f"{count:,}") for kind, count in formats[:LIST_LENGTH]]
    if rest := formats[LIST_LENGTH:]:
        rows.append((f"... and {len(rest)} other formats", f"{sum(count for _, count in rest):,}"))
    if clear := count_transparent(images):
        rows.append(("transparent", f"{clear:,}, {laid_on(config.background)} (--background)"))
    if cut := losing_much(images.sizes):
        rows.append(("not square", f"{cut:,} lose more than a fifth of their area in a central crop (--fit)"))
    print_facts(rows, "images")

    total = np.sum(counts, axis=0)
    order = np.argsort(total, kind="stable")
    if total.max() > 2 * total.min():
        print()
        few, many = (
            [f"{cli.short(images.classes[k], NAME)} {total[k]:,}" for k in some] for some in (order[:3], order[:-4:-1])
        )
        print_two("classes differ in size", f"fewest {', '.join(few)}", f"most {', '.join(many)}")
        print(
            "if the small ones matter as much: look at the balanced accuracy, and give run (or supernet and retrain)\n"
            "--class-weights balanced"
        )

    _print_unusual(_unusual(listing, scanned), len(listing.paths), config)
    print_files("left out", images.left_out)
    print_files("not read", images.others)
    for note in listing.notes:
        print("\n" + textwrap.fill(f"note: {note}", WIDTH, break_long_words=False, break_on_hyphens=False))


def _print_unusual(odd: list[tuple[str, str]], files: int, config: Config) -> None:
    """Name the files that are unusual; what more than half of all files are is said in one line, without names.

    Args:
        odd: path and reason.
        files: how many there are of all.
    """
    turned = f" (EXIF orientation is {'' if config.exif_orientation else 'not '}applied)"
    usual = {reason for reason, count in Counter(reason for _, reason in odd).items() if 2 * count > files}
    for reason in usual:  # one at most
        count = sum(why == reason for _, why in odd)
        many = f"all {files:,}" if count == files else f"{count:,} of {files:,}"
        print(f"\n{many} images: {reason}{turned if 'EXIF' in reason else ''}")
    print_files(f"unusual, but readable{turned}", [(path, reason) for path, reason in odd if reason not in usual])


def _print_fit(images: ImageList, fit: str) -> None:
    """Print what is done with images that a central crop would cut much of, and the other ways."""
    if not losing_much(images.sizes):
        return
    if fit == CROP:
        print(
            "\nof images that are not square the centre is cut out; give --fit squash or --fit pad to run or supernet to keep all of"
        )
        print(
            "them: resized to a square, or laid on one with borders in the colour of --background; look at the picture"
        )
    else:
        print(f"\nan image that is not square: {WORDS[fit]} (--fit {fit})")


def _print_transparent(images: ImageList, background: str) -> None:
    """Print which classes are transparent, where they differ in it: a network may learn that instead of what they show."""
    if not count_transparent(images):
        return
    totals = np.bincount(images.labels, minlength=len(images.classes))
    clear = np.bincount(images.labels[transparent_images(images)], minlength=len(images.classes))
    shares = clear / np.maximum(totals, 1)
    if shares.max() - shares.min() <= UNEVEN:
        return
    order = np.argsort(-shares, kind="stable")
    most, least = (
        ", ".join(f"{cli.short(images.classes[k], NAME)} {clear[k]:,} of {totals[k]:,}" for k in some)
        for some in (order[:3], order[:-4:-1])
    )
    print()
    print_two("classes differ in transparent images", f"most in {most}", f"least in {least}")
    print("a network may tell these classes by the background; look at the picture, or try another --background")


def _print_blank(blanks: list[Blank]) -> None:
    """Print which classes have images of one single colour."""
    if not blanks:
        return
    print(f"\none single colour, which teaches nothing: {sum(blank.images for blank in blanks):,}")
    for blank in blanks[:LIST_LENGTH]:
        print("  " + cli.short(str(blank), WIDTH - 2))
    if more := blanks[LIST_LENGTH:]:
        print(f"  and {sum(blank.images for blank in more):,} in {len(more)} more classes")
    ink = sum(blank.ink for blank in blanks)
    if notable(blanks) and ink:
        print(f"  {ink:,} of them are drawn in the colour of the background: try another --background")


def _print_undrawn(classes: list[str]) -> None:
    """Print which classes the picture sheet leaves out."""
    drawn = sheet_classes(len(classes))
    if rest := [cli.short(name, NAME) for label, name in enumerate(classes) if label not in drawn]:
        more = f" and {len(rest) - LIST_LENGTH:,} more" if len(rest) > LIST_LENGTH else ""
        print_list(f"  {len(drawn)} of {len(classes):,} classes are drawn, without", rest[:LIST_LENGTH], more)
