"""A retrained network as files that can be shipped, each checked against the network after it was written.

    python -m trials.export --weights runs/digits/retrain              # everything into runs/digits/retrain/export/
    python -m trials.export --fixed-arc arc.json --weights RUN --out dir/model.onnx    # files are named dir/model.*

    STEM.py, STEM.safetensors   module: readable source of this network; needs torch and safetensors alone
    STEM.pt2                    program: torch.export, for any number of images
    STEM.onnx                   onnx: BatchNorm folded; preprocessing and classes in its metadata
    STEM-int8.onnx              int8: weights and activations in 8 bits, calibrated on training images

A file is loaded anew and run over the test images; only one that gives the network's answers gets its name, another one
is kept as *.failed. The network itself must be as accurate as it was right after its training.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.errors import InputError, Stopped, unknown
from trials import cli
from trials.cli import option

if TYPE_CHECKING:
    from trials.export_check import Comparison

FORMATS = {"module": (".py", ".safetensors"), "program": (".pt2",), "onnx": (".onnx",), "int8": ("-int8.onnx",)}
SUFFIXES = (".py", ".safetensors", ".pt2", ".onnx")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    weights: str = option(help="run of trials.retrain, or the network.pt in one")
    fixed_arc: str | None = option(None, "architecture that the weights must be of: a file, or a published network")
    out: str = option(None, "files to write, without what distinguishes them (default: export/model in the run)")
    seed: int = option(0, "which network of the run")
    formats: str = option("module,program,onnx,int8", "what to write, with commas between")
    data_root: str = option("", "folder of the data set, if it has moved since")
    calibration_images: int = option(512, "training images that int8 measures the ranges of activations on")
    check_images: int = option(0, "test images that each file is checked on; 0: all")
    int8_ranges: str = option(
        "minmax",
        "how int8 finds the ranges of activations; percentile cuts off outliers and keeps all activations in memory",
        choices=("minmax", "percentile"),
    )
    int8_drop: float = option(1.0, "largest loss of top-1 through int8, percentage points")

    def __post_init__(self) -> None:
        chosen = [name.strip() for name in self.formats.split(",")]
        for name in chosen:
            if name not in FORMATS:
                raise InputError(unknown("format", name, FORMATS))
        cli.fill_and_check(self, {}, positive=("calibration_images",), fractions=())
        cli.not_negative(self, "seed", "check_images")
        stem = self.target.name
        if "module" in chosen and not stem.isidentifier():
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


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__)
    from trials import retrain, run_dir

    stored_config = None if config.names_file else run_dir.load_run(config.run, "retrain")
    if not config.names_file and not config.network_file.exists():
        raise InputError(
            f"'{config.weights}' has no trained network of seed {config.seed}; finish it with "
            "python -m trials.retrain ... --resume, or choose another --seed"
        )
    stored = run_dir.load_checkpoint(config.network_file, "network")
    stored_config = stored_config or run_dir.load_run(config.run, "retrain")
    if not {"model", "preprocessing"} <= stored.keys():
        raise InputError(f"'{config.network_file}' is not a network of trials.retrain; name its network.pt")
    _check_arch(config, stored)
    network = retrain.load_network(config.network_file).float()
    data, preprocessing = _open_data(config, stored_config, stored)
    about = describe(config, stored, network, preprocessing, data.name)
    target = config.target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise InputError(f"cannot write to '{target.parent}' ({error.strerror}); choose another --out") from None
    with folder as place:
        draft = Path(place) / target.name
        write(config, network, draft, about, data)
        comparison = check(config, network, draft, data, about["result"])
        problems = find_problems(config, comparison)
        rows = [table_row(name, draft, target, comparison, name in problems) for name in config.wanted]
        publish(config, draft, problems)
    header = ("format", "files", "KB", "largest logit difference", "same answers %", "test top-1 %")
    kilobytes = f"{config.network_file.stat().st_size / 1000:,.0f}"
    network_row = ("PyTorch", config.network_file.name, kilobytes, "", "", f"{comparison.top1:.2f}")
    print(cli.table([network_row, *rows], header, as_is=True))
    if "int8" in config.wanted:
        lost = comparison.top1 - comparison.file_top1("int8")
        print(f"int8 loses {lost:.2f} points of top-1; allowed are {config.int8_drop:g}")
    print(f"checked on {comparison.images:,} test images; written to {target.parent}/")
    if problems:
        name, problem = next(iter(problems.items()))
        more = f" (and {len(problems) - 1} more: {', '.join([*problems][1:])})" if len(problems) > 1 else ""
        raise Stopped(f"format {name}: {problem}; kept as '{file_of(target, name)}.failed'{more}; {_remedy(name)}")


def _remedy(name: str) -> str:
    if name == "int8":
        return "try --int8-ranges percentile or more --calibration-images, or allow more with --int8-drop"
    return "leave this format out of --formats, and report it"


def file_of(target: Path, name: str) -> Path:
    """The file of a format, its first where it has two."""
    return target.with_name(target.name + FORMATS[name][0])


def _check_arch(config: Config, stored: Mapping[str, Any]) -> None:
    """Raises InputError: the weights are not of --fixed-arc."""
    if config.fixed_arc is None:
        return
    import spaces
    from spaces.arch import arch_id
    from spaces.published import read_arch

    if stored.get("arch") is None:
        raise InputError(f"--fixed-arc: '{config.weights}' is a network of no space of ours; leave --fixed-arc out")
    about = stored["space"]
    arch = read_arch(config.fixed_arc, spaces.describe(about["name"], about["preset"], **about["options"]).choices)
    if arch_id(arch) != arch_id(stored["arch"]):
        label = next(key for key in arch if arch[key] != stored["arch"][key])
        raise InputError(
            f"--fixed-arc '{config.fixed_arc}' is architecture {arch_id(arch)}, the weights are of "
            f"{arch_id(stored['arch'])} ({label}: {arch[label]}, not {stored['arch'][label]}); name the same of both"
        )


def _open_data(config: Config, options: dict[str, Any], stored: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The images of the run, and how they are prepared, complete where the network's file is of an older version."""
    from trials.data import load_data
    from trials.data_options import DataOptions
    from trials.folder_data import LIST
    from trials.views import short_side_of

    options = options | ({"data_root": config.data_root} if config.data_root else {})
    about = dict(stored["preprocessing"])
    folder = options.get("data") == "folder"
    about.setdefault("short_side", short_side_of(about["resolution"]) if folder else None)
    listed = config.run if (config.run / LIST).exists() else options.get("supernet") or config.run
    data = load_data(DataOptions.of(options), about["resolution"], score_fraction=0.1, run=listed)
    if data.classes != about["classes"]:
        raise InputError(
            f"the images have other classes than the network ({len(data.classes)}, {len(about['classes'])})"
        )
    data.check_files("test")
    parts = ["test"] + (["all"] if "int8" in config.wanted else [])
    for part in parts:
        if not data.size(part):
            raise InputError(f"there are no images of part '{part}'; restore them, or give --data-root")
    return data, about


