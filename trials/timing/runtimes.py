"""Runtimes that a module can be timed in: PyTorch and ONNX Runtime, on a CPU or a GPU."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import os
import time
import warnings
from collections.abc import Sequence
from typing import Any
from unittest import mock

import onnxruntime
import torch
from torch import nn

from spaces.errors import InputError, shown
from trials.common.distributed import use_cuda
from trials.common.machine import processor_name, usable_cores
from trials.networks.batchnorm import fold_batchnorm
from trials.timing.passes import random_input, run_sessions, session_options

RUNTIMES = ("torch", "onnxruntime")


class TorchRuntime:
    """PyTorch on a CPU or a GPU. It sets the number of threads of the whole process.

    Args:
        device: auto, cpu or cuda.
        threads: of a CPU; 0: OMP_NUM_THREADS, or one for each core.
    Attributes:
        name: of the processor or GPU.
        threads: that are used; None on a GPU.
    Raises:
        InputError: a GPU is asked for, and none is visible.
    """

    def __init__(self, device: str, threads: int) -> None:
        self.device = torch.device("cuda" if use_cuda(device) else "cpu")
        self.threads = None if self.device.type == "cuda" else threads or default_threads()
        if self.threads:
            torch.set_num_threads(self.threads)
        self.name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else processor_name()

    def input(self, shape: Sequence[int]) -> torch.Tensor:
        """Random numbers of this shape, (N, 3, R, R), on the device."""
        return torch.randn(*shape).to(self.device, memory_format=torch.channels_last)

    def prepare(self, module: nn.Module, x: torch.Tensor, key: object = None) -> nn.Module:
        """Turn a module into what `run` takes; the module itself is not changed.

        Args:
            x: an input of the module.
            key: equal for modules that differ only in their weights; None: nothing is known.
        """
        return fold_batchnorm(copy.deepcopy(module).eval()).to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(self, modules: Sequence[nn.Module], x: torch.Tensor) -> list[float]:
        """Make one pass through prepared modules, each with the output of the one before.

        Returns:
            Nanoseconds of each module.
        """
        with torch.inference_mode():
            if self.device.type == "cpu":
                marks = [time.perf_counter_ns()]
                for module in modules:
                    x = module(x)
                    marks.append(time.perf_counter_ns())
                return [float(after - before) for before, after in itertools.pairwise(marks)]
            torch.cuda.synchronize(self.device)
            events = [torch.cuda.Event(enable_timing=True) for _ in range(len(modules) + 1)]
            events[0].record()
            for module, event in zip(modules, events[1:], strict=True):
                x = module(x)
                event.record()
            torch.cuda.synchronize(self.device)
            return [1e6 * before.elapsed_time(after) for before, after in itertools.pairwise(events)]


class OnnxRuntime:
    """ONNX Runtime on a CPU or a GPU. Each prepared module is a session, be it a part or a whole network.

    Args:
        device: auto, cpu or cuda.
        threads: of a CPU; 0: OMP_NUM_THREADS, or one for each core.
    Attributes:
        name: of the processor or GPU.
        threads: that are used; None on a GPU.
    Raises:
        InputError: a GPU is asked for, and none is visible, or this onnxruntime cannot use it.
    """

    def __init__(self, device: str, threads: int) -> None:
        able = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        cuda = use_cuda(device) and (able or device == "cuda")
        if cuda and not able:
            raise InputError(
                "--device cuda --runtime onnxruntime: this onnxruntime has no CUDA; install onnxruntime-gpu, or use --runtime torch"
            )
        self.providers = ["CUDAExecutionProvider" if cuda else "CPUExecutionProvider"]
        self.threads = None if cuda else threads or default_threads()
        self.device_type = "cuda" if cuda else "cpu"
        self.name = torch.cuda.get_device_name() if cuda else processor_name()
        self.options = session_options(self.threads or 0)
        self.exported: dict[object, bytes] = {}  # ONNX files by their key, because an export takes long

    def input(self, shape: Sequence[int]) -> Any:
        """Random numbers of this shape, (N, 3, R, R), as an OrtValue on the device."""
        return random_input(shape, self.device_type)

    def prepare(self, module: nn.Module, x: torch.Tensor, key: object = None) -> Any:
        """Turn a module into an InferenceSession, see `TorchRuntime.prepare`.

        Raises:
            InputError: the module cannot be written as ONNX.
        """
        content = self.exported.get(key)
        if content is None:
            content = onnx_bytes(module, x)
            if key is not None:
                self.exported[key] = content
        return onnxruntime.InferenceSession(content, self.options, providers=self.providers)

    def run(self, sessions: Sequence[Any], x: Any) -> list[float]:
        """Make one pass through sessions, each with the output of the one before.

        Returns:
            Nanoseconds of each session.
        """
        return run_sessions(sessions, x, self.device_type)


Runtime = TorchRuntime | OnnxRuntime


def onnx_bytes(module: nn.Module, x: torch.Tensor) -> bytes:
    """The content of an ONNX file of a module with BatchNorm folded, with input "x" and output "y".

    PyTorch has two exporters. The older one, TorchScript's, writes the same operations thirty times faster, so it is tried
    first; the newer one knows some operations that the older one does not.

    Args:
        x: an input of the module.
    Raises:
        InputError: neither exporter can write it.
    """
    module = fold_batchnorm(copy.deepcopy(module).eval())
    file = io.BytesIO()
    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"]}
    try:
        # Where the older one fails, it prints the graph, thousands of lines, in C++: its switch for this is always on.
        silent = mock.patch.object(torch._C, "_jit_onnx_log", return_value=None)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), silent:
            warnings.simplefilter("ignore")  # PyTorch recommends the newer exporter
            try:
                torch.onnx.export(module, (x,), file, dynamo=False, opset_version=18, **names)  # type: ignore[arg-type]
                return file.getvalue()
            except torch.onnx.errors.OnnxExporterError:
                program = torch.onnx.export(module, (x,), dynamo=True, verbose=False, **names)
                assert program is not None
                return program.model_proto.SerializeToString()
    except Exception as error:  # the exporters raise many kinds
        reason = shown(str(error))
        raise InputError(f"{type(module).__name__} cannot be written as ONNX ({reason}); use --runtime torch") from None


def make_runtime(runtime: str, device: str, threads: int) -> Runtime:
    """The runtime of a name in RUNTIMES.

    Raises:
        InputError: a device that is not there.
    """
    return OnnxRuntime(device, threads) if runtime == "onnxruntime" else TorchRuntime(device, threads)


def conditions(runtime: Runtime, batch: int = 1) -> str:
    """How milliseconds were measured: runtime with its version, device, threads, batch; whatever shows them says it."""
    library = torch if isinstance(runtime, TorchRuntime) else onnxruntime
    threads = f", {runtime.threads} thread{'s' * (runtime.threads != 1)}" if runtime.threads else ""
    return f"{library.__name__} {library.__version__}, {runtime.name}{threads}, batch {batch}"


def default_threads() -> int:
    """OMP_NUM_THREADS, or one for each core that this process may use."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdigit() and int(value) else usable_cores()
