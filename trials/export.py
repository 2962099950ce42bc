"""A retrained network as files that can be shipped, each checked against the network after it was written.

    python -m trials.export --weights runs/digits/retrain              # everything into runs/digits/retrain/export/
    python -m trials.export --fixed-arc arc.json --weights RUN --out dir/model.onnx    # files are named dir/model.*

    STEM.py, STEM.safetensors   module: readable source of this network; needs torch and safetensors alone
    STEM.pt2                    program: torch.export, for any number of images
    STEM.onnx                   onnx: BatchNorm folded; preprocessing and classes in its metadata
    STEM-int8.onnx              int8: weights and activations in 8 bits, calibrated on training images
    STEM.md                     model card: classes, budget, test accuracy, certificate, intended use

A file is loaded anew and run over the test images; only one that gives the network's answers gets its name, another one
is kept as *.failed; how each was checked stands in export.json beside them. The network itself must be as accurate as it was
right after its training.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

from spaces.errors import InputError, Stopped, require_library
from spaces.files import draft_folder
from trials.common import cli
from trials.common.answers import answer
from trials.evidence.comparison import change_text
from trials.evidence.floor import floor_of, floor_text
from trials.export_formats.export_config import FORMATS, Config


def main(argv: list[str] | None = None) -> dict[str, Any]:
    config = cli.parse(Config, argv, __doc__, "trials.export")

    # Torch and the libraries of the formats are imported when the options are known to be right.
    for library in ("safetensors", "onnx", "onnxscript", "onnxruntime"):
        require_library(library, "python -m trials.export")
    from trials.common import places, run_dir, run_files
    from trials.export_formats import files
    from trials.export_formats.export_record import FILE, write_record
    from trials.export_formats.model_card import write_card
    from trials.networks.build import load_network, read_network

    stored_config = None if config.names_file else run_dir.load_run(config.run, "retrain")
    if not config.names_file and not config.network_file.exists():
        raise InputError(
            f"'{config.weights}' has no trained network of seed {config.seed}; finish it with "
            "python -m trials.retrain ... --resume, or choose another --seed"
        )
    stored = read_network(config.network_file, "model", "preprocessing")
    stored_config = stored_config or run_dir.load_run(config.run, "retrain")
    made, began = run_dir.provenance(), time.perf_counter()
    files.require_fixed_arc(config, stored)
    network = load_network(config.network_file).float()
    data, preprocessing = files.open_data(config, stored_config, stored)
    description = files.describe_network(config, stored, network, preprocessing, data.name)
    target = config.target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise InputError(f"cannot write to '{target.parent}' ({error.strerror}); choose another --out") from None
    with draft_folder(target) as folder:
        draft = folder / target.name
        files.write_files(config, network, draft, description, data)
        comparison = files.compare_files(config, network, draft, data, description.result)
        problems = files.find_problems(config, comparison)
        rows = [files.table_row(name, draft, target, comparison, name in problems) for name in config.wanted]
        files.publish_files(config, draft, problems)
    write_record(config, comparison, problems, made | {"seconds": time.perf_counter() - began})
    good = [target.name + suffix for name in config.wanted if name not in problems for suffix in FORMATS[name]]
    write_card(target, description.lines, description.metadata, good, stored_config.get("supernet"))
    header = ("format", "files", "KB", "largest logit difference", "same answers %", "test top-1 %")
    kilobytes = f"{config.network_file.stat().st_size / 1000:,.0f}"
    network_row = ("PyTorch", config.network_file.name, kilobytes, "", "", str(comparison.interval()))
    print(cli.table([network_row, *rows], header, as_is=True))
    if "int8" in config.wanted:
        lost = comparison.loss("int8")
        doubt = f"; {comparison.images:,} images cannot tell more" if lost.low <= config.int8_drop < lost.high else ""
        print(f"{change_text('int8', lost)} of top-1; a loss of {config.int8_drop:g} is allowed{doubt}")
    floor = floor_of(places.supernet_of(config.run, stored_config) or config.run)
    beside = f"; {floor_text(floor)}" if floor else ""
    if not config.names_file:
        print(f"exported: the network of seed {config.seed}, {config.network_file}; another: --seed")
    print(f"checked on {comparison.images:,} test images{beside}; written to {target.parent}/")
    if problems:
        name, problem = next(iter(problems.items()))
        more = f" (and {len(problems) - 1} more: {', '.join([*problems][1:])})" if len(problems) > 1 else ""
        raise Stopped(
            f"format {name}: {problem}; kept as '{files.format_path(target, name)}.failed'{more}; {files.remedy_for(name)}"
        )
    return answer(
        "export",
        folder=target.parent,
        files=[str(target.parent / name) for name in good],
        card=target.with_name(f"{target.name}.md"),
        checks=run_files.read(target.parent / FILE, "export"),
    )


if __name__ == "__main__":
    cli.run(main, resumes=False)
