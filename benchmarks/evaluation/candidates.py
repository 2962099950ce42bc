"""What is scored: the generations that `EvolutionTuner` breeds, random weights, and crops of photographs."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import spaces
from benchmarks.common import photograph_crops
from spaces.arch import Arch, arch_id
from spaces.chain import Chain
from spaces.cost import CostTable
from spaces.errors import InputError, unknown
from spaces.files import CLONE
from strategies.evolution import PAPER, EvolutionTuner
from trials.scoring.evaluate_config import Settings
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.scorer import Scorer

COSTS = "experiments/spaces/spos-imagenet.costs.json"  # as in experiments/spos_evo.yml
MAX_MACS = 330_000_000
STAND_INS = ("additive", "pairs", "random")

ScoreFunction = Callable[[list[Arch]], list[float]]


def add_score_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which scores the tuner is told."""
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scores", choices=STAND_INS, default="additive", help="stand-in for scores that the tuner is told"
    )
    parser.add_argument("--run", help="scores from this run of trials.supernet instead")


def make_score_function(args: argparse.Namespace) -> ScoreFunction:
    """The scores that the options of `add_score_options` ask for."""
    choices = CostTable.load(CLONE / COSTS).choices
    if args.run:
        return supernet_scores(args.run, choices)
    return stand_in_scores(args.scores, args.seed, choices)


def described_scores(args: argparse.Namespace) -> str:
    """Where the scores come from, for the last line of a benchmark."""
    return f"run {args.run}" if args.run else f"stand-in '{args.scores}'"


def stand_in_scores(kind: str, seed: int, choices: dict[str, list[Any]]) -> ScoreFunction:
    """Scores that depend on the architecture and the seed alone.

    Args:
        kind: one of STAND_INS. `additive`: the sum of a number for each candidate of each block, drawn from a normal
            distribution; `pairs`: that, and such a number for each pair of candidates of neighbouring blocks; `random`:
            a number that says nothing about similar architectures.
        choices: the candidates of each block, by its label.
    Raises:
        InputError: `kind` is none of STAND_INS.
    """
    if kind not in STAND_INS:
        raise InputError(unknown("--scores", kind, STAND_INS))
    generator = np.random.default_rng(seed)
    of_candidates = {
        label: dict(zip(values, generator.normal(size=len(values)), strict=True)) for label, values in choices.items()
    }
    of_pairs = {
        (label, next_label): {(a, b): generator.normal() for a in choices[label] for b in choices[next_label]}
        for label, next_label in itertools.pairwise(choices)
    }

    def score(arch: Arch) -> float:
        if kind == "random":
            return float(np.random.default_rng([seed, int(arch_id(arch), 16)]).normal())
        total = sum(values[arch[label]] for label, values in of_candidates.items())
        if kind == "pairs":
            total += sum(values[arch[one], arch[other]] for (one, other), values in of_pairs.items())
        return float(total)

    return lambda archs: [score(arch) for arch in archs]


def supernet_scores(run: str, choices: dict[str, list[Any]]) -> ScoreFunction:
    """Top-1 in percent of a run of trials.supernet, with 512 calibration images and all scoring images; nothing is stored.

    Raises:
        InputError: the run's choices are not `choices`.
    """
    scorer = Scorer(run, Settings(512, 0, 128))
    if scorer.chain.choices != choices:
        raise InputError(f"--run '{run}' is of a space with other labels than spos; make one with --space spos")

    def score(archs: list[Arch]) -> list[float]:
        tree = PrefixTree(scorer.blocks, archs)
        tree.calibrate(scorer.calibration_batches())
        return [100 * int(hits) / len(scorer.images.scoring) for hits in tree.hits(scorer.scoring_batches())[:, 0]]

    return score


def generations(number: int, score: ScoreFunction, seed: int) -> list[list[Arch]]:
    """The first generations of a search with the paper's numbers; each in the order of the scorer, neighbours together."""
    tuner = EvolutionTuner(COSTS, **PAPER, seed=seed, max_macs=MAX_MACS)
    bred: list[list[Arch]] = []
    asked = 0
    for generation in range(number):
        numbers = range(asked, asked + tuner.remaining_before_next_result())
        archs = [tuner.generate_parameters(identity) for identity in numbers]
        asked += len(archs)
        bred.append(sorted(archs, key=tuner.table.combinations))
        if generation < number - 1:
            for identity, arch, top1 in zip(numbers, archs, score(archs), strict=True):
                tuner.receive_trial_result(identity, arch, {"default": top1})
    return bred


def random_weights(chain: Chain, seed: int) -> dict[str, torch.Tensor]:
    """State dict of a supernet that was never trained."""
    torch.manual_seed(seed)
    options = {"resolution": chain.resolution, "classes": chain.classes, **chain.options}
    return spaces.build(chain.name, chain.preset, **options).state_dict()


def photographs(number: int, resolution: int, seed: int) -> torch.Tensor:
    """Random crops of scikit-learn's two photographs, uint8 (number, 3, R, R)."""
    crops = photograph_crops(np.random.default_rng(seed), number, resolution)
    return torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous()
