"""What the benchmarks share: --smoke, crops of photographs as images, and how ratios are printed."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.datasets import load_sample_images


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, smoke: Mapping[str, object]
) -> argparse.Namespace:
    """Read a command line, with --smoke: the same code on a scale so small that it ends within seconds.

    Args:
        argv: arguments; those of the process where None.
        smoke: defaults of options under --smoke; an option that is given beside it still counts.
    """
    parser.add_argument(
        "--smoke", action="store_true", help="run the same code on a tiny scale, in seconds; the figures say nothing"
    )
    args = parser.parse_args(argv)
    if args.smoke:
        parser.set_defaults(**smoke)
        args = parser.parse_args(argv)
    return args


def photograph_crops(generator: np.random.Generator, number: int, resolution: int) -> np.ndarray:
    """Random square crops of scikit-learn's two photographs, uint8 (number, resolution, resolution, 3)."""
    photographs = load_sample_images().images  # (427, 640, 3) each
    crops = []
    for _ in range(number):
        photograph = photographs[generator.integers(len(photographs))]
        top, left = (generator.integers(0, side - resolution + 1) for side in photograph.shape[:2])
        crops.append(photograph[top : top + resolution, left : left + resolution])
    return np.stack(crops)


def spread(ratios: Sequence[float]) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"
