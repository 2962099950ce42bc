"""All loggers of one training or search behind one object. Only the first process has any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from trials.watching.options import loggers
from trials.watching.services import CsvFile, MlflowRun, WandbRun
from trials.watching.subject import Point, Subject
from trials.watching.tensorboard import TensorBoard


class Board(Protocol):
    """A place that is told points and pictures."""

    wants_earlier: bool

    def scalars(self, step: int, values: Mapping[str, float], at: float | None = None) -> None: ...
    def result(self, step: int, values: Mapping[str, float]) -> None: ...
    def image(self, tag: str, step: int, pixels: np.ndarray) -> None: ...
    def curve(self, tag: str, points: Mapping[int, float]) -> None: ...
    def flush(self) -> None: ...
    def close(self, succeeded: bool) -> None: ...


class Boards:
    """The loggers that an option names; none of them is the truth of a run, which its own files are.

    Args:
        logger: as given to --logger.
        first: the step that is gone on from; 0 at the start.
        earlier: the points until then, for places that do not hold them.
    Raises:
        InputError: a server cannot be reached, or does not know the run that it was told of.
    """

    def __init__(self, logger: str, subject: Subject, first: int, earlier: Iterable[Point] = ()) -> None:
        self.boards: list[Board] = []
        before = list(earlier)
        try:
            for name in loggers(logger):
                board = _open(name, subject, first)
                self.boards.append(board)
                for step, values, at in before if board.wants_earlier else ():
                    board.scalars(step, values, at)
        except BaseException:
            self.close(succeeded=False)
            raise

    def scalars(self, step: int, values: Mapping[str, float], at: float | None = None) -> None:
        """Add points.

        Args:
            values: tag -> value.
            at: when they were measured, in seconds since 1970; None: now.
        """
        for board in self.boards:
            board.scalars(step, values, at)

    def result(self, step: int, values: Mapping[str, float]) -> None:
        """Add points that stand at the last step, and are told once, whatever was told of that step before."""
        for board in self.boards:
            board.result(step, values)

    def image(self, tag: str, step: int, pixels: np.ndarray) -> None:
        """Add a picture, uint8 (H, W, 3)."""
        for board in self.boards:
            board.image(tag, step, pixels)

    def curve(self, tag: str, points: Mapping[int, float]) -> None:
        """Add a whole curve over something else than steps: place -> value, places ascending. Of TensorBoard alone."""
        for board in self.boards:
            board.curve(tag, points)

    def flush(self) -> None:
        """Bring to disk what is held back."""
        for board in self.boards:
            board.flush()

    def close(self, succeeded: bool) -> None:
        """Close all; what came to its end is marked so."""
        for board in self.boards:
            board.close(succeeded)
        self.boards = []


def _open(name: str, subject: Subject, first: int) -> Board:
    """Open one of LOGGERS."""
    if name == "tensorboard":
        folder = subject.folder / "tensorboard" / subject.sub
        # a search tells all its scores again
        return TensorBoard(folder, {}, 0) if subject.sub else TensorBoard(folder, subject.facts, first)
    if name == "csv":
        return CsvFile(subject.folder / "csv" / subject.sub)
    return (WandbRun if name == "wandb" else MlflowRun)(subject, first)


def grid(images: Sequence[np.ndarray] | np.ndarray, *, columns: int, least: int = 64) -> np.ndarray:
    """Put pictures beside each other, with white lines between them.

    Args:
        images: uint8, (N, R, R, 3).
        least: small pictures become so many pixels high, or more, by repeating each pixel.
    Returns:
        uint8, (H, W, 3); places that are left over are white.
    """
    pixels = np.asarray(images)
    times = -(-least // pixels.shape[1])
    pixels = pixels.repeat(times, 1).repeat(times, 2)
    rows = -(-len(pixels) // columns)
    empty = np.full((rows * columns - len(pixels), *pixels.shape[1:]), 255, np.uint8)
    pixels = np.pad(np.concatenate((pixels, empty)), ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)
    side = pixels.shape[1]
    return pixels.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(rows * side, columns * side, 3)
