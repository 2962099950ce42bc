"""Runtimes that a module can be timed in: PyTorch and ONNX Runtime, on a CPU or a GPU."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import os
import platform
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from spaces.errors import InputError
from trials.common.distributed import use_cuda
from trials.networks.batchnorm import fold_batchnorm

RUNTIMES = ("torch", "onnxruntime")


class TorchRuntime:
    """PyTorch on a CPU or a GPU."""

    def __init__(self, device: str, threads: int) -> None:
        self.device = torch.device("cuda" if use_cuda(device) else "cpu")
        self.threads = None if self.device.type == "cuda" else threads or default_threads()
        if self.threads:
            torch.set_num_threads(self.threads)
        self.name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else processor()

    def input(self, shape: Sequence[int]) -> torch.Tensor:
        return torch.randn(*shape).to(self.device, memory_format=torch.channels_last)

    def prepare(self, module: nn.Module, x: torch.Tensor, same: object = None) -> nn.Module:
        """What runs, of a module; x: its input; same: equal for modules that are the same but for their weights."""
        return fold_batchnorm(copy.deepcopy(module).eval()).to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(self, parts: Sequence[Any], x: torch.Tensor) -> list[float]:
        """One pass through parts one after another: nanoseconds of each."""
        with torch.inference_mode():
            if self.device.type == "cpu":
                marks = [time.perf_counter_ns()]
                for part in parts:
                    x = part(x)
                    marks.append(time.perf_counter_ns())
                return [float(after - before) for before, after in itertools.pairwise(marks)]
            torch.cuda.synchronize(self.device)
            events = [torch.cuda.Event(enable_timing=True) for _ in range(len(parts) + 1)]
            events[0].record()
            for part, event in zip(parts, events[1:], strict=True):
                x = part(x)
                event.record()
            torch.cuda.synchronize(self.device)
            return [1e6 * before.elapsed_time(after) for before, after in itertools.pairwise(events)]


class OnnxRuntime:
    """ONNX Runtime on a CPU or a GPU. Parts are sessions of their own, whole networks one."""

    def __init__(self, device: str, threads: int) -> None:
        import onnxruntime

        self.runtime = onnxruntime
        able = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        cuda = use_cuda(device) and (able or device == "cuda")
        if cuda and not able:
            raise InputError(
                "--device cuda --runtime onnxruntime: this onnxruntime has no CUDA; install onnxruntime-gpu, or use --runtime torch"
            )
        self.providers = ["CUDAExecutionProvider" if cuda else "CPUExecutionProvider"]
        self.threads = None if cuda else threads or default_threads()
        self.where = "cuda" if cuda else "cpu"
        self.name = torch.cuda.get_device_name() if cuda else processor()
        self.settings = onnxruntime.SessionOptions()
        self.settings.intra_op_num_threads = self.threads or 0
        self.settings.log_severity_level = 3
        self.exported: dict[object, bytes] = {}

    def input(self, shape: Sequence[int]) -> Any:
        return self.runtime.OrtValue.ortvalue_from_numpy(np.random.randn(*shape).astype(np.float32), self.where, 0)

    def prepare(self, module: nn.Module, x: torch.Tensor, same: object = None) -> Any:
        """What runs, of a module; x: its input; same: equal for modules that are the same but for their weights."""
        content = self.exported.get(same)
        if content is None:
            content = onnx_bytes(fold_batchnorm(copy.deepcopy(module).eval()), x)
            if same is not None:
                self.exported[same] = content
        return self.runtime.InferenceSession(content, self.settings, providers=self.providers)

    def run(self, parts: Sequence[Any], x: Any) -> list[float]:
        """One pass through parts one after another: nanoseconds of each."""
        marks = [time.perf_counter_ns()]
        for part in parts:
            binding = part.io_binding()
            binding.bind_ortvalue_input("x", x)
            binding.bind_output("y", self.where)
            part.run_with_iobinding(binding)
            x = binding.get_outputs()[0]
            marks.append(time.perf_counter_ns())
        return [float(after - before) for before, after in itertools.pairwise(marks)]


def onnx_bytes(module: nn.Module, x: torch.Tensor) -> bytes:
    """A module as an ONNX file.

    By the TorchScript exporter, whose operations are the same as the newer one's, thirty times faster; by the newer one where that
    does not know an operation.
    Raises:
        InputError: neither can write it.
    """
    file = io.BytesIO()
    names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"]}
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # that the newer one is recommended
            try:
                torch.onnx.export(module, (x,), file, dynamo=False, opset_version=18, **names)  # type: ignore[arg-type]
                return file.getvalue()
            except torch.onnx.errors.OnnxExporterError:
                program = torch.onnx.export(module, (x,), dynamo=True, verbose=False, **names)
                assert program is not None
                return program.model_proto.SerializeToString()
    except Exception as error:  # of many kinds
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{type(module).__name__} cannot be written as ONNX ({reason}); use --runtime torch") from None


def make_runtime(runtime: str, device: str, threads: int) -> TorchRuntime | OnnxRuntime:
    """Raises InputError: a device that is not there."""
    return OnnxRuntime(device, threads) if runtime == "onnxruntime" else TorchRuntime(device, threads)


def default_threads() -> int:
    """OMP_NUM_THREADS, or one for each core that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else len(os.sched_getaffinity(0))


def processor() -> str:
    """Name of the processor, as the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
