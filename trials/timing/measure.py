"""How a latency table is measured: parts in running networks, whole networks between them; see docs/latency.md."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

import spaces
from spaces.arch import arch_id
from spaces.latency import FIT_NETWORKS, LatencyTable
from strategies.sampling import uniform_path
from trials.common import cli, run_dir
from trials.networks.batchnorm import recalibrate_batchnorm
from trials.timing.latency_config import Config
from trials.timing.runtimes import make_runtime
from trials.timing.stopwatch import WARM_UP, settle

VISITS = 25  # times that a whole network is timed, at least


def measured(config: Config, chain: Any, space: Mapping[str, Any]) -> LatencyTable:
    """Measure a whole space."""
    where = make_runtime(config.runtime, config.device, config.threads)
    began = time.perf_counter()
    archs = draw(chain, FIT_NETWORKS + config.networks, config.seed)
    combinations = [list(block.combinations()) for block in chain.blocks]
    bar = cli.progress(sum(map(len, combinations)) + 2 + len(archs), desc="building", unit="part")
    parts, keys, networks, example = build(chain, combinations, archs, where, config.batch, bar)
    bar.close()

    x = where.input(example.shape)
    names = list(dict.fromkeys(keys.values()))
    number = {at: names.index(key) for at, key in keys.items()}
    turns = max(map(len, combinations))  # passes in which every candidate of every block comes by once
    visits = whole_visits(config.rounds * turns, len(networks))
    times, timed = [], []  # of the parts of each pass
    whole: list[list[tuple[int, float]]] = [[] for _ in networks]  # (passes before it, nanoseconds)
    generator = random.Random(config.seed)
    bar = cli.progress(len(visits), desc=f"measuring on {where.name}", unit="pass")
    for place in range(WARM_UP):
        where.run([parts[at] for at in parts if at[1] == 0], x)
        where.run([networks[place % len(networks)]], x)
    for place, visit in enumerate(visits):
        if place % turns == 0:
            orders = [generator.sample(range(len(row)), len(row)) for row in combinations]
        chosen = [order[place % turns % len(order)] for order in orders]
        path = path_of(chosen)
        times.append(where.run([parts[at] for at in path], x))
        timed.append([number[at] for at in path])
        for network in visit:
            whole[network].append((place, where.run([networks[network]], x)[0]))
        bar.update()
    bar.close()

    timings, paces = settle(np.array(times), np.array(timed))
    after = np.append(paces[1:], paces[-1])
    clock = [
        float(np.median([nanoseconds * 2 / (paces[at] + after[at]) for at, nanoseconds in visited])) / 1e6
        for visited in whole
    ]
    places = [[timings[number[at, option]] for option in range(len(row))] for at, row in enumerate(combinations, 1)]
    ends = timings[number[0, 0]].median_ms + timings[number[len(combinations) + 1, 0]].median_ms
    about = {
        "device": where.name,
        "runtime": config.runtime,
        "threads": where.threads,
        "batch": config.batch,
        "rounds": config.rounds,
        "seed": config.seed,
        "seconds": round(time.perf_counter() - began),
    }
    table = LatencyTable(
        space,
        [block.choices for block in chain.blocks],
        round(1e6 * ends),
        [[round(1e6 * timing.median_ms) for timing in row] for row in places],
        spread=[[round(1e6 * timing.spread_ms) for timing in row] for row in places],
        measured={**about, **versions()},
    )
    return table.validated_on(archs, clock) if len(archs) > FIT_NETWORKS else table


def build(
    chain: Any,
    combinations: Sequence[Sequence[Mapping[str, Any]]],
    archs: Sequence[dict[str, Any]],
    where: Any,
    batch: int,
    bar: Any,
) -> tuple[dict[tuple[int, int], Any], dict[tuple[int, int], Any], list[Any], Any]:
    """What is timed: every part (place in the chain, combination), and whole networks.

    BatchNorm gets the statistics of its input: else the numbers become smaller and smaller from block to block, until the
    processor slows down over denormal ones.

    Returns:
        The prepared parts; what is the same work at different places (equal keys, timed together); the networks; an input.
    """

    def prepare(module: Any, x: Any, same: object = None) -> Any:
        recalibrate_batchnorm(module, [x])
        bar.update()
        return where.prepare(module, x[:batch], same)

    parts, keys = {}, {}
    with torch.no_grad():
        x = example = torch.randn(max(2, batch), 3, chain.resolution, chain.resolution)
        for place, block in enumerate([None, *chain.blocks, None]):
            row: Sequence[Any] = combinations[place - 1] if block else [{}]
            for option, arch in enumerate(row):
                make = block.candidates[block.candidate(arch)] if block else (chain.head if place else chain.stem)
                values = tuple(arch[label] for label in block.elastic) if block else ()
                module = make(*values)
                same = (make.func, make.args, tuple(make.keywords.items())) if isinstance(make, partial) else make
                keys[place, option] = (str(same), values, tuple(x.shape))
                parts[place, option] = prepare(module, x, keys[place, option])
                if option == 0:
                    y = module(x)
            x = y
        networks = [prepare(chain.network(arch), example) for arch in archs]
    return parts, keys, networks, example[:batch]


def path_of(options: Sequence[int]) -> list[tuple[int, int]]:
    """The parts of a pass, as `build` names them: stem, an option of each block, head."""
    return [(0, 0), *enumerate(options, 1), (len(options) + 1, 0)]


def whole_visits(passes: int, networks: int) -> list[list[int]]:
    """Which whole networks are timed after each pass: all equally often, at least VISITS times, spread over the passes."""
    total = max(VISITS, math.ceil(passes / networks)) * networks
    ends = [place * total // passes for place in range(passes + 1)]
    return [[visit % networks for visit in range(*span)] for span in itertools.pairwise(ends)]


def draw(chain: Any, number: int, seed: int) -> list[dict[str, Any]]:
    """Distinct random architectures, always the same ones; fewer where a space has no more."""
    generator = random.Random(seed)
    found: dict[str, dict[str, Any]] = {}
    for _ in range(100 * number):
        arch = uniform_path(chain.choices, generator)
        found.setdefault(arch_id(arch), arch)
        if len(found) == number:
            break
    return list(found.values())


def calibrated(chain: Any, arch: Mapping[str, Any]) -> Any:
    """A network with fresh weights and BatchNorm statistics of its input; see `build`."""
    network = chain.network(dict(arch))
    recalibrate_batchnorm(network, [torch.randn(2, 3, chain.resolution, chain.resolution)])
    return network


def described(about: Mapping[str, Any]) -> Any:
    """The chain of a space, from name, preset, classes, resolution and options."""
    numbers = {"classes": about["classes"], "resolution": about["resolution"]}
    return spaces.describe(about["name"], about["preset"], **numbers, **about["options"])


def versions() -> dict[str, Any]:
    """Versions and commit, for the table."""
    about = run_dir.provenance()
    return {"commit": about["commit"], "versions": about["versions"], "date": about["started"]}
