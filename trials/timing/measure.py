"""Measure a latency table: blocks are timed inside running networks, and whole networks between them (docs/latency.md).

A "part" is what the table has an entry for: the stem, one combination of choices of a block, or the head. A pass is one run
through a chain of parts that makes up a network.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from spaces.arch import Arch, arch_id
from spaces.chain import Chain, Network
from spaces.latency import FIT_NETWORKS, LatencyTable
from strategies.sampling import uniform_path
from trials.common import cli, run_dir
from trials.networks.batchnorm import recalibrate_batchnorm
from trials.timing.runtimes import Runtime, make_runtime
from trials.timing.stopwatch import WARM_UP, normalise_by_pace

MIN_VISITS = 25  # each whole network is timed at least this often

PartIndex = tuple[int, int]  # (0 for the stem, 1.. for the blocks, last for the head; index of the combination)


@dataclass(frozen=True)
class MeasureSettings:
    """How a table is measured."""

    runtime: str  # torch or onnxruntime
    device: str  # auto, cpu or cuda
    threads: int  # threads on a CPU; 0: OMP_NUM_THREADS, or one for each core
    batch: int  # images at a time
    rounds: int  # times that every combination is timed at each of its positions
    networks: int  # random networks that the table is checked against
    seed: int  # decides the random networks and the order of the combinations


class Prepared(NamedTuple):
    """What is timed, ready to run."""

    parts: dict[PartIndex, Any]  # what `Runtime.prepare` returns
    keys: dict[PartIndex, tuple[str, tuple[Any, ...], tuple[int, ...]]]  # equal where parts do the same work
    networks: list[Any]  # whole networks, from `Runtime.prepare`
    example: torch.Tensor  # an input, (batch, 3, R, R)


class Passes(NamedTuple):
    """What was timed in all passes."""

    paths: list[list[PartIndex]]  # the parts of each pass
    part_times: list[list[float]]  # nanoseconds of each part of each pass
    network_times: list[list[tuple[int, float]]]  # of each network: (index of the pass before it, nanoseconds)


def measure_table(settings: MeasureSettings, chain: Chain, space: Mapping[str, Any]) -> LatencyTable:
    """Measure every part of a space, and check the sums against whole networks.

    Args:
        space: what the table says about the space of `chain`, as in a cost table.
    Returns:
        The table, with its error where `settings` asks for networks.
    """
    runtime = make_runtime(settings.runtime, settings.device, settings.threads)
    began = time.perf_counter()
    archs = random_archs(chain, FIT_NETWORKS + settings.networks, settings.seed)
    combinations = [list(block.combinations()) for block in chain.blocks]
    bar = cli.progress(sum(map(len, combinations)) + 2 + len(archs), desc="building", unit="part")
    prepared = prepare_parts(chain, combinations, archs, runtime, settings.batch, bar.update)
    bar.close()

    # Parts that do the same work at two positions share one entry number, and with it their time.
    distinct = list(dict.fromkeys(prepared.keys.values()))
    entry = {part: distinct.index(key) for part, key in prepared.keys.items()}
    passes = run_passes(prepared, combinations, runtime, settings)

    # Take the pace of the machine out of all times. A whole network ran between two passes, at the mean of their paces.
    entries = np.array([[entry[part] for part in path] for path in passes.paths])
    timings, paces = normalise_by_pace(np.array(passes.part_times), entries)
    next_paces = np.append(paces[1:], paces[-1])
    network_ms = [
        float(np.median([nanoseconds * 2 / (paces[index] + next_paces[index]) for index, nanoseconds in visits])) / 1e6
        for visits in passes.network_times
    ]

    block_timings = [
        [timings[entry[position, index]] for index in range(len(row))] for position, row in enumerate(combinations, 1)
    ]
    ends_ms = timings[entry[0, 0]].median_ms + timings[entry[len(combinations) + 1, 0]].median_ms
    seconds = round(time.perf_counter() - began)
    provenance = run_dir.provenance()
    table = LatencyTable(
        space,
        [block.choices for block in chain.blocks],
        round(1e6 * ends_ms),
        [[round(1e6 * timing.median_ms) for timing in row] for row in block_timings],
        spread=[[round(1e6 * timing.spread_ms) for timing in row] for row in block_timings],
        measured={
            "device": runtime.name,
            "runtime": settings.runtime,
            "threads": runtime.threads,
            "batch": settings.batch,
            "rounds": settings.rounds,
            "seed": settings.seed,
            "seconds": seconds,
            "commit": provenance["commit"],
            "versions": provenance["versions"],
            "date": provenance["started"],
        },
    )
    return table.validated_on(archs, network_ms) if len(archs) > FIT_NETWORKS else table


def prepare_parts(
    chain: Chain,
    combinations: Sequence[Sequence[Mapping[str, Any]]],
    archs: Sequence[Arch],
    runtime: Runtime,
    batch: int,
    progress: Callable[[], object],
) -> Prepared:
    """Build and prepare every part of a space, and some whole networks, with fresh weights.

    BatchNorm gets the statistics of its input. Without them the activations would shrink from block to block, until the
    processor slows down over denormal numbers.

    Args:
        combinations: of each block, from `Choice.combinations`.
        archs: the whole networks.
        batch: images at a time.
        progress: called after each part and each network.
    """

    def prepare(module: nn.Module, x: torch.Tensor, key: object = None) -> Any:
        recalibrate_batchnorm(module, [x])
        progress()
        return runtime.prepare(module, x[:batch], key)

    parts, keys = {}, {}
    with torch.no_grad():
        x = example = torch.randn(max(2, batch), 3, chain.resolution, chain.resolution)
        for position, block in enumerate([None, *chain.blocks, None]):
            end = chain.head if position else chain.stem
            row: Sequence[Mapping[str, Any]] = combinations[position - 1] if block else [{}]
            for index, choices in enumerate(row):
                make = block.candidates[block.candidate(choices)] if block else end
                values = tuple(choices[label] for label in block.elastic) if block else ()
                module = make(*values)
                # Modules from equal functions with equal arguments and input shapes do the same work.
                same = (make.func, make.args, tuple(make.keywords.items())) if isinstance(make, partial) else make
                keys[position, index] = (str(same), values, tuple(x.shape))
                parts[position, index] = prepare(module, x, keys[position, index])
                if index == 0:
                    y = module(x)
            x = y
        networks = [prepare(chain.network(arch), example) for arch in archs]
    return Prepared(parts, keys, networks, example[:batch])


def run_passes(
    prepared: Prepared, combinations: Sequence[Sequence[object]], runtime: Runtime, settings: MeasureSettings
) -> Passes:
    """Run passes through the parts, with a progress bar, and whole networks between the passes.

    In a round, every combination of every block is timed at least once, each time among other random combinations.

    Args:
        combinations: of each block.
    """
    parts, _, networks, example = prepared
    x = runtime.input(example.shape)
    passes_per_round = max(map(len, combinations))
    network_visits = spread_visits(settings.rounds * passes_per_round, len(networks))
    bar = cli.progress(len(network_visits), desc=f"measuring on {runtime.name}", unit="pass")

    # Warm up, uncounted.
    for index in range(WARM_UP):
        runtime.run([parts[part] for part in parts if part[1] == 0], x)
        runtime.run([networks[index % len(networks)]], x)

    passes = Passes([], [], [[] for _ in networks])
    generator = random.Random(settings.seed)
    for pass_index, visited_networks in enumerate(network_visits):
        # One pass. A block with few combinations begins its order again before the round ends.
        turn = pass_index % passes_per_round
        if turn == 0:
            orders = [generator.sample(range(len(row)), len(row)) for row in combinations]
        path = path_of([order[turn % len(order)] for order in orders])
        passes.paths.append(path)
        passes.part_times.append(runtime.run([parts[part] for part in path], x))

        # The whole networks after it.
        for network in visited_networks:
            passes.network_times[network].append((pass_index, runtime.run([networks[network]], x)[0]))
        bar.update()
    bar.close()
    return passes


def path_of(combination_indices: Sequence[int]) -> list[PartIndex]:
    """The parts of a pass: stem, the given combination of each block, head."""
    return [(0, 0), *enumerate(combination_indices, 1), (len(combination_indices) + 1, 0)]


def spread_visits(passes: int, networks: int) -> list[list[int]]:
    """Which whole networks are timed after each pass.

    All are timed equally often, at least MIN_VISITS times, spread evenly over the passes.

    Args:
        passes, networks: how many there are.
    Returns:
        For each pass, the indices of the networks.
    """
    total = max(MIN_VISITS, math.ceil(passes / networks)) * networks
    ends = [index * total // passes for index in range(passes + 1)]
    return [[visit % networks for visit in range(*span)] for span in itertools.pairwise(ends)]


def random_archs(chain: Chain, number: int, seed: int) -> list[Arch]:
    """Distinct random architectures, the same ones for the same seed; fewer where a space has no more."""
    generator = random.Random(seed)
    archs: dict[str, Arch] = {}
    for _ in range(100 * number):
        arch = uniform_path(chain.choices, generator)
        archs.setdefault(arch_id(arch), arch)
        if len(archs) == number:
            break
    return list(archs.values())


def calibrated_network(chain: Chain, arch: Mapping[str, Any]) -> Network:
    """A network with fresh weights and with BatchNorm statistics of its input, for the reason in `prepare_parts`."""
    network = chain.network(dict(arch))
    recalibrate_batchnorm(network, [torch.randn(2, 3, chain.resolution, chain.resolution)])
    return network