def describe(
    config: Config, stored: Mapping[str, Any], network: Any, preprocessing: Mapping[str, Any], data_name: str
) -> dict[str, Any]:
    """What the files say about themselves: the metadata, `titles` of blocks and `lines` of text for the source."""
    import torch

    import spaces
    from spaces.arch import arch_id
    from spaces.cost import measure
    from spaces.files import load_json
    from trials.run_dir import provenance

    seed = stored.get("seed", config.seed)
    result = load_json(config.network_file.parent / "result.json", "result")
    about = {"classes": preprocessing["classes"]}
    about["preprocessing"] = {key: value for key, value in preprocessing.items() if key != "classes"}
    params, macs, titles = sum(p.numel() for p in network.parameters()), None, []
    if stored.get("arch"):
        space, arch = stored["space"], stored["arch"]
        chain = spaces.describe(space["name"], space["preset"], **space["options"])
        titles = [block_title(number, block.choices, arch) for number, block in enumerate(chain.blocks)]
        macs = measure(chain).macs(arch)
        about["architecture"] = {"space": space, "arch": arch, "id": arch_id(arch)}
        line = f"Architecture {arch_id(arch)} of space {space['name']}, preset {space['preset']}."
    else:
        name = stored.get("baseline", type(network).__name__)
        summary = config.run / "result.json"
        macs = load_json(summary, "result").get("macs") if summary.exists() else None
        about["architecture"] = {"baseline": name}
        line = f"Network {name}."
    cost = (f"{macs:,} MACs, " if macs else "") + f"{params:,} params"
    size = preprocessing["resolution"]
    about["made_by"] = f"Onepath {provenance()['commit'][:12]}, torch {torch.__version__}, seed {seed}"
    about["test_top1"], about["test_images"] = result["test_top1"], result.get("test_images")
    tested = f"{result['test_top1']:.2f}% on {result.get('test_images', 'all')} test images"
    lines = [
        line,
        "",
        f"{cost}, {size}x{size} pixels, {len(preprocessing['classes'])} classes.",
        f"Data set {data_name}: top-1 {tested}.",
        f"Made by {about['made_by']}.",
    ]
    return about | {"titles": titles, "lines": lines, "result": result}


