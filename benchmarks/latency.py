"""How well three ways of telling a network's latency agree with the clock, on the same random networks in one run.

    python -m benchmarks.latency --space spos --threads 1
    python -m benchmarks.latency --space proxylessnas --runtime onnxruntime --threads 2 --rounds 20

in a network   trials.latency: every part timed between its neighbours while networks run
alone          every part timed alone in a loop, then added up: how look-up tables are usually made (FBNet, arXiv:1812.03443;
               ProxylessNAS, arXiv:1812.00332; Once-for-All)
MACs           proportional to the multiply-adds

Each way is corrected by what the first eight networks tell (an offset for the tables, a factor for MACs); without says what it
would be as it is. The networks that are compared had no part in that.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import kendalltau

import spaces
from spaces.cost import measure
from spaces.latency import FIT_NETWORKS
from trials.common import cli
from trials.timing.measure import build, draw, path_of
from trials.timing.runtimes import RUNTIMES, make_runtime
from trials.timing.stopwatch import WARM_UP, Timing, settle


def main() -> None:
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
    given = parser.parse_args()

    chain = spaces.describe(given.space, given.preset)
    where = make_runtime(given.runtime, given.device, given.threads)
    archs = draw(chain, FIT_NETWORKS + given.networks, given.seed)
    combinations = [list(block.combinations()) for block in chain.blocks]
    bar = cli.progress(sum(map(len, combinations)) + 2 + len(archs), desc="building", unit="part")
    built = build(chain, combinations, archs, where, 1, bar)
    bar.close()
    parts, keys, networks, example = built
    inputs = shapes(chain, where, example)
    x, generator = where.input(example.shape), np.random.default_rng(given.seed)
    names = list(dict.fromkeys(keys.values()))
    first = {name: next(place for place in keys if keys[place] == name) for name in names}
    turns = max(map(len, combinations))
    inside, which, alone, whole = [], [], [], []
    bar = cli.progress(WARM_UP + given.rounds, desc="measuring", unit="round")
    for number in range(WARM_UP + given.rounds):
        orders = [generator.permutation(len(row)) for row in combinations]
        passes, timed, by_itself = [], [], []
        for turn in range(turns):
            chosen = [int(order[turn % len(order)]) for order in orders]
            path = path_of(chosen)
            passes.append(where.run([parts[at] for at in path], x))
            timed.append([names.index(keys[at]) for at in path])
        for at in first.values():
            loop = [where.run([parts[at]], inputs[at[0]])[0] for _ in range(3)]
            by_itself.append(loop[-1])  # what came before is the part itself
        row = [where.run([network], x)[0] for network in networks]
        if number >= WARM_UP:
            inside += passes
            which += timed
            alone.append(by_itself)
            whole.append(row)
        bar.update()
    bar.close()

    clock = np.array([timing.median_ms for timing in in_turns(whole)])
    ways = {"in a network": settle(np.array(inside), np.array(which))[0], "alone": in_turns(alone)}
    macs = np.array([measure(chain).macs(arch) for arch in archs], dtype=float)
    rows = []
    for name, timings in ways.items():
        found = {key: timing.median_ms for key, timing in zip(names, timings, strict=True)}
        sums = np.array([add(chain, combinations, arch, found, keys) for arch in archs])
        offset = np.median((clock - sums)[:FIT_NETWORKS])
        rows.append(
            (
                name,
                *agreement((sums + offset)[FIT_NETWORKS:], clock[FIT_NETWORKS:]),
                error(sums[FIT_NETWORKS:], clock[FIT_NETWORKS:]),
            )
        )
    factor = np.median((clock / macs)[:FIT_NETWORKS])
    rows.append(("MACs", *agreement(macs[FIT_NETWORKS:] * factor, clock[FIT_NETWORKS:]), float("nan")))
    print(
        f"{given.space} {given.preset}, {where.name}, {given.runtime}, {where.threads} threads, {given.rounds} rounds"
    )
    print(f"{given.networks} networks, {clock[FIT_NETWORKS:].min():.2f} to {clock[FIT_NETWORKS:].max():.2f} ms")
    print(cli.table(rows, ("way", "mean abs. error %", "Kendall's tau", "without correction, error %")))


def in_turns(times: list[list[float]]) -> list[Timing]:
    """Timings of things that were all timed in every round."""
    rounds = np.array(times)
    return settle(rounds, np.broadcast_to(np.arange(rounds.shape[1]), rounds.shape))[0]


def shapes(chain: object, where: object, example: object) -> list[object]:
    """An input of each place in the chain."""
    import torch

    found, x = [], example
    with torch.no_grad():
        for part in (chain.stem(), *(block.build(next(block.combinations())) for block in chain.blocks)):
            found.append(where.input(x.shape))
            x = part.eval()(x)
    return [*found, where.input(x.shape)]


def add(chain: object, combinations: list, arch: dict, found: dict, keys: dict) -> float:
    """The sum of the parts of an architecture, milliseconds."""
    total = found[keys[0, 0]] + found[keys[len(combinations) + 1, 0]]
    for place, (block, row) in enumerate(zip(chain.blocks, combinations, strict=True), 1):
        total += found[keys[place, row.index({label: arch[label] for label in block.choices})]]
    return total


def error(said: np.ndarray, clock: np.ndarray) -> float:
    return float(100 * (np.abs(said - clock) / clock).mean())


def agreement(said: np.ndarray, clock: np.ndarray) -> tuple[float, float]:
    return error(said, clock), float(kendalltau(said, clock).statistic)


if __name__ == "__main__":
    main()
