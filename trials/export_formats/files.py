"""The files of an export: written as a draft, checked against the network, then published under their names."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spaces.arch import Arch, arch_id
from spaces.cost import measure
from spaces.errors import InputError, Stopped
from spaces.files import atomic
from spaces.fixed_arc import read_arch
from spaces.spec import SpaceSpec
from trials.common import run_files
from trials.common.places import supernet_of
from trials.common.run_dir import provenance
from trials.evidence.intervals import accuracy_text
from trials.export_formats import formats
from trials.export_formats.compare import BATCH, Comparison, compare_outputs
from trials.export_formats.export_config import FORMATS, Config
from trials.images.crops import short_side_of
from trials.images.dataset import Data
from trials.images.image_list import LIST
from trials.images.load import load_data
from trials.images.options import DataOptions

START_TEXT = {  # of a network that was not trained from scratch
    "pretrained": "Fine-tuned from pretrained weights.",
    "supernet": "Fine-tuned from the weights of its supernet.",
}


@dataclass(frozen=True)
class Description:
    """What is known about the network that is exported.

    Attributes:
        metadata: what the files say about themselves, as JSON-able values: classes, preprocessing, architecture, test accuracy.
        titles: for each child of `network.blocks`, what was chosen there; [] for a network without choices.
        lines: the text at the top of STEM.py.
        result: result.json of the training, with the test accuracy that was measured right after it.
        data_name, in_folders: the data set; that of images in folders has the name of their folder.
    """

    metadata: dict[str, Any]
    titles: list[str]
    lines: list[str]
    result: dict[str, Any]
    data_name: str
    in_folders: bool = False


def format_path(target: Path, name: str) -> Path:
    """The file of a format; its first file where it has two.

    Args:
        target: folder and stem of the files.
        name: of the format.
    """
    return target.with_name(target.name + FORMATS[name][0])


def remedy_for(name: str) -> str:
    """What to do when the file of a format is not good enough: the end of the error message."""
    if name == "int8":
        return "try --int8-ranges percentile or more --calibration-images, or allow more with --int8-drop"
    return "leave this format out of --formats, and report it"


def require_fixed_arc(config: Config, stored: Mapping[str, Any]) -> None:
    """Check that the weights are those of --fixed-arc, where it is given.

    Args:
        stored: content of network.pt.
    Raises:
        InputError: they are of another architecture, or of a network without a space.
    """
    if config.fixed_arc is None:
        return
    if stored.get("arch") is None:
        raise InputError(f"--fixed-arc: '{config.weights}' is a network of no space of ours; leave --fixed-arc out")
    arch = read_arch(config.fixed_arc, SpaceSpec.read(stored["space"]).describe().choices)
    if arch_id(arch) != arch_id(stored["arch"]):
        label = next(key for key in arch if arch[key] != stored["arch"][key])
        raise InputError(
            f"--fixed-arc '{config.fixed_arc}' is architecture {arch_id(arch)}, the weights are of "
            f"{arch_id(stored['arch'])} ({label}: {arch[label]}, not {stored['arch'][label]}); name the same of both"
        )


def open_data(config: Config, options: dict[str, Any], stored: Mapping[str, Any]) -> tuple[Data, dict[str, Any]]:
    """Open the images that the network was trained and tested on.

    Args:
        options: the run's configuration, which says where the images are.
        stored: content of network.pt.
    Returns:
        The images, and how they are prepared; complete also where network.pt was written by an older version.
    Raises:
        InputError: the images are missing, or have other classes than the network.
    """
    options = options | ({"data_root": config.data_root} if config.data_root else {})
    preprocessing = dict(stored["preprocessing"])
    in_folders = options.get("data") == "folder"
    preprocessing.setdefault("short_side", short_side_of(preprocessing["resolution"]) if in_folders else None)
    # The list of images lies in the run that made it: this one, or the supernet's
    listed = config.run if (config.run / LIST).exists() else supernet_of(config.run, options) or config.run
    own = (
        None if preprocessing.get("channels") == "BGR" else (tuple(preprocessing["mean"]), tuple(preprocessing["std"]))
    )
    data = load_data(
        DataOptions.of(options), preprocessing["resolution"], score_fraction=0.1, run=listed, statistics=own
    )
    if data.classes != preprocessing["classes"]:
        raise InputError(
            f"the images have other classes than the network ({len(data.classes)}, {len(preprocessing['classes'])})"
        )
    data.check_files("test")
    for part in ["test"] + (["all"] if "int8" in config.wanted else []):
        if not data.size(part):
            raise InputError(f"there are no images of part '{part}'; restore them, or give --data-root")
    return data, preprocessing


def describe_network(
    config: Config,
    stored: Mapping[str, Any],
    network: nn.Module,
    preprocessing: Mapping[str, Any],
    options: Mapping[str, Any],
    data: Data,
) -> Description:
    """Collect what the files say about themselves.

    Args:
        stored: content of network.pt.
        preprocessing: what `open_data` returned.
        options: the run's configuration.
        data: the images.
    """
    root = str(config.data_root or options.get("data_root") or "")
    in_folders = options.get("data") == "folder" and bool(root)
    data_name = Path(root).resolve().name if in_folders else data.name
    seed = stored.get("seed", config.seed)
    result = run_files.read(config.network_file.parent / "result.json", "result of a seed")
    params = sum(parameter.numel() for parameter in network.parameters())
    macs, titles = None, []
    architecture: dict[str, Any]
    if stored.get("arch"):
        space, arch = stored["space"], stored["arch"]
        chain = SpaceSpec.read(space).describe()
        titles = [block_title(number, block.choices, arch) for number, block in enumerate(chain.blocks)]
        macs = measure(chain).macs(arch)
        architecture = {"space": space, "arch": arch, "id": arch_id(arch)}
        first_line = f"Architecture {arch_id(arch)} of space {space['name']}, preset {space['preset']}."
    else:
        name = stored.get("baseline", type(network).__name__)
        summary = config.run / "result.json"
        macs = run_files.read_if_there(summary, "result", {}).get("macs")
        architecture = {"baseline": name}
        first_line = f"Network {name}."
    start = START_TEXT.get(stored.get("start", {}).get("kind"), "")
    first_line += f" {start}" if start else ""
    architecture |= {"start": stored["start"]["kind"]} if start else {}

    made_by = f"Onepath {provenance()['commit'][:12]}, torch {torch.__version__}, seed {seed}"
    metadata = {
        "classes": preprocessing["classes"],
        "preprocessing": {key: value for key, value in preprocessing.items() if key != "classes"},
        "architecture": architecture,
        "made_by": made_by,
        "test_top1": str(result["test_top1"]),
        "test_images": str(result.get("test_images")),
    }

    cost = (f"{macs:,} MACs, " if macs else "") + f"{params:,} params"
    size = preprocessing["resolution"]
    tested = f"{result['test_top1']:.2f}% on all test images"
    if images := result.get("test_images"):
        tested = accuracy_text([round(result["test_top1"] * images / 100)], images)
    lines = [
        first_line,
        "",
        f"{cost}, {size}x{size} pixels, {len(preprocessing['classes'])} classes.",
        f"Data set {data_name}: top-1 {tested}.",
        f"Made by {made_by}.",
    ]
    return Description(metadata, titles, lines, result, data_name, in_folders)


def block_title(number: int, choices: Mapping[str, Sequence[Any]], arch: Arch) -> str:
    """A block's labels and what was chosen there, such as "block03: shuffle5"."""
    return ", ".join(f"{label}: {arch[label]}" for label in choices) or f"block {number}, without a choice"


