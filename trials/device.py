"""Where training runs: Lightning Fabric brings devices and precision."""

from __future__ import annotations

from typing import Any

from spaces.errors import InputError


def use_cuda(device: str, precision: str = "auto") -> bool:
    """True if a GPU is to be used.

    Args:
        device: auto (a GPU where there is one), cpu or cuda.
        precision: auto, 32, 16-mixed or bf16-mixed; checked here because fp16 needs a GPU.
    Raises:
        InputError: a GPU is asked for, or needed, and none is visible.
    """
    import torch

    cuda = torch.cuda.is_available() and device != "cpu"
    if device == "cuda" and not cuda:
        raise InputError("--device cuda: no GPU is visible; use --device cpu or auto")
    if precision == "16-mixed" and not cuda:
        raise InputError("--precision 16-mixed needs a GPU; use --precision 32 or bf16-mixed")
    return cuda


def make_fabric(device: str, precision: str) -> Any:
    """A Lightning Fabric with one device; `auto` precision is bf16-mixed on a GPU and 32 bits on a CPU."""
    from lightning_fabric import Fabric

    cuda = use_cuda(device, precision)
    if precision == "auto":
        precision = "bf16-mixed" if cuda else "32"
    return Fabric(accelerator="cuda" if cuda else "cpu", devices=1, precision=precision)
