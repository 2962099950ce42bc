"""How images are split in two, always in the same way."""

from __future__ import annotations

import numpy as np

from trials.images.group_split import cut_groups

SPLIT_SEED = 0  # the parts are cut with it, never with the run's seed, or the parts of two runs would mix


def split(labels: np.ndarray, fraction: float, groups: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Split images in two, the same share of each class, with a fixed seed.

    Args:
        labels: class numbers, (n,).
        fraction: fraction of every class that is cut off, rounded to whole images.
        groups: the group of each image, (n,), where whole groups go one way: the shares are then as near to the fraction as
            groups permit, each class of several groups is on both sides, and one of a single group is in the rest.
    Returns:
        Image numbers of the rest, and of what was cut off, each sorted.
    """
    generator = np.random.default_rng(SPLIT_SEED)
    cut = np.zeros(len(labels), bool)
    if groups is not None and len(labels):
        cut = cut_groups(labels, groups, fraction, generator)
        return np.flatnonzero(~cut), np.flatnonzero(cut)
    by_class = np.argsort(labels, kind="stable")
    for members in np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1):
        cut[generator.permutation(members)[: round(fraction * len(members))]] = True
    return np.flatnonzero(~cut), np.flatnonzero(cut)
