"""Is scoring candidates together exact on this machine, and what do layout and precision change? `trials.evaluate --self-check`."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from spaces.arch import Arch, Choices
from spaces.errors import Stopped
from strategies.mutation import mutate
from strategies.sampling import uniform_path
from trials.common import cli
from trials.evidence.intervals import score_sd
from trials.scoring.evaluate_config import Settings
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.scorer import Scorer
from trials.scoring.shared_blocks import Pass

MUTATION = 0.1  # probability that a child draws a choice anew


def relatives(choices: Choices, number: int) -> list[Arch]:
    """A random architecture and its descendants, which share prefixes as the candidates of a late generation do."""
    generator = random.Random(0)
    archs = [uniform_path(choices, generator)]
    while len(archs) < number:
        archs.append(mutate(generator.choice(archs), choices, MUTATION, generator))
    return archs


def _warm_up(scorer: Scorer, archs: Sequence[Arch]) -> None:
    """Let candidates go through one calibration and one scoring batch, together and one by one; nothing is kept."""
    batch, scored = next(scorer.calibration_batches()), next(scorer.scoring_batches())
    tree = PrefixTree(scorer.blocks, archs)
    tree.calibrate([batch], scorer.recordings(tree, Pass.CALIBRATE))
    tree.answers([scored], recorded=scorer.recordings(tree, Pass.SCORE))
    for arch in archs:
        alone = PrefixTree(scorer.blocks, [arch])
        alone.calibrate([batch])
        alone.answers([scored])


@torch.no_grad()
def run(run_folder: str | Path, settings: Settings, device: str, number: int, **means: Any) -> list[tuple[str, str]]:
    """Score candidates together, one by one, and in precision `exact`; print times and differences. Stores no score.

    Args:
        run_folder: directory of trials.supernet.
        settings: of the scores.
        device: auto, cpu or cuda.
        number: of candidates.
        means: further arguments of a Scorer.
    Returns:
        The rows that are printed: name and value.
    Raises:
        Stopped: a candidate that is scored with others differs from the same candidate alone.
    """
    scorer = Scorer(run_folder, settings, device, **means)
    exact = Scorer(run_folder, dataclasses.replace(settings, precision="exact"), device, **means)
    archs = relatives(scorer.chain.choices, number)
    x, _ = next(scorer.scoring_batches())
    bar = cli.progress(2 * len(archs) + 1, desc="self-check", unit="step")
    with bar, scorer.precision.cudnn_flags():
        # A batch either way before the clock starts: libraries load, kernels are chosen, memory is taken.
        _warm_up(scorer, archs)

        # Together, as a tree.
        began = time.perf_counter()
        tree = PrefixTree(scorer.blocks, archs)
        tree.calibrate(scorer.calibration_batches(), scorer.recordings(tree, Pass.CALIBRATE))
        right, losses = tree.answers(scorer.scoring_batches(), recorded=scorer.recordings(tree, Pass.SCORE))
        together_seconds = time.perf_counter() - began
        logits = dict(tree.logits(x))
        bar.update()

        # One by one: the answers to all images and logits of the first batch must be the same bits.
        different, alone_seconds = [], 0.0
        for index, arch in enumerate(archs):
            began = time.perf_counter()
            _, network, _ = scorer.fixed_network(arch)
            own = scorer.answers_of_network(network)
            same = torch.equal(own.right, right[index]) and torch.equal(own.losses, losses[index])
            alone_seconds += time.perf_counter() - began
            y = network(scorer.precision.cast_images(x)).float()
            if not (same and torch.equal(y, logits[index])):
                different.append(index)
            bar.update()

        # In precision `exact`: how far are the logits of the first batch apart?
        largest, changed, answers = 0.0, 0, 0
        for index, arch in enumerate(archs):
            with exact.precision.cudnn_flags():
                _, network, _ = exact.fixed_network(arch)
                y = network(exact.precision.cast_images(x)).float()
            largest = max(largest, float((y - logits[index]).abs().max() / y.std()))
            changed += int((y.argmax(1) != logits[index].argmax(1)).sum())
            answers += len(y)
            bar.update()

    images = len(scorer.images.scoring)
    lowest, highest = (100 * float(hits) / images for hits in right[:, :, 0].sum(1).aminmax())
    rows = [
        (
            "candidates, nodes of their tree",
            f"{len(archs)}, {tree.node_count} instead of {len(archs) * (len(scorer.chain.blocks) + 2)}",
        ),
        ("precision, device", f"{scorer.precision_name}, {scorer.device.type}"),
        ("seconds a candidate, together", f"{together_seconds / len(archs):.2f}"),
        (
            "seconds a candidate, one by one",
            f"{alone_seconds / len(archs):.2f} (ratio {alone_seconds / together_seconds:.2f})",
        ),
        (
            "together equals one by one",
            "bit for bit" if not different else f"no, in {len(different)} candidates",
        ),
        ("largest logit difference to 'exact'", f"{largest:.2g} of the logits' standard deviation"),
        ("other answers than 'exact'", f"{changed} of {answers:,}"),
        ("top-1", f"{lowest:.2f} to {highest:.2f}%, each +- {score_sd(lowest, images):.2g} (sd, {images:,} images)"),
    ]
    print(cli.table(rows, ("self-check", ""), as_is=True))
    if different:
        raise Stopped(
            f"{len(different)} of {len(archs)} candidates score otherwise together than alone; use --reference, and please report it"
        )
    return rows
