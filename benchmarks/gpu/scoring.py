"""Part `scoring`: candidates of a generation in one tree of prefixes, in each precision, against the official way.

Each precision is measured with fused convolutions and with plain layers (trials/networks/fused_conv.py).

Shapes: K candidates, N images of a batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

import spaces
from benchmarks.evaluation.candidates import COSTS, generations, random_weights, stand_in_scores
from benchmarks.gpu.kernels import add_kernel_table
from benchmarks.gpu.limits import Written, bytes_written, memory_bound
from benchmarks.gpu.measure import Images, Timing, official_seconds, tree_timing
from benchmarks.gpu.results import Results, Row
from benchmarks.gpu.scale import Scale
from spaces.arch import Arch
from spaces.chain import Chain
from spaces.cost import CostTable
from spaces.files import CLONE
from trials.networks import fused_conv
from trials.scoring.precision import PRECISIONS
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.shared_blocks import SharedBlocks

PART = "scoring"
SEARCH = 21  # generations of 50: 1,050 candidates
SEARCH_IMAGES = (25_600, 8_000)  # for calibration and for scoring, in the paper
BEST = 10  # candidates that a precision should keep


@dataclass(frozen=True)
class Output:
    """What the candidates say in one precision."""

    logits: torch.Tensor  # (K, N, classes) of the first scoring batch
    answers: torch.Tensor  # (K, scoring images)


def measure(results: Results, scale: Scale, device: torch.device) -> None:
    """Each precision; the first is what others are compared with."""
    chain = spaces.describe("spos", "imagenet", resolution=scale.resolution)
    choices = CostTable.load(CLONE / COSTS).choices
    bred = generations(SEARCH if scale.generation > 1 else 2, stand_in_scores("additive", 0, choices), 0)
    archs = bred[scale.generation][: scale.archs]
    weights = {name: tensor.to(device) for name, tensor in random_weights(chain, 0).items()}
    written = bytes_written(archs, bred)
    images = Images(scale.calibration + scale.scoring, scale.resolution, scale.scoring_batch, device, 0)
    alone = None
    with results.attempt(PART, "official, one by one", 10) as begins:
        if begins:
            few = archs[:: max(1, len(archs) // scale.one_by_one)][: scale.one_by_one]
            alone = official_seconds(chain, weights, few, images, scale.calibration, scale.scoring)
            note = f"32 bits, n = {len(few)} candidates"
            results.add(Row(PART, "official, one by one", 60 / alone, "candidates/min", note=note))
    outputs: dict[str, Output] = {}
    for precision in scale.precisions:
        with results.attempt(PART, f"tree, {precision}", 15) as begins:
            if begins:
                outputs[precision] = one_precision(
                    results, scale, chain, weights, archs, images, precision, alone, written
                )
    compare(results, outputs)


def one_precision(
    results: Results,
    scale: Scale,
    chain: Chain,
    weights: dict[str, torch.Tensor],
    archs: Sequence[Arch],
    images: Images,
    precision: str,
    alone: float | None,
    written: Written,
) -> Output:
    """The rows and kernel tables of one precision.

    Args:
        alone: seconds of a candidate in the official way; None where that failed.
    """
    device = images.images.device
    parts = SharedBlocks(chain, weights, PRECISIONS[precision], device)
    size = scale.scoring_batch
    with PRECISIONS[precision].cudnn_flags():
        plain_parts = SharedBlocks(chain, weights, dataclasses.replace(PRECISIONS[precision], fuse=False), device)
        tree_timing(plain_parts, archs, images, size, size)
        plain, _, _ = tree_timing(plain_parts, archs, images, scale.calibration, scale.scoring)
        plain_parts.clear()
        copied = copying_seconds(SharedBlocks(chain, weights, PRECISIONS[precision], device), archs, images, scale)
        tree_timing(parts, archs, images, size, size)  # kernels are chosen, memory is taken
        timing, logits, answers = tree_timing(parts, archs, images, scale.calibration, scale.scoring)
        minutes = search_minutes(timing, (scale.calibration, scale.scoring), size, written, len(archs))
        faster = alone / (timing.total / len(archs)) if alone else None
        candidates = 60 * len(archs) / timing.total
        note = f"1,050 with 25,600 + 8,000 images, in trees like this one: {minutes[0]:.1f} min; in those of a search: {minutes[1]:.1f} min"
        results.add(
            Row(
                PART,
                f"tree, {precision}",
                candidates,
                "candidates/min",
                ratio=faster,
                peer="official, one by one",
                note=note,
            )
        )
        bounds = memory_bound(device, precision, scale.resolution)
        images_of = {"calibration": scale.calibration, "scoring": scale.scoring}
        for (title, count), bound, share in zip(images_of.items(), bounds, written.share, strict=True):
            done = len(archs) * (count // size * size)  # in whole batches
            before, rate = done / getattr(plain, title), done / getattr(timing, title)
            row = partial(Row, PART, unit="images/s")
            what, peer = f"{title} pass, {precision}", f"{title} pass, {precision}, plain layers"
            results.add(row(peer, before, bound=float(before * share / bound)))
            results.add(row(what, rate, bound=float(rate * share / bound), ratio=rate / before, peer=peer))
            slower = done / getattr(copied, title)
            what = f"{title} pass, {precision}, odd channels copied"
            results.add(row(what, slower, bound=float(slower * share / bound), ratio=slower / before, peer=peer))
        if results.left > 8:
            profile_passes(results, parts, archs, images, precision)
    return Output(logits, answers)


def copying_seconds(parts: SharedBlocks, archs: Sequence[Arch], images: Images, scale: Scale) -> Timing:
    """As a tree takes where units copy the channels that enter their main branch, in place of reading all of them."""
    usual, fused_conv.WHOLE_OUTPUTS = fused_conv.WHOLE_OUTPUTS, 0
    try:
        tree_timing(parts, archs, images, scale.scoring_batch, scale.scoring_batch)
        return tree_timing(parts, archs, images, scale.calibration, scale.scoring)[0]
    finally:
        fused_conv.WHOLE_OUTPUTS = usual
        parts.clear()


def search_minutes(
    timing: Timing, images: tuple[int, int], batch_size: int, written: Written, archs: int
) -> np.ndarray:
    """Minutes of a whole search of 1,050 candidates, (2,).

    Args:
        images: of the calibration and of the scoring pass of this tree.
        archs: candidates of this tree.
    Returns:
        In trees that share as much as this one; and in the trees of 21 generations, whose first ones share less, as long for
        each byte that they write.
    """
    seconds = np.array([timing.calibration, timing.scoring])
    used = np.array(images) // batch_size * batch_size  # whole batches
    seconds = seconds * SEARCH_IMAGES / used
    return np.array([seconds.sum() * 50 * SEARCH / archs, np.dot(written.search / written.tree, seconds)]) / 60


def profile_passes(
    results: Results, parts: SharedBlocks, archs: Sequence[Arch], images: Images, precision: str
) -> None:
    """Kernel tables of one calibration and one scoring batch."""
    tree, size = PrefixTree(parts, archs), images.batch_size

    def score() -> None:
        for x in images.batches(0, size):
            for _ in tree.logits(x):
                pass

    calibrate = lambda: tree.calibrate(images.batches(0, size))  # noqa: E731
    add_kernel_table(results, f"calibration batch, {precision}", calibrate, parts.device)
    score()
    add_kernel_table(results, f"scoring batch, {precision}", score, parts.device)


def compare(results: Results, outputs: dict[str, Output]) -> None:
    """How far the precisions are from the first one.

    There are no labels, so "best" are the candidates whose answers are most often those that most candidates give in the first
    precision: it says whether a ranking moves, not how good anyone is. An untrained network has nearly tied classes, so answers
    change more readily than in a trained one (benchmarks/calibration.py compares precisions on a trained supernet).
    """
    if not outputs:
        return
    first, *others = outputs
    reference = outputs[first]
    most = reference.answers.mode(0).values  # what most of the candidates answer
    for precision in others:
        output = outputs[precision]
        kept = len(best(reference.answers, most) & best(output.answers, most))
        same = float((reference.answers == output.answers).float().mean())
        difference = float((output.logits - reference.logits).abs().max() / reference.logits.std())
        note = f"largest logit difference {difference:.2g} of their sd; {kept} of the {min(BEST, len(output.answers))} best remain"
        results.add(Row(PART, f"{precision} answers as {first}", 100 * same, "%", note=note))


def best(answers: torch.Tensor, most: torch.Tensor) -> set[int]:
    """The candidates whose answers (K, images) are most often those of most candidates (images,)."""
    return set((answers == most).sum(1).argsort(descending=True, stable=True)[:BEST].tolist())
