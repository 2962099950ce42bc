"""The picture sheet of `python -m trials.data check`: a few images of each class, as they are scored and as they are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from trials.images.background import colour_of
from trials.images.check_config import Config
from trials.images.crops import CROP_DRAWS, central_crops, random_crops
from trials.images.fit import CROP
from trials.images.image_list import ImageList
from trials.images.torch_loader import TorchLoader

SHEET_CLASSES = 20  # rows
SHEET_IMAGES = 8  # columns
SHEET_PIXELS = 96  # height and width of an image as it is drawn, about


def sheet_classes(classes: int) -> list[int]:
    """The numbers of the classes that the sheet shows, in order: all, or some that are drawn with a fixed seed."""
    return sorted(np.random.default_rng(0).permutation(classes)[:SHEET_CLASSES].tolist())


def draw_sheet(images: ImageList, root: Path, path: Path, config: Config, resolution: int | None = None) -> None:
    """Write a picture with a row for each of a few classes: the same images as they are scored, and as they are trained.

    Args:
        resolution: height and width that a network sees, pixels: its pixels are drawn larger where they are few; None: SHEET_PIXELS.
    """
    sees = resolution or SHEET_PIXELS
    shown = sees * max(1, round(SHEET_PIXELS / sees)) if sees <= SHEET_PIXELS else SHEET_PIXELS
    labels, sizes, classes = images.labels, images.sizes, images.classes
    how: dict[str, Any] = {"turn": config.exif_orientation, "background": colour_of(config.background)}
    loader = TorchLoader(images.paths.under(root), sizes, images.nbytes, sees, workers=0, **how)
    generator = np.random.default_rng(0)
    margin, line = 160, shown + 4
    rows = sheet_classes(len(classes))
    sheet = Image.new("RGB", (margin + SHEET_IMAGES * line, 20 + len(rows) * line), "white")
    text = ImageDraw.Draw(sheet)
    text.text((margin, 4), f"as scored, {sees}x{sees} pixels", fill="black")
    mirror, fit = config.mirror == "on", config.fit
    trained_as = f"as trained{(', ' + fit) * (fit != CROP)}: random crop" + ", mirrored half of the time" * mirror
    text.text((margin + SHEET_IMAGES // 2 * line, 4), trained_as, fill="black")
    for row, label in enumerate(rows):
        members = np.flatnonzero(labels == label)
        sampled = generator.permutation(members)[: SHEET_IMAGES // 2]
        if not len(sampled):
            continue
        scored, _ = loader.decode_batch(central_crops(sampled, sizes[sampled], sees, spos=False, fit=fit))
        draws = generator.random((len(sampled), CROP_DRAWS))
        trained, _ = loader.decode_batch(random_crops(sampled, sizes[sampled], sees, draws, mirror=mirror, fit=fit))
        text.text((4, 24 + row * line), f"{classes[label][:24]}\n{len(members):,} images", fill="black")
        for half, batch in enumerate((scored, trained)):
            for column, pixels in enumerate(torch.unbind(batch), half * SHEET_IMAGES // 2):
                corner = (margin + column * line, 20 + row * line)
                picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
                how_drawn = Image.Resampling.NEAREST if sees <= shown else Image.Resampling.LANCZOS
                sheet.paste(picture.resize((shown, shown), how_drawn), corner)
    sheet.save(path, "PNG")
