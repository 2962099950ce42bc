"""The files of an export: written as a draft, checked against the network, then published under their names."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from spaces.arch import arch_id
from spaces.cost import measure
from spaces.errors import InputError, Stopped
from spaces.files import atomic, load_json
from spaces.published import read_arch
from spaces.spec import SpaceSpec
from trials.common.run_dir import provenance
from trials.export_formats import formats
from trials.export_formats.compare import BATCH, Comparison, compare
from trials.export_formats.export_config import FORMATS, Config
from trials.images.crops import short_side_of
from trials.images.image_list import LIST
from trials.images.load import load_data
from trials.images.options import DataOptions


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

    if stored.get("arch") is None:
        raise InputError(f"--fixed-arc: '{config.weights}' is a network of no space of ours; leave --fixed-arc out")
    arch = read_arch(config.fixed_arc, SpaceSpec.read(stored["space"]).describe().choices)
    if arch_id(arch) != arch_id(stored["arch"]):
        label = next(key for key in arch if arch[key] != stored["arch"][key])
        raise InputError(
            f"--fixed-arc '{config.fixed_arc}' is architecture {arch_id(arch)}, the weights are of "
            f"{arch_id(stored['arch'])} ({label}: {arch[label]}, not {stored['arch'][label]}); name the same of both"
        )


def _open_data(config: Config, options: dict[str, Any], stored: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The images of the run, and how they are prepared, complete where the network's file is of an older version."""
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

    seed = stored.get("seed", config.seed)
    result = load_json(config.network_file.parent / "result.json", "result")
    about = {"classes": preprocessing["classes"]}
    about["preprocessing"] = {key: value for key, value in preprocessing.items() if key != "classes"}
    params, macs, titles = sum(p.numel() for p in network.parameters()), None, []
    if stored.get("arch"):
        space, arch = stored["space"], stored["arch"]
        chain = SpaceSpec.read(space).describe()
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
    metadata = {key: value for key, value in about.items() if key not in ("titles", "lines", "result")}
    metadata |= {"test_top1": str(metadata["test_top1"]), "test_images": str(metadata["test_images"])}
    resolution = about["preprocessing"]["resolution"]
    for name in config.wanted:
        path = file_of(draft, name)
        if name == "module":
            every = about["preprocessing"] | {"classes": about["classes"]}
            formats.write_module(network, path, every, about["titles"], about["lines"])
        elif name == "program":
            formats.write_program(network, path, resolution, metadata)
        else:
            source = file_of(draft, "onnx")
            if not source.exists():
                formats.write_onnx(network, source, resolution, metadata)
            if name == "int8":
                images = (
                    data.normalise(batch) for batch, _ in data.eval_batches("all", 64, count=config.calibration_images)
                )
                formats.write_int8(source, path, images, ranges=config.int8_ranges)


def check(config: Config, network: Any, draft: Path, data: Any, result: Mapping[str, Any]) -> Comparison:
    """Load every file anew and run it over the test images.

    Args:
        result: what was measured right after training.
    Raises:
        Stopped: the network itself is not what it was then.
    """
    known = {"module": formats.run_module, "program": formats.run_program}
    loaders = {name: partial(known.get(name, formats.run_onnx), file_of(draft, name)) for name in config.wanted}
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
