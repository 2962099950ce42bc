"""The options of trials.latency."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from spaces.errors import InputError
from spaces.latency import MIN_CHECK_NETWORKS
from trials.common import cli
from trials.common.cli import option, reuse
from trials.common.machine import require_few
from trials.common.options import DeviceOptions, SpaceSizeOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(SpaceSizeOptions, DeviceOptions):
    """Options of trials.latency."""

    supernet: str | None = option(None, "Run of trials.supernet whose space is taken, as it was trained")
    out: str = option("", "Table to write, as JSON; a picture of its check is written beside it, as SVG")
    runtime: str = option("torch", "Library that runs the networks", choices=("torch", "onnxruntime"))
    threads: int = option(0, "Threads on a CPU; 0 means OMP_NUM_THREADS, or one for each core")
    batch: int = option(1, "Images at a time")
    rounds: int = option(200, "Times that every candidate is measured at each of its positions")
    networks: int = option(
        30, f"Number of random networks that the table is checked against, at least {MIN_CHECK_NETWORKS}"
    )
    seed: int = option(0, "Seed of the random networks")
    table: str = option("", "Existing table, for --fixed-arc")
    fixed_arc: str = option("", "Architecture to measure and to compare with --table: a file, or a published network")
    kit: str = option(
        "",
        "Folder to write that measures on a machine without torch: ONNX files and a script for onnxruntime and numpy alone",
    )
    template: str = option("", "CSV file to write, to be filled in with latencies of another device")
    csv: str = option("", "CSV file to read, which was filled in")

    space: str = reuse(SpaceSizeOptions, "space", default=None)

    def __post_init__(self) -> None:
        cli.not_negative(self, "threads")
        require_few("--threads", self.threads, "a thread")
        cli.fill_and_check(self, {}, positive=("batch", "rounds"), fractions=())
        if self.networks < MIN_CHECK_NETWORKS:
            raise InputError(f"--networks {self.networks} is too few for a check; give {MIN_CHECK_NETWORKS} or more")
        if bool(self.table) != bool(self.fixed_arc):
            raise InputError("--table and --fixed-arc go together; give both or none")
        if self.table:
            defaults = {field.name: field.default for field in dataclasses.fields(self)}
            for name in ("space", "supernet", "out", "kit", "template", "csv", "device", "runtime", "threads", "batch"):
                if getattr(self, name) != defaults[name]:
                    raise InputError(f"--{name} has no effect with --table, which decides; leave --{name} out")
            return
        if not (self.out or self.template or self.kit):
            raise InputError("nowhere to write the table; give --out FILE.json")
        if self.kit:
            for name in ("out", "template", "csv", "device"):
                if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                    raise InputError(
                        f"{cli.flag(name)} has no effect with --kit, which measures elsewhere; leave {cli.flag(name)} out"
                    )
        if not (self.space or self.supernet):
            raise InputError("which space? give --space NAME, or --supernet RUN")
        if self.supernet:
            for name in ("space", "space_options", "classes", "resolution"):
                if getattr(self, name):
                    raise InputError(f"{cli.flag(name)} has no effect with --supernet, which decides; leave it out")
        for flag, path, suffix in (("--out", self.out, ".json"), ("--template", self.template, ".csv")):
            if path and (Path(path).suffix != suffix or Path(path).is_dir()):
                raise InputError(f"{flag} '{path}' is no name for the file; give one that ends in {suffix}")