def write_files(config: Config, network: nn.Module, draft: Path, description: Description, data: Data) -> None:
    """Write every format that is wanted, unchecked.

    Args:
        network: in eval mode, on the CPU.
        draft: folder and stem of the files.
        data: the images, for the ranges of activations of int8.
    """
    metadata = description.metadata
    resolution = metadata["preprocessing"]["resolution"]
    for name in config.wanted:
        path = format_path(draft, name)
        if name == "module":
            preprocessing = metadata["preprocessing"] | {"classes": metadata["classes"]}
            formats.write_module(network, path, preprocessing, description.titles, description.lines)
        elif name == "program":
            formats.write_program(network, path, resolution, metadata)
        else:
            source = format_path(draft, "onnx")  # int8 is made from this file, also where onnx itself is not wanted
            if not source.exists():
                formats.write_onnx(network, source, resolution, metadata, opset=config.opset)
            if name == "int8":
                images = (
                    data.normalise(batch) for batch, _ in data.eval_batches("all", 64, count=config.calibration_images)
                )
                formats.write_int8(source, path, images, ranges=config.int8_ranges)


def compare_files(config: Config, network: nn.Module, draft: Path, data: Data, result: Mapping[str, Any]) -> Comparison:
    """Load every file anew and run it over the test images.

    Args:
        draft: folder and stem of the files.
        result: what was measured right after training.
    Raises:
        Stopped: the network itself is not as accurate as it was right after training.
    """
    run_format = {"module": formats.run_module, "program": formats.run_program}
    loaders = {
        name: partial(run_format.get(name, formats.run_onnx), format_path(draft, name)) for name in config.wanted
    }
    size = data.size("test")
    count = min(config.check_images or size, size)

    def normalised_batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The test images (N, 3, R, R) and their labels (N,)."""
        for images, labels in data.eval_batches("test", BATCH, count=count):
            yield data.normalise(images), labels

    comparison = compare_outputs(network, loaders, normalised_batches(), count)
    correct_then = round(result["test_top1"] * comparison.images / 100)
    # A network that was tested in 16 bits, the default on a GPU, gives a few other answers here. In 32 bits, only images
    # may change whose two best classes are as good as equal.
    exact = result.get("precision", "32") == "32"
    allowed = comparison.undecided() if exact else math.ceil(0.005 * comparison.images)
    all_tested = comparison.images == result.get("test_images", size)
    if all_tested and abs(comparison.correct - correct_then) > allowed:
        raise Stopped(
            f"'{config.network_file}' classifies {comparison.correct:,} of {comparison.images:,} test images rightly, right "
            f"after training it was {correct_then:,}; nothing was written; is it another file, or are they other images?"
        )
    return comparison


def find_problems(config: Config, comparison: Comparison) -> dict[str, str]:
    """Why files are not good enough, by format; formats whose file is good are left out."""
    problems = {
        name: comparison.int8_problem(name, config.int8_drop) if name == "int8" else comparison.float_problem(name)
        for name in config.wanted
    }
    return {name: problem for name, problem in problems.items() if problem}


def publish_files(config: Config, draft: Path, problems: Mapping[str, str]) -> None:
    """Give checked files their names, one by one; those that failed are kept as *.failed, and have no good name.

    Args:
        draft: folder and stem of the written files.
        problems: what `find_problems` returned.
    """
    for name in config.wanted:
        for suffix in reversed(FORMATS[name]):  # the weights come before the source that reads them
            written = draft.with_name(draft.name + suffix)
            good = config.target.with_name(config.target.name + suffix)
            failed = good.with_name(good.name + ".failed")
            with atomic(failed if name in problems else good) as temporary:
                os.replace(written, temporary)
            (good if name in problems else failed).unlink(missing_ok=True)


def table_row(name: str, draft: Path, target: Path, comparison: Comparison, failed: bool) -> tuple[Any, ...]:
    """One line of the table: format, files, size in KB, largest logit difference, same answers in percent, top-1."""
    suffixes = FORMATS[name]
    size = sum(draft.with_name(draft.name + suffix).stat().st_size for suffix in suffixes) / 1000
    files = ", ".join(target.name + suffix + (".failed" if failed else "") for suffix in suffixes)
    same, top1 = comparison.same(name), str(comparison.interval(name))
    return name, files, f"{size:,.0f}", f"{comparison.files[name].largest:.1e}", f"{same:.2f}", top1
