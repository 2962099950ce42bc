"""What only the training of a fixed network is asked: more of its optimiser, and what is done against overfitting."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from trials.common.cli import option
from trials.common.options import RECIPE, OptimizerOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptimizerOptions(OptimizerOptions):
    """How a fixed network is trained: also what only the recipes of the papers need."""

    group: ClassVar[str] = "optimiser"

    nesterov: bool = option(None, "Use Nesterov momentum in SGD", unset=RECIPE)
    decay_epochs: float = option(None, "Epochs between the falls of --schedule exponential", unset=RECIPE)
    decay_rate: float = option(None, "Factor by which --schedule exponential multiplies the rate", unset=RECIPE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegularizationOptions:
    """What is done to training images, labels and weights against overfitting; a recipe decides what is not given."""

    group: ClassVar[str] = "regularisation"

    ema: float = option(
        None, "Decay of a moving average of the weights, which is then tested; 0 means none", unset=RECIPE
    )
    dropout: float = option(None, "Dropout before the classifier", unset="the recipe's, else the network's own")
    randaugment: int = option(None, "Operations of RandAugment on each training image; 0 means none", unset=RECIPE)
    randaugment_magnitude: int = option(None, "Magnitude of RandAugment, 0 to 30", unset=RECIPE)
    mixup: float = option(None, "Alpha of mixup; 0 means none", unset=RECIPE)
    cutmix: float = option(None, "Alpha of CutMix, in turn with mixup at random; 0 means none", unset=RECIPE)
