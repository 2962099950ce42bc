"""One start of benchmarks/data/listing.py: memory is measured, so nothing is imported here that loading does not need."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from trials.images.load import load_data
from trials.images.options import DataOptions

BATCH, RESOLUTION = 64, 224  # images in a batch; their height and width in pixels


def start(folder: Path, loader: str, listed: bool) -> None:
    """Print time and memory until the first training batch and the first scoring batch."""
    began = time.perf_counter()
    options = DataOptions(data="folder", data_root=str(folder / "tree"), loader=loader, workers=2)
    run = folder / loader
    data = load_data(options, RESOLUTION, score_fraction=0.1, run=run)
    opened = time.perf_counter() - began
    next(data.train_batches("train", BATCH, seed=0, epoch=0))
    next(data.eval_batches("score", BATCH))
    whole = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    run.mkdir(exist_ok=True)
    data.save(run)
    source = "list of the run" if listed else "scan done before"
    total = sum(data.size(part) for part in ("all", "test"))
    print(
        f"{loader}, {source}: {total:,} images, opened in {opened:.1f} s, first batches after {whole:.1f} s, peak memory "
        f"{peak:.2f} GiB, of the largest worker {child:.2f} GiB",
        flush=True,
    )


if __name__ == "__main__":
    start(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "True")
