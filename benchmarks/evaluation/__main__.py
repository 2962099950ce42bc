"""How long it takes to score the candidates of a search: as a tree of prefixes, against the official way, one by one.

    python -m benchmarks.evaluation                        # processor time of a generation, about 5 minutes
    python -m benchmarks.evaluation --rounds 1 --resolution 32 --batch-size 16             # a first look, 1 minute
    python -m benchmarks.evaluation --smoke                # seconds, also with --count or --growth; the figures say nothing
    python -m benchmarks.evaluation --count                # a whole search, counted and not timed, half a minute
    python -m benchmarks.evaluation --growth runs/digits   # time per candidate in searches of 100, 300 and 1,000
    python -m benchmarks.evaluation --growth runs/digits --sizes 100,300,1000,3000,10000   # about 30 minutes
    python -m benchmarks.evaluation --growth runs/digits --sizes 1000,3000,10000 --unscored   # all but the scoring

The candidates are those that `EvolutionTuner` breeds with the paper's numbers (population 50, 10 parents, 25 mutations, 25
crossovers, at most 330M MACs) in the SPOS space. There is no supernet trained on ImageNet here, so the tuner is told stand-in
scores. With `--scores additive` every candidate of every block has a number, drawn from a normal distribution with --seed,
and the score of an architecture is the sum of its 20; `pairs` adds such a number for each pair of candidates of neighbouring
blocks; `random` gives every architecture a number that says nothing about similar ones. `--run RUN` scores with a real
supernet whose blocks have the same labels, such as one of trials.supernet --preset tiny.

Processor time: one thread, generation 5 (bred from generations 0 to 4; --generation G: another, which shares less), random
weights (speed does not depend on them), crops of scikit-learn's two photographs, normalised beforehand, the same batches for
all. In every round, the three ways run in turn:
    A  the official way: each candidate as a network of its own, memory order NCHW, channel shuffle by reshape and
       transpose, BatchNorm in train mode on the calibration batches, then in eval mode on the scoring batches
    B  PrefixTree, precision "exact"
    C  PrefixTree, precision "32", the default
The time to build networks and trees counts. The output also says whether B gives bit for bit what candidates one by one give,
and how far C is from A. With 3 calibration batches and 1 scoring batch, calibration has 75% of the images; the official
search has 25,600 of 33,600. How much a generation shares differs between seeds and stand-ins, by more than the clock does
between rounds, and generation 5 shares more than most (see --count): give several seeds before quoting a ratio.

Count: all generations of a search of 1,050 candidates. The ratios of multiply-adds and of bytes that convolutions put out (32
bits), candidates one by one over the nodes of the trees, say what sharing alone saves. "Written" are the bytes of all tensors
that operators write in a forward pass of either way (convolution, BatchNorm, activation, concatenation, and the copy of an
input that a convolution finds with gaps), 25,600 images in the calibration pass and 8,000 in the scoring pass.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import logging
import warnings
from collections.abc import Sequence

import torch

from benchmarks.common import parse
from benchmarks.evaluation.candidates import add_score_options
from benchmarks.evaluation.count import count_search
from benchmarks.evaluation.growth import growth
from benchmarks.evaluation.processor_time import processor_time
from spaces.errors import InputError
from trials.common import cli

SMOKE = {
    "rounds": 1,
    "generation": 1,
    "archs": 4,
    "resolution": 32,
    "batch_size": 8,
    "calibration": 1,
    "generations": 2,
    "sizes": "100",
    "images": 8,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the measurement that the options name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--count", action="store_true", help="count a whole search, no timing")
    what.add_argument("--growth", metavar="RUN", help="time per candidate against the number of candidates")
    add_score_options(parser)
    timing = parser.add_argument_group("processor time")
    timing.add_argument("--rounds", type=int, default=3)
    timing.add_argument("--generation", type=int, default=5, help="whose candidates; the first one is 0")
    timing.add_argument("--archs", type=int, default=50, help="candidates, at most 50")
    timing.add_argument("--group", type=int, default=0, help="candidates in a tree; 0: all")
    timing.add_argument("--resolution", type=int, default=64)
    timing.add_argument("--batch-size", type=int, default=32)
    timing.add_argument("--calibration", type=int, default=3, help="batches")
    timing.add_argument("--scoring", type=int, default=1, help="batches")
    parser.add_argument("--generations", type=int, default=21, help="of --count, 50 candidates each")
    parser.add_argument("--sizes", default="100,300,1000", help="of the searches of --growth")
    parser.add_argument("--unscored", action="store_true", help="--growth with the stand-in's scores: the rest alone")
    parser.add_argument("--images", type=int, default=64, help="of --growth, for calibration and again for scoring")
    args = parse(parser, argv, SMOKE)
    for name in ("rounds", "archs", "resolution", "batch_size", "calibration", "scoring", "generations", "images"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name)} is not above 0; give at least 1")
    for name in ("group", "seed", "generation"):
        if getattr(args, name) < 0:
            raise InputError(f"--{name} {getattr(args, name)} is below 0; give 0 or more")
    logging.getLogger("nni").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if args.count:
            count_search(args)
        elif args.growth:
            growth(args)
        else:
            processor_time(args)


if __name__ == "__main__":
    cli.run(main)
