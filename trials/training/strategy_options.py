"""Which paths a supernet trains, and how a differentiable strategy learns its architecture: the options."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from trials.common.cli import option

SAMPLING = ("uniform", "window", "binned", "strict-fair")
DIFFERENTIABLE = ("softmax", "gumbel", "gates", "threshold")
MIXING = ("softmax", "gumbel")  # a step of the weights trains all candidates, but for gumbel with --hard
# a step of the weights trains one path, so that an op warm-up adds something
ONE_PATH = ("uniform", "window", "binned", "gates")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StrategyOptions:
    """What a step trains; `strategies.sampling` and `strategies.differentiable` carry it out."""

    group: ClassVar[str] = "strategy"

    strategy: str = option(
        "uniform",
        "What a step trains; see above",
        choices=(*SAMPLING, *DIFFERENTIABLE),
        brief="What a step trains: uniform, window, strict-fair, gumbel, ...",
    )
    warm_start: float = option(
        None,
        "Part of the steps that train one path alone, whose weights all candidates then inherit",
        unset="0.3 with presets tiny and small, where candidates can inherit, but for thresholds, and where blocks can be skipped for softmax, gumbel and what has an op warm-up; else 0",
    )
    op_warmup: float = option(
        None,
        "Part of the steps, after a warm start, in which a block runs the mean of all its candidates with a probability that falls "
        "from 1 to 0, as in TuNAS",
        unset="0.3 with preset tiny and strategies that train one path, where blocks can be skipped; else 0",
    )
    width_warmup: bool = option(False, "Open widths and superkernels from the largest down, in the second half")
    use_all_blocks: bool = option(False, "Baseline: every step trains the mean of all candidates of a block")
    use_all_channels: bool = option(False, "Baseline: widths and superkernels are always the largest")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArchOptions:
    """How the architecture parameters of a differentiable strategy learn; `strategies.arch_learner` carries it out."""

    group: ClassVar[str] = "architecture parameters (softmax, gumbel, gates, threshold)"

    arch_fraction: float = option(0.2, "Part of the training images that the architecture parameters learn from")
    arch_warmup: int = option(None, "Epochs that train the weights alone", unset="the preset's")
    arch_optimizer: str = option("adam", "Optimiser of the architecture parameters", choices=("adam", "sgd"))
    arch_lr: float = option(None, "Learning rate of the architecture parameters", unset="the paper's; 0.1 for tiny")
    arch_weight_decay: float = option(None, "L2 penalty on the architecture parameters", unset="the paper's")
    temperature: float = option(5.0, "Temperature of the Gumbel softmax in the first epoch")
    temperature_decay: float = option(
        None, "Decay d of the temperature, which is temperature * exp(-d * t) in epoch t", unset="the preset's"
    )
    hard: bool = option(False, "Let the Gumbel softmax run one candidate of a block instead of the weighted sum")
    arch_passes: int = option(1, "How often an epoch walks over the images of the architecture parameters")
    cost_loss: str = option(
        None,
        "Loss that knows the cost: limit is CE + multiplier * cost / limit, with a multiplier that rises while the most "
        "probable architecture is above the limit and falls while it is below; power is CE * alpha * (log cost)^beta, "
        "linear is CE + weight * cost, target is CE + weight * |cost / target - 1|; the cost is the expected million "
        "MACs of an image, or milliseconds with --latency-table",
        choices=("none", "limit", "power", "linear", "target"),
        unset="limit with --max-macs or --max-latency-ms, else none",
    )
    cost_alpha: float = option(0.2, "Factor alpha of --cost-loss power, as in FBNet")
    cost_beta: float = option(0.6, "Exponent beta of --cost-loss power, as in FBNet")
    cost_weight: float = option(
        0.0,
        "Weight of the cost: for --cost-loss linear loss per million MACs or millisecond, for target loss per deviation",
    )
    cost_target: str = option(
        "", "Target of --cost-loss target, such as 300M, or milliseconds with --latency-table", unset="the limit"
    )


LEARNING = tuple(field.name for field in dataclasses.fields(ArchOptions))
