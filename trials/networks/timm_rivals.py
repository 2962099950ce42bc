"""Networks of timm that one could take without a search, by what they cost: which ones come near a number of MACs. Light to import."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from spaces.counting import count
from trials.common import cli
from trials.networks.baselines import build_baseline

SMALL = 64  # pixels of a side, below which a network that shrinks images 32 times is left with one pixel
# Million MACs at 64x64 pixels as they are, and at 32x32 with an output stride of 8, None where the model takes none; they grow about with
# the number of pixels. These say which networks are counted, twice as many as are shown: what is printed is exact.
MODELS: dict[str, tuple[float, float | None]] = {
    "lcnet_035": (2.37, None),
    "lcnet_050": (3.90, None),
    "lcnet_075": (8.18, None),
    "lcnet_100": (13.4, None),
    "lcnet_150": (28.4, None),
    "mobilenetv2_035": (4.75, 6.50),
    "mobilenetv2_050": (7.84, 11.3),
    "mobilenetv2_075": (17.0, 22.7),
    "mobilenetv2_100": (24.5, 36.5),
    "mobilenetv2_140": (47.4, 71.1),
    "mobilenetv3_small_050": (2.29, None),
    "mobilenetv3_small_075": (4.13, None),
    "mobilenetv3_small_100": (5.50, None),
    "mobilenetv3_large_075": (14.2, None),
    "mobilenetv3_large_100": (20.1, None),
    "mnasnet_small": (5.55, 10.9),
    "mnasnet_050": (8.44, 15.2),
    "mnasnet_100": (25.6, 50.2),
    "semnasnet_050": (8.39, 12.1),
    "semnasnet_100": (25.6, 38.7),
    "tinynet_e": (7.21, 11.2),
    "tinynet_c": (11.5, 16.9),
    "tinynet_b": (22.8, 34.5),
    "tinynet_a": (38.0, 67.1),
    "efficientnet_lite0": (31.4, 54.8),
    "efficientnet_b0": (32.0, 55.4),
    "regnetx_002": (16.2, 37.3),
    "regnetx_004": (32.4, 76.6),
    "resnet10t": (89.5, 88.4),
    "resnet18": (148, 188),
}
WITHIN = 1.1  # a rival may have a tenth more MACs
FAR = 2.0  # what costs more than so many times as much, or less, is no rival
MOST = 6  # networks in a list


@dataclass(frozen=True)
class Rival:
    """A network beside a budget.

    Attributes:
        baseline: as --baseline takes it, such as timm:mobilenetv2_050.
        macs, params: exact, for one image.
    """

    baseline: str
    macs: int
    params: int


def approximate(resolution: int) -> dict[str, float]:
    """About how many million MACs the networks have at a resolution in pixels, by their names as baselines."""
    if resolution >= SMALL:
        return {f"timm:{name}": as_it_is * (resolution / 64) ** 2 for name, (as_it_is, _) in MODELS.items()}
    return {
        f"timm:{name},output_stride=8": stride_8 * (resolution / 32) ** 2
        for name, (_, stride_8) in MODELS.items()
        if stride_8 is not None
    }


def rival(macs: int, resolution: int) -> str:
    """The model of timm that one could have taken without a search; "" where none is near enough by the rule of `rivals_near`.

    The widest MobileNetV2 of a network's MACs, else the narrowest, else what costs most nearly as much.
    """
    near = {
        name: cost * 1e6
        for name, cost in approximate(resolution).items()
        if _distance(cost * 1e6, macs) <= math.log(FAR)
    }
    known = [name for name in near if name.startswith("timm:mobilenetv2_")]
    fitting = [name for name in known if near[name] <= WITHIN * macs]
    if fitting:
        return max(fitting, key=near.__getitem__)
    return min(known or near, key=lambda name: _distance(near[name], macs), default="")


def _distance(cost: float, macs: int) -> float:
    """How far a cost is from a number of MACs: the logarithm of the factor between them."""
    return abs(math.log(cost / macs))


def rivals_near(macs: int, resolution: int, classes: int) -> list[Rival]:
    """The networks of MODELS whose cost is nearest to a budget, counted as all networks are, the cheapest first.

    Args:
        macs: the budget.
        resolution: height and width of the images, pixels.
    Returns:
        At most MOST, none of them FAR from the budget.
    """
    import torch

    known = approximate(resolution)
    found = []
    for name in sorted(known, key=lambda name: _distance(known[name] * 1e6, macs))[: 2 * MOST]:
        with torch.device("meta"):  # shapes alone
            network = build_baseline(name, classes)
            counted = count(network, torch.empty(1, 3, resolution, resolution))
        found.append(Rival(name, counted.macs, counted.params))
    near = sorted(
        (one for one in found if _distance(one.macs, macs) <= math.log(FAR)), key=lambda one: _distance(one.macs, macs)
    )
    return sorted(near[:MOST], key=lambda one: one.macs)


def print_rivals(macs: int, resolution: int, classes: int) -> list[dict[str, Any]]:
    """Print what `rivals_near` finds, with the command that trains the nearest; return it for --json."""
    found = rivals_near(macs, resolution, classes)
    print()
    if not found:
        print(f"no usual network of timm comes within a factor of {FAR:g} of the budget at this resolution")
        return []
    rows = [(one.baseline, one.macs, one.params, f"{100 * one.macs / macs:.0f}") for one in found]
    print(cli.table(rows, ("network of timm", "MACs", "params", "% of the budget")), "\n")
    nearest = min(found, key=lambda one: abs(one.macs - macs))
    print("One is trained beside a winner, with its recipe, by:")
    print(f"  {cli.command('retrain', '--baseline', nearest.baseline, '--supernet', 'RUN')}")
    return [dataclasses.asdict(one) for one in found]
