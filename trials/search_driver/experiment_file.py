"""The experiment that searches a supernet, written into its run when it is trained: a start that works, to be edited."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spaces.errors import InputError
from spaces.files import CLONE, atomic, parse_yaml, read_text
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from trials.common import places
from trials.common.near_runs import no_run

NAME = "search.yml"
PARETO_NAME = "search-pareto.yml"  # the search of every cost, which trials.retrain --frontier writes
GUIDED = "strategies.model_guided.ModelGuidedTuner # or strategies.evolution.EvolutionTuner"
PARETO = "strategies.pareto.ParetoTuner # or strategies.model_guided.ModelGuidedTuner, without objective"
SHARE = 0.25  # of the space's architectures; where no limit is given, max_macs leaves about this part
DRAWS = 10_000  # architectures that the share is counted on
# Architectures that a search scores, by preset; the paper's number for the others. Few for tiny: scoring 100 takes a CPU as long as
# training such a supernet, and more could not be told apart by so few images.
SEARCHES = {"tiny": 100, "small": 300}
PAPER = 1000
TEXT = """\
# Search of the supernet in this folder, written when it was trained, and yours to edit. The limits
# leave {share:.0%} of the space, whose architectures have {low} to {high} MACs.
#   python -m trials.search {yaml} --in-process    fast; without it in NNI, with its portal
#   nnictl create --config {yaml}
experimentName: {name}
searchSpaceFile: search_space.json
trialCommand: {trial}
trialCodeDirectory: {code}
experimentWorkingDirectory: {work}
trialConcurrency: 1
maxTrialNumber: {trials}
tuner:
  codeDirectory: {code}
  className: {tuner}: docs/tuners.md
  classArgs:
    cost_table: {costs}
{limits}
    seed: 0
trainingService:
  platform: local
