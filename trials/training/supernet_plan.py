"""Everything that a supernet run needs before its first step, and the refusal of everything a user can get wrong."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

import spaces
from spaces.arch import Arch
from spaces.cost import CostTable, measure
from spaces.errors import InputError
from spaces.latency import LatencyTable
from spaces.spec import SpaceSpec
from strategies.feasible import FeasibleSpace, draw_from_bins, draw_within_limits
from strategies.sampling import STRATEGIES, Paths
from trials.common import cli, run_dir
from trials.common.distributed import use_cuda
from trials.images.dataset import Data
from trials.images.load import load_data
from trials.networks import official_spos
from trials.training import memory
from trials.training.choose_preset import with_preset
from trials.training.compilation import require_compiler
from trials.training.sizing import images_beside
from trials.training.strategy_options import DIFFERENTIABLE

if TYPE_CHECKING:
    from spaces.chain import Chain
    from trials.training.supernet_config import Config


@dataclass(frozen=True)
class SupernetPlan:
    """What a supernet run has been found to consist of.

    Attributes:
        config: the options, completed by what the images say.
        recipe: what was chosen by the number of images, and why, in one line; "" where there was nothing to choose.
        space: the search space, with the classes and the resolution of the images.
        chain, table: its description and its exact costs.
        loss_table: the costs that the loss of the architecture parameters sees: nanoseconds with --latency-table, else MACs.
        feasible: the part of the space within the limits.
        paths: what the steps of a sampling strategy train; None for a differentiable one, and for an import.
        fixed_archs: the paths whose accuracy is followed during training, always the same ones.
        imported: the official checkpoint that becomes this run; None where the supernet is trained.
    """

    config: Config
    recipe: str
    data: Data
    space: SpaceSpec
    chain: Chain
    table: CostTable
    loss_table: CostTable
    feasible: FeasibleSpace
    paths: Paths | None
    fixed_archs: list[Arch]
    imported: official_spos.OfficialCheckpoint | None


def plan_supernet(config: Config) -> SupernetPlan:
    """Check a supernet run against its space, its images and the device.

    Raises:
        InputError: something of these cannot be used, or does not fit together.
    """
    config = with_preset(config)
    options = cli.space_options(config.space_options)
    imported, recipe = None, ""
    if config.import_official:
        imported = official_spos.read_supernet(
            config.import_official, config.space, config.preset, config.space_options
        )
    require_compiler(config.compile, use_cuda(config.device, config.precision, config.cuda_graphs))
    described = spaces.describe(config.space, config.preset, resolution=config.resolution, **options)
    config = config.with_warm_start(not config.import_official and _has_warm_start(described), _can_skip(described))
    data = load_data(
        config,
        described.resolution,
        score_fraction=config.score_fraction,
        arch_fraction=config.arch_fraction,
        run=None if run_dir.left_over(config.out, "supernet") else config.out,
    )
    if not data.size("score"):
        raise InputError(f"--score-fraction {config.score_fraction} of so few images is none; raise it")
    if data.size("train") < len(data.classes):
        raise InputError(
            f"--score-fraction {config.score_fraction} leaves {data.size('train'):,} of {data.size('all'):,} images to train "
            f"{len(data.classes):,} classes; lower it"
        )
    if imported:
        official_spos.check_classes(imported, data)
    else:
        parts = ("weights", "arch") if config.strategy in DIFFERENTIABLE else ("train",)
        config, recipe = config.fitted(data.size(parts[0]), images_beside(parts[0], data.size))
        for part in parts:
            config.first_arch_epoch(data.steps_per_epoch(part, config.batch_size))  # refuses a batch that is too large
    _check_space(config, described)

    space = SpaceSpec(
        config.space, config.preset, options | {"classes": len(data.classes), "resolution": data.resolution}
    )
    chain = space.describe()
    table = measure(chain)  # builds every candidate once: what is wrong with a space comes out before the run exists
    latency = LatencyTable.load(config.latency_table, table) if config.latency_table else None
    feasible = FeasibleSpace(table, config.limits(), latency)  # refuses limits out of reach
    loss_table = latency.costs if latency else table
    least = loss_table.bounds().min_macs
    if config.cost_loss == "power" and least <= 1e6:
        raise InputError(
            f"--cost-loss power takes the logarithm of the cost in {'milliseconds' if latency else 'millions'}, and the space "
            f"starts at {least / 1e6:.3g}; use linear or target, with --cost-weight"
        )
    if not imported:
        memory.require_memory(config, partial(memory.supernet_bytes, config, chain), data.resolution)
    paths = make_paths(config, chain, feasible, data)
    fixed_archs = [feasible.sample(random.Random(f"fixed path {number}")) for number in range(config.eval_paths)]
    return SupernetPlan(config, recipe, data, space, chain, table, loss_table, feasible, paths, fixed_archs, imported)


def make_paths(config: Config, chain: Chain, feasible: FeasibleSpace, data: Data) -> Paths | None:
    """Choose what the steps of a sampling strategy train; None for a differentiable strategy, and for an import.

    Args:
        chain: the space.
        feasible: the part of the space within the limits.
    Raises:
        InputError: settings that contradict each other.
    """
    if config.strategy in DIFFERENTIABLE or config.import_official:
        return None
    if config.strategy == "window":
        draw = draw_within_limits(feasible)
    elif config.strategy == "binned":
        draw = draw_from_bins(feasible.table, feasible.limits)
    else:
        draw = STRATEGIES[config.strategy]
    steps_per_epoch = data.steps_per_epoch("train", config.batch_size)
    return Paths(
        draw,
        chain.choices,
        elastic=[label for block in chain.blocks for label in block.elastic],
        seed=config.seed,
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        first=config.warm_steps(config.epochs * steps_per_epoch),
        width_warmup=config.width_warmup,
        use_all_blocks=config.use_all_blocks,
        use_all_channels=config.use_all_channels,
    )


def _check_space(config: Config, chain: Chain) -> None:
    """Refuse a strategy that needs what the space does not have."""
    has_candidates = any(block.label for block in chain.blocks)
    if config.warm_start and not _has_warm_start(chain):
        raise InputError(f"space {config.space} has no warm start (no `inherit`); leave --warm-start out")
    if config.op_warmup and not has_candidates:
        raise InputError(
            f"--op-warmup is for blocks with candidates; space {config.space} has superkernels alone; leave it out"
        )
    if config.strategy == "threshold" and has_candidates:
        raise InputError(
            f"--strategy threshold decides on superkernels; space {config.space} has blocks with candidates; use gumbel"
        )


def _can_skip(chain: Chain) -> bool:
    """Whether a candidate of some block returns its input."""
    return any(build is nn.Identity for block in chain.blocks if block.label for build in block.candidates.values())


def _has_warm_start(chain: Chain) -> bool:
    """Whether all candidates can take over the weights of one path; the sizes of a superkernel share theirs anyway."""
    return chain.inherit is not None or not any(block.label for block in chain.blocks)
