"""A latency kit: a folder that measures a space where neither torch nor NNI can be installed, such as on a Raspberry Pi.

It holds every part of the space and some whole networks as ONNX files, the script that times them (`kit_script.py`, which is
measure.py there) and the arithmetic of all latency tables (`passes.py`). The script writes a CSV for `--csv`. The whole networks
consist of the parts, so that the weights of all files are in one file, each once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from spaces.arch import Arch
from spaces.chain import Chain
from spaces.cost import CostTable
from spaces.files import draft_folder, save_json
from spaces.spec import preset_arguments, space_options_text
from trials.common import cli
from trials.timing.latency_csv import arch_text
from trials.timing.measure import MeasureSettings, prepare_parts
from trials.timing.runtimes import onnx_bytes

FORMAT = "onepath latency kit 1"  # kit_script.py knows it too
WEIGHTS = "weights.bin"
LEAST_BYTES = 1024  # smaller tensors stay in their file
ALIGNED = 4096  # offsets of tensors: pages, so that onnxruntime can map them

SCRIPTS = {"measure.py": "kit_script.py", "passes.py": "passes.py"}  # name in a kit -> file beside this one
README = """# Latency kit of Onepath
Space: {space}.

Copy this whole folder to the machine whose latencies are wanted. It needs Python 3.9 or newer, onnxruntime and numpy:

    python -m pip install onnxruntime numpy
    python measure.py

Let nothing else run meanwhile. After Ctrl-C, a kill or a power cut the same command goes on. Bring latency.csv back; the last line
of the output is the command that makes a latency table of it. `python measure.py --help` names the options.
"""


class KitFiles:
    """Writes modules as ONNX files that share one file of weights; takes the place of a runtime in `prepare_parts`.

    Args:
        folder: that they are written into.
    Attributes:
        weight_bytes: of all files together, as if none were shared: what the weights take in memory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weight_bytes = 0
        self._names: dict[object, str] = {}  # files by the key of their module
        self._offsets: dict[bytes, int] = {}  # in the file of weights, by SHA-256
        self._written = 0
        (folder / WEIGHTS).touch()

    def prepare(self, module: nn.Module, x: torch.Tensor, key: object = None) -> str:
        """Write a module, see `TorchRuntime.prepare`. Returns the name of its file.

        Raises:
            InputError: the module cannot be written as ONNX.
        """
        name = self._names.get(key) or f"{'network' if key is None else 'part'}{self._written:04d}.onnx"
        if key is None or key not in self._names:
            model = onnx.load_from_string(onnx_bytes(module, x))
            model.ir_version = min(model.ir_version, onnx.helper.find_min_ir_version_for(model.opset_import, True))
            with open(self.folder / WEIGHTS, "ab") as weights:
                for tensor in model.graph.initializer:
                    self._share(tensor, weights)
            onnx.save(model, self.folder / name)
            self._written += 1
            if key is not None:
                self._names[key] = name
        return name

    def _share(self, tensor: onnx.TensorProto, weights: Any) -> None:
        """Move the content of a tensor into the file of weights, unless it is there already."""
        content = tensor.raw_data
        self.weight_bytes += len(content)
        if len(content) < LEAST_BYTES:
            return
        digest = hashlib.sha256(content).digest()
        if digest not in self._offsets:
            weights.write(bytes(-weights.tell() % ALIGNED))
            self._offsets[digest] = weights.tell()
            weights.write(content)
        place = {"location": WEIGHTS, "offset": self._offsets[digest], "length": len(content)}
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for name, value in place.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = name, str(value)


def write_kit(path: Path, settings: MeasureSettings, chain: Chain, costs: CostTable, archs: Sequence[Arch]) -> None:
    """Write the folder of a kit: complete, or not at all.

    Args:
        path: of the folder, which is not there yet or empty.
        costs: cost table of `chain`.
        archs: whole networks that are timed, too.
    """
    combinations = [list(block.combinations()) for block in chain.blocks]
    with draft_folder(path) as draft:
        folder = draft / path.name
        folder.mkdir()
        files = KitFiles(folder)
        bar = cli.progress(sum(map(len, combinations)) + 2 + len(archs), desc="building", unit="part")
        prepared = prepare_parts(chain, combinations, archs, files, settings.batch, bar.update, shared=True)
        bar.close()

        def part(position: int, index: int, choices: Mapping[str, Any]) -> dict[str, str]:
            return {"choice": arch_text(choices), "file": prepared.parts[position, index]}

        for name, source in SCRIPTS.items():
            shutil.copyfile(Path(__file__).with_name(source), folder / name)
        (folder / "README.md").write_text(README.format(space=costs.identity()), encoding="utf-8")
        content = {
            "format": FORMAT,
            "space": costs.identity(),
            "input": list(prepared.example.shape),
            "threads": settings.threads or 1,
            "rounds": settings.rounds,
            "seed": settings.seed,
            "megabytes": round(2 * files.weight_bytes / 1e6),  # as they are, and as the processor wants them
            "stem": part(0, 0, {}),
            "blocks": [
                [part(position, index, choices) for index, choices in enumerate(row)]
                for position, row in enumerate(combinations, 1)
            ],
            "head": part(len(combinations) + 1, 0, {}),
            "networks": [
                {"choice": arch_text(arch), "file": name} for arch, name in zip(archs, prepared.networks, strict=True)
            ],
            "next": cli.command("latency", *_arguments(costs), "--csv", "latency.csv", "--out", "latency.json"),
            "files": {file.name: _digest(file) for file in sorted(folder.iterdir())},
        }
        save_json(folder / "kit.json", content)
        if path.is_dir():  # empty
            path.rmdir()
        os.replace(folder, path)


def _arguments(costs: CostTable) -> list[str]:
    """The arguments of trials.latency that name a space."""
    options = space_options_text(costs.space["options"])
    chosen = ["--space", costs.space["name"], *preset_arguments(costs.space).split()]
    return [*chosen, "--space-options", options] if options else chosen


def _digest(file: Path) -> str:
    """SHA-256 of a file, in hex digits."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
