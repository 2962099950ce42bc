"""Images for training, scoring and testing.

    python -m trials.data check DIR            look at an image folder: parts, classes, sizes, bad and odd files, a picture
    python -m trials.data check DIR --out sheet.png --val-labels LOC_val_solution.csv

Every data set offers the same to the other commands:

    data.size(part)                                          number of images
    data.train_batches(part, batch, seed=, epoch=, start=, take=)
                                                             augmented and normalised; a pure function of its arguments
    data.eval_batches(part, batch, count=, rank=, world=)    in order, each image once, without augmentation, uint8
    data.normalise(images)                                   uint8 to float
    data.to(device)                                          where the batches are to be

Parts: `train` and `score` are the training images, split class-balanced with a fixed seed; `all` is both; `test` is
read by retrain alone. `weights` and `arch` are `train`, split once more for differentiable strategies. There is no iterator
to save: batches are functions of (seed, epoch, number), so a checkpoint's step number says where the data goes on.
Shapes: N batch, images (N, 3, R, R), R the resolution in pixels, labels (N,) int64.
"""

from __future__ import annotations

import sys
from typing import Any

from spaces.errors import InputError
from trials.common import cli
from trials.common.answers import HELP, Answered, answer
from trials.images.check_config import Config


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] != ["check"] and not HELP & set(argv):
        raise InputError(
            f"trials.data has one verb, check, not '{' '.join(argv[:1])}'; run: python -m trials.data check DIR"
        )
    config = cli.parse(Config, argv[1:] if argv[:1] == ["check"] else argv, __doc__, "trials.data check")

    # Torch is imported when the options are known to be right.
    from trials.images.check import check_folder

    found = answer("data", **check_folder(config))
    if found["left_out"]:
        raise Answered(1, found)
    return found


if __name__ == "__main__":
    cli.run(main)
