"""Costs of a million architectures from the table, against counting one on a network.

    python -m benchmarks.cost

Prints, for each imagenet space: processor seconds of `CostTable.macs_many` on a million architectures (uint8 genes, the
best of 5, one core), and how many times faster that is than building a network and counting it with forward hooks and
than fvcore's FlopCountAnalysis, where fvcore is installed. Then the seconds that a search under a tight limit needs:
1,000 uniform draws by dynamic programming, against rejection.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
import time
from collections.abc import Callable

import numpy as np
import torch

import spaces
from spaces.cost import CostTable, measure
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from strategies.sampling import uniform_path
from tests.unit.test_spaces import hook_count

MILLION = 1_000_000


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Processor seconds of the fastest of some repeats."""
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        function()
        best = min(best, time.process_time() - began)
    return best


def fvcore_count(network: torch.nn.Module) -> int | None:
    """MACs by fvcore, another public counter; None where it is not installed."""
    try:
        from fvcore.nn import FlopCountAnalysis
    except ImportError:
        return None
    analysis = FlopCountAnalysis(network.eval(), torch.zeros(1, 3, 224, 224))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counted = analysis.by_operator()
    return int(counted["conv"] + counted["linear"])


def main() -> None:
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    print("space, seconds for a million, times faster than hooks, than fvcore")
    for name in spaces.SPACES:
        for preset, options in spaces.presets(name):
            if preset != "imagenet":
                continue
            chain = spaces.describe(name, preset, **options)
            table = measure(chain)
            genes = np.stack(
                [draw.integers(0, len(c), MILLION, dtype=np.uint8) for c in table.choices.values()], axis=1
            )
            many = seconds(lambda table=table, genes=genes: table.macs_many(genes), 5)  # type: ignore[misc]
            arch = uniform_path(table.choices, random.Random(0))
            hooks = seconds(lambda chain=chain, arch=arch: hook_count(chain.network(arch), 224), 3)  # type: ignore[misc]
            network = chain.network(arch)
            other = fvcore_count(network)
            assert other in (None, table.macs(arch)), "fvcore counts something else"
            fvcore = seconds(lambda network=network: fvcore_count(network), 3) if other else None  # type: ignore[misc]
            times = [f"{one * MILLION / many:,.0f}" if one else "not installed" for one in (hooks, fvcore)]
            title = " ".join([name, *map(str, options.values())])
            print(f"{title:24} {many:.3f} s   {times[0]:>12}   {times[1]:>12}")

    spos = CostTable.load("experiments/spaces/spos-imagenet.costs.json")
    limits = Limits(max_macs=290_000_000)
    feasible = FeasibleSpace(spos, limits)
    exact = seconds(lambda: [feasible.sample(random.Random(seed)) for seed in range(1000)], 1)

    def rejection() -> None:
        generator = random.Random(0)
        while spos.macs(uniform_path(spos.choices, generator)) > 290_000_000:
            pass

    one = float(np.mean([seconds(rejection, 1) for _ in range(10)]))
    print(
        f"\n1,000 draws of spos under {limits} ({feasible.share():.5f} of the space): {exact:.2f} s; "
        f"by rejection {1000 * one:.0f} s, {1000 * one / exact:,.0f} times as long"
    )


if __name__ == "__main__":
    main()
