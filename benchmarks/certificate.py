"""How often the certificate's verdict is right: on made-up networks, beside two simpler tests, and on NAS-Bench-Macro.

    python -m benchmarks.certificate                                        # made-up networks
    python -m benchmarks.certificate --table nas-bench-macro_cifar10.json   # and those of the table
    python -m benchmarks.certificate --smoke

First table: in how many of --runs runs a winner is called better than K random architectures or worse, by trials/evidence,
by a t-test of the architectures' means against the winner's mean (which takes the winner for exactly known), and by a
bootstrap of the test images that draws them anew for each side. Where the truth is 0 a call is wrong, and 5 % are allowed.
Made-up networks answer 97 % right; seeds differ by a standard deviation of --seed-sd points, architectures by 0.5 where they
differ, and of what makes an image hard 60 % is the same for all networks, 20 % belongs to the architecture and 20 % to the
seed.

Second table: architectures and their accuracies (seeds 1 and 2 of 3) are those of NAS-Bench-Macro (arXiv:2103.11922,
https://github.com/xiusu/NAS-Bench-Macro) between 90 and 100 % of --limit MACs. The search takes the best of 400 draws, all
different where there are as many, by a score that has the given Kendall's tau with the mean accuracy; a tau of 0 is a blind
draw. The table has no answers by image; they are drawn like those above, for 10,000 images.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np
from scipy import stats
from scipy.special import ndtri

from benchmarks.common import parse
from spaces.errors import InputError
from spaces.files import load_json
from strategies.limits import amount
from trials.common import cli
from trials.evidence.comparison import Comparison, compare_with_random, verdict

RATE = 0.97
SHARES = (0.6, 0.2, 0.2)  # of what makes an image hard: all networks, one architecture, one seed
SPREAD = 0.005  # standard deviation between architectures, where they differ
# what the winner is -> its distance from the average architecture, None where it is drawn like the others; their spread
TRUTHS: dict[str, tuple[float | None, float]] = {
    "all equal": (0.0, 0.0),
    "the average one": (0.0, SPREAD),
    "a blind draw": (None, SPREAD),
    "0.5 points better": (0.005, SPREAD),
    "1 point better": (0.01, SPREAD),
    "1.5 points better": (0.015, SPREAD),
}
TAUS, TABLE_IMAGES, TABLE_SEEDS, EVALUATED = (0.0, 0.2, 0.4, 0.6), 10_000, 2, 400
SMOKE = {"runs": 4, "random": "3", "images": 50, "seeds": "2"}

Answers = np.ndarray  # right or wrong, bool


def made_up_answers(
    generator: np.random.Generator, rates: np.ndarray | Sequence[float], seeds: int, images: int, seed_sd: float = 0.0
) -> Answers:
    """Right answers of networks to the same images, (networks, S, N).

    Args:
        rates: how many of all images an architecture answers right, 0 to 1, (networks,), or of each seed (networks, S).
        seed_sd: by how much the seeds of an architecture differ from that.
    """
    number = len(rates)
    limits = np.broadcast_to(np.reshape(rates, (number, -1)), (number, seeds))
    limits = ndtri(np.clip(limits + seed_sd * generator.standard_normal((number, seeds)), 1e-6, 1 - 1e-6))
    hard = np.zeros((1, 1, images), np.float32)
    for share, shape in zip(SHARES, ((1, 1), (number, 1), (number, seeds)), strict=True):
        hard = hard + share**0.5 * generator.standard_normal((*shape, images), np.float32)
    answers: Answers = hard < limits[:, :, None]
    return answers


def ours(table: Answers, generator: np.random.Generator) -> bool:
    comparison = compare_with_random(table[0], table[1:], seed=int(generator.integers(2**31)), draws=2000)
    return verdict(comparison)[0] != "not distinguishable"


def t_test(table: Answers, generator: np.random.Generator) -> bool:
    means = table.mean((1, 2))
    return bool(np.ptp(means[1:]) and stats.ttest_1samp(means[1:], means[0]).pvalue < 0.05)


def unpaired(table: Answers, generator: np.random.Generator) -> bool:
    images, moved = table.shape[2], []
    for side in (table[:1], table[1:]):
        moved.append(side.mean((0, 1))[generator.integers(images, size=(500, images))].mean(1))
    low, high = np.quantile(moved[0] - moved[1], [0.025, 0.975])
    return bool(low > 0 or high < 0)


METHODS: dict[str, Callable[[Answers, np.random.Generator], bool]] = {
    "certificate": ours,
    "t-test": t_test,
    "unpaired bootstrap": unpaired,
}


def calls(truth: str, networks: int, seeds: int, images: int, runs: int, seed_sd: float) -> list[float]:
    """The share of runs in which each method calls the winner different, in percent."""
    generator, called = np.random.default_rng(0), np.zeros(len(METHODS))
    away, spread = TRUTHS[truth]
    for _ in range(runs):
        rates = RATE + spread * generator.standard_normal(networks + 1)
        if away is not None:
            rates[0] = RATE + away
        table = made_up_answers(generator, rates, seeds, images, seed_sd)
        called += [method(table, generator) for method in METHODS.values()]
    return list(100 * called / runs)


def band(path: str | None, limit: float) -> np.ndarray:
    """Accuracies of the different networks within 10 % below the limit, 0 to 1, (networks, 3); made up without a file."""
    if path is None:
        generator = np.random.default_rng(0)
        made_up: np.ndarray = (
            0.9 + 0.02 * generator.standard_normal((60, 1)) + 0.002 * generator.standard_normal((60, 3))
        )
        return made_up
    entries = load_json(path, "table").values()
    different = {(tuple(entry["test_acc"]), entry["flops"]) for entry in entries}
    within = sorted(accuracies for accuracies, macs in different if 0.9 * limit < macs <= limit)
    if len(within) < 50:
        raise InputError(f"--limit leaves {len(within)} networks of --table; give one with at least 50, such as 60M")
    return np.array(within) / 100


def noise_for(tau: float, truth: np.ndarray) -> float:
    """The standard deviation of normal noise with which a score has that tau; infinite for 0."""
    noise = np.random.default_rng(0).standard_normal((20, len(truth)))
    low, high = 0.0, 100 * float(truth.std())
    for _ in range(30):
        middle = (low + high) / 2
        found = np.mean([stats.kendalltau(truth, truth + middle * row).statistic for row in noise])
        low, high = (middle, high) if found > tau else (low, middle)
    return high if tau else np.inf


def searches(accuracies: np.ndarray, tau: float, networks: int, runs: int) -> list[tuple[Comparison, float]]:
    """Search, draw the random architectures, compare. Returns each comparison, and the true difference in points."""
    generator, truth, found = np.random.default_rng(0), accuracies.mean(1), []
    noise = noise_for(tau, truth)
    for run in range(runs):
        seen = generator.permutation(len(truth))[: EVALUATED if tau else 1]
        scores = truth[seen] + (noise * generator.standard_normal(len(seen)) if tau else 0)
        winner = seen[scores.argmax()]
        others = generator.choice(np.delete(np.arange(len(truth)), winner), networks, replace=False)
        rates = accuracies[[winner, *others]][:, :TABLE_SEEDS]
        table = made_up_answers(generator, rates, TABLE_SEEDS, TABLE_IMAGES)
        comparison = compare_with_random(table[0], table[1:], seed=run, draws=2000)
        found.append((comparison, 100 * float(truth[winner] - truth.mean())))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", help="nas-bench-macro_cifar10.json; the second table is left out without it")
    parser.add_argument("--limit", default="60M", help="MACs, the top of the band of the second table")
    parser.add_argument(
        "--random", default="8,20,40", help="random architectures K, with commas; the first table takes the first"
    )
    parser.add_argument("--seeds", default="1,2,3", help="seeds S of the first table, with commas")
    parser.add_argument("--images", type=int, default=359, help="test images N of the first table")
    parser.add_argument("--seed-sd", type=float, default=0.4, help="points, of the first table")
    parser.add_argument(
        "--runs", type=int, default=1000, help="runs of each line of the first table; the second takes a fifth"
    )
    args = parse(parser, argv, SMOKE)
    numbers = [int(number) for number in args.random.split(",")]

    rows: list[tuple[object, ...]] = []
    for truth in TRUTHS:
        for seeds in map(int, args.seeds.split(",")):
            shares = calls(truth, numbers[0], seeds, args.images, args.runs, args.seed_sd / 100)
            rows.append((truth, seeds, *(f"{share:.1f}" for share in shares)))
    print(cli.table(rows, ("the winner is", "seeds", *METHODS), as_is=True))
    print(
        f"percent of {args.runs} runs called better or worse; K = {numbers[0]}, N = {args.images}, seeds differ by {args.seed_sd} points\n"
    )

    if args.table or args.smoke:
        accuracies, rows = band(args.table, amount(args.limit, "--limit")), []
        for tau in TAUS:
            for networks in numbers:
                found = searches(accuracies, tau, networks, max(2, args.runs // 5))
                better = [verdict(comparison)[0] == "better" for comparison, _ in found]
                rare = [one and comparison.blind < 0.05 for one, (comparison, _) in zip(better, found, strict=True)]
                covered = [gain in comparison.difference for comparison, gain in found]
                gain = np.mean([gain for _, gain in found])
                width = np.mean([comparison.difference.high - comparison.difference.low for comparison, _ in found])
                percents = [f"{100 * np.mean(column):.0f}" for column in (better, rare, covered)]
                rows.append((tau, networks, f"{gain:.2f}", f"{width:.2f}", *percents))
        header = ("score's tau", "K", "true difference", "width", "better %", "and rare %", "covered %")
        print(cli.table(rows, header, as_is=True))
        print(
            f"{len(accuracies)} networks in the band, {max(2, args.runs // 5)} searches a line, {TABLE_SEEDS} seeds, {TABLE_IMAGES:,} images;"
        )
        print("rare: a blind draw would beat as many random architectures in less than 5 % of cases")
    print(f"{platform.machine()}, numpy {version('numpy')}, scipy {version('scipy')}")


if __name__ == "__main__":
    cli.run(main)
