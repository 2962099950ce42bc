"""BatchNorm recalibration: the statistics of one path, before it is scored."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


@torch.no_grad()
def recalibrate_bn(model: nn.Module, batches: Iterable[torch.Tensor]) -> int:
    """Re-estimate the BatchNorm statistics of the active path.

    A supernet's running statistics mix all paths; scoring with them scores another network.

    Args:
        model: network with one path active; left in eval mode.
        batches: images (N, 3, H, W), normalised, from the training part only, all of one size.
    Returns:
        Number of images used.
    Raises:
        ValueError: `batches` is empty.
    Source: arXiv:1904.00420, section 3.4. Cumulative average (momentum=None), so batch order does not matter.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    images = 0
    for batch in batches:
        model(batch)
        images += len(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    model.eval()
    if not images:
        raise ValueError("recalibrate_bn needs at least one batch")
    return images
