"""Written files against the network that they were written from, over the test images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from trials.common import cli
from trials.export_formats.formats import Run

BATCH = 64
TOLERANCE = 1e-4  # of a logit, in standard deviations of the logits where these are above 1


@dataclass
class Compared:
    """One file's answers beside the network's.

    Attributes:
        largest: difference of two logits.
        correct: images classified as they are labelled.
        same: images with the network's answer, bool; a tensor for each batch.
        error: why it cannot be loaded or run; empty: it can.
    """

    largest: float = 0.0
    correct: int = 0
    same: list[torch.Tensor] = field(default_factory=list)
    error: str = ""

    def add(self, logits: torch.Tensor, expected: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a batch: logits (N, classes) of the file and of the network, labels (N,)."""
        answers = logits.argmax(1)
        difference = float((logits - expected).abs().max())
        self.largest = difference if difference != difference else max(self.largest, difference)  # NaN stays
        self.correct += int((answers == labels).sum())
        self.same.append(answers == expected.argmax(1))


@dataclass
class Comparison:
    """The network's own answers, and each file's.

    Attributes:
        margin: of each image, its best logit over its second, (images,).
        std: of all logits of the network.
    """

    files: dict[str, Compared]
    images: int
    correct: int
    margin: torch.Tensor
    std: float

    @property
    def top1(self) -> float:
        """Of the network, percent."""
        return 100 * self.correct / self.images

    def same(self, name: str) -> float:
        """Images on which a file gives the network's answer, percent."""
        return 100 * sum(int(batch.sum()) for batch in self.files[name].same) / self.images

    def file_top1(self, name: str) -> float:
        """Of a file, percent."""
        return 100 * self.files[name].correct / self.images

    @property
    def rounding(self) -> float:
        """The largest difference of a logit that rounding may make."""
        return TOLERANCE * max(1.0, self.std)

    def undecided(self) -> int:
        """Images whose two best logits are so close that rounding may exchange them."""
        return int((self.margin <= 2 * self.rounding).sum())

    def float_problem(self, name: str) -> str:
        """Why a file in 32 bits does not compute what the network does; empty: it does, so only undecided answers may change."""
        file = self.files[name]
        if file.error:
            return file.error
        if not file.largest <= self.rounding:
            return f"a logit differs by {file.largest:.2g}, and at most {self.rounding:.2g} is rounding"
        return ""

    def int8_problem(self, name: str, drop: float) -> str:
        """Why a file in 8 bits is not good enough; empty: it is."""
        if self.files[name].error:
            return self.files[name].error
        lost = self.top1 - self.file_top1(name)
        if lost <= drop and math.isfinite(self.files[name].largest):
            return ""
        return f"it loses {lost:.2f} points of top-1 ({self.file_top1(name):.2f} instead of {self.top1:.2f}%)"


@torch.no_grad()
def compare(
    network: nn.Module,
    loaders: Mapping[str, Callable[[], Run]],
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    images: int,
) -> Comparison:
    """Run the network and the files over the same images.

    Args:
        network: in eval mode.
        loaders: name of a file -> what loads it.
        batches: normalised images (N, 3, R, R) and labels (N,).
        images: how many they will be.
    """
    files = {name: Compared() for name in loaders}
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
                except Exception as error:  # whatever a bad file leads to
                    reason = " ".join(str(error).split())[:200]
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
