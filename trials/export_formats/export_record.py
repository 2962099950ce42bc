"""export.json beside exported files: how each was checked, and what failed; the report shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spaces.files import save_json
from trials.common import run_files
from trials.common.run_dir import file_hash
from trials.export_formats.compare import Comparison
from trials.export_formats.export_config import FORMATS, Config

FILE = "export.json"
FAILED = ".failed"


def write_record(
    config: Config, comparison: Comparison, problems: Mapping[str, str], made: Mapping[str, Any]
) -> dict[str, str]:
    """Write export.json into the folder of the published files.

    Formats that were exported earlier from the same network stay, with what was found out about them; the files of another
    network under this export's name, which the new files replace, are removed, as far as the earlier export.json lists them.

    Args:
        comparison: the answers of the network and of each file.
        problems: why files are not good enough, by format.
        made: what made the files, how many "seconds" writing and checking took, and the "preprocessing" that they expect.
    Returns:
        The good files of this network, each with how it answers, as `Comparison.told` says it.
    """
    path, digest = config.target.parent / FILE, file_hash(config.network_file)
    entries: dict[str, dict[str, Any]] = {}
    for entry in run_files.read(path, "export")["formats"] if path.exists() else []:
        own = _is_of(config, entry)
        if own and entry["format"] not in config.wanted and entry.get("network") != digest:
            for name in entry["files"]:
                (path.parent / Path(name).name).unlink(missing_ok=True)
        elif all((path.parent / name).exists() for name in entry["files"]):
            entries[entry["format"]] = entry
    entries |= {
        name: _entry(config, name, comparison, problems.get(name, ""))
        | {"network": digest, "told": comparison.told(name)}
        for name in config.wanted
    }
    record = {
        "formats": [entries[name] for name in FORMATS if name in entries],
        "network": {"correct": comparison.correct, "images": comparison.images, "file": config.network_file.name},
        "rounding": comparison.rounding,
        "int8_drop": config.int8_drop,
        **made,
    }
    save_json(path, record)
    good = [entry for entry in record["formats"] if _is_of(config, entry) and not entry["problem"]]
    return {name: entry["told"] for entry in good for name in entry["files"]}


def _is_of(config: Config, entry: Mapping[str, Any]) -> bool:
    """Whether the files of a format have the names of this export: other names in the folder are of another export."""
    names = {config.target.name + suffix for suffix in FORMATS.get(entry["format"], ())}
    return all(name.removesuffix(FAILED) in names for name in entry["files"])


def _entry(config: Config, name: str, comparison: Comparison, problem: str) -> dict[str, Any]:
    """What is known about the files of a format; None where a file could not be run, or a difference is no number."""
    ending = FAILED if problem else ""
    files = [config.target.name + suffix + ending for suffix in FORMATS[name]]
    file, ran = comparison.files[name], not comparison.files[name].error
    return {
        "format": name,
        "files": files,
        "bytes": sum((config.target.parent / file).stat().st_size for file in files),
        "largest_difference": file.largest if ran and math.isfinite(file.largest) else None,
        "same_percent": comparison.same(name) if ran else None,
        "correct": file.correct if ran else None,
        "images": comparison.images,
        "problem": problem,
    }
