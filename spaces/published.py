"""Networks that papers published: their costs, counted on the authors' code and compared by a test; their printed top-1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Published:
    """A published network: its architecture in one of our spaces, its costs, and where the figures come from."""

    preset: str  # preset of the space
    arch: dict[str, Any]
    macs: int  # multiply-adds of convolutions and linear layers, one image
    params: int
    top1: float  # percent, as published
    published: str  # the costs as printed in the publication
    source: str
    options: dict[str, Any] = field(default_factory=dict)  # the space's own options
    counts_only: str = ""  # how the function differs from that of the authors, whose `top1` is


def _blocks(names: Iterable[str]) -> dict[str, Any]:
    """The architecture whose blocks have these candidates, in order."""
    return {f"block{i:02d}": name for i, name in enumerate(names)}


def _words(text: str) -> list[str]:
    """Candidate names from a short notation: 'k5e3 - | k3e1g2 skip' gives ['k5_e3', 'skip', 'k3_e1_g2', 'skip']."""
    words = text.replace("|", " ").split()
    return ["skip" if word in ("-", "skip") else word.replace("e", "_e").replace("g", "_g") for word in words]


def _mbconvs(text: str) -> dict[str, Any]:
    """The architecture of MBConvs in the notation of `_words`."""
    return _blocks(_words(text))


def _spos(blocks: str, widths: str = "") -> dict[str, Any]:
    """A SPOS architecture from candidate indices, as in the official tuples; a width index w stands for 0.2 * (w + 1)."""
    names = ("k3", "k5", "k7", "xception")
    arch = _blocks(names[int(index)] for index in blocks.split(","))
    steps = [int(index) + 1 for index in widths.split(",")] if widths else []
    return arch | {f"width{i:02d}": round(0.2 * step, 1) for i, step in enumerate(steps)}


def _superkernels(text: str) -> dict[str, Any]:
    """A Single-Path NAS architecture: 'k3e3' is kernel 3, expansion 3; a skip is expansion 0, with kernel 3 by convention."""
    arch: dict[str, Any] = {}
    for i, word in enumerate(_words(text)):
        kernel, expand = (3, 0) if word == "skip" else (int(word[1]), int(word[4]))
        arch |= {f"kernel{i:02d}": kernel, f"expand{i:02d}": expand}
    return arch


_CHANNEL_BLOCKS = "0,0,3,1,1,1,0,0,2,0,2,1,1,0,2,0,2,1,3,2"
_CHANNEL_WIDTHS = "6,5,3,5,2,6,3,4,2,5,7,5,4,6,7,4,4,5,4,3"
_SPOS_PAPER = "arXiv:1904.00420, table 3"
_MXNET = "github.com/CanyonWind/Single-Path-One-Shot-NAS-MXNet"
_PLUS_SPLIT = "there channels are shuffled after a block, and the first half passes through; here even ones do"
_FBNET_PAPER = "arXiv:1812.03443, table 4; published code's costs"
_PROXYLESS = "github.com/mit-han-lab/proxylessnas"
_FAIRNAS_PAPER = "arXiv:1907.01845"

PUBLISHED: dict[str, dict[str, Published]] = {
    "spos": {
        "spos-block": Published(
            "imagenet",
            _spos("2,1,0,1,2,0,2,0,2,0,2,3,0,0,0,0,3,2,3,3"),
            322_918_720,
            3_558_464,
            74.4,
            "323M / 3.5M",
            _SPOS_PAPER,
        ),
        "spos-block-channel": Published(
            "imagenet",
            _spos(_CHANNEL_BLOCKS, _CHANNEL_WIDTHS),
            327_857_920,
            3_432_579,
            74.9,
            "328M / 3.4M",
            _SPOS_PAPER,
            {"variant": "channel"},
        ),
        "spos-cifar": Published(
            "cifar",
            _spos("1,0,3,1,3,0,3,0,0,3,3,0,1,0,1,2,2,1,1,3"),
            173_211_648,
            2_257_232,
            93.31,
            "176.63M with BN and pooling / 2.26M",
            "github.com/ShunLu91/Single-Path-One-Shot-NAS: CIFAR-10, random search over 1,000 paths",
            counts_only="there even channels enter the main branch, and the activation is ReLU6",
        ),
        "oneshot-s-plus": Published(
            "imagenet",
            _spos("0,0,0,1,0,0,1,0,3,2,0,1,2,2,1,2,0,0,2,0", "8,7,6,8,5,7,3,4,2,4,2,3,4,5,6,6,3,3,4,6"),
            291_125_760,
            3_541_829,
            75.75,
            "291M / 3.5M",
            _MXNET,
            {"variant": "plus"},
            counts_only=_PLUS_SPLIT,
        ),
        "oneshot-plus": Published(
            "imagenet",
            _spos(_CHANNEL_BLOCKS, _CHANNEL_WIDTHS),
            296_707_840,
            3_742_955,
            75.24,
            "297M / 3.7M",
            _MXNET,
            {"variant": "plus"},
            counts_only=_PLUS_SPLIT,
        ),
    },
    "fbnet": {
        "fbnet-a": Published(
            "imagenet",
            _mbconvs(
                "skip | k3e3 k3e1 skip skip | k5e6 k3e3 k5e1 k3e3 | k5e6 k5e3 k5e1g2 k5e6 | "
                "k3e6 k5e1g2 k5e3 k3e1g2 | k5e6 k5e6 k5e3 k5e6 | k5e6"
            ),
            244_452_664,
            4_321_232,
            73.0,
            "244.5M / 4.3M (249M in the paper)",
            _FBNET_PAPER,
            {"last_width": 1504, "bias": True},
        ),
        "fbnet-b": Published(
            "imagenet",
            _mbconvs(
                "k3e1 | k3e6 k5e1 k3e1 k3e1 | k5e6 k5e3 k3e6 k5e6 | k5e6 k5e6 skip k5e3 | "
                "k5e6 k3e1 k5e1 k5e3 | k5e6 k5e1 k5e6 k5e6 | k3e6"
            ),
            291_004_424,
            4_818_216,
            74.1,
            "291.1M / 4.8M (295M / 4.5M in the paper)",
            _FBNET_PAPER,
            {"last_width": 1984, "bias": True},
        ),
        "fbnet-c": Published(
            "imagenet",
            _mbconvs(
                "k3e1 | k3e6 skip k3e1 k3e1 | k5e6 k5e3 k5e6 k3e6 | k5e6 k5e3 k5e6 k5e6 | "
                "k5e6 k5e6 k5e6 k5e3 | k5e6 k5e6 k5e6 k5e6 | k3e6"
            ),
            378_136_224,
            5_592_784,
            74.9,
            "378.2M / 5.5M (375M in the paper)",
            _FBNET_PAPER,
            {"last_width": 1984, "bias": True},
        ),
    },
    "proxylessnas": {
        "proxyless-mobile": Published(
            "mobile",
            _mbconvs(
                "k5e3 k3e3 - - | k7e3 k3e3 k5e3 k5e3 | k7e6 k5e3 k5e3 k5e3 | k5e6 k5e3 k5e3 k5e3 | "
                "k7e6 k7e6 k7e3 k7e3 | k7e6"
            ),
            320_427_584,
            4_080_512,
            74.6,
            "320M / 4.08M",
            _PROXYLESS,
        ),
        "proxyless-gpu": Published(
            "gpu",
            _mbconvs("k5e3 - - - | k7e3 - - k3e3 | k7e6 - - k5e3 | k5e6 - k3e3 k5e3 | k7e6 k7e6 k7e6 k5e6 | k7e6"),
            465_260_160,
            7_119_848,
            75.1,
            "465M / 7.12M",
            _PROXYLESS,
        ),
        "proxyless-cpu": Published(
            "cpu",
            _mbconvs(
                "k3e6 k3e3 k3e3 k3e3 | k3e6 k3e3 k3e3 k5e3 | k3e6 - - k3e3 | k5e6 k3e3 k3e3 k3e3 | "
                "k5e6 k5e3 k5e3 k3e3 | k5e6"
            ),
            439_243_864,
            4_361_648,
            75.3,
            "439M / 4.36M",
            _PROXYLESS,
        ),
        "proxyless-mobile-14": Published(
            "mobile-14",
            _mbconvs(
                "k5e3 k3e3 - - | k7e3 k3e3 k5e3 k5e3 | k7e6 k5e3 k5e3 k5e3 | k5e6 k5e3 k5e3 k5e3 | "
                "k7e6 k7e6 k7e3 k7e3 | k7e6"
            ),
            580_883_408,
            6_857_568,
            76.7,
            "-",
            _PROXYLESS,
        ),
        "fairnas-a": Published(
            "fairnas",
            _mbconvs(
                "k7e3 k3e3 | k7e3 k3e6 k7e6 k3e3 | k3e3 k7e6 k7e6 k5e3 | k3e6 k5e3 k5e3 k3e6 | "
                "k3e6 k7e6 k3e6 k7e6 | k5e6"
            ),
            388_122_848,
            4_651_352,
            75.3,
            "388M",
            _FAIRNAS_PAPER,
        ),
        "fairnas-b": Published(
            "fairnas",
            _mbconvs(
                "k5e3 k3e3 | k5e3 k3e3 k3e6 k5e3 | k7e3 k3e3 k3e6 k5e3 | k3e3 k3e6 k7e3 k3e3 | "
                "k7e6 k5e6 k7e6 k3e6 | k5e6"
            ),
            345_297_632,
            4_506_272,
            75.1,
            "345M",
            _FAIRNAS_PAPER,
        ),
        "fairnas-c": Published(
            "fairnas",
            _mbconvs(
                "k5e3 k3e3 | k7e3 k3e3 k3e3 k3e3 | k3e3 k3e3 k3e3 k3e6 | k3e3 k3e3 k3e3 k3e3 | "
                "k7e6 k7e6 k3e6 k3e6 | k5e6"
            ),
            321_024_992,
            4_397_864,
            74.7,
            "321M",
            _FAIRNAS_PAPER,
        ),
    },
    "single-path-nas": {
        "spnasnet": Published(
            "imagenet",
            _superkernels(
                "k3e3 k3e3 k3e3 skip | k5e6 k3e3 k3e3 k3e3 | k5e6 k3e3 k3e3 k3e3 | k5e6 k5e3 k5e3 k5e3 | "
                "k5e6 k5e6 k5e6 k5e6"
            ),
            333_467_072,
            4_421_616,
            74.96,
            "4.42M params",
            "arXiv:1904.02877",
        ),
    },
}


def find_published(text: str | None) -> tuple[str, Published] | None:
    """Look up a published network by its name.

    Args:
        text: what the user gave for --fixed-arc.
    Returns:
        The space's name and the network; None if `text` names no published network, or a file of this name exists.
    """
    if text is None or Path(text).is_file():
        return None
    return next(((space, entries[text]) for space, entries in PUBLISHED.items() if text in entries), None)
