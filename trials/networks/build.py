"""Fixed networks: of an architecture, of a baseline, or of a trained network's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import spaces
from trials.common.run_dir import load_checkpoint
from trials.networks.baselines import build_baseline


def build(about: Mapping[str, Any]) -> Any:
    """The network with fresh weights: a plain torch module, (N, 3, R, R) to (N, classes), BatchNorm affine.

    Raises:
        InputError: the baseline cannot be made.
    """
    if about.get("baseline"):
        return build_baseline(about["baseline"], about["classes"])

    space = about["space"]
    chain = spaces.describe(space["name"], space["preset"], **space["options"])
    return chain.network(about["arch"], affine=True)


def load_network(path: Path) -> Any:
    """The trained network in a network.pt, as a plain torch module in eval mode.

    Raises:
        InputError: the file is missing or damaged.
    """
    stored = load_checkpoint(path, "network")
    network = build(stored)
    network.load_state_dict(stored["model"])
    return network.eval()
