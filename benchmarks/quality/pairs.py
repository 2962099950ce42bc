"""What is measured: pairs of a search space and a data set, their limit, their trainings, and the networks beside the winners."""

from __future__ import annotations

import dataclasses
import gzip
import random
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

import spaces
from benchmarks.quality.shapes import shaped_archs
from benchmarks.roads.folders import fashion_mnist
from spaces.arch import Arch, arch_id
from spaces.chain import Chain
from spaces.cost import CostTable, measure
from spaces.errors import InputError
from spaces.files import atomic
from strategies.feasible import FeasibleSpace
from strategies.limits import Limits
from strategies.most_probable import best_within
from trials.choosing.band import BELOW_LIMIT
from trials.common import cli

PER_CLASS = 2000  # training images of Fashion-MNIST that are kept; all 10,000 test images are
POOL_SEED = 18  # of the sequence of random architectures: a larger pool begins with a smaller one

# Learning rates of the networks of timm: mobilenetv2 diverges with the 0.1 of our own networks, so each gets the best of them.
BASELINE_RATES = (0.1, 0.05, 0.02)


@dataclass(frozen=True)
class Pair:
    """A search space, a data set, a limit, and how long networks and supernets are trained.

    Attributes:
        name: SPACE-DATA, such as fbnet-fashion.
        space, options: the search space, its preset is tiny; --space-options of it.
        data: fashion-mnist or digits.
        resolution: height and width of the images, pixels.
        max_macs: the limit, at about the 15th percentile of the space's architectures.
        epochs, batch, lr: of a network, with the recipe tiny; docs/chance.md says why.
        supernet_epochs: of a supernet; a strategy whose step goes through the network several times gets fewer.
        baselines: models of timm, those whose MACs at this resolution are nearest to the limit.
        learned_centre: where the MACs of what gumbel learned lie, on average over its seeds, see shapes.centre; None: not known.
    """

    name: str
    space: str
    options: str
    data: str
    resolution: int
    max_macs: int
    epochs: int
    batch: int
    lr: float
    supernet_epochs: int
    baselines: tuple[str, ...] = ()
    learned_centre: float | None = None

    def training(self, kind: str) -> dict[str, object]:
        """What a unit says about its images and training; units of other trainings are not comparable.

        Args:
            kind: of the unit: networks, supernets or learned.
        """
        images: dict[str, object] = {
            "images": {"fashion-mnist": 10 * PER_CLASS, "digits": 899}[self.data],
            "resolution": self.resolution,
        }
        if kind == "networks":
            return images | {"epochs": self.epochs, "batch": self.batch, "lr": self.lr}
        return images | {"max_macs": self.max_macs, "epochs": self.supernet_epochs}

    def root(self, work: Path) -> Path:
        """The folder of the images, where they are not digits."""
        return work / f"fashion-mnist-{PER_CLASS}"

    def words(self, work: Path) -> list[str]:
        """The options of trials.supernet and trials.retrain that say which space and images."""
        data = ["--data", self.data, "--resolution", str(self.resolution)]
        if self.data == "fashion-mnist":
            data += ["--data-root", str(self.root(work))]
        else:
            data += ["--test-fraction", "0.5"]
        return ["--space", self.space, "--preset", "tiny", "--space-options", self.options, *data]

    def chain(self) -> Chain:
        """The space."""
        return _describe(self.space, self.options, self.resolution)

    def table(self) -> CostTable:
        """The exact costs of the space."""
        return _table(self.space, self.options, self.resolution)

    def random_archs(self, number: int) -> list[Arch]:
        """Random architectures of the band of cost, all networks different; always the same sequence."""
        return list(_random_archs(self, number))

    def shaped_archs(self, number: int) -> list[Arch]:
        """Random architectures of the band of cost that have the shape of learned ones; always the same sequence. [] where none is known."""
        if self.learned_centre is None:
            return []
        return shaped_archs(self.table(), (1 - BELOW_LIMIT) * self.max_macs, self.max_macs, self.learned_centre, number)

    def extremes(self) -> dict[str, Arch]:
        """The cheapest architecture of the space, and the one with most MACs within the limit."""
        return _extremes(self)


@cache
def _describe(space: str, options: str, resolution: int) -> Chain:
    return spaces.describe(space, "tiny", classes=10, resolution=resolution, **cli.space_options(options))


@cache
def _table(space: str, options: str, resolution: int) -> CostTable:
    return measure(_describe(space, options, resolution))


