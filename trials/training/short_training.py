"""Networks with less than half of the recipe's epochs that are not clearly above the floor: what they need is a longer training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from trials.evidence.gates import SHORT, STEPS_SHARE, GateWarning, below_floor
from trials.evidence.intervals import Interval
from trials.evidence.learned import clearly_above, is_below
from trials.images.dataset import Data
from trials.training import sizing
from trials.training.retrain_config import Config


class ShortTraining(NamedTuple):
    """How short a training was, and where that left the network.

    Attributes:
        epochs, usual: of the training; of the recipe for so many images in such batches.
        place: where the network is, such as "does not reach the floor of 28.4% (random forest on 16x16 pixels)".
        useless: whether it is below the floor, or noise alone holds it up.
    """

    epochs: int
    usual: int
    place: str
    useless: bool

    def warning(self) -> GateWarning:
        """The warning of one network; the command is still to come."""
        use = ": not for use" if self.useless else ""
        return GateWarning(SHORT, f"the network was trained with {self._epochs()}, and {self.place}{use}", "")

    def of_all(self) -> str:
        """The same of all networks of a certificate, of which the winner is the one that was looked at."""
        return f"the networks were trained with {self._epochs()}, and the winner {self.place}"

    def _epochs(self) -> str:
        return f"{self.epochs:,} of the recipe's {self.usual:,} epochs"


def beside_the_floor(config: Config, data: Data, accuracy: Interval, floor: Mapping[str, Any]) -> GateWarning | None:
    """The warning of a network that is below the floor, or near it after a short training; arguments as for `short_training`."""
    short = short_training(config, data, accuracy, floor)
    return below_floor(accuracy, floor, "") or (short and short.warning())


def short_training(config: Config, data: Data, accuracy: Interval, floor: Mapping[str, Any]) -> ShortTraining | None:
    """Whether a network was trained shortly and is not clearly above the floor.

    None, too, where another gate says more: that of few steps, or the one of a network that is below the floor beyond noise.

    Args:
        accuracy: the test accuracy of the network, with its interval.
        floor: what `trials.evidence.floor` measured on the same test part.
    """
    images = data.size(config.training_part)
    per_epoch = images // config.batch_size
    enough = sizing.enough_steps(config.recipe_values(), images, config.kind, config.batch_size)
    if not STEPS_SHARE * enough <= config.epochs * per_epoch < sizing.SHORT_SHARE * enough:
        return None
    if is_below(accuracy, floor) or clearly_above(accuracy, floor):
        return None
    useless = accuracy.value < floor["top1"]
    place = "does not reach" if useless else "is not clearly above"
    beside = f"the floor of {floor['top1']:.1f}% ({floor['name']})"
    return ShortTraining(config.epochs, enough // per_epoch, f"{place} {beside}", useless)
