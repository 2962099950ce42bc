"""The formats of an export: how each file is written, and how it is run again from what was written.

Each `write_*` takes the network and a path. Each `run_*` loads a file and returns a function from normalised images
(N, 3, R, R) to logits (N, classes). Nothing here knows how the network was found or trained.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from safetensors.torch import save as safetensors_bytes
from torch import nn

from spaces.errors import InputError
from spaces.files import temporary_files_in
from trials.export_formats.module_file import module_text
from trials.networks.batchnorm import fold_batchnorm

Run = Callable[[torch.Tensor], torch.Tensor]
# Names of classes that are not UTF-8, which older runs may have, are written as Python and JSON escape them
ESCAPED = "backslashreplace"
INPUT, OUTPUT = "images", "logits"


def write_module(
    network: nn.Module, path: Path, preprocessing: Mapping[str, Any], titles: Sequence[str], lines: Sequence[str]
) -> None:
    """Write the readable source STEM.py, and STEM.safetensors with the weights; arguments as for `module_text`.

    Args:
        path: of STEM.py.
    """
    text = module_text(network, preprocessing, titles, lines, path.stem)
    path.write_text(text, encoding="utf-8", errors=ESCAPED)
    # each tensor is copied, because safetensors takes none that share memory
    weights = {name: tensor.detach().contiguous().clone() for name, tensor in network.state_dict().items()}
    path.with_suffix(".safetensors").write_bytes(safetensors_bytes(weights, {"about": " ".join(lines)}))


def run_module(path: Path) -> Run:
    """Import STEM.py from the file, and load its network with the weights beside it."""
    spec = importlib.util.spec_from_file_location(f"onepath_export_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


def write_program(network: nn.Module, path: Path, resolution: int, metadata: Mapping[str, Any]) -> None:
    """Write a torch.export program that takes any number of images.

    Args:
        resolution: side of the images in pixels.
        metadata: JSON-able values, stored in the file as metadata.json.
    Raises:
        InputError: torch cannot export this network.
    """
    with _quiet(), refuse_network("program"):
        program = torch.export.export(network, _example(resolution), dynamic_shapes=_any_batch())
        buffer = io.BytesIO()  # as in run_dir.save_checkpoint
        torch.export.save(program, buffer, extra_files={"metadata.json": json.dumps(metadata)})
        path.write_bytes(buffer.getbuffer())


def run_program(path: Path) -> Run:
    """Load the program of a .pt2 file."""
    with _quiet():
        return torch.export.load(path).module()


def write_onnx(
    network: nn.Module, path: Path, resolution: int, metadata: Mapping[str, Any], *, opset: int = 20
) -> None:
    """Write an ONNX file for any number of images: BatchNorm folded into the convolutions, weights in the same file.

    Args:
        resolution: side of the images in pixels.
        metadata: JSON-able values, stored in the model's metadata.
        opset: version of ONNX's operators.
    Raises:
        InputError: torch cannot export this network.
    """
    folded = fold_batchnorm(copy.deepcopy(network))
    with _quiet(), refuse_network("onnx"):
        torch.onnx.export(
            folded,
            _example(resolution),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=_any_batch(),
            dynamo=True,
            opset_version=opset,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(path)
    set_metadata(model, metadata)
    ask_least(model)
    onnx.save(model, path)


def write_int8(source: Path, path: Path, batches: Iterable[torch.Tensor], *, ranges: str = "minmax") -> None:
    """Write an ONNX file in 8 bits from one in 32, with the same metadata.

    Args:
        source: the ONNX file in 32 bits.
        batches: normalised training images (N, 3, R, R), which the ranges of activations are measured on.
        ranges: "minmax", or "percentile" (onnxruntime's 99.999 %).
    Raises:
        InputError: onnxruntime cannot quantise this network.
    """
    method = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}[ranges]
    with temporary_files_in(path.parent), tempfile.TemporaryDirectory() as folder, _quiet(), refuse_network("int8"):
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            _CalibrationBatches(batches),
            calibrate_method=method,
            per_channel=True,  # the weights of depthwise filters differ widely from one to the next
            quant_format=QuantFormat.QDQ,
        )
    model = onnx.load(path)
    stored = onnx.load(source, load_external_data=False).metadata_props
    set_metadata(model, {entry.key: entry.value for entry in stored})
    ask_least(model)
    onnx.save(model, path)


class _CalibrationBatches(CalibrationDataReader):
    """Gives onnxruntime's quantisation the batches one by one."""

    def __init__(self, batches: Iterable[torch.Tensor]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        """The inputs of the next batch; None after the last."""
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch.contiguous().numpy()}


def set_metadata(model: onnx.ModelProto, metadata: Mapping[str, Any]) -> None:
    """Replace the metadata of an ONNX model; values that are not text are written as JSON."""
    del model.metadata_props[:]
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        entry.key, entry.value = key, text.encode(errors=ESCAPED).decode()


def ask_least(model: onnx.ModelProto) -> None:
    """Let an ONNX model ask a runtime for no more than it needs: operator sets that it uses, and their oldest file format."""
    used = {node.domain for graph in (model.graph, *model.functions) for node in graph.node}
    for entry in [entry for entry in model.opset_import if entry.domain and entry.domain not in used]:
        model.opset_import.remove(entry)
    model.ir_version = min(model.ir_version, onnx.helper.find_min_ir_version_for(model.opset_import, True))


def run_onnx(path: Path) -> Run:
    """Load an ONNX file into ONNX Runtime, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.contiguous().numpy()})[0])

    return run


def _example(resolution: int) -> tuple[torch.Tensor]:
    """An example input of two images: with one, the exporter would take the number of images for a constant."""
    return (torch.zeros(2, 3, resolution, resolution),)


def _any_batch() -> tuple[dict[int, Any]]:
    """Tells the exporters that the first dimension of the input, the number of images, may have any size."""
    return ({0: torch.export.Dim("batch")},)


@contextlib.contextmanager
def refuse_network(name: str) -> Iterator[None]:
    """Turn whatever an exporter raises at a network that it cannot take into one line.

    Args:
        name: of the format.
    Raises:
        OSError: the machine failed, for example with a full disk.
        InputError: in place of any other exception of the body.
    """
    try:
        yield
    except Exception as error:  # the exporters raise exceptions of many kinds
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError | MemoryError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"format {name} cannot hold this network ({reason}); leave {name} out of --formats") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Run the body without the exporters' reports of progress and their advice."""
    was = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(was)
