"""How a run was made: when, on what, for how long, by which versions; and the files that were exported."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trials.common import run_files
from trials.common.run_dir import supernets_of
from trials.common.speeds import seconds_of
from trials.evidence.intervals import accuracy_interval, accuracy_text
from trials.export_formats import export_record
from trials.reporting.collect import RunContents
from trials.reporting.networks import TrainedNetwork


@dataclass(frozen=True)
class StepRow:
    """A step of a run: what was done, when it began, how long it took, by which commit, on which machine ("": not known)."""

    step: str
    started: str
    took: str
    commit: str
    machine: str


@dataclass(frozen=True)
class ExportRow:
    """A format that was exported: its files, bytes, how it was checked; `problem` says why it was not good enough."""

    format: str
    files: str
    kilobytes: str
    difference: str
    same: str
    accuracy: str
    problem: str


def step_rows(contents: RunContents) -> list[StepRow]:
    """The steps of a run in their order."""
    rows = [_row("supernet", contents.stored, _supernet_time(contents))]
    if contents.results:
        rows.append(_search_row(contents.results))
    for network in contents.networks:
        if not network.place.startswith("controls/"):
            rows.append(_row(network.place, network.stored, _training_time(network)))
    controls = [network for network in contents.networks if network.place.startswith("controls/")]
    if controls:
        seconds = sum(sum(network.seconds) for network in controls)
        trained = sum(len(network.seconds) for network in controls)
        text = f"{duration(seconds)} of training {trained} networks of {len(controls)} architectures"
        rows.append(_row("controls", controls[0].stored, text))
    if contents.retrained and (contents.retrained.folder / "export" / export_record.FILE).exists():
        record = run_files.read(contents.retrained.folder / "export" / export_record.FILE, "export")
        rows.append(_row("export", {"config": {}, **record}, duration(record["seconds"])))
    return rows


def version_rows(contents: RunContents) -> list[tuple[str, str]]:
    """Versions of Python and the packages that trained the supernet, and of the winner's training where they differ."""
    rows = [(name, str(number)) for name, number in contents.stored.get("versions", {}).items()]
    later = contents.retrained.stored.get("versions", {}) if contents.retrained else {}
    return [
        (name, number if later.get(name, number) == number else f"{number}, retrained with {later[name]}")
        for name, number in rows
    ]


def export_rows(folder: Path) -> list[ExportRow]:
    """The files in `export/` of a run of trials.retrain, those that failed their check (*.failed) too."""
    export = folder / "export"
    if (export / export_record.FILE).exists():
        return [_checked_row(entry) for entry in run_files.read(export / export_record.FILE, "export")["formats"]]
    # an older version wrote no record
    return [
        ExportRow(
            _format_of(path),
            path.name,
            f"{path.stat().st_size / 1000:,.0f}",
            "",
            "",
            "",
            "it did not pass its check" if path.suffix == ".failed" else "",
        )
        for path in sorted(export.glob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]


def export_note(folder: Path) -> str:
    """On how many test images the exported files were checked; "" where that is not known."""
    path = folder / "export" / export_record.FILE
    if not path.exists():
        return ""
    record = run_files.read(path, "export")
    network = record["network"]
    points = f"{record['int8_drop']:g} point{'s' * (record['int8_drop'] != 1)}"
    return (
        f"Each file was loaded anew and compared with the PyTorch network, which has "
        f"{accuracy_text([network['correct']], network['images'])}. A logit may differ by {record['rounding']:.1e}, which is "
        f"rounding; int8 may lose {points}, and is refused where the 95 % interval of its loss lies above."
    )


def duration(seconds: float) -> str:
    """Seconds as one reads them: 95 is "1 min 35 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _row(step: str, stored: dict[str, Any], took: str) -> StepRow:
    """A step whose config.json is at hand."""
    of = {name: stored.get(f"{name}s") for name in ("core", "thread")}
    cores = [f"{number} {name}{'s' * (number != 1)}" for name, number in of.items() if number]
    machine = ", ".join(filter(None, (*stored.get("gpus", []), stored.get("processor"), *cores, stored.get("machine"))))
    device = stored["config"].get("device")
    asked = f"--device {device}" if device and device != "auto" else ""
    return StepRow(
        step,
        stored.get("started", ""),
        took,
        _short(stored.get("commit", "")),
        ", ".join(filter(None, (machine, asked))),
    )


def _short(commit: str) -> str:
    """The first 12 digits of a commit, with what follows it."""
    number, _, rest = commit.partition(" ")
    return f"{number[:12]} {rest}".strip()


def _supernet_time(contents: RunContents) -> str:
    """From the images per second of the log, each since the line before."""
    steps = [line["step"] for line in contents.log if line.get("images_per_second")]
    if not steps or not contents.config.get("batch_size"):
        return ""
    supernets = supernets_of(contents.config)
    each = f", for each of {supernets} supernets" if supernets > 1 else ""
    return f"about {duration(seconds_of(contents.log, contents.config['batch_size']))}, {steps[-1]:,} steps{each}"


def _training_time(network: TrainedNetwork) -> str:
    """The seconds of each seed together; seeds that were trained at the same time are counted one after the other."""
    if not network.seconds:
        return ""
    seeds = len(network.seconds)
    return duration(sum(network.seconds)) + (f", the sum of {seeds} seeds" if seeds > 1 else "")


def _search_row(results: list[dict[str, Any]]) -> StepRow:
    """When the first architecture was scored, how long all of them took, and the device, where the scores say it."""
    seconds = sum(result.get("seconds", 0) for result in results)
    begins = [result["finished"] - result.get("seconds", 0) for result in results if "finished" in result]
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(min(begins))) if begins else ""
    took = f"{duration(seconds)} of scoring {len(results)} architectures"
    return StepRow("search", started, took, "", str(results[0].get("device") or ""))


def _checked_row(entry: dict[str, Any]) -> ExportRow:
    """A format of export.json."""
    difference, same, correct = entry["largest_difference"], entry["same_percent"], entry["correct"]
    return ExportRow(
        entry["format"],
        ", ".join(entry["files"]),
        f"{entry['bytes'] / 1000:,.0f}",
        "" if difference is None else f"{difference:.1e}",
        "" if same is None else f"{same:.2f}",
        "" if correct is None else str(accuracy_interval([correct], entry["images"])),
        entry["problem"],
    )


def _format_of(path: Path) -> str:
    """The format of a file by its name."""
    name = path.name.removesuffix(".failed")
    if name.endswith("-int8.onnx"):
        return "int8"
    return {".py": "module", ".safetensors": "module", ".pt2": "program", ".onnx": "onnx"}.get(Path(name).suffix, "")
