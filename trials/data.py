"""Images for training, scoring and testing.

    python -m trials.data check DIR         look at an image folder: parts, classes, sizes, bad and odd files, a picture
    python -m trials.data check DIR --out sheet.png --val-labels LOC_val_solution.csv
    python -m trials.data shrink DIR --side 336 --out DIR-336    copy it once, smaller, which epochs read faster

Every data set offers the same to the other commands:

    data.size(part)                                          number of images
    data.train_batches(part, batch, seed=, epoch=, start=, take=)
                                                             augmented and normalised; a pure function of its arguments
    data.eval_batches(part, batch, count=, rank=, world=)    in order, each image once, without augmentation, uint8
    data.normalise(images)                                   uint8 to float
    data.to(device)                                          where the batches are to be

Parts: `train` and `score` are the training images, stratified by class with a fixed seed; `all` is both; `test` is
read by retrain alone. `weights` and `arch` are `train`, split once more for differentiable strategies. There is no iterator
to save: batches are functions of (seed, epoch, number), so a checkpoint's step number says where the data goes on.
Shapes: N batch, images (N, 3, R, R), R the resolution in pixels, labels (N,) int64.
"""

from __future__ import annotations

import sys
from typing import Any

import spaces
from spaces.errors import InputError, shown
from trials.common import cli
from trials.common.answers import HELP, Answered, answer
from trials.common.commands import VERBS
from trials.images import shrink_config
from trials.images.check_config import Config, Proposal, list_files
from trials.training import sizing


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = sys.argv[1:] if argv is None else argv
    verb = argv[0] if argv else ""
    if verb not in VERBS["data"] and not HELP & set(argv):
        raise InputError(
            f"trials.data has the verbs {' and '.join(VERBS['data'])}, not '{shown(verb)}'; run: python -m trials.data check DIR"
        )
    words = argv[1:] if verb in VERBS["data"] else argv

    # Torch is imported when the options are known to be right.
    if verb == "shrink":
        copying = cli.parse(shrink_config.Config, words, __doc__, "trials.data shrink")
        from trials.images.shrink import shrink_folder

        found = answer("data", **shrink_folder(copying))
    else:
        config = cli.parse(Config, words, __doc__, "trials.data check")
        listing = list_files(config)
        from trials.images.check import check_folder

        found = answer("data", **check_folder(config, network_for, propose_for, listing))
    if found["left_out"]:
        raise Answered(1, found)
    return found


def network_for(images: int, short_side: float) -> tuple[str, int]:
    """The preset, and its resolution in pixels, that trials.supernet takes for a folder where none is given; as `sizing` has it."""
    preset = sizing.preset_of_folder(images, short_side)
    own = spaces.macro_table(spaces.DEFAULT, preset).resolution
    return preset, sizing.resolution_of_folder(preset, short_side) or own


def propose_for(config: Config) -> Proposal:
    """What trials.run is advised to be given for the folder, as it advises itself where no limit is given."""
    from trials.road import form  # it imports Pillow

    given = {name: getattr(config, name.replace("-", "_")) for name in form.OF_IMAGES}
    given |= {"resolution": config.resolution} if config.resolution else {}
    return form.propose(config.data_root, given)


if __name__ == "__main__":
    cli.run(main)
