"""How well three ways of telling a network's latency agree with the clock, on the same random networks in one run.

    python -m benchmarks.latency --space spos --threads 1
    python -m benchmarks.latency --space proxylessnas --runtime onnxruntime --threads 2 --rounds 20
    python -m benchmarks.latency --smoke                   # a tiny space, in seconds; the figures say nothing

in a network   trials.latency: every part timed between its neighbours while networks run
alone          every part timed alone in a loop, then added up: how look-up tables are usually made (FBNet, arXiv:1812.03443;
               ProxylessNAS, arXiv:1812.00332; Once-for-All)
MACs           proportional to the multiply-adds

Each way is corrected by what the first eight networks tell: an offset for the tables, a factor for MACs. The last column is
the error without that correction. The networks that are compared had no part in it.

A part is the stem, a combination of a block's choices, or the head; its index is (position in the chain, combination). Parts of
several indices that do the same work have one name, and are timed together.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

import spaces
from benchmarks.common import parse
from spaces.arch import Arch
from spaces.chain import Chain
from spaces.cost import measure
from spaces.latency import FIT_NETWORKS
from trials.common import cli
from trials.timing.measure import PartIndex, path_of, prepare_parts, random_archs
from trials.timing.runtimes import RUNTIMES, Runtime, make_runtime
from trials.timing.stopwatch import WARM_UP, Timing, normalise_by_pace

SMOKE = {"preset": "tiny", "rounds": 2, "networks": 3}


@dataclass(frozen=True)
class Times:
    """Nanoseconds of all rounds."""

    passes: np.ndarray  # parts in running networks, (passes, parts of a network)
    parts: np.ndarray  # which part that was, (passes, parts of a network)
    alone: np.ndarray  # every part alone, (rounds, parts)
    networks: np.ndarray  # whole networks, (rounds, networks)


def measure_all(
    chain: Chain,
    combinations: Sequence[Sequence[Mapping[str, Any]]],
    archs: Sequence[Arch],
    runtime: Runtime,
    rounds: int,
    seed: int,
) -> tuple[Times, dict[PartIndex, int]]:
    """Time every part in running networks and alone, and whole networks, in turns.

    Args:
        combinations: of each block.
        archs: the whole networks.
        rounds: in each, every part runs in a network and alone, and every whole network runs.
    Returns:
        The times; which part is at each index, 0, 1, ...
    """
    # what is timed
    bar = cli.progress(sum(map(len, combinations)) + 2 + len(archs), desc="building", unit="part")
    prepared, keys, networks, example = prepare_parts(chain, combinations, archs, runtime, 1, bar.update)
    bar.close()
    inputs = inputs_of(chain, runtime, example)
    x, generator = runtime.input(example.shape), np.random.default_rng(seed)
    names = list(dict.fromkeys(keys.values()))
    part_at = {position: names.index(key) for position, key in keys.items()}
    first = {part: position for position, part in reversed(part_at.items())}
    passes_in_round = max(map(len, combinations))  # in which every option of every block comes by once

    passes, parts, alone, whole = [], [], [], []
    bar = cli.progress(WARM_UP + rounds, desc="measuring", unit="round")
    for number in range(WARM_UP + rounds):
        # parts in running networks
        orders = [generator.permutation(len(row)) for row in combinations]
        paths = [path_of([int(order[turn % len(order)]) for order in orders]) for turn in range(passes_in_round)]
        in_networks = [runtime.run([prepared[position] for position in path], x) for path in paths]
        # parts alone; what ran before the last of three runs is the part itself
        by_itself = []
        for part in range(len(names)):
            index, _ = first[part]
            by_itself.append([runtime.run([prepared[first[part]]], inputs[index])[0] for _ in range(3)][-1])
        # whole networks
        row = [runtime.run([network], x)[0] for network in networks]
        if number >= WARM_UP:
            passes += in_networks
            parts += [[part_at[position] for position in path] for path in paths]
            alone.append(by_itself)
            whole.append(row)
        bar.update()
    bar.close()
    return Times(np.array(passes), np.array(parts), np.array(alone), np.array(whole)), part_at


@torch.no_grad()
def inputs_of(chain: Chain, runtime: Runtime, x: torch.Tensor) -> list[Any]:
    """An input of the stem, of each block and of the head.

    Args:
        x: an input of the network, (N, 3, R, R).
    """
    inputs = []
    for module in (chain.stem(), *(block.build(next(block.combinations())) for block in chain.blocks)):
        inputs.append(runtime.input(x.shape))
        x = module.eval()(x)
    return [*inputs, runtime.input(x.shape)]


def in_turns(rounds: np.ndarray) -> list[Timing]:
    """Timings of things that were all timed in every round.

    Args:
        rounds: nanoseconds, (rounds, things).
    """
    return normalise_by_pace(rounds, np.broadcast_to(np.arange(rounds.shape[1]), rounds.shape))[0]


def add_parts(
    combinations: Sequence[Sequence[Mapping[str, Any]]],
    arch: Arch,
    milliseconds: Sequence[float],
    part_at: Mapping[PartIndex, int],
) -> float:
    """The sum of the parts of an architecture, in milliseconds.

    Args:
        milliseconds: of each part.
    """
    options = [row.index({label: arch[label] for label in row[0]}) for row in combinations]
    return sum(milliseconds[part_at[position]] for position in path_of(options))


def error(predicted: np.ndarray, clock: np.ndarray) -> float:
    """Mean absolute error in percent."""
    return float(100 * (np.abs(predicted - clock) / clock).mean())


def agreement(predicted: np.ndarray, clock: np.ndarray) -> tuple[float, float]:
    """Mean absolute error in percent, and Kendall's tau."""
    return error(predicted, clock), float(kendalltau(predicted, clock).statistic)


