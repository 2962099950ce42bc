"""Part `loaders`: JPEGs decoded by DALI on the GPU, and by processes on the CPU; how long a supernet step waits for them."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.data.images import make_tree
from benchmarks.data.loaders import read_by_ours, speed
from benchmarks.data.steps import time_steps
from benchmarks.gpu.measure import Speed
from benchmarks.gpu.results import Results, Row
from benchmarks.gpu.scale import Scale
from trials.common.machine import usable_cores
from trials.images.options import LOADERS

PART = "loaders"
ROUNDS = 2


def measure(results: Results, scale: Scale, device: torch.device) -> None:
    """Images/s of training and test images by either loader, and the share of a supernet step that waits."""
    workers = min(scale.workers, usable_cores())
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        make_tree(root / "images", scale.files, scale.test_files)
        for loader in reversed(LOADERS):  # DALI last, as the others are its peers
            what = f"{loader}, {workers} {'threads' if loader == 'dali' else 'processes'}"
            step = f"supernet step, batch {scale.loader_batch}, images by {what}"
            with results.attempt(PART, step, 20) as begins:
                if begins:
                    rate, share = time_steps(
                        *(root / "images", loader, workers, device, scale.loader_batch, scale.loader_steps),
                        *(scale.loader_warmup, scale.resolution),
                    )
                    alone = results.value("supernet", f"supernet step, batch {scale.loader_batch}")
                    note = f"{share:.1%} of the time waits for images"
                    ratio, peer = (rate / alone, "step without loader") if alone else (None, "")
                    results.add(Row(PART, step, rate, ratio=ratio, peer=peer, note=note))
            for split in ("train", "val"):
                with results.attempt(PART, f"{split}, {what}", 10) as begins:
                    if begins:
                        read = partial(read_by_ours, loader, root / "images", split, 0.0, workers, device)
                        rounds = Speed(tuple(speed(partial(read, epoch), device) for epoch in range(ROUNDS)))
                        other = results.value(PART, f"{split}, torchvision, {workers} processes")
                        ratio, peer = (rounds.median / other, "processes") if loader == "dali" and other else (None, "")
                        note = f"whole epochs with their start; {rounds}"
                        results.add(Row(PART, f"{split}, {what}", rounds.median, ratio=ratio, peer=peer, note=note))
