"""Check an image folder: the work of `python -m trials.data check`."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spaces.errors import InputError
from spaces.files import atomic
from trials.common import cli
from trials.common.cli import flag
from trials.common.commands import in_road
from trials.images import large
from trials.images.background import colour_of
from trials.images.blank import SINGLE, blank_classes
from trials.images.check_config import Config, Proposal, list_files
from trials.images.crops import losing_much
from trials.images.image_list import (
    PARTS,
    ImageList,
    count_transparent,
    turned_sizes,
    without_training_images,
)
from trials.images.listing import Listing
from trials.images.options import KEPT_BY_RUNS, require_data_folder
from trials.images.print_check import (
    print_blank,
    print_fit,
    print_images,
    print_near_copies,
    print_transparent,
    print_undrawn,
)
from trials.images.propose_groups import look_for_copies
from trials.images.scan import Scan, scan
from trials.images.selection import selector
from trials.images.sheet import draw_sheet


def check_folder(
    config: Config,
    network_for: Callable[[int, float], tuple[str, int]] | None = None,
    propose: Callable[[Config], Proposal] | None = None,
    listing: Listing | None = None,
) -> dict[str, Any]:
    """Look into all files of a folder, print what is in them, and draw a picture sheet.

    Args:
        network_for: the preset of a network for so many training images with such a median of their short sides, and its
            resolution in pixels; None: nothing is said of large images.
        propose: what trials.run is advised to be given for the folder; None: the supernet comes next.
        listing: the files of the folder, where they are listed already.
    Returns:
        What --json says; `left_out` are the files that cannot be used, `left_out_as_asked` those that an option leaves out.
    Raises:
        InputError: the folder is missing or has no classes, or the picture cannot be written.
    """
    root = require_data_folder(config.data_root, "folder")
    beside = Path(config.out).absolute().parent  # runs/ may be missing, and is made
    if config.out and not os.access(beside if beside.exists() else beside.parent, os.W_OK):
        raise InputError(f"--out '{config.out}' cannot be written; name a file in a folder of yours, or '' for none")
    listing = listing or list_files(config)
    scanned = scan(listing.paths.under(listing.root), config.workers)
    select = selector(config, listing, scanned, config.score_fraction)
    images = select(None)
    if config.exif_orientation:
        images = dataclasses.replace(images, sizes=turned_sizes(images))
    blank = blank_classes(images.flats, images.paths, images.labels, images.classes, config.background)
    unusual = _unusual(listing, scanned, images)
    as_asked = [entry for entry in images.left_out if entry[1].startswith(SINGLE)]
    bad = [entry for entry in images.left_out if not entry[1].startswith(SINGLE)]
    print_images(listing, unusual, images, config, bad, as_asked)
    print_fit(images, config.fit)
    print_transparent(images, config.background)
    print_blank(blank)
    copies, proposal = look_for_copies(images, listing, select, colour_of(config.background), config.workers)
    print_near_copies(copies, proposal)
    shrink = _advise_copy(images, root, config, network_for) if network_for and len(images.sizes) else None
    proposed = propose(config) if propose and len(images.labels) else None
    sees = config.resolution or (proposed.resolution if proposed else None)
    drawn, following = None, None
    if config.out and len(images.labels):
        try:
            with atomic(config.out) as temporary:
                draw_sheet(images, root, temporary, config, sees)
        except OSError as error:
            raise InputError(f"--out '{config.out}' cannot be written ({error.strerror}); name another file") from None
        drawn = config.out
        seen = f", images as networks see them at {sees}x{sees} pixels" if sees else ""
        print(f"\npicture: {drawn}{seen}")
        print_undrawn(images.classes)
    if not without_training_images(images) and not in_road():  # the road goes on by itself
        better = dataclasses.replace(config, group_by=proposal.expression) if proposal else config
        following, why = _next(better, proposed)
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
        "near_copies": copies._asdict() | {"group_by": proposal and proposal.expression},
        "groups": images.groups and len(np.unique(images.groups.numbers)),
        "unusual": unusual,
        "left_out": bad,
        "left_out_as_asked": as_asked,
        "not_read": images.others,
        "picture": drawn,
        "resolution": sees,
        "shrink": shrink,
        "next": following,
    }


def _next(config: Config, proposed: Proposal | None) -> tuple[str, str]:
    """The command that comes next, and what it does: the whole road; the supernet alone where options decide which images are used."""
    words, options = _given(config), dict(proposed.options) if proposed else {}
    if config.resolution:
        options["resolution"] = config.resolution
    alone = {word for word in words if word.startswith("--")} - {flag(name) for name in KEPT_BY_RUNS}
    if proposed is None or alone:
        options.pop("max-macs", None)
        words = ["--data", "folder", "--data-root", config.data_root, *words, *_typed(options), "--out", "runs/mine"]
        return cli.command("supernet", *words), ""
    why = "; ".join(filter(None, ("all of it", proposed.why, "--dry-run says how long it takes")))
    return cli.command("run", config.data_root, *words, *_typed(options)), why


def _typed(options: Mapping[str, Any]) -> list[str]:
    """Options as they are typed."""
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


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


def _unusual(listing: Listing, scanned: Scan, images: ImageList) -> list[tuple[str, str]]:
    """Path and reason of images that are used and odd."""
    left_out = {path for path, _ in images.left_out}
    odd = ((listing.paths[i], text) for i, text in sorted(scanned.unusual.items()))
    return [(path, text) for path, text in odd if path not in left_out]


def _given(config: Config) -> list[str]:
    """The options that decide which images are used, and how, where they are not as they are by default."""
    words = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in ("data_root", "out", "workers", "resolution") and value != field.default:
            words += [flag(field.name)] if value is True else [flag(field.name), str(value)]
    return words
