"""Where training runs: Lightning Fabric brings devices, precision and processes.

Several processes (torchrun sets RANK, WORLD_SIZE, LOCAL_WORLD_SIZE) train one supernet: each has a part of every batch and
the same path, and BatchNorm sees the whole batch, so the run equals that of one process with the same batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spaces.errors import InputError
from trials.common.cli import rank_and_world


def use_cuda(device: str, precision: str = "auto") -> bool:
    """True if a GPU is to be used.

    Args:
        device: auto (a GPU where there is one), cpu or cuda.
        precision: auto, 32, 16-mixed or bf16-mixed; checked here because fp16 needs a GPU.
    Raises:
        InputError: a GPU is asked for, or needed, and none is visible.
    """
    cuda = torch.cuda.is_available() and device != "cpu"
    if device == "cuda" and not cuda:
        raise InputError("--device cuda: no GPU is visible; use --device cpu or auto")
    if precision == "16-mixed" and not cuda:
        raise InputError("--precision 16-mixed needs a GPU; use --precision 32 or bf16-mixed")
    return cuda


def make_fabric(device: str, precision: str) -> Any:
    """A Lightning Fabric, its processes connected; `auto` precision is bf16-mixed on a GPU and 32 bits on a CPU.

    Raises:
        InputError: fewer GPUs than processes on this machine.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    class SamePathDDP(DDPStrategy):
        """Processes as in DDP, but without its wrapper.

        All processes train the same path, so they know without asking which gradients there are (`average_gradients`).
        DDP would search the graph for unused parameters at every step and send the gradients of the whole supernet.
        """

        def setup_module(self, module: nn.Module) -> Any:
            return module

    cuda = use_cuda(device, precision)
    if precision == "auto":
        precision = "bf16-mixed" if cuda else "32"
    accelerator = "cuda" if cuda else "cpu"
    _, world = rank_and_world()
    if world == 1:
        return Fabric(accelerator=accelerator, devices=1, precision=precision)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    if cuda and local > torch.cuda.device_count():
        raise InputError(f"{local} processes for {torch.cuda.device_count()} GPUs; lower torchrun's --nproc-per-node")
    fabric = Fabric(
        accelerator=accelerator, devices=local, num_nodes=world // local, precision=precision, strategy=SamePathDDP()
    )
    fabric.launch()
    return fabric


def average(gradients: Sequence[torch.Tensor]) -> None:
    """Make tensors the mean over all processes, in place. Every process must give the same ones."""
    _, world = rank_and_world()
    if world == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])  # one message
    torch.distributed.all_reduce(flat)
    for gradient, mean in zip(gradients, (flat / world).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def same_everywhere(device: torch.device, step: int, last: Path, fingerprint: int, data_root: str) -> None:
    """Compare what the processes start from.

    Args:
        step, last: of the checkpoint, and its file.
        fingerprint, data_root: of the images, and their folder.
    Raises:
        InputError: the processes have other images, or another checkpoint.
    """
    own = [float(step), float(fingerprint)]
    seen = torch.tensor(own, dtype=torch.float64, device=device)
    average([seen])
    if seen[1].item() != own[1]:
        raise InputError(f"the processes do not see the same images in '{data_root}'; give them the same files")
    if seen[0].item() != own[0]:
        raise InputError(f"the processes do not see the same '{last}'; give them one run directory, on a shared disk")


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The mean of the gradients over all processes; of the parameters on the path alone."""
    average([parameter.grad for parameter in parameters if parameter.grad is not None])


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose training statistics are those of the images of all processes, each with equally many.

    PyTorch's SyncBatchNorm refuses the CPU, and is no BatchNorm2d, which BN recalibration looks for.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        _, world = rank_and_world()
        if not self.training or world == 1:
            return super().forward(input)
        from torch.distributed.nn.functional import all_reduce  # with a gradient

        x = input.to(torch.promote_types(input.dtype, torch.float32))
        mean = all_reduce(x.mean((0, 2, 3))) / world
        centred = x - mean[:, None, None]
        variance = all_reduce(centred.square().mean((0, 2, 3))) / world
        if self.running_mean is not None and self.running_var is not None:
            self.num_batches_tracked.add_(1)  # type: ignore[operator, union-attr]
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum  # type: ignore[arg-type]
            values = x.numel() // x.shape[1] * world
            self.running_mean.lerp_(mean.detach(), momentum)
            self.running_var.lerp_(variance.detach() * values / max(1, values - 1), momentum)
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        y = centred * scale[:, None, None]
        return (y if self.bias is None else y + self.bias[:, None, None]).to(input.dtype)


class SyncBatchNormAct2d(SyncBatchNorm2d):
    """For timm's BatchNormAct2d, which goes on to a `drop` and an activation."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(super().forward(input)))  # type: ignore[operator]


def synchronise_bn(model: nn.Module) -> None:
    """Make every BatchNorm of a model a SyncBatchNorm2d, in place; parameters, statistics and names stay.

    Raises:
        InputError: it has another kind of BatchNorm.
    """
    if rank_and_world()[1] > 1:
        for layer in model.modules():
            if type(layer) is nn.BatchNorm2d:
                layer.__class__ = SyncBatchNorm2d
            elif type(layer).__name__ == "BatchNormAct2d":
                layer.__class__ = SyncBatchNormAct2d
            elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
                raise InputError(
                    f"a {type(layer).__name__} of this network cannot be synchronised among processes; train it in one process"
                )
