"""A retrained network as files that can be shipped, each checked against the network after it was written.

    python -m trials.export --weights runs/digits/retrain              # everything into runs/digits/retrain/export/
    python -m trials.export --weights RUN --layout huggingface       # a folder for timm and the hub beside them
    python -m trials.export --fixed-arc arc.json --weights RUN --out dir/model.onnx    # files are named dir/model.*

    STEM.py, STEM.safetensors   module: readable source of this network; needs torch and safetensors alone
    STEM.pt2                    program: torch.export, for any number of images
    STEM.onnx                   onnx: BatchNorm folded; preprocessing and classes in its metadata
    STEM-int8.onnx              int8: weights and activations in 8 bits, calibrated on training images
    STEM.md                     model card: classes, budget, test accuracy, certificate, intended use
    STEM-timm/                  with --layout timm or huggingface: a folder that timm.create_model loads

A file is loaded anew and run over the test images; only one that gives the network's answers gets its name, another one
is kept as *.failed; how each was checked stands in export.json beside them. The network itself must be as accurate as it was
right after its training.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spaces.errors import require_library
from spaces.files import CLONE
from spaces.fixed_arc import require_arch
from trials.common import cli
from trials.common.answers import answer
from trials.evidence.comparison import change_text
from trials.evidence.floor import floor_of, floor_text
from trials.export_formats.export_config import Config, find_weights


def main(argv: list[str] | None = None) -> dict[str, Any]:
    config = cli.parse(Config, argv, __doc__, "trials.export")

    # Torch and the libraries of the formats are imported when the options are known to be right.
    find_weights(config)
    if config.fixed_arc:
        require_arch(config.fixed_arc)
    for library in ("safetensors", "onnx", "onnxscript", "onnxruntime", *["timm"] * bool(config.layout)):
        require_library(library, "python -m trials.export")
    from trials.common import places, run_files
    from trials.export_formats.export_network import export_network
    from trials.export_formats.export_record import FILE

    exported = export_network(config)
    comparison, target = exported.comparison, config.target
    header = ("format", "files", "KB", "largest logit difference", "same answers %", "test top-1 %")
    kilobytes = f"{config.network_file.stat().st_size / 1000:,.0f}"
    network_row = ("PyTorch", config.network_file.name, kilobytes, "", "", str(comparison.interval()))
    print(cli.table([network_row, *exported.rows], header, as_is=True))
    if "int8" in config.wanted:
        lost = comparison.loss("int8")
        doubt = f"; {comparison.images:,} images cannot tell more" if lost.low <= config.int8_drop < lost.high else ""
        print(f"{change_text('int8', lost)} of top-1; a loss of {config.int8_drop:g} is allowed{doubt}")
    floor = floor_of(places.supernet_of(config.run, exported.stored) or config.run)
    beside = f"; {floor_text(floor)}" if floor else ""
    if not config.names_file:
        print(f"exported: the network of seed {config.seed}, {config.network_file}; another: --seed")
    print(f"checked on {comparison.images:,} test images{beside}; written to {target.parent}/")
    if exported.layout:
        print(f"layout {config.layout}: {exported.layout}/, which timm has loaded")
    exported.require_good()
    following = how_to_use(target, exported.good)
    if following:
        cli.say_next(following, "what is on a photo, by onnxruntime, numpy and pillow alone")
    return answer(
        "export",
        folder=target.parent,
        files=[str(target.parent / name) for name in exported.good],
        layout=exported.layout,
        card=target.with_name(f"{target.name}.md"),
        checks=run_files.read(target.parent / FILE, "export"),
        next=following,
    )


def how_to_use(target: Path, good: Sequence[str]) -> str | None:
    """The command that names what is on a photo; None where no file of ONNX is good.

    Args:
        target: folder and stem of the files.
        good: names of the files that agree with the network.
    """
    file = next((name for name in good if name.endswith(".onnx")), None)
    script = CLONE / "docs" / "classify_onnx.py"
    shown = script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script
    return file and shlex.join(["python", str(shown), str(target.with_name(file)), "photo.jpg"])


if __name__ == "__main__":
    cli.run(main)