def block_title(number: int, choices: Mapping[str, Any], arch: Mapping[str, Any]) -> str:
    """A block's labels and what was chosen there."""
    return ", ".join(f"{label}: {arch[label]}" for label in choices) or f"block {number}, without a choice"


def write(config: Config, network: Any, draft: Path, about: dict[str, Any], data: Any) -> None:
    """Write every format that is wanted, unchecked."""
    from trials import export_formats

    metadata = {key: value for key, value in about.items() if key not in ("titles", "lines", "result")}
    metadata |= {"test_top1": str(metadata["test_top1"]), "test_images": str(metadata["test_images"])}
    resolution = about["preprocessing"]["resolution"]
    for name in config.wanted:
        path = file_of(draft, name)
        if name == "module":
            every = about["preprocessing"] | {"classes": about["classes"]}
            export_formats.write_module(network, path, every, about["titles"], about["lines"])
        elif name == "program":
            export_formats.write_program(network, path, resolution, metadata)
        else:
            source = file_of(draft, "onnx")
            if not source.exists():
                export_formats.write_onnx(network, source, resolution, metadata)
            if name == "int8":
                images = (
                    data.normalise(batch) for batch, _ in data.eval_batches("all", 64, count=config.calibration_images)
                )
                export_formats.write_int8(source, path, images, ranges=config.int8_ranges)


def check(config: Config, network: Any, draft: Path, data: Any, result: Mapping[str, Any]) -> Comparison:
    """Load every file anew and run it over the test images.

    Args:
        result: what was measured right after training.
    Raises:
        Stopped: the network itself is not what it was then.
    """
    from trials import export_formats
    from trials.export_check import BATCH, compare

    known = {"module": export_formats.run_module, "program": export_formats.run_program}
    loaders = {name: partial(known.get(name, export_formats.run_onnx), file_of(draft, name)) for name in config.wanted}
    size = data.size("test")
    count = min(config.check_images or size, size)

    def batches() -> Iterator[tuple[Any, Any]]:
        for images, labels in data.eval_batches("test", BATCH, count=count):
            yield data.normalise(images), labels

    comparison = compare(network, loaders, batches(), count)
    before = round(result["test_top1"] * comparison.images / 100)
    # tested in 16 bits, as on a GPU by default, a few answers are others; in 32 bits those that are as good as undecided
    exact = result.get("precision", "32") == "32"
    allowed = comparison.undecided() if exact else math.ceil(0.005 * comparison.images)
    if comparison.images == result.get("test_images", size) and abs(comparison.correct - before) > allowed:
        raise Stopped(
            f"'{config.network_file}' classifies {comparison.correct:,} of {comparison.images:,} test images rightly, right "
            f"after training it was {before:,}; nothing was written; is it another file, or are they other images?"
        )
    return comparison


def find_problems(config: Config, comparison: Comparison) -> dict[str, str]:
    """format -> why its file is not good enough, for those that are not."""
    found = {
        name: comparison.int8_problem(name, config.int8_drop) if name == "int8" else comparison.float_problem(name)
        for name in config.wanted
    }
    return {name: problem for name, problem in found.items() if problem}


def publish(config: Config, draft: Path, problems: Mapping[str, str]) -> None:
    """Give checked files their names, one by one; those that failed are kept as *.failed, and have no good name."""
    from spaces.files import atomic

    for name in config.wanted:
        for suffix in reversed(FORMATS[name]):  # the weights before the source that reads them
            made = draft.with_name(draft.name + suffix)
            good = config.target.with_name(config.target.name + suffix)
            failed = good.with_name(good.name + ".failed")
            with atomic(failed if name in problems else good) as temporary:
                os.replace(made, temporary)
            (good if name in problems else failed).unlink(missing_ok=True)


def table_row(name: str, draft: Path, target: Path, comparison: Comparison, failed: bool) -> tuple[Any, ...]:
    """One line of the table: format, files, size, largest logit difference, same answers, top-1."""
    suffixes = FORMATS[name]
    size = sum(draft.with_name(draft.name + suffix).stat().st_size for suffix in suffixes) / 1000
    files = ", ".join(target.name + suffix + (".failed" if failed else "") for suffix in suffixes)
    same, top1 = comparison.same(name), comparison.file_top1(name)
    return name, files, f"{size:,.0f}", f"{comparison.files[name].largest:.1e}", f"{same:.2f}", f"{top1:.2f}"


if __name__ == "__main__":
    cli.run(main, resumes=False)
