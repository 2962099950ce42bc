"""Measure the latencies of a search's winner and of the baselines beside it, in turn on one machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from spaces.errors import InputError
from spaces.files import save_json
from trials.common import cli
from trials.common.distributed import use_cuda
from trials.networks.batchnorm import fold_batchnorm_traced
from trials.networks.build import load_network, read_network
from trials.reporting.baselines_table import FILE, HEADER, Row, collect_networks
from trials.timing.runtimes import conditions, make_runtime
from trials.timing.stopwatch import Timing, time_networks

ROUNDS = 50  # every network is timed once in each round


def compare_baselines(run: Path, own: Path, device: str) -> None:
    """Measure the latencies, write comparison.json of a run and print the table.

    On a CPU all are timed in ONNX Runtime, as the points of a frontier are, and as networks are deployed; on a GPU in PyTorch, unless
    the run has points of a frontier to stand beside. Where one network cannot be written as ONNX, all are timed in PyTorch.

    Args:
        run, own: as for `collect_networks`.
        device: torch's name of the device that is timed.
    """
    rows = collect_networks(run, own)
    cuda = use_cuda(device) and not (run / "tradeoff.json").exists()
    runtime, device = ("torch", "cuda") if cuda else ("onnxruntime", "cpu")
    try:
        rows = measure_latencies(rows, device, runtime)
    except InputError as error:
        if runtime == "torch":
            raise
        print(f"latency in PyTorch, because {error}")
        runtime = "torch"
        rows = measure_latencies(rows, device, runtime)
    measured = f"{conditions(make_runtime(runtime, device, 0))}, images of the network's own size, BatchNorm folded where that changes nothing"
    content = {"latency": measured, "runtime": runtime, "rows": [dataclasses.asdict(row) for row in rows]}
    save_json(run / FILE, content)
    header = [f"ms, {runtime}" if name == "ms" else name for name in HEADER]
    print(cli.table([row.cells for row in rows], header, as_is=True))
    print(f"latency: {measured}")


def measure_latencies(rows: list[Row], device: str, runtime: str) -> list[Row]:
    """Time the networks, each with images of its own resolution; those of one resolution in turn.

    Args:
        device: cpu or cuda.
        runtime: torch or onnxruntime.
    Returns:
        The same rows with their latencies in milliseconds for one image.
    Raises:
        InputError: a network cannot be written as ONNX.
    """
    files = [Path(row.run) / "seed0" / "network.pt" for row in rows]
    resolutions = [read_network(file, "preprocessing")["preprocessing"]["resolution"] for file in files]
    measured: dict[int, Timing] = {}
    with cli.progress(ROUNDS * len(set(resolutions)), desc=f"latency, {runtime}", unit="round") as bar:
        for resolution in sorted(set(resolutions)):
            alike = [index for index, size in enumerate(resolutions) if size == resolution]
            networks = [fold_batchnorm_traced(load_network(files[index]), resolution) for index in alike]
            timings = time_networks(
                networks, resolution, device=device, runtime=runtime, rounds=ROUNDS, progress=bar.update
            )
            measured |= dict(zip(alike, timings, strict=True))
    return [
        dataclasses.replace(row, latency_ms=measured[index].median_ms, spread_ms=measured[index].spread_ms)
        for index, row in enumerate(rows)
    ]
