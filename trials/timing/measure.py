"""Measure a latency table: blocks are timed inside running networks, and whole networks between them (docs/latency.md).

A "part" is what the table has an entry for: the stem, one combination of choices of a block, or the head. A pass is one run
through a chain of parts that makes up a network.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from spaces.arch import Arch, arch_id
from spaces.chain import Chain, Network
from spaces.latency import FIT_NETWORKS, LatencyTable
from strategies.sampling import uniform_path
from trials.common import cli, run_dir
from trials.networks.batchnorm import recalibrate_batchnorm
from trials.timing.passes import WARM_UP, draw_paths, evaluate_passes, spread_visits
from trials.timing.runtimes import Runtime, make_runtime

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


class Preparing(Protocol):
    """A runtime, or what writes the files of a kit."""

    def prepare(self, module: nn.Module, x: torch.Tensor, key: object = None) -> Any:
        """Turn a module into what is timed, see `TorchRuntime.prepare`."""


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

    entries = [[entry[part] for part in path] for path in passes.paths]
    timings, network_ms = evaluate_passes(entries, passes.part_times, passes.network_times)
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
    runtime: Preparing,
    batch: int,
    progress: Callable[[], object],
    *,
    shared: bool = False,
) -> Prepared:
    """Build and prepare every part of a space, and some whole networks, with fresh weights.

    BatchNorm gets the statistics of its input. Without them the activations would shrink from block to block, until the
    processor slows down over denormal numbers.

    Args:
        combinations: of each block, from `Choice.combinations`.
        archs: the whole networks.
        batch: images at a time.
        progress: called after each part and each network.
        shared: equal parts are one module, and the networks consist of the parts: files of them have few weights in all.
    """

    def prepare(module: nn.Module, x: torch.Tensor, key: object = None, *, fresh: bool = True) -> Any:
        if fresh:
            recalibrate_batchnorm(module, [x])
        progress()
        return runtime.prepare(module, x[:batch], key)

    def assemble(arch: Arch) -> Network:
        labels = zip(chain.blocks, combinations, strict=True)
        chosen = [row.index({label: arch[label] for label in block.choices}) for block, row in labels]
        stem, *blocks, head = (modules[keys[part]] for part in path_of(chosen))
        return Network(stem, blocks, head)

    parts, keys = {}, {}
    modules: dict[object, nn.Module] = {}
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
                key = keys[position, index] = (str(same), values, tuple(x.shape))
                known = modules.get(key) if shared else None
                module = modules[key] = module if known is None else known
                parts[position, index] = prepare(module, x, key, fresh=known is None)
                if index == 0:
                    y = module(x)
            x = y
        if shared:
            networks = [prepare(assemble(arch), example, fresh=False) for arch in archs]
        else:
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
    drawn = draw_paths([len(row) for row in combinations], len(network_visits), settings.seed)
    for pass_index, (chosen, visited_networks) in enumerate(zip(drawn, network_visits, strict=True)):
        path = path_of(chosen)
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
