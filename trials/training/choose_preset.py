"""The preset of a run on an image folder where none is given: by how many images there are, and how large."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from trials.images.survey import survey_folder
from trials.training import retrain_config, supernet_config
from trials.training.sizing import preset_of_folder

C = TypeVar("C", supernet_config.Config, retrain_config.Config)


def with_preset(config: C) -> C:
    """Choose the preset, and say so; options that have one already are returned as they are.

    Raises:
        InputError: there is no such folder, or it is no image folder.
    """
    if config.preset is not None:
        return config
    images, short_side = survey_folder(config)
    preset = preset_of_folder(images, short_side)
    print(f"preset {preset}, for about {images:,} training images of {short_side:.0f} pixels; another: --preset")
    return dataclasses.replace(config, preset=preset)
