"""What a run has found, and under which limits: by a search, or learned by a differentiable strategy."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spaces.arch import Arch, ArchError
from spaces.arch_file import load_arch
from spaces.cost import CostTable
from spaces.errors import InputError
from spaces.files import CLONE
from spaces.latency import LatencyTable
from strategies.limits import Limits
from trials.common import cli, places, run_files
from trials.common.supernet_run import SupernetRun


@dataclass(frozen=True)
class Within:
    """What architectures of a run come into question.

    Attributes:
        limits: of the search; none, where the winner breaks them because it was put there by hand.
        latency: the latency table of the search; None where there was none.
    """

    run: SupernetRun
    limits: Limits
    latency: LatencyTable | None

    @property
    def table(self) -> CostTable:
        """Costs of the space."""
        return self.run.table

    def latency_ms(self, arch: Arch) -> float | None:
        """Milliseconds of an architecture by the latency table; None without one."""
        return self.latency.ms(arch) if self.latency else None


@dataclass(frozen=True)
class Searched(Within):
    """The winner of a run, and what it was found within.

    Attributes:
        winner: the architecture in arc.json.
    """

    winner: Arch


def read_searched(run: SupernetRun, latency_table: str = "") -> Searched:
    """Read what a run has found.

    Args:
        latency_table: path of the latency table, where it has moved since the search; "" for where it was.
    Raises:
        InputError: nothing is found yet, arc.json is of another space, or the latency table is gone.
    """
    winner, limits = read_winner(run), read_limits(run)
    latency = read_latency(run, limits, latency_table)
    ms = latency.ms(winner) if latency else 0.0
    if not limits.satisfied_by(run.table.macs(winner), run.table.params(winner), ms):
        limits = Limits()
    return Searched(run, limits, latency, winner)


def read_winner(run: SupernetRun) -> Arch:
    """The architecture in arc.json of a run.

    Raises:
        InputError: there is none yet, or it is of another space.
    """
    path = run.path / "arc.json"
    if not path.exists():
        command = cli.command("search", run.path, "--in-process")
        raise InputError(f"'{run.path}' has no arc.json, so nothing was found yet; search first: {command}")
    try:
        return load_arch(path, run.table.choices)
    except ArchError as error:
        space = run.table.space
        raise InputError(
            f"'{path}' is not an architecture of {space['name']} {space['preset']}, the space of '{run.path}': {error}; search "
            "again, or restore the file"
        ) from None


def read_limits(run: SupernetRun) -> Limits:
    """The limits of the search, or those that the winner was learned or the supernet trained within."""
    if (run.path / "search.json").exists():
        given = run_files.read(run.path / "search.json", "search summary")["limits"]
    else:
        given = run.config
    names = [field.name for field in dataclasses.fields(Limits)]
    return Limits.of({name: given.get(name) or None for name in names})


def read_latency(
    run: SupernetRun, limits: Limits, latency_table: str = "", *, remedy: str = "give --latency-table FILE"
) -> LatencyTable | None:
    """The latency table of the search; None where there was none, or where it limited nothing and is gone.

    Args:
        remedy: what to do where it is gone.
    Raises:
        InputError: latency was limited and the table is gone, or a table is of another space.
    """
    path = Path(latency_table) if latency_table else latency_path(run)
    if path is not None and (path.exists() or latency_table):
        return LatencyTable.load(path, run.table)
    if limits.max_latency_ms is None:
        return None
    where = f"'{path}' is gone" if path else "is not known"
    raise InputError(
        f"the search of '{run.path}' was limited to {limits.max_latency_ms:g} ms, and its latency table {where}; {remedy}"
    )


def latency_path(run: SupernetRun) -> Path | None:
    """Where the latency table of the search was: in its tuner's arguments, its trials' command, or the supernet's options."""
    if (run.path / "experiment.json").exists():
        record: dict[str, Any] = run_files.read(run.path / "experiment.json", "record of the search")
        arguments = record["tuner"].get("classArgs") or {}
        words = shlex.split(record["trialCommand"])
        trials = [word for word in words[1:] if words[words.index(word) - 1] == "--latency-table"]
        for path in (arguments.get("latency_table"), *trials):
            if path:
                return _now(CLONE / path, run)
    return _now(Path(run.config["latency_table"]), run) if run.config.get("latency_table") else None


def _now(path: Path, run: SupernetRun) -> Path:
    """Where a file is that may lie in the run, which may have moved."""
    return places.relocated(path, CLONE / run.config["out"], run.path) if run.config.get("out") else path
