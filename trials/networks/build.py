"""Make a fixed network: of an architecture, of a baseline, or from the file of a trained one.

Which network it is stands in a network description, plain values that travel to other processes and into network.pt:

    {"arch": {...}, "space": {"name", "preset", "options"}}                     an architecture of a space
    {"arch": None, "space": None, "baseline": "timm:mobilenetv2_100", "classes": 10}     a model of timm or torchvision
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from spaces.spec import SpaceSpec
from trials.common import run_files
from trials.common.checkpoint import fitting, load_checkpoint
from trials.networks.baselines import build_baseline


def build_network(description: Mapping[str, Any]) -> nn.Module:
    """Make a network with fresh weights, as a plain torch module; its BatchNorm layers have weights and biases.

    Args:
        description: a network description, see above; further keys, as those of network.pt, are ignored.
    Returns:
        A network that maps images (N, 3, R, R) to logits (N, classes).
    Raises:
        InputError: the baseline cannot be made.
    """
    if description.get("baseline"):
        return build_baseline(description["baseline"], description["classes"])

    return SpaceSpec.read(description["space"]).describe().network(description["arch"], affine=True)


def read_network(path: Path, *needs: str) -> dict[str, Any]:
    """The content of a network.pt: weights as "model", a network description, "preprocessing".

    Args:
        needs: keys that it must have.
    Raises:
        InputError: the file is missing or damaged, or a value in it is none of a network.
    """
    stored = load_checkpoint(path, "network", needs=needs)
    run_files.check(stored, path, "network")
    return stored


def load_network(path: Path) -> nn.Module:
    """Load a trained network from its network.pt, as a plain torch module in eval mode.

    Raises:
        InputError: the file is missing or damaged.
    """
    stored = read_network(path, "model")
    with fitting("network", path):
        network = build_network(stored)
        network.load_state_dict(stored["model"])
    return network.eval()
