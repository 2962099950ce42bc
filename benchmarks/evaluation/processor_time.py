"""Processor time of scoring the candidates of one generation, in trees against the official way."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

import torch

import spaces
from benchmarks.common import spread
from benchmarks.evaluation.candidates import (
    described_scores,
    generations,
    make_score_function,
    photographs,
    random_weights,
)
from benchmarks.evaluation.official_way import in_trees, official_shuffle, one_by_one
from trials.common import cli
from trials.images.dataset import normalise


def processor_time(args: argparse.Namespace) -> None:
    """Time the three ways in turn, print their seconds and ratios, and how far their logits are apart."""
    # candidates, weights and images
    chain = spaces.describe("spos", "imagenet", resolution=args.resolution, classes=10)
    archs = generations(args.generation + 1, make_score_function(args), args.seed)[-1][: args.archs]
    weights = random_weights(chain, args.seed)
    number = (args.calibration + args.scoring) * args.batch_size
    images = normalise(photographs(number, args.resolution, args.seed), "folder", spos=False)
    batches = [batch.contiguous() for batch in images.split(args.batch_size)]
    calibration, scoring = batches[: args.calibration], batches[args.calibration :]
    data = (chain, weights, archs, calibration, scoring)

    def official() -> torch.Tensor:
        with official_shuffle():
            return one_by_one(*data)

    ways: dict[str, Callable[[], torch.Tensor]] = {
        "A official, one by one": official,
        "B tree, exact": lambda: in_trees(*data, "exact", args.group),
        "C tree, 32": lambda: in_trees(*data, "32", args.group),
    }

    # warm-up, in which libraries choose their kernels
    few = (chain, weights, archs[:2], calibration[:1], scoring[:1])
    one_by_one(*few)
    in_trees(*few, "32")

    # rounds
    seconds: dict[str, list[float]] = {title: [] for title in ways}
    logits: dict[str, torch.Tensor] = {}
    bar = cli.progress(args.rounds * len(ways), desc="rounds", unit="side")
    for _ in range(args.rounds):
        for title, run in ways.items():
            began = time.process_time()
            logits[title] = run()
            seconds[title].append(time.process_time() - began)
            bar.update()
    bar.close()

    # the table
    a, b, c = ways
    rows = []
    for title, spent in seconds.items():
        ratios = [official / own for official, own in zip(seconds[a], spent, strict=True)]
        rows.append((title, f"{statistics.median(spent):.1f}", spread(ratios) if title != a else "1"))
    print(cli.table(rows, ("", "seconds", "A / this, by rounds"), as_is=True))

    # how far the logits are apart
    plain = one_by_one(*data)
    difference = (logits[c] - logits[a]).abs().max() / logits[a].std()
    same = logits[c].argmax(2) == logits[a].argmax(2)
    print(
        f"\nlogits of B equal those of candidates one by one bit for bit: {bool(torch.equal(logits[b], plain))}; A, with the "
        f"official shuffle, too: {bool(torch.equal(logits[a], plain))}"
    )
    print(
        f"C against A: largest logit difference / standard deviation of the logits {difference:.2g}; same answer in "
        f"{int(same.sum()):,} of {same.numel():,}"
    )
    print(
        f"{len(archs)} candidates of generation {args.generation} ({described_scores(args)}, seed {args.seed}), trees of "
        f"{args.group or len(archs)}; spos imagenet at {args.resolution} px, {args.calibration} calibration and "
        f"{args.scoring} scoring batches of {args.batch_size}; n = {args.rounds} rounds, processor seconds of one thread; "
        f"{os.cpu_count()} cores, {platform.machine()}, python {platform.python_version()}, torch {torch.__version__}"
    )
