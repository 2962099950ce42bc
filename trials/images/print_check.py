"""What `python -m trials.data check` prints of a folder's images."""

from __future__ import annotations

import textwrap
from collections import Counter

import numpy as np

from trials.common import cli
from trials.common.tables import WIDTH
from trials.images.background import laid_on
from trials.images.blank import Blank, notable
from trials.images.check_config import Config
from trials.images.crops import losing_much
from trials.images.fit import CROP, WORDS
from trials.images.groups import groups_text
from trials.images.image_list import (
    PARTS,
    ImageList,
    count_transparent,
    notes_on_groups,
    transparent_images,
)
from trials.images.listing import Listing
from trials.images.near_copies import NearCopies, near_copies_text
from trials.images.print_files import LIST_LENGTH, print_facts, print_files, print_list, print_two
from trials.images.propose_groups import Proposal
from trials.images.sheet import sheet_classes
from trials.images.walk import Reason

FRAMES = "docs/data.md#frames-of-one-scene"
NAME = 24  # characters of the name of a class in a line
UNEVEN = 0.25  # difference of the shares of transparent images of two classes that is worth a word


def print_images(
    listing: Listing,
    unusual: list[Reason],
    images: ImageList,
    config: Config,
    bad: list[Reason],
    as_asked: list[Reason],
) -> None:
    """Print parts, sizes and formats, classes that differ in size, and the files that are unusual or left out.

    Args:
        unusual: path and reason of files that are readable but odd.
        bad, as_asked: of those that are left out, because they cannot be used, and because --blank says so.
    """
    # images per class, for each part
    counts = [np.bincount(images.labels[images.parts == k], minlength=len(images.classes)) for k in range(len(PARTS))]
    rows = [
        ("layout", listing.layout),
        ("files", f"{len(listing.paths) + len(listing.left_out):,}"),
        ("left out", f"{len(bad):,}"),
        *([(f"left out (--blank {config.blank})", f"{len(as_asked):,}")] if as_asked else []),
    ]
    for part, n in zip(PARTS, counts, strict=True):
        rows.append(
            (f"{part} images", f"{n.sum():,}; per class {n.min():,} to {n.max():,}, median {np.median(n):,.0f}")
        )
    if images.groups:
        rows.append(("groups (--group-by)", groups_text(images.groups, images.labels)))
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

    _print_unusual(unusual, len(images.labels), config)
    print_files("left out", bad)
    print_files(f"left out, as --blank {config.blank} says", as_asked)
    print_files("not read", images.others)
    for note in [*listing.notes, *notes_on_groups(images)]:
        print("\n" + textwrap.fill(f"note: {note}", WIDTH, break_long_words=False, break_on_hyphens=False))


def _print_unusual(odd: list[tuple[str, str]], files: int, config: Config) -> None:
    """Name the files that are unusual; what more than half of all files are is said in one line, without names.

    Args:
        odd: path and reason.
        files: how many images are used.
    """
    turned = f" (EXIF orientation is {'' if config.exif_orientation else 'not '}applied)"
    usual = {reason for reason, count in Counter(reason for _, reason in odd).items() if 2 * count > files}
    for reason in usual:  # one at most
        count = sum(why == reason for _, why in odd)
        many = f"all {files:,}" if count == files else f"{count:,} of {files:,}"
        print(f"\n{many} images: {reason}{turned if 'EXIF' in reason else ''}")
    print_files(f"unusual, but readable{turned}", [(path, reason) for path, reason in odd if reason not in usual])


def print_fit(images: ImageList, fit: str) -> None:
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


def print_transparent(images: ImageList, background: str) -> None:
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


def print_blank(blanks: list[Blank]) -> None:
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
    print("  --blank leave-out leaves them out")


def print_near_copies(found: NearCopies, proposal: Proposal | None) -> None:
    """Print one sentence where many test images have a near copy among the training images, and what keeps them together."""
    if not found.notable:
        return
    what, why = near_copies_text(found)
    if proposal:
        after = f"{proposal.copies.near:,} of {proposal.copies.test:,}"
        why += f"; with {proposal.option} whole scenes are in one part, and it would be {after}"
    elif not found.across:
        why += "; --group-by, or folders train/ and val/, put whole scenes into one part"
    text = f"{what}: {why}: {FRAMES}"
    print("\n" + textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def print_undrawn(classes: list[str]) -> None:
    """Print which classes the picture sheet leaves out."""
    drawn = sheet_classes(len(classes))
    if rest := [cli.short(name, NAME) for label, name in enumerate(classes) if label not in drawn]:
        more = f" and {len(rest) - LIST_LENGTH:,} more" if len(rest) > LIST_LENGTH else ""
        print_list(f"  {len(drawn)} of {len(classes):,} classes are drawn, without", rest[:LIST_LENGTH], more)
