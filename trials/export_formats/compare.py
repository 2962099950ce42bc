"""Compare written files with the network that they were written from, over the test images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from spaces.errors import shown
from trials.common import cli
from trials.evidence.comparison import points
from trials.evidence.intervals import Interval, accuracy_interval, loss_interval
from trials.export_formats.formats import Run

BATCH = 64
# A file in 32 bits may differ from the network by so much in a logit: rounding does that. The unit is 1, or the standard
# deviation of the logits where that is larger.
TOLERANCE = 1e-4


@dataclass
class FileComparison:
    """One file's answers beside the network's.

    Attributes:
        largest: the largest difference between a logit of the file and the network's; NaN if any difference is.
        correct: number of images classified as they are labelled.
        lost, gained: images that only the network, and only the file classifies as they are labelled.
        same: for each batch, a bool tensor (N,): whether an image got the network's answer.
        error: why the file cannot be loaded or run; "": it can.
    """

    largest: float = 0.0
    correct: int = 0
    lost: int = 0
    gained: int = 0
    same: list[torch.Tensor] = field(default_factory=list)
    error: str = ""

    def add(self, logits: torch.Tensor, expected: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch.

        Args:
            logits: of the file, (N, classes).
            expected: logits of the network, (N, classes).
            labels: (N,).
        """
        answers, network = logits.argmax(1), expected.argmax(1)
        difference = float((logits - expected).abs().max())
        self.largest = difference if difference != difference else max(self.largest, difference)  # NaN stays
        self.correct += int((answers == labels).sum())
        self.lost += int(((network == labels) & (answers != labels)).sum())
        self.gained += int(((network != labels) & (answers == labels)).sum())
        self.same.append(answers == network)


@dataclass
class Comparison:
    """The network's own answers, and each file's.

    Attributes:
        files: each file's answers, by the name of its format.
        images: number of images.
        correct: number of images that the network classifies as they are labelled.
        margin: for each image, how far the network's best logit is above its second, (images,).
        std: standard deviation of all logits of the network.
    """

    files: dict[str, FileComparison]
    images: int
    correct: int
    margin: torch.Tensor
    std: float

    @property
    def top1(self) -> float:
        """Top-1 accuracy of the network, percent."""
        return 100 * self.correct / self.images

    def same(self, name: str) -> float:
        """Images on which a file gives the network's answer, percent."""
        return 100 * sum(int(batch.sum()) for batch in self.files[name].same) / self.images

    def told(self, name: str) -> str:
        """In how many answers a file agrees with the network, and what it gets, in words."""
        same = sum(int(batch.sum()) for batch in self.files[name].same)
        if same == self.images:
            return f"the network's answer on each of {same:,} test images"
        return (
            f"the network's answer on {same:,} of {self.images:,} test images ({self.same(name):.2f}%), top-1 "
            f"{100 * self.files[name].correct / self.images:.2f}% where the network has {self.top1:.2f}%"
        )

    def interval(self, name: str = "") -> Interval:
        """Top-1 accuracy of a file, without a name of the network, with its 95 % interval."""
        return accuracy_interval([self.files[name].correct if name else self.correct], self.images)

    def loss(self, name: str) -> Interval:
        """What a file loses of the network's top-1, in points, with its 95 % interval."""
        return loss_interval(self.files[name].lost, self.files[name].gained, self.images)

    @property
    def rounding(self) -> float:
        """The largest difference of a logit that rounding may make."""
        return TOLERANCE * max(1.0, self.std)

    def undecided(self) -> int:
        """Images whose two best logits are so close that rounding may exchange them."""
        return int((self.margin <= 2 * self.rounding).sum())

    def float_problem(self, name: str) -> str:
        """Why a file in 32 bits does not compute what the network does; "" where it does.

        Where the logits agree up to rounding, no answer can differ but on undecided images.
        """
        file = self.files[name]
        if file.error:
            return file.error
        if not file.largest <= self.rounding:
            return f"a logit differs by {file.largest:.2g}, and at most {self.rounding:.2g} is rounding"
        return ""

    def int8_problem(self, name: str, drop: float) -> str:
        """Why a file in 8 bits is not good enough; "" where it is, or where so few images cannot tell.

        Args:
            drop: loss of top-1 that is allowed, percentage points.
        """
        if self.files[name].error:
            return self.files[name].error
        if not math.isfinite(self.files[name].largest):
            return "its logits are not finite"
        lost = self.loss(name)
        if lost.low <= drop:
            return ""
        return f"it loses {points(lost)} of top-1 ({self.interval(name)} instead of {self.interval()}%), and {drop:g} are allowed"


@torch.no_grad()
def compare_outputs(
    network: nn.Module,
    loaders: Mapping[str, Callable[[], Run]],
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    images: int,
) -> Comparison:
    """Run the network and the files over the same images.

    Args:
        network: in eval mode.
        loaders: for each format, a function that loads its file and returns what runs it.
        batches: normalised images (N, 3, R, R) and labels (N,).
        images: number of images that will come, for the progress bar.
    """
    files = {name: FileComparison() for name in loaders}
    runs: dict[str, Run] = {}
    correct, count, total, squares = 0, 0, 0.0, 0.0
    margins, logits = [], torch.empty(0)
    with cli.progress(images, desc="check", unit="img") as bar:
        for inputs, labels in batches:
            logits = network(inputs)
            for name, file in files.items():
                if file.error:
                    continue
                try:
                    if name not in runs:
                        runs[name] = loaders[name]()
                    file.add(runs[name](inputs), logits, labels)
                except Exception as error:  # a bad file may lead to any exception
                    reason = shown(str(error))
                    file.error = f"it cannot be run ({type(error).__name__}: {reason})"
            correct += int((logits.argmax(1) == labels).sum())
            best = logits.topk(2, 1).values
            margins.append(best[:, 0] - best[:, 1])
            total, squares = total + float(logits.double().sum()), squares + float(logits.double().square().sum())
            count += len(labels)
            bar.update(len(labels))
    numbers = max(1, count * logits.shape[-1])
    variance = max(0.0, squares / numbers - (total / numbers) ** 2)
    return Comparison(files, count, correct, torch.cat(margins), variance**0.5)
