"""Networks that papers published, with their exact costs. Top-1 figures are the publications', in percent.

MACs and params were counted on third-party code of the papers' authors; a test builds every network and compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    preset: str
    arch: dict[str, Any]
    macs: int  # multiply-adds of convolutions and linear layers, one image
    params: int
    top1: float  # percent, as published
    published: str  # the costs as printed in the publication
    source: str


def _spos(indices: str) -> dict[str, str]:
    names = ("k3", "k5", "k7", "xception")
    return {f"block{i:02d}": names[int(index)] for i, index in enumerate(indices.split(","))}


_BLOCK = _spos("2,1,0,1,2,0,2,0,2,0,2,3,0,0,0,0,3,2,3,3")
_CIFAR = _spos("1,0,3,1,3,0,3,0,0,3,3,0,1,0,1,2,2,1,1,3")

PUBLISHED: dict[str, dict[str, Published]] = {
    "spos": {
        "spos-block": Published(
            "imagenet", _BLOCK, 322_918_720, 3_558_464, 74.4, "323M / 3.5M", "arXiv:1904.00420, table 3"
        ),
        "spos-cifar": Published(
            "cifar",
            _CIFAR,
            173_211_648,
            2_257_232,
            93.31,
            "176.63M with BN and pooling / 2.26M",
            "github.com/ShunLu91/Single-Path-One-Shot-NAS, README: CIFAR-10, random search over 1,000 paths",
        ),
    },
}
