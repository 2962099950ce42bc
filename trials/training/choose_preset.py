"""The preset of a run on an image folder where none is given, and its resolution: by how many images there are, and how large."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from trials.common.distributed import use_cuda
from trials.images.survey import survey_folder
from trials.training import retrain_config, supernet_config
from trials.training.sizing import FOR_CPU, preset_of_folder, resolution_of_folder

C = TypeVar("C", supernet_config.Config, retrain_config.Config)


def with_preset(config: C) -> C:
    """Choose the preset, and say so; options that have one already are returned as they are.

    Raises:
        InputError: there is no such folder, or it is no image folder.
    """
    if config.preset is not None:
        return config
    seen = survey_folder(config)
    short_side = seen.short_side
    preset = preset_of_folder(seen.images, short_side)
    fitting = resolution_of_folder(preset, short_side) if config.resolution is None else None
    at = f" at {fitting}x{fitting} pixels" if fitting else ""
    print(f"preset {preset}{at}, for {seen.text} of {short_side:.0f} pixels to train and score with; another: --preset")
    if preset != FOR_CPU and not use_cuda(config.device):
        print(
            f"note: preset {preset} is made for a GPU; on this CPU --preset {FOR_CPU} takes a small part of the hours (see --dry-run)"
        )
    return dataclasses.replace(config, preset=preset, resolution=fitting or config.resolution)
