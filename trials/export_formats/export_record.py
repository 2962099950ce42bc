"""export.json beside exported files: how each was checked, and what failed; the report shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from spaces.files import save_json
from trials.common import run_files
from trials.export_formats.compare import Comparison
from trials.export_formats.export_config import FORMATS, Config

FILE = "export.json"


def write_record(config: Config, comparison: Comparison, problems: Mapping[str, str], made: Mapping[str, Any]) -> None:
    """Write export.json into the folder of the published files; formats of an earlier export that are still there stay in it.

    Args:
        comparison: the answers of the network and of each file.
        problems: why files are not good enough, by format.
        made: what made the files, and how many "seconds" writing and checking took.
    """
    path = config.target.parent / FILE
    earlier = run_files.read(path, "export")["formats"] if path.exists() else []
    entries = {
        entry["format"]: entry for entry in earlier if all((path.parent / name).exists() for name in entry["files"])
    }
    entries |= {name: _entry(config, name, comparison, problems.get(name, "")) for name in config.wanted}
    record = {
        "formats": [entries[name] for name in FORMATS if name in entries],
        "network": {"correct": comparison.correct, "images": comparison.images, "file": config.network_file.name},
        "rounding": comparison.rounding,
        "int8_drop": config.int8_drop,
        **made,
    }
    save_json(path, record)


def _entry(config: Config, name: str, comparison: Comparison, problem: str) -> dict[str, Any]:
    """What is known about the files of a format; None where a file could not be run, or a difference is no number."""
    ending = ".failed" if problem else ""
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
