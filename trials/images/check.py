"""What `python -m trials.data check` shows of an image folder."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from spaces.errors import InputError
from spaces.files import atomic
from trials.common import cli
from trials.common.cli import option, reuse
from trials.images.crops import DRAWS, central_views, random_views
from trials.images.image_list import PARTS, Images, choose
from trials.images.listing import find_images
from trials.images.options import DataOptions, default_workers, existing
from trials.images.scan import scan
from trials.images.torch_loader import TorchLoader

SHOWN = 10  # files of a kind, classes
SHEET_CLASSES, SHEET_IMAGES, SHEET_PIXELS = 10, 8, 96


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of trials.data check."""

    data_root: str = option(help="Image folder to look at")
    out: str = option(
        "check.png", "Picture sheet to write: a row per class, half as scored, half as trained; '' means none"
    )
    score_fraction: float = option(0.1, "Part of the training images that is held out to score candidates")
    val_labels: str = reuse(DataOptions, "val_labels")
    classes: int = reuse(DataOptions, "classes")
    per_class: int = reuse(DataOptions, "per_class")
    workers: int = reuse(DataOptions, "workers")

    def __post_init__(self) -> None:
        if self.workers is None:
            object.__setattr__(self, "workers", default_workers())
        if not 0 < self.score_fraction < 1:
            raise InputError(f"--score-fraction {self.score_fraction} is out of range; give a number between 0 and 1")
        cli.not_negative(self, "workers", "classes", "per_class")


def check(config: Config) -> None:
    """Look at all files and print what was found; exit code 1 if there are files that would be left out."""
    root = existing(config.data_root, "folder")
    if config.out and not os.access(Path(config.out).absolute().parent, os.W_OK):
        raise InputError(f"--out '{config.out}' cannot be written; name a file in a folder of yours, or '' for none")
    listing = find_images(root, val_labels=config.val_labels, classes=config.classes, per_class=config.per_class)
    found = scan(listing.paths.under(listing.root), config.workers)
    images = choose(listing, found, config.score_fraction)
    counts = [np.bincount(images.labels[images.parts == k], minlength=len(images.classes)) for k in range(len(PARTS))]
    rows = [("layout", listing.layout), ("files", f"{len(listing.paths):,}"), ("left out", f"{len(images.left_out):,}")]
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
    for kind, count in Counter(images.kind_numbers.tolist()).most_common():
        rows.append((f"format {images.kinds[kind]}", f"{count:,}"))
    print(cli.table(rows, ("images", ""), as_is=True))
    total = np.sum(counts, axis=0)
    order = np.argsort(total, kind="stable")
    if total.max() > 2 * total.min():
        few = ", ".join(f"{images.classes[k]} {total[k]:,}" for k in order[:3])
        many = ", ".join(f"{images.classes[k]} {total[k]:,}" for k in order[:-4:-1])
        print(f"\nclasses differ in size: fewest {few}; most {many}")
    odd = [(listing.paths[i], text) for i, text in sorted(found.odd.items()) if i not in found.problems]
    _list("unusual, but readable (EXIF orientation is not applied)", odd)
    _list("left out", images.left_out)
    if config.out and len(images.labels):
        try:
            with atomic(config.out) as temporary:
                _sheet(images, root, temporary)
        except OSError as error:
            raise InputError(f"--out '{config.out}' cannot be written ({error.strerror}); name another file") from None
        print(f"\npicture: {config.out}")
    if images.left_out:
        sys.exit(1)


def _list(title: str, items: list[tuple[str, str]]) -> None:
    """The first few of each reason."""
    if not items:
        return
    kinds = Counter(reason.split(" '")[0] for _, reason in items)
    print(f"\n{title}: {len(items):,}")
    for reason, count in kinds.most_common():
        paths = [f"'{path}'{own.removeprefix(reason)}" for path, own in items if own.split(" '")[0] == reason]
        shown = min(count, max(1, SHOWN // len(kinds)))
        more = f" and {count - shown:,} more" if count > shown else ""
        print(f"  {reason} ({count:,}): " + ", ".join(paths[:shown]) + more)


def _sheet(images: Images, root: Path, path: Path) -> None:
    """A row per class: the same images as they are scored, and as they are trained."""
    import torch
    from PIL import Image, ImageDraw

    paths, labels, sizes, classes = images.paths, images.labels, images.sizes, images.classes
    loader = TorchLoader(paths.under(root), sizes, images.nbytes, SHEET_PIXELS, workers=0)
    draw = np.random.default_rng(0)
    margin, line = 160, SHEET_PIXELS + 4
    rows = sorted(draw.permutation(len(classes))[:SHEET_CLASSES].tolist())
    sheet = Image.new("RGB", (margin + SHEET_IMAGES * line, 20 + len(rows) * line), "white")
    text = ImageDraw.Draw(sheet)
    text.text((margin, 4), "as scored", fill="black")
    text.text(
        (margin + SHEET_IMAGES // 2 * line, 4), "as trained: random crop, mirrored half of the time", fill="black"
    )
    for row, label in enumerate(rows):
        members = np.flatnonzero(labels == label)
        chosen = draw.permutation(members)[: SHEET_IMAGES // 2]
        if not len(chosen):
            continue
        scored, _ = loader.one_by_one(central_views(chosen, sizes[chosen], SHEET_PIXELS, spos=False))
        trained, _ = loader.one_by_one(
            random_views(chosen, sizes[chosen], SHEET_PIXELS, draw.random((len(chosen), DRAWS)))
        )
        text.text((4, 24 + row * line), f"{classes[label][:24]}\n{len(members):,} images", fill="black")
        for half, batch in enumerate((scored, trained)):
            for place, pixels in enumerate(torch.unbind(batch)):
                corner = (margin + (half * SHEET_IMAGES // 2 + place) * line, 20 + row * line)
                sheet.paste(Image.fromarray(pixels.permute(1, 2, 0).numpy()), corner)
    sheet.save(path, "PNG")
