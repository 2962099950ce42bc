"""The compiler of fused layers: whether this machine has one, and the compilation before the first step."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from spaces.errors import InputError, Stopped
from trials.common.cli import rank_and_world
from trials.training.fused_layers import fuse_layers

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# of torch._dynamo: one function may have many kernels (float types, activations, contiguous maps and slices of maps); numbers such
# as BatchNorm's eps are constants of a kernel
SETTINGS = {"recompile_limit": 256, "specialize_float": True}


def require_compiler(compiles: str, cuda: bool) -> None:
    """Check what --compile on needs, before anything is made.

    Args:
        compiles: auto, on or off.
        cuda: whether a GPU is used.
    Raises:
        InputError: there are several processes, no compiler, or a folder for temporary files that it cannot be told.
    """
    if compiles != "on":
        return
    _, world = rank_and_world()
    if world > 1:
        raise InputError(f"--compile on needs one process, not {world}, which synchronise BatchNorm; leave it out")
    name = os.environ.get("CC" if cuda else "CXX") or ("gcc" if cuda else "g++")
    missing = []
    if shutil.which(name) is None:
        missing.append(f"the compiler '{name}'")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        missing.append(f"Python's headers ('{header}')")
    if cuda and importlib.util.find_spec("triton") is None:
        missing.append("the package triton")
    if missing:
        raise InputError(
            f"--compile on needs {' and '.join(missing)}, which this machine lacks; install what is missing, or leave --compile out"
        )
    folder = tempfile.gettempdir()
    if not cuda and re.search(r"[\s'\"\\]", folder):
        raise InputError(
            f"--compile on: the compiler's headers are kept in the folder for temporary files, '{folder}', whose name PyTorch "
            "cannot pass to the compiler; set TMPDIR to a folder whose name has no spaces or quotes, or leave --compile out"
        )


def require_layers(compiles: str, network: Callable[[], nn.Module]) -> None:
    """Check that there is something to compile.

    Args:
        compiles: auto, on or off.
        network: makes the network.
    Raises:
        InputError: it has no BatchNorm that could be fused.
    """
    if compiles == "on" and not fuse_layers(network()):
        raise InputError("--compile on: this network has no BatchNorm2d to compile; leave --compile out")


def compile_layers(
    network: nn.Module, model: Callable[[torch.Tensor], torch.Tensor], fabric: Fabric, images: torch.Size
) -> float:
    """Fuse the layers of a network, and compile them by a forward and a backward pass that leaves no trace.

    Args:
        network: in training mode, with a path active.
        model: the same in Fabric's wrapper.
        images: shape of the images of a pass, (N, 3, R, R).
    Returns:
        Seconds that it took.
    Raises:
        Stopped: the compiler failed.
    """
    began = time.perf_counter()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it misses a GPU where none is used
    fuse_layers(network)
    for name, setting in SETTINGS.items():
        setattr(torch._dynamo.config, name, setting)  # the compiler itself is imported here, which takes seconds
    device = fabric.device
    before = [buffer.clone() for buffer in network.buffers()]
    x = torch.zeros(images, device=device).contiguous(memory_format=torch.channels_last)
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            logits = model(x.normal_())
            fabric.backward(F.cross_entropy(logits, torch.zeros(len(x), dtype=torch.long, device=device)))
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:160]
        raise Stopped(f"the compiler failed ({reason}); leave --compile out") from None
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.grad = None
        for buffer, value in zip(network.buffers(), before, strict=True):
            buffer.copy_(value)
    return time.perf_counter() - began
