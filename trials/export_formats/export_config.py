"""The options of trials.export, and the names of the files that follow from them."""

from __future__ import annotations

import dataclasses
import keyword
from pathlib import Path
from typing import Any

from spaces.errors import InputError, unknown
from spaces.files import require_file
from trials.common import cli, run_dir, typed
from trials.common.cli import option

FORMATS = {"module": (".py", ".safetensors"), "program": (".pt2",), "onnx": (".onnx",), "int8": ("-int8.onnx",)}
LAYOUTS = ("timm", "huggingface")
OPSETS = range(18, 22)
SUFFIXES = (".py", ".safetensors", ".pt2", ".onnx")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of trials.export."""

    weights: str = option(help="Run of trials.retrain, or the network.pt in one")
    fixed_arc: str | None = option(None, "Architecture that the weights must be of: a file, or a published network")
    out: str = option(None, "Common beginning of the files to write", unset="export/model in the run")
    layout: str = option(
        "",
        "Folder to write beside the files, as timm loads it: source with an entry point, weights, config.json, model card",
        choices=LAYOUTS,
    )
    seed: int = option(0, "Seed of the network in the run")
    formats: str = option("module,program,onnx,int8", "Formats to write, with commas between")
    data_root: str = option("", "Folder of the data set, if it has moved since")
    calibration_images: int = option(512, "Training images that int8 measures the ranges of activations on")
    check_images: int = option(0, "Test images that each file is checked on; 0 means all")
    int8_ranges: str = option(
        "minmax",
        "How int8 finds the ranges of activations; percentile cuts off outliers and keeps all activations in memory",
        choices=("minmax", "percentile"),
    )
    int8_drop: float = option(
        1.0,
        "Loss of top-1 through int8 that is allowed, in percentage points; a file is refused where the 95 % interval of its "
        "loss lies above",
    )
    opset: int = option(20, f"Version of ONNX's operators, {OPSETS[0]} to {OPSETS[-1]}; older runtimes take lower ones")

    def __post_init__(self) -> None:
        cli.named(self, "out")
        chosen = [name.strip() for name in self.formats.split(",")]
        for name in chosen:
            if name not in FORMATS:
                raise InputError(unknown("format", name, FORMATS))
        cli.fill_and_check(self, {}, positive=("calibration_images",), fractions=())
        cli.not_negative(self, "seed", "check_images")
        if self.opset not in OPSETS:
            raise InputError(f"--opset {self.opset} is out of range; give {OPSETS[0]} to {OPSETS[-1]}")
        stem = self.target.name
        if "module" in chosen and (not stem.isidentifier() or keyword.iskeyword(stem)):
            raise InputError(
                f"--out '{self.out}': '{stem}' is no name for a Python module; use letters, digits and _, "
                "or leave module out of --formats"
            )

    @property
    def wanted(self) -> list[str]:
        """The formats to write, in our order."""
        chosen = {name.strip() for name in self.formats.split(",")}
        return [name for name in FORMATS if name in chosen]

    @property
    def names_file(self) -> bool:
        """Whether --weights is a network.pt, not a run."""
        return Path(self.weights).suffix == ".pt" and not Path(self.weights).is_dir()

    @property
    def network_file(self) -> Path:
        """The network.pt."""
        path = Path(self.weights)
        return path if self.names_file else path / f"seed{self.seed}" / "network.pt"

    @property
    def run(self) -> Path:
        """The run of trials.retrain that the weights are in."""
        return self.network_file.absolute().parent.parent if self.names_file else Path(self.weights)

    @property
    def target(self) -> Path:
        """Folder and stem of the files."""
        if self.out is None:
            return (self.network_file.parent if self.names_file else self.run) / "export" / "model"
        path = Path(self.out)
        if path.is_dir():
            return path / "model"
        return path.with_suffix("") if path.suffix in SUFFIXES else path


def find_weights(config: Config) -> dict[str, Any] | None:
    """Find the network that --weights and --seed name.

    Returns:
        The options of the run that trained it; None where --weights is a file.
    Raises:
        InputError: there is no such run, or no network of this seed in it; or the file is missing.
    """
    if config.names_file:
        require_file(config.network_file, "network")
        return None
    stored = run_dir.load_run(config.run, "retrain")
    if not config.network_file.exists():
        there = sorted(int(path.parent.name[4:]) for path in config.run.glob(f"seed*/{config.network_file.name}"))
        named = [f"finish it with: {typed.go_on(config.run)}"] if config.seed < stored.get("seeds", 1) else []
        named += [f"choose another --seed: {', '.join(map(str, there))}"] if there else []
        raise InputError(
            f"'{config.weights}' has no trained network of seed {config.seed}; {', or '.join(named) or 'name another run'}"
        )
    return stored
