"""The option by which trials.retrain trains several points of a search's frontier: --frontier, and which points these are."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from spaces.arch import arch_id
from spaces.errors import InputError
from trials.common import cli, places, run_files
from trials.common.cli import flag, option
from trials.common.run_dir import begun, take_stored
from trials.common.supernet_run import SupernetRun
from trials.training.choice_options import refuse_torchrun

NAMED = re.compile(r"\d+-[0-9a-f]{12}")  # MACS-ID
LEAST, MOST = 2, 50  # points: with which there is something to choose; that anybody trains


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontierOptions:
    """How many points of the frontier are trained, exported and timed."""

    group: ClassVar[str] = "several points of the frontier"

    frontier: int = option(
        0,
        "In place of --fixed-arc: train so many architectures at even steps of cost, from the cheapest of the space to the winner, "
        "those between the best scored ones at their step; export each, time it in ONNX Runtime, and set accuracy beside cost",
        brief="Train, export and time so many points from the cheapest to the winner",
    )


def check_frontier(config: Any) -> None:
    """Refuse what --frontier cannot go with; the place of its runs is the supernet's run.

    Args:
        config: the options of trials.retrain, before `out` is known.
    """
    given = f"--frontier {config.frontier}"
    if config.frontier < LEAST:
        raise InputError(f"{given} leaves nothing to choose; give {LEAST} or more, or --fixed-arc RUN/arc.json")
    if config.frontier > MOST:
        raise InputError(f"{given} is more than anybody trains; give at most {MOST}")
    for name in ("fixed_arc", "baseline", "import_official", "pretrained"):
        if getattr(config, name) is not None:
            raise InputError(f"{given} takes the architectures of a search; leave {flag(name)} out")
    for name in ("top", "top_random", "from_supernet"):
        if getattr(config, name):
            raise InputError(f"{given} with {flag(name)}: these are two ways to choose; leave one of them out")
    if config.supernet is None:
        raise InputError(f"{given} needs --supernet RUN, whose search has found a winner")
    if config.out is not None:
        raise InputError(f"{given} writes into '{config.supernet}'; leave --out out")
    refuse_torchrun(given)
    object.__setattr__(config, "out", str(Path(config.supernet) / "retrain"))


def require_search(run: SupernetRun, count: int) -> dict[str, Any]:
    """The summary of the search whose frontier is looked at.

    Args:
        count: of points.
    Raises:
        InputError: no search has ended yet, or the points between the ends have no supernet to be chosen by.
    """
    summary: dict[str, Any] | None = run_files.read_if_there(run.path / "search.json", "search summary")
    if not summary:
        search = cli.command("search", run.path, "--in-process")
        raise InputError(f"--frontier {count}: no search of '{run.path}' has ended yet; search it with: {search}")
    if count > LEAST and not run.trained:
        raise InputError(
            f"--frontier {count}: '{run.path}' has no supernet.pt, by whose scores the points between the cheapest and the winner are "
            f"chosen; restore it, or give --frontier {LEAST}"
        )
    return summary


def take_from_frontier(config: Any, names: tuple[str, ...]) -> None:
    """With --resume, what is not given is what a network of the frontier was begun with; arguments as for `take_stored`."""
    run = Path(str(config.supernet))
    files = sorted((run / "frontier").glob("*.json"))
    archs = [run_files.read(path, "fixed arc") for path in files if NAMED.fullmatch(path.stem)]
    folders = [folder for arch in archs if begun(folder := point_folder(run, arch))]
    if folders:
        take_stored(config, "retrain", names, run=folders[0])


def point_file(run: Path, macs: int, name: str) -> Path:
    """The file of an architecture in RUN/frontier: of the search's own frontier, or of a point that was drawn."""
    return run / "frontier" / f"{macs}-{name}.json"


def point_folder(run: Path, arch: Mapping[str, Any]) -> Path:
    """Where a point is trained: the winner in retrain/, unless that holds another network, the others in retrain-ID."""
    winner = run_files.read_if_there(run / "arc.json", "fixed arc") == arch
    return places.winners_folder(run, arch) if winner else run / f"retrain-{arch_id(arch)}"
