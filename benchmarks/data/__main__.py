"""How fast images come: our loaders against torchvision's ImageFolder with PIL, as the official SPOS code reads ImageNet.

    python -m benchmarks.data                        CPU: images/s of all loaders, training and scoring
    python -m benchmarks.data --device cuda --workers 16    decoding on the GPU against that many processes
    python -m benchmarks.data --step --device cuda   what part of a supernet step's time is waiting for images
    python -m benchmarks.data --listing 1300000      memory and time until the first batch of a folder as large as ImageNet
    python -m benchmarks.data --smoke                seconds, also with --step; the figures say nothing

Images: JPEG crops of 300 to 500 pixels from scikit-learn's two photographs, made in a temporary folder (quality 90, about
as many bytes per pixel as ImageNet's). Loaders run in turn, whole epochs with their start-up, and give normalised float
batches on the device. Printed are medians, and the median of the ratios of neighbouring runs. `jitter` adds SPOS's colour
jitter of 0.4.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.common import parse
from benchmarks.data.images import make_tree
from benchmarks.data.listing import time_starts
from benchmarks.data.loaders import compare_loaders
from benchmarks.data.start import RESOLUTION
from benchmarks.data.steps import WARM_STEPS, time_steps
from trials.common import cli
from trials.images.options import LOADERS

SMOKE = {"images": 120, "rounds": 1, "workers": 1, "batch_size": 4, "steps": 2}


def main(argv: Sequence[str] | None = None) -> None:
    """Make the images, then run the measurement that the options name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1200, help="in training and in scoring")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--step", action="store_true")
    parser.add_argument("--batch-size", type=int, default=256, help="of --step")
    parser.add_argument("--steps", type=int, default=50, help="of --step")
    parser.add_argument("--loader", default="dali", choices=LOADERS, help="of --step")
    parser.add_argument("--listing", type=int, default=0)
    args = parse(parser, argv, SMOKE)
    device = torch.device(args.device)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        if args.listing:
            return time_starts(root, args.listing)
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        make_tree(root / "images", args.images)
        if args.step:
            rate, share = time_steps(
                root / "images", args.loader, args.workers, device, args.batch_size, args.steps, WARM_STEPS, RESOLUTION
            )
            print(
                f"{args.steps} steps of {args.batch_size} images: {rate:.0f} images/s, {share:.1%} of the time waits for images"
            )
        else:
            compare_loaders(root / "images", args.rounds, args.workers, device)


if __name__ == "__main__":
    cli.run(main)
