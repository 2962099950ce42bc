"""Measure the latencies of a search's winner and of the baselines beside it, in turn on one machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from spaces.files import save_json
from trials.common import cli
from trials.networks.batchnorm import fold_batchnorm_traced
from trials.networks.build import load_network, read_network
from trials.reporting.baselines_table import FILE, HEADER, Row, collect_networks
from trials.timing.runtimes import TorchRuntime
from trials.timing.stopwatch import Timing, time_networks

ROUNDS = 50  # every network is timed once in each round


def compare_baselines(run: Path, own: Path, device: str) -> None:
    """Measure the latencies, write comparison.json of a run and print the table.

    Args:
        run, own: as for `collect_networks`.
        device: torch's name of the device that is timed.
    """
    rows = measure_latencies(collect_networks(run, own), device)
    runtime = TorchRuntime(device, 0)
    threads = f", {runtime.threads} threads" if runtime.threads else ""
    conditions = f"one image of the network's own size, {runtime.name}{threads}, torch {torch.__version__}, BatchNorm folded where that changes nothing"
    save_json(run / FILE, {"latency": conditions, "rows": [dataclasses.asdict(row) for row in rows]})
    print(cli.table([row.cells for row in rows], HEADER, as_is=True))
    print(f"latency: {conditions}")


def measure_latencies(rows: list[Row], device: str) -> list[Row]:
    """Time the networks, each with images of its own resolution; those of one resolution in turn.

    Returns:
        The same rows with their latencies in milliseconds for one image.
    """
    files = [Path(row.run) / "seed0" / "network.pt" for row in rows]
    resolutions = [read_network(file, "preprocessing")["preprocessing"]["resolution"] for file in files]
    measured: dict[int, Timing] = {}
    with cli.progress(ROUNDS * len(set(resolutions)), desc="latency", unit="round") as bar:
        for resolution in sorted(set(resolutions)):
            alike = [index for index, size in enumerate(resolutions) if size == resolution]
            networks = [fold_batchnorm_traced(load_network(files[index]), resolution) for index in alike]
            timings = time_networks(networks, resolution, device=device, rounds=ROUNDS, progress=bar.update)
            measured |= dict(zip(alike, timings, strict=True))
    return [
        dataclasses.replace(row, latency_ms=measured[index].median_ms, spread_ms=measured[index].spread_ms)
        for index, row in enumerate(rows)
    ]
