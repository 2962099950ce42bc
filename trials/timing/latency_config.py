"""The options of trials.latency."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from spaces.errors import InputError
from spaces.latency import MIN_CHECK_NETWORKS
from trials.common import cli
from trials.common.cli import option


@dataclasses.dataclass(frozen=True)
class Config:
    space: str | None = option(None, "search space")
    preset: str = option("imagenet", "preset of the space")
    space_options: str = option("", "further options of the space, such as variant=channel,last_width=512")
    classes: int | None = option(None, "number of classes (default: the preset's)")
    resolution: int | None = option(None, "height and width of an image, pixels (default: the preset's)")
    supernet: str | None = option(None, "run of trials.supernet: the space as it was trained, instead of the above")
    device: str = option("auto", "where to measure", choices=("auto", "cpu", "cuda"))
    runtime: str = option("torch", "what runs the networks", choices=("torch", "onnxruntime"))
    threads: int = option(0, "threads on a CPU; 0: OMP_NUM_THREADS, or one for each core")
    batch: int = option(1, "images at a time")
    rounds: int = option(200, "times that every candidate is measured at each of its places")
    networks: int = option(30, f"random networks that the table is checked against, at least {MIN_CHECK_NETWORKS}")
    seed: int = option(0, "of the random networks")
    out: str = option("", "table to write, JSON; beside it a picture of the check, SVG")
    table: str = option("", "an existing table, for --fixed-arc")
    fixed_arc: str = option(
        "", "an architecture to measure and to compare with --table: a file, or a published network"
    )
    template: str = option("", "write an empty CSV to be filled in")
    csv: str = option("", "read a CSV that was filled in")

    def __post_init__(self) -> None:
        cli.not_negative(self, "threads")
        cli.fill_and_check(self, {}, positive=("batch", "rounds"), fractions=())
        if self.networks < MIN_CHECK_NETWORKS:
            raise InputError(f"--networks {self.networks} is too few for a check; give {MIN_CHECK_NETWORKS} or more")
        if bool(self.table) != bool(self.fixed_arc):
            raise InputError("--table and --fixed-arc go together; give both or none")
        if self.table:
            defaults = {field.name: field.default for field in dataclasses.fields(self)}
            for name in ("space", "supernet", "out", "template", "csv", "device", "runtime", "threads", "batch"):
                if getattr(self, name) != defaults[name]:
                    raise InputError(f"--{name} has no effect with --table, which decides; leave --{name} out")
            return
        if not (self.out or self.template):
            raise InputError("nowhere to write the table; give --out FILE.json")
        if not (self.space or self.supernet):
            raise InputError("which space? give --space NAME, or --supernet RUN")
        if self.supernet:
            for name in ("space", "space_options", "classes", "resolution"):
                if getattr(self, name):
                    raise InputError(
                        f"--{name.replace('_', '-')} has no effect with --supernet, which decides; leave it out"
                    )
        for flag, path, suffix in (("--out", self.out, ".json"), ("--template", self.template, ".csv")):
            if path and (Path(path).suffix != suffix or Path(path).is_dir()):
                raise InputError(f"{flag} '{path}' is no name for the file; give one that ends in {suffix}")
