"""How fast candidates of the SPOS space are scored on a GPU, in each precision. Never run on a GPU so far.

    python -m benchmarks.gpu                               # one GPU of at least 24 GB, 224 px
    python -m benchmarks.gpu --precisions bf16 --calibration 25600 --batch-size 512
    python -m benchmarks.gpu --smoke                       # the same code with tiny numbers, on a CPU, in seconds

The candidates are the 50 of generation 5 of `EvolutionTuner` with the paper's numbers, told the stand-in scores of
benchmarks/evaluation, in one tree of prefixes. The weights are random, and so are the images: coarse patches of colour
with noise, uint8, in the GPU's memory, normalised batch by batch. Per precision, with 2,560 and 25,600 calibration and 8,000
scoring images:

  - candidates per minute, and how many times faster that is than a few of the candidates one by one, the official way, in
    32 bits, from the same images (PyTorch's defaults, so convolutions may use TF32 on both sides)
  - images/s of the calibration pass and of the scoring pass: candidates times images, by wall-clock between synchronisations
  - the share of the memory-bound limit. The limits are arithmetic for an H100 (3.35 TB/s) and 16 bits: 72,000 forward passes
    a second with BatchNorm in train mode and 179,000 with BatchNorm folded, half of that with 32 bits; for another GPU in
    proportion to its bandwidth, where the driver tells it. What the tree shares is no forward pass: images/s are first
    multiplied by the bytes that the nodes of the tree write over those that the candidates would write one by one
  - hours of a whole search of 1,050 candidates: as long for each byte written in its trees as in generation 5

Then how far precisions are apart: the largest logit difference on the first scoring batch over the standard deviation, and
how many of the ten best candidates remain. There are no labels, so "best" means the candidate whose answers are most often
those that most of the candidates give in the first precision: it says whether a ranking moves, not how good anyone is. An untrained
network has nearly tied classes, so answers change more readily than in a trained one (benchmarks/calibration.py compares
precisions on a trained supernet).
Last, the ten most expensive kernels of one calibration batch and one scoring batch of the tree.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Sequence

import torch

from benchmarks.common import parse
from benchmarks.evaluation.candidates import add_score_options
from benchmarks.gpu.report import benchmark
from spaces.errors import InputError, unknown
from trials.common import cli
from trials.common.distributed import use_cuda
from trials.scoring.precision import PRECISIONS

SMOKE = {
    "device": "cpu",
    "resolution": 32,
    "archs": 3,
    "calibration": "8,16",
    "scoring": 8,
    "batch_size": 8,
    "one_by_one": 1,
    "precisions": "32,bf16",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Check the options, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--precisions", default="32,bf16,16", help="with commas; the first is what others are compared with"
    )
    parser.add_argument("--profile", choices=list(PRECISIONS), default="bf16", help="precision of the kernels' tables")
    parser.add_argument("--calibration", default="2560,25600", help="numbers of images, with commas")
    parser.add_argument("--scoring", type=int, default=8000, help="images")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--archs", type=int, default=50, help="candidates, at most 50")
    parser.add_argument("--one-by-one", type=int, default=3, help="candidates that are scored the official way")
    add_score_options(parser)
    args = parse(parser, argv, SMOKE)
    for precision in args.precisions.split(","):
        if precision not in PRECISIONS:
            raise InputError(unknown("precision", precision, PRECISIONS))
    counts = args.calibration.split(",")
    if not all(count.isdecimal() and int(count) >= args.batch_size >= 1 for count in counts):
        raise InputError(f"--calibration '{args.calibration}': give numbers of at least --batch-size {args.batch_size}")
    least = {"scoring": args.batch_size, "archs": 1, "one_by_one": 1, "resolution": 32, "seed": 0}
    for name, smallest in least.items():
        if getattr(args, name) < smallest:
            flag = name.replace("_", "-")
            raise InputError(f"--{flag} {getattr(args, name)} is too small; give at least {smallest}")
    device = torch.device("cuda" if use_cuda(args.device) else "cpu")
    if device.type == "cpu" and not args.smoke:
        raise InputError("--device cpu would take days; add --smoke")
    if device.type == "cpu":
        torch.set_num_threads(1)  # batches are too small for more
    logging.getLogger("nni").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            benchmark(args, device)
        except torch.OutOfMemoryError:
            raise InputError(f"--batch-size {args.batch_size} needs more memory than the GPU has; lower it") from None


if __name__ == "__main__":
    cli.run(main, resumes=False)
