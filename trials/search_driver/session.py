"""Let only one search work on a run at a time, and find what --resume has to continue."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from spaces.files import save_json
from trials.common import places, run_files
from trials.common.commands import in_road
from trials.common.locks import exclusive, refuse_while
from trials.search_driver import experiment_file
from trials.search_driver.nni_manager import can_be_resumed
from trials.search_driver.plan import Plan

IN_PROCESS = "in_process"  # folder in the run: the journal of a search without NNI
OF_THE_WINNER = ("retrain*", "controls/*", "top/*")  # folders of trainings that are begun with arc.json, or end with it
RECORD = "experiment.json"  # this file of the run says which experiment --resume continues


def search_lock(run: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the run's search lock while the body runs. Raises InputError: another search of the same run is going on."""
    return exclusive(run, "search")


def refuse_while_retrained(run: Path) -> None:
    """Raises InputError: what this run has found is being trained, and a search would replace it at its end."""
    then = f"and a search replaces arc.json of '{run}', which it is of"
    refuse_while(run, "certificate", then)
    for pattern in OF_THE_WINNER:
        for folder in run.glob(pattern):
            refuse_while(folder, "training", then)


def record_experiment(plan: Plan, name: str, folder: Path, *, in_process: bool) -> None:
    """Note in the run what --resume has to continue.

    Args:
        name: id of NNI's experiment, or "in this process".
        folder: where that experiment keeps its files.
        in_process: whether the search runs without NNI's manager.
    """
    record = {"id": name, "folder": str(folder.resolve()), "in_process": in_process, **plan.identity}
    save_json(plan.run / RECORD, record)


def experiment_to_continue(plan: Plan, *, in_process: bool) -> dict[str, Any] | None:
    """The record of the experiment that --resume continues.

    Returns:
        What `record_experiment` wrote; None where there is nothing to continue, so that a new search begins.
    Raises:
        InputError: the experiment had another tuner, trial command, YAML or supernet, or ran the other way.
    """
    if not (plan.run / RECORD).exists():
        return None
    stored = run_files.read(plan.run / RECORD, "record of the search")
    stored = _follow(stored, plan)
    for key, value in plan.identity.items():
        if stored.get(key) != value:
            raise InputError(
                f"{key} of '{plan.yaml}' is not what it was when the search of '{plan.run}' began "
                f"({_changed_values(stored.get(key), value)}); restore it, or leave --resume out"
            )
    if stored["in_process"] != in_process:
        way = "with" if stored["in_process"] else "without"
        anew = "" if in_road() else ", or leave --resume out"  # trials.run always goes on
        raise InputError(f"the search of '{plan.run}' was begun {way} --in-process; continue it so{anew}")
    if in_process:
        return stored if (plan.run / IN_PROCESS).exists() else None
    folder = Path(stored["folder"])
    if not folder.exists():  # it may have moved with the run
        folder = Path(plan.nni.experiment_working_directory) / stored["id"]
    return stored if can_be_resumed(folder) else None


def _follow(record: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """The record as it reads where the run is now."""
    was, now = (experiment_file.run_named(of["trialCommand"]) for of in (record, plan.content))
    arguments = {
        name: str(places.relocated(value, was, now)) if isinstance(value, str) and os.sep in value else value
        for name, value in (record["tuner"].get("classArgs") or {}).items()
    }
    tuner = {**record["tuner"], **({"classArgs": arguments} if arguments else {})}
    return {**record, "tuner": tuner, "trialCommand": places.follow(record["trialCommand"], was, now)}


def _changed_values(was: Any, now: Any) -> Any:
    """The old value, for the error message; of the same tuner with other arguments, only the arguments that differ."""
    if not (isinstance(was, dict) and was.get("className") == now.get("className")):
        return was
    was, now = ({**tuner, **tuner.get("classArgs", {})} for tuner in (was, now))
    names = [name for name in {**was, **now} if name != "classArgs"]
    return {name: was.get(name) for name in names if was.get(name) != now.get(name)}


def restore_tuner(plan: Plan, folder: Path) -> int:
    """Read the tuner's journal, so that the plan's tuner knows every architecture and score of the search so far.

    Args:
        folder: where the journal is; made where it does not exist yet.
    Returns:
        Number of architectures with a score; 0 for one of NNI's own tuners, which keeps no journal of ours.
    """
    if plan.tuner is None:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    plan.tuner.state.folder = folder
    plan.tuner.load_checkpoint()
    return len(plan.tuner.ranked())