def main(argv: Sequence[str] | None = None) -> None:
    """Time, then compare the three ways with the clock."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--space", default="spos", choices=tuple(spaces.SPACES))
    parser.add_argument("--preset", default="imagenet")
    parser.add_argument("--runtime", default="torch", choices=RUNTIMES)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parse(parser, argv, SMOKE)

    chain = spaces.describe(args.space, args.preset)
    runtime = make_runtime(args.runtime, args.device, args.threads)
    archs = random_archs(chain, FIT_NETWORKS + args.networks, args.seed)
    combinations = [list(block.combinations()) for block in chain.blocks]
    times, part_at = measure_all(chain, combinations, archs, runtime, args.rounds, args.seed)

    clock = np.array([timing.median_ms for timing in in_turns(times.networks)])
    fitted, compared = slice(None, FIT_NETWORKS), slice(FIT_NETWORKS, None)
    rows = []
    for name, timings in (
        ("in a network", normalise_by_pace(times.passes, times.parts)[0]),
        ("alone", in_turns(times.alone)),
    ):
        milliseconds = [timing.median_ms for timing in timings]
        sums = np.array([add_parts(combinations, arch, milliseconds, part_at) for arch in archs])
        offset = np.median((clock - sums)[fitted])
        uncorrected = error(sums[compared], clock[compared])
        rows.append((name, *agreement(sums[compared] + offset, clock[compared]), uncorrected))
    macs = np.array([measure(chain).macs(arch) for arch in archs], dtype=float)
    factor = np.median((clock / macs)[fitted])
    rows.append(("MACs", *agreement(macs[compared] * factor, clock[compared]), float("nan")))
    print(
        f"{args.space} {args.preset}, {runtime.name}, {args.runtime}, {runtime.threads} threads, {args.rounds} rounds"
    )
    print(f"{args.networks} networks, {clock[compared].min():.2f} to {clock[compared].max():.2f} ms")
    print(cli.table(rows, ("way", "mean abs. error %", "Kendall's tau", "without correction, error %")))


if __name__ == "__main__":
    cli.run(main)
