"""How many images BN recalibration needs, and which precision keeps the ranking: measured on a trained supernet.

    python -m benchmarks.calibration runs/digits
    python -m benchmarks.calibration runs/fashion --archs 50 --images 25600 --scoring-images 4000
    python -m benchmarks.calibration runs/digits --precision 200      compares precisions on 200 architectures instead
    python -m benchmarks.calibration runs/digits --smoke              seconds, also with --precision; the figures say nothing

The same random architectures are scored with more and more calibration images, all on the same scoring images. The score
with all of them (25,600, or as many as there are) is the reference. Each smaller number is compared with it: Kendall's tau-b
and Spearman's rho, how many of the reference's ten best are still among the ten best, and how many points of reference score
one loses by taking the architecture that is best by fewer images. The standard error of one score, from the number of
scoring images, says how much of that matters. Calibration goes by whole batches of --batch-size, and each batch counts alike
in the cumulative average.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr

from benchmarks.common import parse
from spaces.arch import Arch
from trials.common import cli
from trials.scoring.evaluate_config import Settings
from trials.scoring.precision import PRECISIONS
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.scorer import Scorer

COUNTS = (128, 256, 512, 1280, 2560, 5120, 12800, 25600)
GROUP = 25  # architectures in memory at a time
SMOKE = {"archs": 6, "images": 512}


def random_archs(scorer: Scorer, number: int, seed: int) -> list[Arch]:
    """Random architectures, none twice, neighbours in the tree next to each other."""
    generator = np.random.default_rng(seed)
    rows: set[tuple[int, ...]] = set()  # the option of each block
    while len(rows) < number:
        rows.add(tuple(int(generator.integers(len(block.macs))) for block in scorer.table.blocks))
    return [scorer.table.arch(row) for row in sorted(rows)]


def by_images(scorer: Scorer, archs: list[Arch]) -> dict[int, np.ndarray]:
    """Top-1 in percent of each architecture, for each number of calibration images."""
    size, images = scorer.settings.batch_size, len(scorer.images.scoring)
    counts = sorted({min(count, len(scorer.images.calibration)) // size * size for count in COUNTS} - {0})
    scores: dict[int, list[float]] = {count: [] for count in counts}
    bar = cli.progress(len(archs), desc="architectures", unit="arch")
    for first in range(0, len(archs), GROUP):
        tree = PrefixTree(scorer.blocks, archs[first : first + GROUP])
        done = 0
        for count in counts:
            tree.calibrate(islice(scorer.calibration_batches(), done // size, count // size))
            done = count
            scores[count] += [100 * int(hits) / images for hits in tree.hits(scorer.scoring_batches())[:, 0]]
        bar.update(tree.arch_count)
    bar.close()
    return {count: np.array(values) for count, values in scores.items()}


def top(scores: np.ndarray, number: int = 10) -> set[int]:
    """The architectures with the highest scores."""
    return set(np.argsort(-scores, kind="stable")[:number].tolist())


def agreement(reference: np.ndarray, scores: np.ndarray) -> tuple[float, float, int, float]:
    """How well scores agree with the reference.

    Returns:
        tau-b; rho; how many of the ten best are kept; points of the reference that the best by `scores` loses.
    """
    loss = reference.max() - reference[int(np.argmax(scores))]
    tau, rho = kendalltau(reference, scores).statistic, spearmanr(reference, scores).statistic
    return float(tau), float(rho), len(top(reference) & top(scores)), float(loss)


@dataclass(frozen=True)
class Scored:
    """What one precision says of the architectures."""

    scores: np.ndarray  # top-1 in percent, (architectures,)
    logits: torch.Tensor  # (architectures, images of a batch, classes)
    seconds: float  # of processor time


def score_all(scorer: Scorer, archs: list[Arch]) -> Scored:
    """Scores of all images, and the logits of the first scoring batch."""
    hits: list[torch.Tensor] = []
    logits: list[torch.Tensor] = []
    began = time.process_time()
    for first in range(0, len(archs), GROUP):
        tree = PrefixTree(scorer.blocks, archs[first : first + GROUP])
        tree.calibrate(scorer.calibration_batches())
        hits.append(tree.hits(scorer.scoring_batches())[:, 0])
        x, _ = next(scorer.scoring_batches())
        logits += [y for _, y in sorted(tree.logits(x), key=lambda pair: pair[0])]
    seconds = time.process_time() - began
    return Scored(torch.cat(hits).numpy() * 100 / len(scorer.images.scoring), torch.stack(logits), seconds)


def compare_precisions(run: str, settings: Settings, number: int, seed: int, names: list[str]) -> None:
    """Print how scores and logits under every precision compare with the exact ones."""
    results: dict[str, Scored] = {}
    for name in dict.fromkeys(("exact", *names)):
        scorer = Scorer(run, dataclasses.replace(settings, precision=name))
        results[name] = score_all(scorer, random_archs(scorer, number, seed))
        print(f"{name}: {results[name].seconds:.0f} s of processor time", flush=True)
    exact = results["exact"]
    rows = []
    for name, result in results.items():
        tau, _, kept, loss = agreement(exact.scores, result.scores)
        difference = float((result.logits - exact.logits).abs().max() / exact.logits.std())
        other = int((result.logits.argmax(2) != exact.logits.argmax(2)).sum())
        order = [np.argsort(-scores, kind="stable")[:10].tolist() for scores in (result.scores, exact.scores)]
        same = "yes" if order[0] == order[1] else "no"
        answers = f"{other} of {result.logits[:, :, 0].numel():,}"
        speed = f"{exact.seconds / result.seconds:.2f}"
        rows.append((name, speed, f"{difference:.2g}", answers, f"{tau:.4f}", kept, same, f"{loss:.2f}"))
    header = ("precision", "speed", "logit difference", "other answers", "tau", "of the 10 best", "same order", "loss")
    print(cli.table(rows, header, as_is=True))
    print(
        "logit difference: the largest, as a part of the logits' standard deviation; other answers: of "
        f"{exact.logits.shape[1]} images"
    )


def compare_counts(run: str, settings: Settings, number: int, seed: int) -> None:
    """Print how scores with fewer calibration images compare with the reference."""
    scorer = Scorer(run, settings)
    archs = random_archs(scorer, number, seed)
    scores = by_images(scorer, archs)
    reference = scores[max(scores)]
    error = math.sqrt(reference.mean() * (100 - reference.mean()) / len(scorer.images.scoring))
    rows = []
    for count, values in scores.items():
        tau, rho, kept, loss = agreement(reference, values)
        shift = values.mean() - reference.mean()
        rows.append((f"{count:,}", f"{tau:.3f}", f"{rho:.3f}", kept, f"{loss:.2f}", f"{shift:+.2f}"))
    print(cli.table(rows, ("images", "tau", "rho", "of the 10 best", "loss", "mean score"), as_is=True))
    print(
        f"{len(archs)} architectures, {len(scorer.images.scoring):,} scoring images: scores {reference.min():.2f} to "
        f"{reference.max():.2f}%, standard deviation {reference.std():.2f}, standard error of one {error:.2f}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Compare numbers of calibration images, or precisions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run of trials.supernet")
    parser.add_argument("--archs", type=int, default=50)
    parser.add_argument("--images", type=int, default=25600, help="calibration images of the reference")
    parser.add_argument("--scoring-images", type=int, default=0, help="0: all")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", type=int, default=0, metavar="N", help="compare precisions on N architectures")
    parser.add_argument(
        "--only", nargs="+", default=["32", "bf16"], choices=list(PRECISIONS), help="precisions to compare"
    )
    args = parse(parser, argv, SMOKE)
    settings = Settings(args.images, args.scoring_images, args.batch_size)
    if args.precision:
        compare_precisions(args.run, settings, args.precision, args.seed, args.only)
    else:
        compare_counts(args.run, settings, args.archs, args.seed)


if __name__ == "__main__":
    cli.run(main)
