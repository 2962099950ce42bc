"""How well the scores of a supernet rank the random architectures of benchmarks/quality, and what other ways to score them cost.

    python -m trials.supernet --space fbnet --preset tiny --data fashion-mnist --data-root FOLDER --resolution 16 --epochs 4 --out RUN
    python -m benchmarks.ranking RUN --pair fbnet-fashion
    python -m benchmarks.ranking RUN --pair fbnet-fashion --calibration-images 2560 --finetune-steps 20
    python -m benchmarks.ranking RUN --smoke             seconds, on any supernet; the figures say nothing

FOLDER is what benchmarks.quality cuts from Fashion-MNIST, fashion-mnist-2000 in its --work. The truth is the mean test accuracy in
benchmarks/results/quality, of as many seeds as there are. Prints Kendall's tau, within the band of cost, of top-1, of
cross-entropy and of MACs alone, with intervals of 95 % over architectures.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence

from benchmarks.common import parse
from benchmarks.quality.__main__ import RESULTS
from benchmarks.quality.evidence import accuracies
from benchmarks.quality.pairs import PAIRS
from benchmarks.quality.units import Plan
from spaces.arch import Arch, arch_id
from spaces.errors import InputError, unknown
from spaces.files import load_json
from strategies.sampling import uniform_path
from trials.common import cli
from trials.evidence.ranking import kendall, tau_difference
from trials.scoring.evaluate_config import Settings
from trials.scoring.scorer import Scorer

SMOKE = {"calibration_images": 64, "scoring_images": 64, "finetune_steps": 1}


def truth(pair: str) -> dict[str, float]:
    """Mean test accuracy of each network of a pair, percent, by id of its architecture."""
    results = [load_json(path, "result") for path in sorted((RESULTS / pair / "networks").glob("*.json"))]
    return {name: statistics.mean(values) for name, values in accuracies(results).items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Score the architectures, and print how they are ranked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run of trials.supernet")
    parser.add_argument("--pair", default="fbnet-fashion", help=f"of benchmarks.quality: {', '.join(PAIRS)}")
    parser.add_argument("--calibration-images", type=int, default=640)
    parser.add_argument("--scoring-images", type=int, default=0, help="0: all")
    parser.add_argument("--finetune-steps", type=int, default=0)
    args = parse(parser, argv, SMOKE)
    if args.pair not in PAIRS:
        raise InputError(unknown("pair", args.pair, PAIRS))
    settings = Settings(args.calibration_images, args.scoring_images, 128, finetune_steps=args.finetune_steps)
    scorer = Scorer(args.run, settings, "cpu")

    # the architectures, and what they are worth; of a smoke run any, with their parameters for an accuracy
    archs: list[Arch]
    if args.smoke:
        archs = [uniform_path(scorer.chain.choices, random.Random(seed)) for seed in range(6)]
        true_of = {arch_id(arch): float(scorer.table.params(arch)) for arch in archs}
    else:
        true_of = truth(args.pair)
        archs = [arch for arch in PAIRS[args.pair].random_archs(Plan.pool) if arch_id(arch) in true_of]
    if len(archs) < 5:
        raise InputError(f"{len(archs)} networks of {args.pair} were trained; run python -m benchmarks.quality first")

    # their scores
    records = []
    with cli.progress(len(archs), desc="scores", unit="arch") as bar:
        for _, record in scorer.results(archs):
            if isinstance(record, Exception):
                raise record
            records.append(record)
            bar.update(1)
    true = [true_of[arch_id(record["arch"])] for record in records]
    macs = [float(record["macs"]) for record in records]
    scores = {"top-1": [record["top1"] for record in records], "loss": [-record["loss"] for record in records]}
    rows = [
        (name, str(kendall(values, true)), str(tau_difference(values, macs, true) or "-"))
        for name, values in scores.items()
    ]
    rows.append(("MACs", str(kendall(macs, true)), "-"))
    print(cli.table(rows, ("score", "tau", "minus that of MACs"), as_is=True))
    print(
        f"loss minus top-1: {tau_difference(scores['loss'], scores['top-1'], true) or '-'}; {len(records)} architectures, mean top-1 "
        f"{statistics.mean(scores['top-1']):.1f}%, {statistics.mean(record['seconds'] for record in records):.2f} s each"
    )


if __name__ == "__main__":
    cli.run(main)
