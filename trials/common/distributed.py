"""Where training runs: Lightning Fabric brings devices, precision and processes.

Several processes (torchrun sets RANK, WORLD_SIZE, LOCAL_WORLD_SIZE) train one supernet. Each has its share of every batch and
trains the same path, and BatchNorm sees the whole batch, so the run equals that of one process with the same batch.
Why DDP's wrapper and PyTorch's SyncBatchNorm are not used: docs/decisions.md.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.distributed.nn.functional import all_reduce as all_reduce_with_gradient

from spaces.errors import InputError
from trials.common.cli import rank_and_world
from trials.common.machine import refuse_without_gpu

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def use_cuda(device: str, precision: str = "auto", cuda_graphs: str = "auto") -> bool:
    """Decide whether a GPU is used, and check what needs one.

    Args:
        device: auto (a GPU where there is one), cpu or cuda.
        precision, cuda_graphs: as for `refuse_without_gpu`.
    Raises:
        InputError: a GPU is asked for, or needed, and none is visible.
    """
    cuda = torch.cuda.is_available() and device != "cpu"
    refuse_without_gpu(cuda, device, precision, cuda_graphs)
    return cuda


def make_fabric(device: str, precision: str) -> Fabric:
    """Make a Lightning Fabric and connect the processes of torchrun.

    Args:
        device: auto, cpu or cuda.
        precision: auto is bf16-mixed on a GPU and 32 bits on a CPU.

    Raises:
        InputError: fewer GPUs than processes on this machine.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy
    from lightning_fabric.utilities import rank_zero

    # what Lightning would tell here is settled, and said by `say_arithmetic`
    rank_zero.rank_zero_module.log.setLevel(logging.WARNING)

    class SamePathDDP(DDPStrategy):
        """Processes as in DDP, without its wrapper: `average_gradients` sends the gradients of the path alone."""

        def setup_module(self, module: nn.Module) -> nn.Module:
            return module

    cuda = use_cuda(device, precision)
    if precision == "auto":
        precision = "bf16-mixed" if cuda else "32"
    if cuda:
        say_arithmetic(precision)
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


@functools.cache
def say_arithmetic(precision: str) -> None:
    """Say which arithmetic training uses on a GPU, once in a process, and in one process of all.

    PyTorch's own choice for 32 bits is kept: TF32 in convolutions, where cuDNN needs it to be fast, and full precision in matrix
    products, of which these networks have few in 32 bits; scores and trainings of one run then agree on it.
    """
    if rank_and_world()[0] == 0:
        print(
            f"arithmetic on the GPU: {precision}; what is in 32 bits uses TF32 in convolutions, not in matrix products"
        )


def average(gradients: Sequence[torch.Tensor]) -> None:
    """Replace tensors by their mean over all processes, in place.

    Args:
        gradients: tensors of the same shapes and in the same order in every process.
    """
    _, world = rank_and_world()
    if world == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])  # one message
    torch.distributed.all_reduce(flat)
    for gradient, mean in zip(gradients, (flat / world).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def require_same_start(device: torch.device, step: int, last: Path, fingerprint: int, data_root: str) -> None:
    """Refuse processes that do not start from the same checkpoint and the same images.

    Args:
        step, last: step of the checkpoint, and its file.
        fingerprint, data_root: `Data.fingerprint` of the images, and their folder.
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
    """Average the gradients of the parameters on the path over all processes, in place."""
    average([parameter.grad for parameter in parameters if parameter.grad is not None])


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose training statistics are those of the images of all processes, each of which has equally many."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, H, W), N images of this process, by the statistics of all processes."""
        _, world = rank_and_world()
        if not self.training or world == 1:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        mean = all_reduce_with_gradient(x.mean((0, 2, 3))) / world
        centred = x - mean[:, None, None]
        variance = all_reduce_with_gradient(centred.square().mean((0, 2, 3))) / world
        if self.running_mean is not None and self.running_var is not None:
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
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
    """The same for timm's BatchNormAct2d, which is followed by a `drop` layer and an activation."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, H, W), then drop and activate."""
        return self.act(self.drop(super().forward(input)))  # type: ignore[operator]


def synchronise_batchnorm(model: nn.Module) -> None:
    """Turn every BatchNorm of a model into a SyncBatchNorm2d, in place; parameters, statistics and names stay.

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