@cache
def _random_archs(pair: Pair, number: int) -> tuple[Arch, ...]:
    table, least = pair.table(), int((1 - BELOW_LIMIT) * pair.max_macs)
    feasible = FeasibleSpace(table, Limits(min_macs=least, max_macs=pair.max_macs))
    generator = random.Random(POOL_SEED)
    found: dict[str, Arch] = {}
    while len(found) < number:
        arch = feasible.sample(generator)
        found.setdefault(arch_id(table.canonical(arch)), arch)
    return tuple(found.values())


@cache
def _extremes(pair: Pair) -> dict[str, Arch]:
    table = pair.table()
    cheapest = table.arch([int(np.lexsort((block.params, block.macs))[0]) for block in table.blocks])
    costs = [block.macs for block in table.blocks]
    largest = best_within(costs, [cost.astype(float) for cost in costs], pair.max_macs - table.base[0])
    assert largest is not None  # the limit is within reach
    return {"cheapest": cheapest, "most MACs": table.arch(largest)}


def cut_fashion_mnist(source: Path, folder: Path, per_class: int = PER_CLASS) -> None:
    """Write Fashion-MNIST with the first `per_class` training images of each class; all test images stay.

    Raises:
        InputError: `source` lacks one of the files.
    """
    images, labels = fashion_mnist(source)
    kept = np.sort(np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in range(10)]))
    headers = np.array([2051, len(kept), 28, 28], ">i4"), np.array([2049, len(kept)], ">i4")
    for kind, header, content in zip(("images-idx3", "labels-idx1"), headers, (images, labels), strict=True):
        name = f"train-{kind}-ubyte.gz"
        if not (folder / name).exists():
            with atomic(folder / name) as temporary:
                temporary.write_bytes(gzip.compress(header.tobytes() + content[kept].tobytes()))
        test = f"t10k-{kind}-ubyte.gz"
        if not (source / test).exists():
            raise InputError(f"'{source}' lacks {test}; run: apt-get install -y dataset-fashion-mnist")
        if not (folder / test).exists():
            with atomic(folder / test) as temporary:
                shutil.copyfile(source / test, temporary)


# Limits: at about the 15th percentile of the MACs of uniformly drawn architectures; tests/unit/test_quality.py looks.
# Networks on Fashion-MNIST: 24 epochs, since 6 favour those that train quickly (docs/chance.md).
_V2, _V3 = "timm:mobilenetv2_{}", "timm:mobilenetv3_small_{}"
# space, its options, limit, models of timm with their million MACs
_SPACES = (
    ("fbnet", "", 690_000, (_V2.format("035"), _V3.format("050"))),  # 0.53, 0.62
    ("single-path-nas", "", 1_040_000, (_V2.format("050"), _V3.format("075"))),  # 0.89, 1.09
    ("spos", "variant=channel", 675_000, (_V2.format("035"), _V3.format("050"))),
    ("proxylessnas", "", 1_420_000, (_V2.format("075"), _V3.format("100"))),  # 1.81, 1.59
)
# Where the MACs of what gumbel learned lie, by the results of its seeds; pairs that are not here have no random architectures of that shape
_CENTRES = {"spos-fashion": 8.7}
# data, short name, resolution, epochs, batch and rate of networks, epochs of supernets
_DATA = (("fashion-mnist", "fashion", 16, 24, 128, 0.1, 8), ("digits", "digits", 16, 120, 64, 0.1, 120))
_PAIRS = tuple(
    Pair(
        name, space, options, data, resolution, limit, epochs, batch, lr, supernet_epochs, baselines, _CENTRES.get(name)
    )
    for data, short, resolution, epochs, batch, lr, supernet_epochs in _DATA
    for space, options, limit, baselines in _SPACES
    for name in [f"{space}-{short}"]
)
DEFAULT = tuple(pair.name for pair in _PAIRS)
SHORTS = tuple(  # a quarter of the training: what it says about the whole
    dataclasses.replace(pair, name=f"{pair.name}-short", epochs=6, learned_centre=None)
    for pair in _PAIRS
    if pair.data == "fashion-mnist"
)
PAIRS = {pair.name: pair for pair in (*_PAIRS, *SHORTS)}
SMOKE_PAIR = Pair("fbnet-smoke", "fbnet", "", "digits", 16, 690_000, 1, 64, 0.2, 3)
