"""How fast everything is on one GPU, beside named peers in the same run.

    make bench-gpu                                         # all of it, at most 8 minutes
    python -m benchmarks.gpu --parts supernet,small --out runs/gpu --seconds 200
    python -m benchmarks.gpu --smoke                       # the same code with tiny numbers, on a CPU; the figures say nothing

Each part runs in a process of its own with a time limit of its own. What was measured is in OUT/gpu.json and OUT/gpu.txt after
every row, so a part that fails or is stopped loses nothing, and the others go on; its row says why there is no number.

  supernet  the training step of SPOS at 224 px in bf16, batches of 1,024 and 256, alone and in turn with NNI's RandomOneShot in
            NNI's Lightning evaluator; one path of the space, trained alone
  compiled  the same step eager, with BatchNorm compiled with what follows it (--compile on), and that recorded as CUDA graphs, beside
            the targets of 10,000 images/s at 1,024 and 9,000 at 256
  scoring   20 candidates of generation 5 of `EvolutionTuner` in one tree, 2,560 calibration and 2,048 scoring images at 224 px, in
            each precision, against candidates one by one, the official way, in 32 bits (PyTorch's defaults: convolutions may use
            TF32 on both sides). Weights and images are random
  small     supernet step and retraining on digits at 32 and 64 px: everything there is launches
  recorded  scoring at 32, 64 and 224 px, launched and recorded as CUDA graphs, in scoring batches of 128 and of what fits
  shuffle   the convolution of every second channel and the concatenation of ShuffleNetV2 units, in several ways
  timm      mnasnet_100 and spnasnet_100, ordinary networks of about 320M multiply-adds, training and inference, eager and
            compiled
  loaders   JPEGs by DALI on the GPU and by processes on the CPU; the share of a supernet step that waits for images

Speeds are medians of rounds by wall-clock, from and to the end of all work that was begun, after a warm-up. "Of the bound" is the
share of what the memory allows: arithmetic for an H100 (3.35 TB/s) at 224 px and 16 bits, 24,000 training steps, 72,000 forward
passes with BatchNorm in train mode and 179,000 with BatchNorm folded, a second and image; half of it with 32 bits; for another
GPU in proportion to its bandwidth, where the driver tells it. What a tree shares is no forward pass: its images/s are first
multiplied by the bytes that its nodes write over those that the candidates would write one by one.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.common import parse
from benchmarks.gpu.results import JSON, TABLE, Results, Row, reason
from benchmarks.gpu.scale import FULL, SMOKE
from spaces.errors import InputError, unknown
from spaces.files import CLONE
from trials.common import cli
from trials.common.distributed import use_cuda

# name -> module, and the most seconds that it may take; in the order of what matters
PARTS = {
    "supernet": ("benchmarks.gpu.supernet_step", 125),
    "compiled": ("benchmarks.gpu.compiled_step", 115),
    "scoring": ("benchmarks.gpu.scoring", 75),
    "small": ("benchmarks.gpu.small", 45),
    "recorded": ("benchmarks.gpu.recorded_scoring", 70),
    "shuffle": ("benchmarks.gpu.shuffle", 35),
    "timm": ("benchmarks.gpu.timm_networks", 125),
    "loaders": ("benchmarks.gpu.loaders", 80),
}
SECONDS = 470  # of all parts together
LEAST = 15  # seconds without which no part begins
START = 12  # seconds of a part's time that its process may take to start and to stop


def main(argv: Sequence[str] | None = None) -> None:
    """Check the options, then run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas")
    parser.add_argument("--out", help="folder of gpu.json and gpu.txt (default: benchmarks/results/gpu)")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of all parts together")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # this process is that part
    args = parse(parser, argv, {"device": "cpu"})
    parts = args.parts.split(",")
    for part in parts:
        if part not in PARTS:
            raise InputError(unknown("part", part, PARTS))
    if args.seconds < LEAST:
        raise InputError(f"--seconds {args.seconds} is too few; give at least {LEAST}")
    device = torch.device("cuda" if use_cuda(args.device) else "cpu")
    if device.type == "cpu" and not args.smoke:
        raise InputError("--device cpu would take days; add --smoke")
    if args.only:
        return measure(args.only, Results(Path(args.out), time.monotonic() + args.seconds), device, smoke=args.smoke)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.out or (temporary if args.smoke else CLONE / "benchmarks" / "results" / "gpu"))
        begin(folder, device)
        if args.smoke:
            torch.set_num_threads(1)  # batches are too small for more
            for part in parts:
                measure(part, Results(folder), device, smoke=True)
        else:
            run_parts(parts, folder, args.seconds)
        print("\n" + Results(folder).text(), end="")
        print(f"\n{folder / TABLE} and {JSON}" if args.out or not args.smoke else "")


def begin(folder: Path, device: torch.device) -> None:
    """Begin new results, and say what they are of."""
    (folder / JSON).unlink(missing_ok=True)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    words = ["git", "-C", str(CLONE), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, capture_output=True, text=True).stdout.strip() or "unknown"
    try:
        nni = version("nni")
    except PackageNotFoundError:
        nni = "absent"
    Results(folder).about(device=name, commit=commit, torch=torch.__version__, nni=nni, date=time.strftime("%Y-%m-%d"))


def run_parts(parts: Sequence[str], folder: Path, seconds: float, *, device: str = "cuda", smoke: bool = False) -> None:
    """Run each part in a process of its own, which is stopped at its limit.

    Args:
        seconds: of all parts together; what one does not use is left to the others.
    """
    end = time.monotonic() + seconds
    for part in parts:
        limit = min(float(PARTS[part][1]), end - time.monotonic())
        if limit < LEAST:
            Results(folder).add(Row(part, "", note="not begun: no time left"))
            continue
        began = time.monotonic()
        words = [sys.executable, "-m", "benchmarks.gpu", "--only", part, "--out", str(folder), "--device", device]
        words += ["--seconds", str(max(LEAST, int(limit - START))), *["--smoke"] * smoke]
        process = subprocess.Popen(words, cwd=CLONE)
        try:
            code = process.wait(limit)
            if code:
                Results(folder).add(Row(part, "", note=f"ended with code {code}"))
        except subprocess.TimeoutExpired:
            Results(folder).add(Row(part, "", note=f"stopped at its limit of {limit:.0f} s"))
        finally:
            process.kill()  # also where this process is stopped
            process.wait()
        print(f"{part}: {time.monotonic() - began:.0f} s", flush=True)


def measure(part: str, results: Results, device: torch.device, *, smoke: bool) -> None:
    """Measure a part in this process; what prevents it becomes a row."""
    for name in ("nni", "pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module(PARTS[part][0]).measure(results, SMOKE if smoke else FULL, device)
        except Exception as error:  # whatever is missing, or breaks, in a part
            results.add(Row(part, "", note=reason(error)))


if __name__ == "__main__":
    cli.run(main)