"""


def write_experiment(
    run: Path,
    feasible: FeasibleSpace,
    latency_table: str = "",
    *,
    name: str = NAME,
    tuner: str = GUIDED,
    objective: str = "",
) -> Path:
    """Write RUN/search.yml, unless it is there: a search guided by a model, under a limit that excludes most of the space.

    Paths are relative to the clone where the run lies in it, so that both may be moved together.

    Args:
        run: run directory of trials.supernet.
        feasible: its space within the limits that the supernet was trained under; without any, max_macs is set to leave a
            quarter of the space, unless there is an objective.
        latency_table: the file that max_latency_ms, or the objective latency, needs.
        name: of the file.
        tuner: its class, and in a comment what else one may take.
        objective: of ParetoTuner; "" for others.
    Returns:
        The path of the file.
    """
    path = run / name
    if path.exists():
        return path
    table, limits = feasible.table, feasible.limits
    if limits == Limits() and not objective:
        limits = Limits(max_macs=quantile_of_macs(feasible))
    bounds = table.bounds()
    trials = SEARCHES.get(str(table.space.get("preset")), PAPER)
    classes = {"objective": objective} if objective else {}
    classes |= {key: value for key, value in vars(limits).items() if value is not None}
    if limits.max_latency_ms is not None or objective == "latency":
        classes["latency_table"] = _from_clone(Path(latency_table))
    inside = run.resolve().is_relative_to(CLONE)
    code = os.path.relpath(CLONE, run.resolve()) if inside else str(CLONE)
    share = FeasibleSpace(table, limits, feasible.latency).share()
    text = TEXT.format(
        low=f"{bounds.min_macs:,}",
        high=f"{bounds.max_macs:,}",
        share=share,
        yaml=shlex.quote(str(path)),
        name=json.dumps(run.resolve().name),
        trial=json.dumps(f"python -m trials.evaluate --run {shlex.quote(_from_clone(run))}"),
        code=json.dumps(code),
        work=json.dumps(f"{code}/runs/nni"),
        costs=json.dumps(_from_clone(run / "cost_table.json")),
        trials=trials,
        tuner=tuner,
        limits="\n".join(
            f"    {key}: {value:_}" if isinstance(value, int) else f"    {key}: {json.dumps(value)}"
            for key, value in classes.items()
        ),
    )
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def follow_run(run: Path, name: str = NAME) -> None:
    """Write the paths in RUN/search.yml, or another of its experiments, anew where it names another folder, because the run or the clone was moved or copied.

    Says so. An experiment on other machines is left as it is, since its paths are theirs.
    """
    path = run / name
    text = read_text(path, "experiment")
    try:
        content = parse_yaml(text)
        named, local = run_named(content["trialCommand"]), content["trainingService"]["platform"] == "local"
        code_is_there = (run / content["trialCodeDirectory"]).is_dir()
    except (ValueError, TypeError, LookupError, AttributeError):  # the reader of experiments says what is wrong
        return
    was, now = CLONE / named, run.resolve()
    if not named or not local or (was.resolve() == now and code_is_there):
        return

    # In the YAML itself paths are seen from its folder; in the trial's command and the tuner's arguments from the clone.
    def from_yaml(value: str) -> str:
        moved = places.relocated(os.path.normpath(was / value), was, now)
        return str(moved) if os.path.isabs(value) else os.path.relpath(moved, now)

    def code(value: str) -> str:
        return from_yaml(value) if (now / from_yaml(value)).is_dir() else str(CLONE)

    def from_clone(value: str) -> str:
        moved = places.relocated(CLONE / value, was, now)
        return value if moved == CLONE / value else _from_clone(moved)

    anew: dict[str, Callable[[str], str]] = {
        "trialCommand": lambda value: places.follow(value, named, _from_clone(run)),
        **{"trialCodeDirectory": code, "codeDirectory": code, "experimentWorkingDirectory": from_yaml},
        **{"cost_table": from_clone, "latency_table": from_clone},
    }
    lines = []
    for line in text.splitlines():
        found = re.match(r"(\s*)(\w+):\s+(.+)", line)
        if found and found[2] in anew:
            with contextlib.suppress(ValueError):  # a value of several lines
                given = parse_yaml(found[3])
                if isinstance(given, str) and anew[found[2]](given) != given:
                    line = f"{found[1]}{found[2]}: {json.dumps(anew[found[2]](given))}"
        elif line.startswith("#"):
            line = places.follow(line, named, run)
        lines.append(line + "\n")
    with atomic(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    print(f"'{path}' named '{named}'; its paths were written anew, for the run is here now")


def run_named(trial: str) -> str:
    """The run that a trial's command names; "" where it names none."""
    try:
        words = shlex.split(trial)
    except ValueError:
        return ""
    return next((after for word, after in itertools.pairwise(words) if word == "--run"), "")


def quantile_of_macs(feasible: FeasibleSpace) -> int:
    """MACs that about a quarter of the architectures stay below, to three digits, so that it reads well.

    The least MACs of the space are returned where rounding would leave no architecture.
    """
    drawn = feasible.sample_many(DRAWS, np.random.default_rng(0))
    macs = float(np.quantile(feasible.costs(drawn)[0], SHARE))
    digits = 10 ** max(len(str(int(macs))) - 3, 0)
    return max(int(macs) // digits * digits, feasible.table.bounds().min_macs)


def _from_clone(path: Path) -> str:
    """A path as the trials see it, who run in the clone: relative to it where it lies in it, else absolute."""
    resolved = path.resolve()
    return str(resolved.relative_to(CLONE) if resolved.is_relative_to(CLONE) else resolved)


def find_yaml(path: Path) -> Path:
    """The file of an experiment: itself, or search.yml where a run of trials.supernet is named.

    Raises:
        InputError: there is none.
    """
    if path.is_dir():
        if not (path / NAME).is_file():
            raise InputError(
                f"folder '{path}' holds no {NAME}, which trials.supernet writes into its run; name such a run, or "
                f"an experiment: {', '.join(known_experiments())}"
            )
        return path / NAME
    if not path.exists() and path.suffix not in (".yml", ".yaml"):  # it is meant to be a run
        raise InputError(no_run(path, "supernet"))
    if not path.exists():
        raise InputError(f"experiment '{path}' does not exist; choose one: {', '.join(known_experiments())}")
    return path


def known_experiments() -> list[str]:
    """The experiments that are shipped with this clone, as paths."""
    return sorted(f"experiments/{path.name}" for path in (CLONE / "experiments").glob("*.yml"))
