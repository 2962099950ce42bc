"""The expected cost of a distribution over architectures, and losses that include it (FBNet, ProxylessNAS, TuNAS)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from spaces.cost import CostTable

FORMS = ("none", "power", "linear", "target")
UNIT = 1e6  # costs in the losses are in millions of the cost table's unit


def expected_cost(table: CostTable, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The expected cost when all choices are sampled independently.

    Args:
        weights: label -> (K,) probabilities of its candidates, or the weights that take their place.
    Returns:
        A scalar, in millions of the table's units.
    """
    total = torch.tensor(table.base[0] / UNIT)
    for block in table.blocks:
        # (combinations,) the joint probability of the block's labels; the last label changes fastest
        joint = torch.ones(1)
        for label in block.choices:
            joint = (joint.to(weights[label])[:, None] * weights[label]).flatten()
        total = total.to(joint) + joint @ torch.as_tensor(block.macs / UNIT).to(joint)
    return total


def cost_loss(
    form: str,
    loss: torch.Tensor,
    cost: torch.Tensor,
    *,
    alpha: float = 0.2,
    beta: float = 0.6,
    weight: float = 0.0,
    target: float = 1.0,
) -> torch.Tensor:
    """The loss of the architecture parameters.

    Args:
        form: one of
            none: CE.
            power: CE * alpha * (log cost)^beta, natural logarithm. FBNet, arXiv:1812.03443, eq. 2; not log(cost^beta).
            linear: CE + weight * cost. ProxylessNAS, arXiv:1812.00332, section 3.3.
            target: CE + weight * |cost / target - 1|. The absolute reward of TuNAS, arXiv:2008.06120.
        loss: cross-entropy CE, a scalar.
        cost, target: expected and wanted cost, in millions of the table's units.
        alpha, beta: factor and exponent of `power`.
        weight: factor of the cost per million units (linear), or of the relative distance (target).
    """
    if form == "power":
        return loss * alpha * torch.log(cost) ** beta
    if form == "linear":
        return loss + weight * cost
    if form == "target":
        return loss + weight * (cost / target - 1).abs()
    return loss
