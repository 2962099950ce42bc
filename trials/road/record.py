"""road.json: of which images and limit a road is, what it looks for, and with which options its steps were done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spaces.errors import InputError, shown
from spaces.files import save_json
from trials.common import run_dir, run_files, typed
from trials.images.options import IN_MEMORY

RECORD = "road.json"  # in the run
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
        InputError: it is a road of other images, or of another limit.
    """
    run = Path(config.out)
    images = config.images if config.images in IN_MEMORY else str(Path(config.images).resolve())
    new: dict[str, Any] = {"images": images, "max_macs": config.max_macs, "steps": {}}
    stored = run_files.read_if_there(run / RECORD, "record of a road")
    if stored is None:  # of an older version, or of commands that were typed one by one
        began = run_files.read_if_there(run / "config.json", "run configuration", {"config": {}})["config"]
        folder = began.get("data") == "folder" and began.get("data_root")
        first = str(Path(folder).resolve()) if folder else began.get("data", images)
        stored = {**new, "images": first, "max_macs": began.get("max_macs", "")}
    now = config.minutes
    planned = stored["minutes"]["given"] if "minutes" in stored else None
    if not run_dir.begun(run):
        same = stored["images"] == images and stored["max_macs"] == config.max_macs and planned == now
        return stored if same else new
    moved = stored["images"] not in IN_MEMORY and not Path(stored["images"]).is_dir()
    if stored["images"] != images and not moved:
        raise InputError(
            f"'{run}' is a run of the images '{stored['images']}', not of '{images}'; give another --out, such as {typed.free_name(run)}"
        )
    differ = []  # what was, and what is given now
    if stored["max_macs"] != config.max_macs:
        differ.append(
            tuple(
                f"--max-macs {value}" if value else "no --max-macs" for value in (stored["max_macs"], config.max_macs)
            )
        )
    if planned != now and ("minutes" in stored or stored["steps"]):
        differ.append(tuple(f"--minutes {value:g}" if value else "no --minutes" for value in (planned, now)))
    if differ:
        was, wanted = (" and ".join(texts) for texts in zip(*differ, strict=True))
        raise InputError(
            f"'{run}' was begun with {was}, not with {wanted}; give that, or another --out, such as {typed.free_name(run)}"
        )
    return {**stored, "images": images}


def is_complete(step: str, done: Path | None, options: Mapping[str, Any], record: Mapping[str, Any], out: str) -> bool:
    """Whether a step need not be done again.

    Args:
        done: the file that it writes last; None where the step looks itself.
        options: what is given for it now.
        record: of the road.
    Raises:
        InputError: it was done with other options.
    """
    if step == "supernet" and step not in record["steps"]:  # of a command of its own, whose options stay
        done = Path(out) / "supernet.pt"
    if done is None or not done.exists() or not (step in record["steps"] or run_dir.begun(out)):
        return False
    was = record["steps"].get(step)
    if was is None:  # done by a command of its own, or by an older version
        if options:
            print(f"# {step} was not done by this command: whether with the options of today is not known")
        return True
    differ = [name for name in {**was, **options} if name not in MAY_DIFFER and was.get(name) != options.get(name)]
    if differ:
        old, new = (
            ", ".join(f"{name} {shown(of[name])}" if name in of else f"no {name}" for name in differ)
            for of in (was, options)
        )
        raise InputError(
            f"{step} of '{out}' is complete, with {old} and not with {new}; give that again, or another --out, such as {typed.free_name(out)}"
        )
    return True
