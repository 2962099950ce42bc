"""The winner of a search beside baselines that were trained with the same recipe: accuracy, costs, latency."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spaces.arch import arch_id
from spaces.files import load_json, save_json
from trials.common import cli
from trials.common.run_dir import load_checkpoint
from trials.networks.batchnorm import fold_batchnorm_traced
from trials.networks.build import load_network
from trials.timing.runtimes import TorchRuntime
from trials.timing.stopwatch import time_networks
from trials.training import recipes

COMPARED = (*recipes.OPTIONS, "hold_out", "precision")  # options that belong to a recipe
HEADER = ("network", "test top-1 %", "n", "MACs", "params", "latency ms", "recipe")
FILE = "comparison.json"
ROUNDS = 50  # in which every network is timed


@dataclass(frozen=True)
class Row:
    """A network that was trained; latency in milliseconds for one image, None where it was not measured."""

    network: str
    run: str
    mean: float  # test top-1 %
    std: float | None
    n: int
    macs: int
    params: int
    differs: str  # from the recipe of the first row
    latency_ms: float | None = None
    spread_ms: float | None = None  # interquartile range

    @property
    def found(self) -> bool:
        """Whether it is the winner of a search, not a baseline."""
        return self.network.startswith("found: ")

    @property
    def top1(self) -> str:
        return f"{self.mean:.2f}" + (f" +- {self.std:.2f}" if self.std is not None else "")

    @property
    def latency(self) -> str:
        return "-" if self.latency_ms is None else f"{self.latency_ms:.2f} (IQR {self.spread_ms:.2f})"

    @property
    def cells(self) -> tuple[str, ...]:
        """As printed, under HEADER."""
        costs = (f"{self.macs:,}", f"{self.params:,}", self.latency)
        return (self.network, self.top1, str(self.n), *costs, self.differs or "the same")


def collect(run: Path, own: Path | None = None) -> list[Row]:
    """The networks of a run: the winner in retrain/, then baselines/; with the latencies that were measured last.

    Args:
        run: of trials.supernet; or of a baseline alone.
        own: a baseline that lies elsewhere.
    """
    found = [run / "retrain", *sorted((run / "baselines").glob("*"))]
    if own is not None and own.resolve() not in [path.resolve() for path in found]:
        found.append(own)
    timed = {(row.get("network"), row.get("macs")): row for row in _stored(run).get("rows", [])}
    rows: list[Row] = []
    first: dict[str, Any] = {}
    for path in found:
        if not (path / "result.json").exists() or not (path / "config.json").exists():
            continue
        result = load_json(path / "result.json", "result")
        config = load_json(path / "config.json", "run configuration")["config"]
        first = first or config
        name = result.get("baseline") or f"found: {arch_id(result['arch'])}"
        known = timed.get((name, result["macs"]), {})
        rows.append(
            Row(
                name,
                str(path),
                result["mean"],
                result["std"],
                len(result["test_top1"]),
                result["macs"],
                result["params"],
                differences(config, first),
                known.get("latency_ms"),
                known.get("spread_ms"),
            )
        )
    return rows


def measured_on(run: Path) -> str:
    """How the latencies of a run were measured last; empty: they were not."""
    about = _stored(run).get("latency")
    return f"Latency: {about}." if about else ""


def _stored(run: Path) -> dict[str, Any]:
    stored = load_json(run / FILE, "comparison") if (run / FILE).exists() else {}
    return stored if isinstance(stored, dict) else {}


def differences(config: dict[str, Any], first: dict[str, Any]) -> str:
    """Options of a recipe that two configurations do not share: `lr 0.1 (not 0.2)`."""
    shared = [name for name in COMPARED if name in config and name in first]  # an older version wrote fewer
    return ", ".join(f"{name} {config[name]} (not {first[name]})" for name in shared if config[name] != first[name])


def with_latencies(rows: list[Row], device: str) -> list[Row]:
    """Measure all that have the resolution of the last one, in turn, on this machine."""
    files = [Path(row.run) / "seed0" / "network.pt" for row in rows]
    sizes = [load_checkpoint(file, "network")["preprocessing"]["resolution"] for file in files]
    alike = [place for place, size in enumerate(sizes) if size == sizes[-1]]
    ready = [fold_batchnorm_traced(load_network(files[place]), sizes[-1]) for place in alike]
    with cli.progress(ROUNDS, desc="latency", unit="round") as bar:
        timings = time_networks(ready, sizes[-1], device=device, rounds=ROUNDS, progress=bar.update)
    found = dict(zip(alike, timings, strict=True))
    return [
        dataclasses.replace(row, latency_ms=found[place].median_ms, spread_ms=found[place].spread_ms)
        if place in found
        else dataclasses.replace(row, latency_ms=None, spread_ms=None)
        for place, row in enumerate(rows)
    ]


def main(run: Path, own: Path, device: str) -> None:
    """Measure the latencies, write comparison.json of a run and print the table.

    Args:
        run, own: as for `collect`.
    """
    import torch

    rows = with_latencies(collect(run, own), device)
    where = TorchRuntime(device, 0)
    threads = f", {where.threads} threads" if where.threads else ""
    about = f"one image, {where.name}{threads}, torch {torch.__version__}, BatchNorm folded where that changes nothing"
    save_json(run / FILE, {"latency": about, "rows": [dataclasses.asdict(row) for row in rows]})
    print(cli.table([row.cells for row in rows], HEADER, as_is=True))
    print(f"latency: {about}")
