"""The options of trials.supernet, the defaults of each preset, and which options contradict each other."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from spaces.errors import InputError
from strategies.limits import Limits, amount, milliseconds
from trials.common import cli
from trials.common.cli import option
from trials.images.options import DataOptions

# What the defaults are for each preset; ImageNet's is the official SPOS recipe, CIFAR's the seed implementation's. The
# temperature falls as far as in FBNet's 90 epochs; tiny's few steps need a high rate of the architecture parameters.
RECIPES: dict[str, dict[str, Any]] = {
    "imagenet": {
        **{"epochs": 120, "batch_size": 1024, "lr": 0.5, "weight_decay": 4e-5, "schedule": "linear"},
        **{"arch_warmup": 10, "temperature_decay": 0.045, "checkpoint_every": 500, "color_jitter": 0.4},
    },
    "cifar": {
        **{"epochs": 600, "batch_size": 96, "lr": 0.025, "weight_decay": 3e-4, "schedule": "cosine"},
        **{"arch_warmup": 50, "temperature_decay": 0.007, "checkpoint_every": 500, "color_jitter": 0.0},
    },
    "tiny": {
        **{"epochs": 20, "batch_size": 64, "lr": 0.1, "weight_decay": 4e-5, "schedule": "linear"},
        **{"arch_warmup": 2, "temperature_decay": 0.2, "arch_lr": 0.1, "checkpoint_every": 20, "color_jitter": 0.0},
    },
}
SAMPLING = ("uniform", "window", "binned", "strict-fair")
DIFFERENTIABLE = ("softmax", "gumbel", "gates", "threshold")
LIMITS = ("max_macs", "min_macs", "max_latency_ms")
LEARNING = (  # options of the differentiable strategies
    *(
        "arch_fraction",
        "arch_warmup",
        "arch_optimizer",
        "arch_lr",
        "arch_weight_decay",
        "temperature",
        "temperature_decay",
    ),
    *("hard", "cost_loss", "cost_alpha", "cost_beta", "cost_weight", "cost_target"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(DataOptions):
    out: str = option(help="run directory to write")
    space: str = option("spos", "search space")
    preset: str = option("imagenet", "preset of the space")
    space_options: str = option("", "further options of the space, such as variant=channel,last_width=512")
    import_official: str = option("", "checkpoint of the official SPOS code to make a run of, instead of training")
    score_fraction: float = option(0.1, "part of the training images held out to score candidates")
    strategy: str = option("uniform", "what a step trains; see above", choices=(*SAMPLING, *DIFFERENTIABLE))
    max_macs: str = option("", "upper limit in MACs, such as 330M: of the paths (window, binned), or of arc.json")
    min_macs: str = option("", "lower limit of the paths (window, binned)")
    max_latency_ms: str = option("", "upper limit in milliseconds, by --latency-table: of the paths, or of arc.json")
    latency_table: str = option("", "latencies of the space on a device, written by trials.latency")
    width_warmup: bool = option(False, "widths and superkernels open from the largest down, in the second half")
    use_all_blocks: bool = option(False, "baseline: every step trains the mean of all candidates of a block")
    use_all_channels: bool = option(False, "baseline: widths and superkernels are always the largest")
    warm_start: float = option(
        0.0, "part of the steps that train one path, which all candidates then inherit; see docs"
    )
    epochs: int = option(None, "passes over the training part (default: the preset's)")
    batch_size: int = option(None, "images per step, of all processes together (default: the preset's)")
    accumulate: int = option(1, "parts of a batch that go through the network one after the other, to save memory")
    optimizer: str = option("sgd", "optimiser", choices=("sgd", "adam", "rmsprop"))
    lr: float = option(None, "peak learning rate (default: the preset's)")
    momentum: float = option(0.9, "of SGD and RMSprop; beta1 of Adam")
    weight_decay: float = option(None, "L2 penalty on convolutions and linear layers (default: the preset's)")
    decay_norm_and_bias: bool = option(False, "weight decay on BatchNorm and biases too")
    schedule: str = option(
        None, "learning rate after warm-up (default: the preset's)", choices=("cosine", "linear", "step")
    )
    warmup: float = option(0.0, "part of the steps with a rising learning rate")
    clip_norm: float = option(0.0, "largest norm of the gradient; 0: not clipped")
    label_smoothing: float = option(0.1, "label smoothing")
    arch_fraction: float = option(0.2, "differentiable: part of the training images for the architecture parameters")
    arch_warmup: int = option(None, "differentiable: epochs that train the weights alone (default: the preset's)")
    arch_optimizer: str = option("adam", "differentiable: optimiser of the architecture", choices=("adam", "sgd"))
    arch_lr: float = option(None, "differentiable: its learning rate (default: the paper's; 0.1 for tiny)")
    arch_weight_decay: float = option(None, "differentiable: its L2 penalty (default: the paper's)")
    temperature: float = option(5.0, "gumbel: temperature of the first epoch")
    temperature_decay: float = option(None, "gumbel: epoch t has temperature * exp(-decay * t) (default: the preset's)")
    hard: bool = option(False, "gumbel: run one candidate of a block instead of the weighted sum")
    cost_loss: str = option(
        "none",
        "differentiable: power CE * alpha * (log cost)^beta, linear CE + weight * cost, target CE + weight * "
        "|cost / target - 1|; cost: expected million MACs of an image; with --latency-table milliseconds",
        choices=("none", "power", "linear", "target"),
    )
    cost_alpha: float = option(0.2, "of --cost-loss power (FBNet)")
    cost_beta: float = option(0.6, "of --cost-loss power (FBNet)")
    cost_weight: float = option(0.0, "of --cost-loss linear: loss per million MACs, or millisecond; or of target")
    cost_target: str = option(
        "", "of --cost-loss target, such as 300M; milliseconds with --latency-table (default: the limit)"
    )
    precision: str = option(
        "auto", "arithmetic; auto: bf16-mixed on GPUs", choices=("auto", "32", "16-mixed", "bf16-mixed")
    )
    seed: int = option(0, "of weights, batches, augmentation and paths")
    device: str = option("auto", "where to train", choices=("auto", "cpu", "cuda"))
    checkpoint_every: int = option(None, "steps between checkpoints (default: the preset's)")
    eval_every: int = option(None, "epochs between measurements of the fixed paths (default: a fifth of the epochs)")
    eval_paths: int = option(5, "fixed paths whose accuracy is followed; 0: none")
    dry_run: bool = option(False, "train a few steps, say what the run would take, write nothing")
    resume: bool = option(False, "continue the run in --out, or start it when there is none")
    stop_after: int | None = option(None, "stop after this many steps, with a checkpoint; --resume goes on")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settle_preprocessing(official=bool(self.import_official))
        learns = self.strategy in DIFFERENTIABLE
        recipe = RECIPES.get(self.preset, RECIPES["imagenet"])
        cli.fill_and_check(
            self,
            {name: value for name, value in recipe.items() if learns or name not in LEARNING},
            positive=("epochs", "batch_size", "lr", "checkpoint_every", "accumulate", "temperature"),
            fractions=("warmup", "warm_start", "label_smoothing", "momentum", "color_jitter"),
        )
        if self.eval_every is None:
            object.__setattr__(self, "eval_every", math.ceil(self.epochs / 5))
        cli.not_negative(
            self,
            *("arch_warmup", "eval_paths", "clip_norm", "temperature_decay", "cost_weight", "cost_alpha", "cost_beta"),
        )
        if not self.eval_every > 0:
            raise InputError(f"--eval-every {self.eval_every} is not above 0; give 1 or more, or --eval-paths 0")
        if self.eval_paths > 1000:
            raise InputError(f"--eval-paths {self.eval_paths} is above 1,000; give fewer")
        self.limits(), self.target()  # refuse what is no number
        for name in ("arch_lr", "arch_weight_decay"):
            value = getattr(self, name)
            if value is not None and not (value > 0 or (value == 0 and name == "arch_weight_decay")):
                raise InputError(f"--{name.replace('_', '-')} {value} is out of range; give a positive number")
        _check_strategy(self)

    def warm_steps(self, steps: int) -> int:
        """Steps of the warm start, of `steps` in all."""
        return round(self.warm_start * steps)

    def first_arch_epoch(self, steps_per_epoch: int) -> int:
        """The epoch from which on the architecture learns: after the warm start, and --arch-warmup epochs more.

        Raises:
            InputError: it lies beyond the last.
        """
        warm = math.ceil(self.warm_steps(self.epochs * steps_per_epoch) / steps_per_epoch)
        if self.strategy not in DIFFERENTIABLE:
            return self.epochs
        if warm + self.arch_warmup >= self.epochs:
            raise InputError(
                f"--arch-warmup {self.arch_warmup} after a warm start of {warm} epochs leaves none of {self.epochs} to learn an "
                "architecture; lower it, or raise --epochs"
            )
        return warm + self.arch_warmup

    def limits(self) -> Any:
        """The limits of paths, or of arc.json. Raises InputError: not a number."""
        return Limits.of({name: getattr(self, name) or None for name in LIMITS})

    def target(self) -> float:
        """Of --cost-loss target: million MACs, or milliseconds."""
        if self.latency_table:
            return milliseconds(self.cost_target or self.max_latency_ms or 1, "--cost-target")
        return amount(self.cost_target or self.max_macs or 1e6, "--cost-target") / 1e6


def _check_strategy(config: Config) -> None:
    """Refuse options that contradict the strategy, or would be ignored in silence."""
    learns = config.strategy in DIFFERENTIABLE
    limited = [flag for flag in LIMITS if getattr(config, flag)]
    if config.max_latency_ms and not config.latency_table:
        raise InputError(
            "--max-latency-ms needs --latency-table; measure one with: python -m trials.latency --space SPACE --out FILE"
        )
    if config.latency_table and not config.max_latency_ms and config.cost_loss == "none":
        raise InputError(
            "--latency-table has no effect without --max-latency-ms or --cost-loss; give one, or leave it out"
        )
    if limited and config.strategy in ("uniform", "strict-fair"):
        raise InputError(
            f"--{limited[0].replace('_', '-')} has no effect with --strategy {config.strategy}; use --strategy window, or set "
            "the limit in the search's YAML"
        )
    if config.strategy in ("window", "binned") and not limited:
        raise InputError(
            f"--strategy {config.strategy} needs --max-macs, --min-macs or --max-latency-ms, such as --max-macs 330M"
        )
    if config.strategy == "binned" and config.max_latency_ms:
        raise InputError("--strategy binned draws by MACs; leave --max-latency-ms out, or use --strategy window")
    if learns and config.max_macs and config.max_latency_ms:
        raise InputError(
            f"--strategy {config.strategy} exports under one limit; give --max-macs or --max-latency-ms, or search the supernet "
            "under both"
        )
    if learns and config.min_macs:
        raise InputError("--min-macs has no effect with a differentiable strategy; leave it out")
    for name in ("width_warmup", "use_all_blocks", "use_all_channels"):
        if learns and getattr(config, name):
            raise InputError(
                f"--{name.replace('_', '-')} is for sampling strategies, not {config.strategy}; leave it out"
            )
    meant_for = dict.fromkeys(LEARNING, learns)
    meant_for |= dict.fromkeys(("temperature", "temperature_decay", "hard"), config.strategy == "gumbel")
    if learns:
        meant_for |= dict.fromkeys(("cost_alpha", "cost_beta"), config.cost_loss == "power")
        meant_for |= {"cost_weight": config.cost_loss in ("linear", "target")}
        meant_for |= {"cost_target": config.cost_loss == "target"}
    recipe = RECIPES.get(config.preset, RECIPES["imagenet"])
    for name, used in meant_for.items():
        value = getattr(config, name)
        if not used and value not in (Config.__dataclass_fields__[name].default, recipe.get(name) if learns else None):
            what = (
                f"--cost-loss {config.cost_loss}"
                if learns and name.startswith("cost")
                else f"--strategy {config.strategy}"
            )
            raise InputError(
                f"--{name.replace('_', '-')} has no effect with {what}; leave it out, or see --help for what it is of"
            )
    if config.cost_loss in ("linear", "target") and not config.cost_weight:
        raise InputError(f"--cost-loss {config.cost_loss} needs --cost-weight, such as 0.1")
    if config.cost_loss == "target" and config.latency_table and not (config.cost_target or config.max_latency_ms):
        raise InputError(
            "--cost-loss target with a --latency-table needs --cost-target or --max-latency-ms, such as 12.5"
        )
    if config.cost_loss == "target" and not (config.cost_target or config.max_macs or config.max_latency_ms):
        raise InputError("--cost-loss target needs --cost-target or --max-macs, such as 300M")
    if config.import_official and config.dry_run:
        raise InputError("--import-official trains nothing; leave --dry-run out")
    _, world = cli.rank_and_world()
    parts = world * config.accumulate
    if config.batch_size % parts:
        raise InputError(
            f"--batch-size {config.batch_size} is not divisible into {world} processes x {config.accumulate} parts; give a "
            f"multiple of {parts}"
        )
