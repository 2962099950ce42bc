"""How long a trial takes to start: Onepath's imports against those of a trial that uses NNI's NAS package.

    python -m benchmarks.trial_start

Whole processes, in turn (A B A B ...), wall-clock seconds; prints each one's median and the median of the pairwise
ratios. An NNI trial is a process of its own, so its imports are paid once per candidate.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

PAIRS = 5
NNI_NAS = "import nni, torch, nni.nas.nn.pytorch, nni.nas.strategy"
ONEPATH = "import nni, trials.scoring"


def seconds(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    for code in (NNI_NAS, ONEPATH):
        seconds(code)  # the first run reads the files from disk
    pairs = [(seconds(NNI_NAS), seconds(ONEPATH)) for _ in range(PAIRS)]
    nas, onepath = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"NNI's NAS package {nas:.2f} s, Onepath {onepath:.2f} s, ratio {ratio:.2f} (n = {PAIRS} pairs)")


if __name__ == "__main__":
    main()
