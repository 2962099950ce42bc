"""road.json: of which images and limit a road is, what it looks for, and with which options its steps were done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spaces.errors import InputError, shown
from spaces.files import save_json
from trials.common import changes, run_dir, run_files, typed
from trials.images.options import IN_MEMORY
from trials.training.strategy_options import DIFFERENTIABLE

RECORD = "road.json"  # in the run
# what steps write into while they go on
TRACES = ("log.jsonl", "supernets/seed*/log.jsonl", "search", "retrain*/seed*/log.jsonl", "controls/*/seed*/log.jsonl")
MAY_DIFFER = ("device", "jobs", "workers")  # they change no result


def keep_record(config: Any, record: Mapping[str, Any]) -> None:
    """Write road.json. Raises InputError: it cannot be written."""
    try:
        save_json(Path(config.out) / RECORD, record)
    except OSError as error:
        raise InputError(f"cannot write to '{config.out}' ({error.strerror}); choose another --out") from None


def earlier_road(config: Any) -> dict[str, Any]:
    """What road.json says of the road that is to go on; a new record where there is none, or nothing was trained on it.

    Raises:
        InputError: it is a road of other images.
    """
    run = Path(config.out)
    images = config.images if config.images in IN_MEMORY else str(Path(config.images).resolve())
    new: dict[str, Any] = {"images": images, "max_macs": config.max_macs, "strategy": config.strategy, "steps": {}}
    stored = run_files.read_if_there(run / RECORD, "record of a road")
    if stored is None:  # of an older version, or of commands that were typed one by one
        began = run_files.read_if_there(run / "config.json", "run configuration", {"config": {}})["config"]
        folder = began.get("data") == "folder" and began.get("data_root")
        first = str(Path(folder).resolve()) if folder else began.get("data", images)
        stored = {**new, "images": first, "max_macs": began.get("max_macs", ""), "strategy": began.get("strategy")}
    now = config.minutes
    planned = stored["minutes"]["given"] if "minutes" in stored else None
    if not run_dir.begun(run):
        same = stored["images"] == images and planned == now
        same &= all(stored.get(name) == new[name] for name in ("max_macs", "strategy"))
        return stored if same else new
    moved = stored["images"] not in IN_MEMORY and not Path(stored["images"]).is_dir()
    if stored["images"] != images and not moved:
        raise InputError(
            f"'{run}' is a run of the images '{stored['images']}', not of '{images}'; give another --out, such as {typed.free_name(run)}"
        )
    return {**stored, "images": images}


def seconds_of_killed(out: str | Path, record: Mapping[str, Any]) -> dict[str, float]:
    """The seconds of each step, with those of an attempt that was killed before it could write them: up to its last trace in the run."""
    taken, began = dict(record.get("taken", {})), record.get("began")
    if began:
        times = [path.stat().st_mtime for trace in TRACES for path in Path(out).glob(trace)]
        step = began["step"]
        taken[step] = taken.get(step, 0.0) + max(0.0, max(times, default=0.0) - began["at"])
    return taken


def begun_strategy(run: Path) -> str | None:
    """The --strategy that a road was begun with, which its supernet says where that has begun; None for that of a search."""
    record = run_files.read_if_there(run / RECORD, "record of a road", {})
    began = run_files.read_if_there(run / "config.json", "run configuration", {"config": record})
    strategy: str | None = began["config"].get("strategy")
    return strategy


def road_differences(config: Any, record: Mapping[str, Any]) -> str:
    """Which limit, strategy and minutes a road that has begun had otherwise, in words; "" where they are the same."""
    if not run_dir.begun(config.out):
        return ""
    differ = []  # what was, and what is given now
    if record["max_macs"] != config.max_macs and not changes.same_amount(
        "max_macs", record["max_macs"], config.max_macs
    ):
        differ.append(
            tuple(
                f"--max-macs {value}" if value else "no --max-macs" for value in (record["max_macs"], config.max_macs)
            )
        )
    strategies = begun_strategy(Path(config.out)), config.strategy
    if strategies[0] != strategies[1] and {*strategies} & {*DIFFERENTIABLE}:
        differ.append(tuple(f"--strategy {value}" if value else "no --strategy" for value in strategies))
    now = config.minutes
    planned = record["minutes"]["given"] if "minutes" in record else None
    if planned != now and (planned or record["steps"]):
        differ.append(tuple(f"--minutes {value:g}" if value else "no --minutes" for value in (planned, now)))
    if not differ:
        return ""
    was, wanted = (" and ".join(texts) for texts in zip(*differ, strict=True))
    return f"'{config.out}' was begun with {was}, not with {wanted}"


def refuse_differences(out: str, differ: Sequence[str]) -> None:
    """Refuse to go on with a road that differs from what was begun, with all differences in one line.

    Args:
        differ: each a sentence without its full stop.
    Raises:
        InputError: there are some.
    """
    if differ:
        raise InputError(
            f"{'; '.join(differ)}; give {'that' if len(differ) == 1 else 'all of that'} again, or another --out, such as {typed.free_name(out)}"
        )


def is_complete(
    step: str, done: Path | None, options: Mapping[str, Any], record: Mapping[str, Any], out: str
) -> tuple[bool, str]:
    """Whether a step need not be done again, and how it differs from what was done.

    Args:
        done: the file that it writes last; None where the step looks itself.
        options: what is given for it now.
        record: of the road.
    Returns:
        Whether it is complete; with which other options it was done or begun, as a sentence without its full stop, or "".
    """
    if step == "supernet" and step not in record["steps"]:  # of a command of its own, whose options stay
        done = Path(out) / "supernet.pt"
    if done is None or not done.exists() or not (step in record["steps"] or run_dir.begun(out)):
        return False, _supernet_differences(options, out) if step == "supernet" else ""
    was = record["steps"].get(step)
    if was is None:  # done by a command of its own, or by an older version
        if options:
            print(f"# {step} was not done by this command: whether with the options of today is not known")
        return True, ""
    differ = [name for name in {**was, **options} if name not in MAY_DIFFER and was.get(name) != options.get(name)]
    if differ:
        old, new = (
            ", ".join(f"{name} {shown(of[name])}" if name in of else f"no {name}" for name in differ)
            for of in (was, options)
        )
        return True, f"{step} of '{out}' is complete, with {old} and not with {new}"
    return True, ""


def _supernet_differences(options: Mapping[str, Any], out: str) -> str:
    """Which options a supernet that has begun had otherwise; what is not given now it keeps, and its own command looks at the rest."""
    path = Path(out) / "config.json"
    if not (path.exists() and run_dir.begun(out)):
        return ""
    stored = dict.fromkeys(changes.GROWS, 1) | run_files.read(path, "run configuration")["config"]
    differ = [
        (name, stored[key], value)
        for name, value in options.items()
        if (key := name.replace("-", "_")) in stored and key not in (*changes.MAY_CHANGE, *changes.PATHS)
        if str(stored[key]) != str(value)
    ]
    if not differ:
        return ""
    old, new = (", ".join(f"{entry[0]} {shown(entry[at])}" for entry in differ) for at in (1, 2))
    return f"supernet of '{out}' was begun with {old} and not with {new}"
