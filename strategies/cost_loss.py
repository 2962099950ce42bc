"""The expected cost of an architecture distribution, and losses that know it (FBNet, ProxylessNAS, TuNAS)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from spaces.cost import CostTable

UNIT = 1e6  # of a cost table, in the losses


def expected_cost(table: CostTable, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The expectation of the cost when choices are drawn independently, in millions of the table's units; a scalar.

    Args:
        weights: label -> (K,) probabilities, or the weights that stand for them.
    """
    total = torch.tensor(table.base[0] / UNIT)
    for block in table.blocks:
        joint = torch.ones(1)
        for label in block.choices:  # the last label changes fastest
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
        form: none: CE
            power: CE * alpha * (log cost)^beta, natural logarithm. FBNet, arXiv:1812.03443, eq. 2; not log(cost^beta).
            linear: CE + weight * cost. ProxylessNAS, arXiv:1812.00332, section 3.3.
            target: CE + weight * |cost / target - 1|. The absolute reward of TuNAS, arXiv:2008.06120.
        loss: cross-entropy CE.
        cost, target: in millions of the table's units.
        weight: per million units (linear), or of the relative distance (target).
    """
    if form == "power":
        return loss * alpha * torch.log(cost) ** beta
    if form == "linear":
        return loss + weight * cost
    if form == "target":
        return loss + weight * (cost / target - 1).abs()
    return loss
