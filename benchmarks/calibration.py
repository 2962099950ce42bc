"""How many images BN recalibration needs, and which precision keeps the ranking: measured on a trained supernet.

    python -m benchmarks.calibration runs/digits
    python -m benchmarks.calibration runs/fashion --archs 50 --images 25600 --scoring-images 4000
    python -m benchmarks.calibration runs/digits --precision 200      compares precisions on 200 architectures instead

The same random architectures are scored with more and more calibration images, all on the same scoring images. The score
with all of them (25,600, or as many as there are) is the reference: Kendall's tau-b and Spearman's rho with it, how many of
its ten best are still among the ten best, and what the best by fewer images loses in the reference score. The standard
error of one score, from the number of scoring images, says how much of that matters. An image counts in one batch of
--batch-size, and each batch alike in the cumulative average.
"""

from __future__ import annotations

import argparse
import math
import time
from itertools import islice

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr

from spaces.arch import Arch
from trials.common import cli
from trials.scoring.evaluate_config import Settings
from trials.scoring.prefix_tree import ARITHMETIC, PrefixTree
from trials.scoring.scorer import Scorer

COUNTS = (128, 256, 512, 1280, 2560, 5120, 12800, 25600)
GROUP = 25  # architectures in memory at a time


def draw(scorer: Scorer, number: int, seed: int) -> list[Arch]:
    """Random architectures, none twice, neighbours in the tree next to each other."""
    generator = np.random.default_rng(seed)
    options: set[tuple[int, ...]] = set()
    while len(options) < number:
        options.add(tuple(int(generator.integers(len(block.macs))) for block in scorer.table.blocks))
    return [scorer.table.arch(row) for row in sorted(options)]


def by_images(scorer: Scorer, archs: list[Arch]) -> dict[int, np.ndarray]:
    """Top-1 in percent of each architecture, for each number of calibration images."""
    size, images = scorer.settings.batch_size, len(scorer.fixed.images)
    counts = sorted({min(count, len(scorer.fixed.calibration)) // size * size for count in COUNTS} - {0})
    scores: dict[int, list[float]] = {count: [] for count in counts}
    bar = cli.progress(len(archs), desc="architectures", unit="arch")
    for first in range(0, len(archs), GROUP):
        tree = PrefixTree(scorer.parts, archs[first : first + GROUP])
        done = 0
        for count in counts:
            tree.calibrate(islice(scorer.calibration(), done // size, count // size))
            done = count
            scores[count] += [100 * int(right) / images for right in tree.hits(scorer.scoring())[:, 0]]
        bar.update(tree.size)
    bar.close()
    return {count: np.array(values) for count, values in scores.items()}


def top(scores: np.ndarray, number: int = 10) -> set[int]:
    return set(np.argsort(-scores, kind="stable")[:number].tolist())


def compare(reference: np.ndarray, scores: np.ndarray) -> tuple[float, float, int, float]:
    """tau-b, rho, how many of the ten best are kept, points that the best by `scores` loses."""
    loss = reference.max() - reference[int(np.argmax(scores))]
    tau, rho = kendalltau(reference, scores).statistic, spearmanr(reference, scores).statistic
    return float(tau), float(rho), len(top(reference) & top(scores)), float(loss)


def precisions(run: str, settings: Settings, archs: int, seed: int, names: list[str]) -> None:
    """Scores and logits under every precision against the exact one."""
    found: dict[str, tuple[np.ndarray, torch.Tensor, float]] = {}
    for name in dict.fromkeys(("exact", *names)):
        scorer = Scorer(run, Settings(**{**vars(settings), "precision": name}))
        chosen = draw(scorer, archs, seed)
        hits, logits, began = [], [], time.process_time()
        for first in range(0, archs, GROUP):
            tree = PrefixTree(scorer.parts, chosen[first : first + GROUP])
            tree.calibrate(scorer.calibration())
            hits.append(tree.hits(scorer.scoring())[:, 0])
            x, _ = next(scorer.scoring())
            logits += [y for _, y in sorted(tree.logits(x), key=lambda pair: pair[0])]
        seconds = time.process_time() - began
        found[name] = torch.cat(hits).numpy() * 100 / len(scorer.fixed.images), torch.stack(logits), seconds
        print(f"{name}: {seconds:.0f} s of processor time", flush=True)
    exact, exact_logits, slow = found["exact"]
    rows = []
    for name, (scores, logits, seconds) in found.items():
        tau, _, kept, loss = compare(exact, scores)
        difference = float((logits - exact_logits).abs().max() / exact_logits.std())
        others = int((logits.argmax(2) != exact_logits.argmax(2)).sum())
        order = [np.argsort(-values, kind="stable")[:10].tolist() for values in (scores, exact)]
        same = "yes" if order[0] == order[1] else "no"
        answers = f"{others} of {logits[:, :, 0].numel():,}"
        rows.append(
            (name, f"{slow / seconds:.2f}", f"{difference:.2g}", answers, f"{tau:.4f}", kept, same, f"{loss:.2f}")
        )
    header = ("precision", "speed", "logit difference", "other answers", "tau", "of the 10 best", "same order", "loss")
    print(cli.table(rows, header, as_is=True))
    print(
        f"logit difference: the largest, as a part of the logits' standard deviation; other answers: of {len(x)} images"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run of trials.supernet")
    parser.add_argument("--archs", type=int, default=50)
    parser.add_argument("--images", type=int, default=25600, help="calibration images of the reference")
    parser.add_argument("--scoring-images", type=int, default=0, help="0: all")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", type=int, default=0, metavar="N", help="compare precisions on N architectures")
    parser.add_argument(
        "--only", nargs="+", default=["32", "bf16"], choices=list(ARITHMETIC), help="precisions to compare"
    )
    given = parser.parse_args()
    settings = Settings(given.images, given.scoring_images, given.batch_size)
    if given.precision:
        return precisions(given.run, settings, given.precision, given.seed, given.only)
    scorer = Scorer(given.run, settings)
    archs = draw(scorer, given.archs, given.seed)
    scores = by_images(scorer, archs)
    reference = scores[max(scores)]
    error = math.sqrt(reference.mean() * (100 - reference.mean()) / len(scorer.fixed.images))
    rows = []
    for count, values in scores.items():
        tau, rho, kept, loss = compare(reference, values)
        shift = values.mean() - reference.mean()
        rows.append((f"{count:,}", f"{tau:.3f}", f"{rho:.3f}", kept, f"{loss:.2f}", f"{shift:+.2f}"))
    print(cli.table(rows, ("images", "tau", "rho", "of the 10 best", "loss", "mean score"), as_is=True))
    print(
        f"{len(archs)} architectures, {len(scorer.fixed.images):,} scoring images: scores {reference.min():.2f} to "
        f"{reference.max():.2f}%, standard deviation {reference.std():.2f}, standard error of one {error:.2f}"
    )


if __name__ == "__main__":
    cli.run(main)
