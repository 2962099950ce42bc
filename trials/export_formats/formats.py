"""The files of an export: how each is written, and how it is run again from what was written.

Each `write_*` takes the network and a path, each `run_*` gives a function from normalised images (N, 3, R, R) to logits
(N, classes). Nothing here knows how the network was found or trained.
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

import torch
from torch import nn

from spaces.errors import InputError
from trials.export_formats.module_file import module_text
from trials.networks.batchnorm import fold_batchnorm

Run = Callable[[torch.Tensor], torch.Tensor]
INPUT, OUTPUT = "images", "logits"


def write_module(
    network: nn.Module, path: Path, preprocessing: Mapping[str, Any], titles: Sequence[str], about: Sequence[str]
) -> None:
    """STEM.py and STEM.safetensors; arguments as for `module_text`."""
    from safetensors.torch import save

    path.write_text(module_text(network, preprocessing, titles, about, path.stem), encoding="utf-8")
    # tensors of their own: safetensors takes none that share memory
    weights = {name: tensor.detach().contiguous().clone() for name, tensor in network.state_dict().items()}
    path.with_suffix(".safetensors").write_bytes(save(weights, {"about": " ".join(about)}))


def run_module(path: Path) -> Run:
    """The network of STEM.py, imported from the file."""
    spec = importlib.util.spec_from_file_location(f"onepath_export_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


def write_program(network: nn.Module, path: Path, resolution: int, metadata: Mapping[str, Any]) -> None:
    """A torch.export program for any number of images."""
    with _quiet(), cannot("program"):
        program = torch.export.export(network, _example(resolution), dynamic_shapes=_any_batch())
        with open(path, "wb") as file:
            torch.export.save(program, file, extra_files={"metadata.json": json.dumps(metadata)})


def run_program(path: Path) -> Run:
    """The program of a .pt2 file."""
    with _quiet():
        return torch.export.load(path).module()


def write_onnx(network: nn.Module, path: Path, resolution: int, metadata: Mapping[str, Any]) -> None:
    """ONNX for any number of images, BatchNorm folded into the convolutions, weights in the same file."""
    import onnx

    folded = fold_batchnorm(copy.deepcopy(network))
    with _quiet(), cannot("onnx"):
        torch.onnx.export(
            folded,
            _example(resolution),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=_any_batch(),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = onnx.load(path)
    describe(model, metadata)
    onnx.save(model, path)


def write_int8(source: Path, path: Path, batches: Iterable[torch.Tensor], *, ranges: str = "minmax") -> None:
    """An ONNX file in 8 bits, from one in 32; its metadata is kept.

    Args:
        source: the ONNX file in 32 bits.
        batches: normalised training images, which the ranges of activations are measured on.
        ranges: minmax or percentile (99.999, onnxruntime's).
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch.contiguous().numpy()}

    method = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}[ranges]
    with tempfile.TemporaryDirectory() as folder, _quiet(), cannot("int8"):
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            Reader(),
            calibrate_method=method,
            per_channel=True,  # depthwise filters differ widely
            quant_format=QuantFormat.QDQ,
        )
    model = onnx.load(path)
    stored = onnx.load(source, load_external_data=False).metadata_props
    describe(model, {entry.key: entry.value for entry in stored})
    onnx.save(model, path)


def describe(model: Any, metadata: Mapping[str, Any]) -> None:
    """Put metadata into an ONNX model in place of what it has; what is no text is written as JSON."""
    del model.metadata_props[:]
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def run_onnx(path: Path) -> Run:
    """An ONNX file in ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.contiguous().numpy()})[0])

    return run


def _example(resolution: int) -> tuple[torch.Tensor]:
    """Two images: of one, the exporter would take the number for a constant."""
    return (torch.zeros(2, 3, resolution, resolution),)


def _any_batch() -> tuple[dict[int, Any]]:
    return ({0: torch.export.Dim("batch")},)


@contextlib.contextmanager
def cannot(name: str) -> Iterator[None]:
    """Raises InputError: in place of what an exporter raises at a network that it cannot take."""
    try:
        yield
    except Exception as error:  # of many kinds
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"format {name} cannot hold this network ({reason}); leave {name} out of --formats") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' reports of progress and advice."""
    was = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(was)
