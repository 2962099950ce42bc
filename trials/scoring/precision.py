"""How the networks of a score are computed: memory layout, folded BatchNorm, number type. See docs/evaluation.md.

Shapes: N batch, C channels, R resolution in pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from spaces.chain import make_affine
from trials.networks.fused_conv import fuse, gains_by_moving

_REDUCED_SUMS = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")


@dataclass(frozen=True)
class Precision:
    """One way to compute a network.

    A network is made ready in two steps, `prepare` and then `finish`, because BatchNorm is folded between them, in 32 bits.
    """

    layout: torch.memory_format
    fold: bool  # whether BatchNorm is folded into the convolutions once its statistics are known
    dtype: torch.dtype  # number type of activations and weights; BatchNorm's statistics always have 32 bits
    exact: bool = False  # on a GPU: no TF32 in products, and the same algorithm each time
    fuse: bool = True  # whether convolutions do the work of the activations after them

    def prepare(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Put a module into this layout, on the device and into eval mode, in place; it keeps its 32 bits."""
        return module.to(memory_format=self.layout).to(device).eval()  # type: ignore[call-overload]

    def finish(self, module: nn.Module) -> nn.Module:
        """Change weights and buffers of all layers except BatchNorm to `dtype`, and fuse convolutions, in place."""
        if self.dtype != torch.float32:
            # A GPU's BatchNorm takes statistics of another type than its input only if it has affine weights.
            make_affine(module)
            for layer in module.modules():
                if not isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    for tensor in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
                        if tensor.is_floating_point():
                            tensor.data = tensor.data.to(self.dtype)
        return fuse(module) if self.fuse else module

    def rounds_otherwise(self, device: torch.device) -> bool:
        """Whether fused convolutions may round otherwise than plain ones on this kind of device."""
        return self.fuse and gains_by_moving(device)

    def cast_images(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, R, R), float32, in the type and layout that the first layer takes."""
        return images.to(self.dtype).contiguous(memory_format=self.layout)

    @contextlib.contextmanager
    def cudnn_flags(self) -> Iterator[None]:
        """PyTorch's settings of cuDNN and cuBLAS for this precision, to be held while networks run."""
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        # products are added up in 32 bits, as convolutions are
        wanted = {"allow_tf32": not self.exact, **dict.fromkeys(_REDUCED_SUMS, False)}
        before = {name: getattr(matmul, name) for name in wanted}
        try:
            for name, value in wanted.items():
                setattr(matmul, name, value)
            # `enabled` is passed on, because the context manager would otherwise turn cuDNN off.
            with cudnn.flags(
                enabled=cudnn.enabled, benchmark=False, deterministic=self.exact, allow_tf32=not self.exact
            ):
                yield
        finally:
            for name, value in before.items():
                setattr(matmul, name, value)


PRECISIONS = {
    "exact": Precision(torch.contiguous_format, False, torch.float32, exact=True, fuse=False),
    "32": Precision(torch.channels_last, True, torch.float32),
    "bf16": Precision(torch.channels_last, True, torch.bfloat16),
    "16": Precision(torch.channels_last, True, torch.float16),
}
