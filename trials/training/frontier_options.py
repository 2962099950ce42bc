"""The option by which trials.retrain trains several points of a search's frontier: --frontier, and which points these are."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, ClassVar

from spaces.errors import InputError
from trials.common import run_files
from trials.common.cli import flag, option
from trials.common.run_dir import begun, take_stored
from trials.training.choice_options import refuse_torchrun

LEAST = 2  # points, with which there is something to choose


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontierOptions:
    """How many points of the frontier are trained, exported and timed."""

    group: ClassVar[str] = "several points of the frontier"

    frontier: int = option(
        0,
        "In place of --fixed-arc: train so many architectures of RUN/frontier, from the cheapest to the best, export each, time it "
        "in ONNX Runtime, and set accuracy beside cost",
        brief="Train, export and time so many points of the frontier",
    )


def check_frontier(config: Any) -> None:
    """Refuse what --frontier cannot go with; the place of its runs is the supernet's run.

    Args:
        config: the options of trials.retrain, before `out` is known.
    """
    given = f"--frontier {config.frontier}"
    if config.frontier < LEAST:
        raise InputError(f"{given} leaves nothing to choose; give {LEAST} or more, or --fixed-arc RUN/arc.json")
    for name in ("fixed_arc", "baseline", "import_official", "pretrained"):
        if getattr(config, name) is not None:
            raise InputError(f"{given} takes the architectures of a search; leave {flag(name)} out")
    for name in ("top", "top_random", "from_supernet"):
        if getattr(config, name):
            raise InputError(f"{given} with {flag(name)}: these are two ways to choose; leave one of them out")
    if config.supernet is None:
        raise InputError(f"{given} needs --supernet RUN, whose search has found the frontier")
    if config.out is not None:
        raise InputError(f"{given} writes into '{config.supernet}'; leave --out out")
    refuse_torchrun(given)
    object.__setattr__(config, "out", str(Path(config.supernet) / "retrain"))


def take_from_frontier(config: Any, names: tuple[str, ...]) -> None:
    """With --resume, what is not given is what a network of the frontier was begun with; arguments as for `take_stored`."""
    run = Path(str(config.supernet))
    folders = [folder for file in point_files(run) if begun(folder := point_folder(run, file))]
    if folders:
        take_stored(config, "retrain", names, run=folders[0])


def point_files(run: Path) -> list[Path]:
    """The files of a search's frontier, the cheapest first; [] where no search has ended."""
    files = {
        path.stem.partition("-")[2]: path
        for path in (run / "frontier").glob("*.json")
        if re.fullmatch(r"\d+-[0-9a-f]{12}", path.stem)
    }
    summary = run_files.read_if_there(run / "search.json", "search summary") or {}
    by_macs = sorted(files, key=lambda name: int(files[name].stem.partition("-")[0]))
    order = [
        name for name in summary.get("frontier", by_macs) if name in files
    ]  # by milliseconds, where these were limited
    return [files[name] for name in order]


def point_folder(run: Path, file: Path) -> Path:
    """Where a point is trained: the winner in retrain/, unless that holds another network, the others in retrain-ID."""
    own, name = run_files.read(file, "fixed arc"), file.stem.partition("-")[2]
    winner = run_files.read_if_there(run / "arc.json", "fixed arc") == own
    held = run_files.read_if_there(run / "retrain" / "arc.json", "fixed arc", own)
    return run / "retrain" if winner and held == own else run / f"retrain-{name}"
