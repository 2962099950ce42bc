"""Part `recorded`: scoring with its passes launched and recorded as CUDA graphs, in batches of the default size and in those that fit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from benchmarks.evaluation.candidates import random_weights
from benchmarks.gpu.kernels import add_kernel_table
from benchmarks.gpu.measure import Images, tree_timing
from benchmarks.gpu.results import Results, Row
from benchmarks.gpu.scale import Scale
from spaces.arch import Arch
from spaces.spec import SpaceSpec
from trials.scoring.batches import fitting_batch
from trials.scoring.evaluate_config import BATCH
from trials.scoring.precision import PRECISIONS
from trials.scoring.prefix_tree import PrefixTree
from trials.scoring.recorded_blocks import RecordedBlocks
from trials.scoring.scorer import AUTO_PRECISION
from trials.scoring.self_check import relatives
from trials.scoring.shared_blocks import SharedBlocks

PART = "recorded"
CANDIDATES = 20


def measure(results: Results, scale: Scale, device: torch.device) -> None:
    """Small images first, where launches take the time."""
    for preset, resolution in (*scale.small, ("imagenet", scale.resolution)):
        title = f"scoring, {preset}, {resolution} px"
        with results.attempt(PART, title, 10) as begins:
            if begins:
                measure_size(results, scale, title, preset, resolution, device)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def measure_size(
    results: Results, scale: Scale, title: str, preset: str, resolution: int, device: torch.device
) -> None:
    """A tree of relatives in the default precision of the device; calibration always has batches of the default size."""
    precision = PRECISIONS[AUTO_PRECISION[device.type]]
    chain = SpaceSpec("spos", preset, {"classes": 10, "resolution": resolution}).describe()
    weights = {name: tensor.to(device) for name, tensor in random_weights(chain, 0).items()}
    archs = relatives(chain.choices, min(CANDIDATES, scale.archs))
    number = scale.small_images
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    images = Images(2 * number, resolution, min(BATCH, number), device, 0)
    first, peer = None, f"{title}, batches of {images.batch_size:,}, launched"
    for size in dict.fromkeys(min(size, number) for size in (BATCH, fitting_batch(resolution, memory))):
        for way in ("launched", "recorded"):
            parts = SharedBlocks(chain, weights, precision, device)
            recorded = RecordedBlocks(device) if way == "recorded" else None
            timed = partial(tree_timing, parts, archs, images, size=size, recorded=recorded)
            with precision.cudnn_flags():
                # kernels are chosen, memory is taken, and what can be recorded is
                start, _, _ = timed(images.batch_size, size)
                timing, _, _ = timed(number, number)
                rate = 60 * len(archs) / timing.total
                note = (
                    f"{number:,} + {number:,} images: calibration {timing.calibration:.2f} s, scoring {timing.scoring:.2f} s; "
                    f"the first batches {start.calibration:.2f} and {start.scoring:.2f} s"
                )
                what = f"{title}, batches of {size:,}, {way}"
                ratio = rate / first if first else None
                results.add(Row(PART, what, rate, "candidates/min", ratio=ratio, peer=peer if first else "", note=note))
                first = first or rate
                if results.left > 8:
                    add_tables(results, what, parts, archs, images, size, recorded)


def add_tables(
    results: Results,
    title: str,
    parts: SharedBlocks,
    archs: Sequence[Arch],
    images: Images,
    size: int,
    recorded: RecordedBlocks | None,
) -> None:
    """Kernels of one calibration and one scoring batch."""
    tree = PrefixTree(parts, archs)

    def calibrate() -> None:
        tree.calibrate(images.batches(0, images.batch_size), recorded)

    def score() -> None:
        for x in images.batches(0, size, size):
            for _ in tree.logits(x, recorded=recorded):
                pass

    add_kernel_table(results, f"{title}: a calibration batch", calibrate, parts.device)
    score()
    add_kernel_table(results, f"{title}: a scoring batch", score, parts.device)
