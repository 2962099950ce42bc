"""The right and wrong answers of a network, image by image: RUN/seedK/answers.npz, from which networks are compared in pairs."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spaces.errors import InputError
from spaces.files import atomic, unreadable

REMEDY = "move the file away, and trials.certify tests the network again"
FILE = "answers.npz"  # in seedK/ of a retraining, beside network.pt


@dataclass(frozen=True)
class Answers:
    """What a network says about the images of a part, in the order of the part; images that cannot be read are left out.

    Attributes:
        labels: class numbers, int32 (N,).
        predicted: the class with the largest logit, int32 (N,).
    """

    labels: np.ndarray
    predicted: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Which images are classified correctly, bool (N,)."""
        return self.labels == self.predicted

    @property
    def size(self) -> int:
        """Number of images, N."""
        return len(self.labels)

    def save(self, path: Path) -> None:
        """Write `labels` and `predicted` as an .npz file, atomically; equal answers give equal bytes."""
        with atomic(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, labels=self.labels, predicted=self.predicted)

    @classmethod
    def load(cls, path: Path) -> Answers:
        """Read what `save` wrote; nothing in it is executed.

        Raises:
            InputError: the file is missing, not ours to read, or damaged.
            Stopped: the machine could not read it.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                labels, predicted = stored["labels"], stored["predicted"]
        except OSError as error:
            raise unreadable("answers", path, error) from None
        except (ValueError, KeyError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error):
            raise InputError(f"answers '{path}' are damaged; {REMEDY}") from None
        if labels.ndim != 1 or labels.shape != predicted.shape or not len(labels):
            raise InputError(f"answers '{path}' are damaged; {REMEDY}")
        return cls(labels.astype(np.int32), predicted.astype(np.int32))
