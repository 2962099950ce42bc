"""Passes through the parts of a network: their order, how ONNX Runtime is timed, and what each part takes by their times.

Latency tables that are measured here and kits for other machines (`kit.py`) share this file. It is copied into a kit, so it runs
on Python 3.9 with onnxruntime and numpy alone.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

WARM_UP = 3  # rounds that are not counted
MIN_VISITS = 25  # each whole network is timed at least this often
# Reference pace: the 25 % quantile of the passes. Other work on the machine only ever makes a pass slower, so the fast
# passes show the quiet machine.
QUIET_QUANTILE = 0.25


# What is measured, and in which order


def draw_paths(sizes: Sequence[int], passes: int, seed: int) -> Iterator[list[int]]:
    """The combination of each block in each pass: in a round, every one of every block at least once, among random others.

    Args:
        sizes: number of combinations of each block.
        passes: that are drawn.
    Yields:
        For each pass the index of a combination of each block, (blocks,). A block with few begins its order again.
    """
    generator = random.Random(seed)
    for number in range(passes):
        turn = number % max(sizes)
        if turn == 0:
            orders = [generator.sample(range(size), size) for size in sizes]
        yield [order[turn % len(order)] for order in orders]


def spread_visits(passes: int, networks: int) -> list[list[int]]:
    """Which whole networks are timed after each pass: all equally often, at least MIN_VISITS times, spread evenly.

    Args:
        passes, networks: how many there are.
    Returns:
        For each pass, the indices of the networks.
    """
    total = max(MIN_VISITS, math.ceil(passes / networks)) * networks
    ends = [index * total // passes for index in range(passes + 1)]
    return [[visit % networks for visit in range(first, last)] for first, last in zip(ends[:-1], ends[1:])]


# How sessions of ONNX Runtime are timed


def session_options(threads: int) -> Any:
    """Options of a session: `threads` on a CPU; 0 leaves it to the library."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return options


def random_input(shape: Sequence[int], device: str = "cpu") -> Any:
    """Random numbers of this shape, (N, 3, R, R), as an OrtValue on the device."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.random.randn(*shape).astype(np.float32), device, 0)


def run_sessions(sessions: Sequence[Any], x: Any, device: str = "cpu") -> list[float]:
    """Make one pass through sessions with input "x" and output "y", each with the output of the one before.

    Returns:
        Nanoseconds of each session.
    """
    marks = [time.perf_counter_ns()]
    for session in sessions:
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", x)
        binding.bind_output("y", device)
        session.run_with_iobinding(binding)
        x = binding.get_outputs()[0]
        marks.append(time.perf_counter_ns())
    return [float(after - before) for before, after in zip(marks[:-1], marks[1:])]


# From nanoseconds to what a part takes


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a batch, at the pace of the quiet machine."""

    median_ms: float
    spread_ms: float  # interquartile range

    @classmethod
    def of(cls, nanoseconds: Sequence[float] | np.ndarray) -> Timing:
        """Median and spread of repeated measurements."""
        low, middle, high = np.percentile(nanoseconds, (25, 50, 75)) / 1e6
        return cls(float(middle), float(high - low))


def normalise_by_pace(times: np.ndarray, keys: np.ndarray) -> tuple[list[Timing], np.ndarray]:
    """Tell apart what each thing takes and how fast the machine was in each pass; a pass times several things.

    A shared machine becomes faster and slower, by a third and for seconds at a time. A pass has one pace: the weighted
    median, over the things in it, of a thing's time in this pass divided by its usual time. Usual times are medians of
    times that were divided by the pace of their pass. Both are found by turns. Paces are relative to `QUIET_QUANTILE`.

    Args:
        times: nanoseconds, (passes, things in a pass).
        keys: which thing each time belongs to, 0, 1, ..., (passes, things in a pass); each occurs.
    Returns:
        A Timing for each thing. The pace of each pass, (passes,): 1 on the quiet machine, larger when it is slower.
    """
    number = int(keys.max()) + 1
    paces = np.ones(len(times))

    def usual_times() -> np.ndarray:
        normalised = (times / paces[:, None]).ravel()
        order = np.lexsort((normalised, keys.ravel()))
        ends = np.cumsum(np.bincount(keys.ravel()))[:-1]
        return np.array([np.median(times_of_one) for times_of_one in np.split(normalised[order], ends)])

    for _ in range(5):
        # The weights are nanoseconds, because a thing that takes long tells the pace more exactly.
        weights = np.maximum(usual_times(), 1.0)[keys]
        ratios = times / weights
        # Weighted median of each row: the first ratio at which half of the row's weight is reached.
        order = np.argsort(ratios, axis=1)
        reached = np.cumsum(np.take_along_axis(weights, order, 1), axis=1)
        middle = (reached < 0.5 * reached[:, -1:]).sum(axis=1, keepdims=True)
        paces = np.take_along_axis(np.take_along_axis(ratios, order, 1), middle, 1)[:, 0]
        paces /= np.quantile(paces, QUIET_QUANTILE)
    normalised = times / paces[:, None]
    return [Timing.of(normalised[keys == key]) for key in range(number)], paces


def evaluate_passes(
    entries: Sequence[Sequence[int]],
    part_times: Sequence[Sequence[float]],
    network_times: Sequence[Sequence[tuple[int, float]]],
) -> tuple[list[Timing], list[float]]:
    """What each part and each whole network takes, with the pace of the machine taken out.

    Args:
        entries: which thing each part of each pass is, (passes, parts): equal numbers where parts do the same work.
        part_times: nanoseconds, (passes, parts).
        network_times: for each whole network (index of the pass before it, nanoseconds); it ran between two passes, at the
            mean of their paces.
    Returns:
        A Timing for each entry, and the milliseconds of each network.
    """
    timings, paces = normalise_by_pace(np.array(part_times), np.array(entries))
    next_paces = np.append(paces[1:], paces[-1])
    networks_ms = [
        float(np.median([nanoseconds * 2 / (paces[number] + next_paces[number]) for number, nanoseconds in visits]))
        / 1e6
        for visits in network_times
    ]
    return timings, networks_ms
