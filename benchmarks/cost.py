"""Costs of a million architectures from the table, against counting one on a network.

    python -m benchmarks.cost
    python -m benchmarks.cost --smoke      # one space and fewer architectures, in seconds

Prints, for each imagenet space: processor seconds of `CostTable.macs_many` on a million architectures (uint8 genes, the
best of 5, one core), and how many times faster that is than building a network and counting it with forward hooks and
than fvcore's FlopCountAnalysis, where fvcore is installed. Then the seconds that a search under a tight limit needs:
1,000 uniform draws by dynamic programming, against rejection.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from torch import nn

import spaces
from benchmarks.common import parse
from spaces.cost import CostTable, measure
from spaces.files import CLONE
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from strategies.sampling import uniform_path
from trials.common import cli

TIGHT = 290_000_000  # MACs
SMOKE = {"archs": 100_000, "draws": 20, "spaces": "spos"}


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Processor seconds of the fastest of some repeats."""
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        function()
        best = min(best, time.process_time() - began)
    return best


def hook_count(network: nn.Module) -> int:
    """MACs by forward hooks on a real forward pass, as counters of other projects work."""
    macs = 0

    def add(layer: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(layer, nn.Conv2d):
            macs += output.numel() * layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
        elif isinstance(layer, nn.Linear):
            macs += output.numel() * layer.in_features

    for layer in network.modules():
        layer.register_forward_hook(add)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 224, 224))
    return macs


def fvcore_count(network: nn.Module) -> int | None:
    """MACs by fvcore, another public counter; None where it is not installed."""
    try:
        from fvcore.nn import FlopCountAnalysis
    except ImportError:
        return None
    analysis = FlopCountAnalysis(network.eval(), torch.zeros(1, 3, 224, 224))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    counted = analysis.by_operator()
    return int(counted["conv"] + counted["linear"])


def count_many(names: Sequence[str], number: int) -> list[tuple[str, ...]]:
    """Time the costs of many architectures by the table against one by counting.

    Args:
        names: of spaces.
        number: of architectures.
    Returns:
        A row for each imagenet preset of the spaces.
    """
    generator = np.random.default_rng(0)
    rows: list[tuple[str, ...]] = []
    for name in names:
        for preset, options in spaces.presets(name):
            if preset != "imagenet":
                continue
            chain = spaces.describe(name, preset, **options)
            table = measure(chain)
            genes = np.stack(
                [generator.integers(0, len(values), number, dtype=np.uint8) for values in table.choices.values()],
                axis=1,
            )
            many = seconds(partial(table.macs_many, genes), 5)
            arch = uniform_path(table.choices, random.Random(0))
            network = chain.network(arch)
            assert hook_count(chain.network(arch)) == table.macs(arch), "hooks count something else"
            assert fvcore_count(network) in (None, table.macs(arch)), "fvcore counts something else"
            by_hooks = seconds(lambda chain=chain, arch=arch: hook_count(chain.network(arch)), 3)  # type: ignore[misc]
            fvcore = find_spec("fvcore") is not None
            by_fvcore = (
                f"{seconds(partial(fvcore_count, network), 3) * number / many:,.0f}" if fvcore else "not installed"
            )
            title = " ".join([name, *map(str, options.values())])
            rows.append((title, f"{many:.3f}", f"{by_hooks * number / many:,.0f}", by_fvcore))
    return rows


def draw_under_limit(draws: int) -> str:
    """Time uniform draws under a tight limit, by dynamic programming and by rejection. Returns a line."""
    table = CostTable.load(CLONE / "experiments/spaces/spos-imagenet.costs.json")
    feasible = FeasibleSpace(table, Limits(max_macs=TIGHT))
    exact = seconds(lambda: [feasible.sample(random.Random(seed)) for seed in range(draws)], 1)

    def reject() -> None:
        generator = random.Random(0)
        while table.macs(uniform_path(table.choices, generator)) > TIGHT:
            pass

    rejection = draws * float(np.mean([seconds(reject, 1) for _ in range(10)]))
    return (
        f"{draws:,} draws of spos under {feasible.limits} ({feasible.share():.5f} of the space): {exact:.2f} s; by rejection "
        f"{rejection:.0f} s, {rejection / exact:,.0f} times as long"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of spaces and the time of the draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", type=int, default=1_000_000, help="architectures whose costs are counted at once")
    parser.add_argument("--draws", type=int, default=1000, help="draws under the limit")
    parser.add_argument("--spaces", default=",".join(spaces.SPACES), help="which, with commas")
    args = parse(parser, argv, SMOKE)
    torch.set_num_threads(1)
    rows = count_many(args.spaces.split(","), args.archs)
    header = ("space", f"seconds for {args.archs:,}", "times faster than hooks", "than fvcore")
    print(cli.table(rows, header, as_is=True))
    print("\n" + draw_under_limit(args.draws))


if __name__ == "__main__":
    cli.run(main)
