"""The options of trials.supernet, the defaults of each preset, and which options contradict each other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from spaces.errors import InputError
from strategies.limits import Limits, amount, milliseconds
from trials.common import cli
from trials.common.cli import option, reuse
from trials.common.options import (
    CheckpointOptions,
    OptimizerOptions,
    RangeOptions,
    SpaceOptions,
    TrainingDeviceOptions,
)
from trials.common.run_dir import take_stored
from trials.images.options import KEPT_BY_RUNS, DataOptions
from trials.training import sizing, supernet_checks
from trials.training.strategy_options import DIFFERENTIABLE, LEARNING, MIXING, ONE_PATH, ArchOptions, StrategyOptions
from trials.training.supernet_checks import LIMITS, MOST_SUPERNETS
from trials.watching.options import LoggerOptions, decide_loggers

# The defaults of each preset, on data of its own size: ImageNet's are the official SPOS recipe, small's the same in batches of 128 (our
# own, not tuned), CIFAR's those of the seed implementation. Fewer images: `Config.fitted`. The temperature falls as far as in FBNet's 90 epochs; tiny's few steps need a high rate of the architecture parameters.
RECIPES: dict[str, dict[str, Any]] = {
    "imagenet": {
        **{"epochs": 120, "batch_size": 1024, "lr": 0.5, "weight_decay": 4e-5, "schedule": "linear"},
        **{"arch_warmup": 10, "temperature_decay": 0.045, "checkpoint_every": 500, "color_jitter": 0.4},
        "label_smoothing": 0.1,
    },
    "small": {
        **{"epochs": 150, "batch_size": 128, "lr": 0.0625, "weight_decay": 4e-5, "schedule": "linear"},
        **{"arch_warmup": 12, "temperature_decay": 0.027, "checkpoint_every": 500, "color_jitter": 0.4},
        "label_smoothing": 0.1,
    },
    "cifar": {
        **{"epochs": 600, "batch_size": 96, "lr": 0.025, "weight_decay": 3e-4, "schedule": "cosine"},
        **{"arch_warmup": 50, "temperature_decay": 0.007, "checkpoint_every": 500, "color_jitter": 0.0},
        "label_smoothing": 0.0,
    },
    "tiny": {
        **{"epochs": 20, "batch_size": 64, "lr": 0.1, "weight_decay": 4e-5, "schedule": "linear"},
        **{"arch_warmup": 2, "temperature_decay": 0.2, "arch_lr": 0.1, "checkpoint_every": 20, "color_jitter": 0.0},
        "label_smoothing": 0.1,
    },
}
# By preset: few steps leave cold paths at chance (docs/evaluation.md). Thresholds begin with all they have, which is as warm. Where
# blocks can be skipped, one warm path makes a supernet dislike skips (docs/chance.md): there gumbel and softmax, whose steps train all
# candidates, begin cold, and what trains one path of all candidates begins with all of them at once. That takes the memory of a
# mixture, so it is the default of the preset alone in which it was measured.
WARM_START = {"tiny": 0.3, "small": 0.3}
OP_WARMUP = {"tiny": 0.3}
FITTED = (*sizing.SIZED, "arch_warmup", "temperature_decay")  # of a recipe, what the number of images decides


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(
    SpaceOptions,
    DataOptions,
    StrategyOptions,
    RangeOptions,
    OptimizerOptions,
    ArchOptions,
    TrainingDeviceOptions,
    CheckpointOptions,
    LoggerOptions,
):
    """Options of trials.supernet. What is None here is filled in from the recipe of the preset, as soon as this is known.

    `preset` is known from the name of a data set, or once a folder was looked at; FITTED and `eval_every` once the images are
    counted (`fitted`).
    """

    often: ClassVar[tuple[str, ...]] = (  # what --help shows
        *("out", "dry_run", "space", "preset", "resolution", "data", "data_root", "val_labels", "strategy"),
        *("warm_start", "max_macs", "max_latency_ms", "latency_table", "epochs", "batch_size", "lr"),
        *("device", "resume"),
    )

    out: str = option(help="Run directory to write")
    import_official: str = option("", "Checkpoint of the official SPOS code to make a run of, instead of training")
    score_fraction: float = option(0.1, "Part of the training images that is held out to score candidates")
    ema: float = option(0.0, "Decay of a moving average of all weights, which becomes the supernet; 0 means none")
    accumulate: int = option(1, "Pieces of a batch that go through the network one after the other, to save memory")
    seed: int = option(0, "Seed of weights, batches, augmentation and paths")
    supernets: int = option(
        None,
        f"Supernets, at most {MOST_SUPERNETS}, of consecutive seeds, whose mean score ranks better than that of one; with --resume a run gets more of them",
        unset="1",
        brief="Supernets of consecutive seeds, whose scores are averaged",
    )
    eval_paths: int = option(5, "Number of fixed paths whose accuracy is followed; 0 means none")
    stop_after: int | None = option(None, "Stop after this many steps, with a checkpoint; --resume goes on")
    dry_run: bool = option(False, "Train a few steps, say what the run would take, and write nothing")

    preset: str = reuse(SpaceOptions, "preset", default=None, unset=sizing.PRESET_UNSET)
    optimizer: str = reuse(OptimizerOptions, "optimizer", default="sgd", choices=("sgd", "adam", "rmsprop"), unset="")
    momentum: float = reuse(OptimizerOptions, "momentum", default=0.9, unset="")
    decay_norm_and_bias: bool = reuse(OptimizerOptions, "decay_norm_and_bias", default=False, unset="")
    schedule: str = reuse(OptimizerOptions, "schedule", choices=("cosine", "linear", "step"))
    warmup: float = reuse(OptimizerOptions, "warmup", default=0.0, unset="")
    clip_norm: float = reuse(OptimizerOptions, "clip_norm", default=0.0, unset="")
    label_smoothing: float = reuse(OptimizerOptions, "label_smoothing", unset="0 with preset cifar, else 0.1")
    eval_every: int = reuse(CheckpointOptions, "eval_every", default=None, unset="a fifth of the epochs")

    def __post_init__(self) -> None:
        cli.named(self, "out")
        take_stored(self, "supernet", KEPT_BY_RUNS)
        super().__post_init__()
        self.decide_preprocessing(official=bool(self.import_official))
        take_stored(
            self,
            "supernet",
            ("preset", "resolution", "cost_loss", "warm_start", "op_warmup", "logger", "supernets", *RECIPES["tiny"]),
        )
        decide_loggers(self)
        if self.supernets is None:
            object.__setattr__(self, "supernets", 1)
        if self.class_weights == "none":  # the default has one form
            object.__setattr__(self, "class_weights", None)
        if self.cost_loss is None:
            object.__setattr__(self, "cost_loss", self.default_cost_loss())
        if self.preset is None:
            preset = "imagenet" if self.import_official else sizing.PRESETS.get(self.data)
            object.__setattr__(self, "preset", preset)
        recipe = self.recipe()
        cli.fill_and_check(
            self,
            {name: value for name, value in recipe.items() if self.import_official or name not in FITTED},
            positive=(
                *("batch_size", "lr", "checkpoint_every", "stop_after", *(() if self.trains_none else ("epochs",))),
                *("accumulate", "temperature", "arch_passes", "arch_lr"),
            ),
            fractions=("warmup", "warm_start", "op_warmup", "label_smoothing", "momentum", "color_jitter", "ema"),
        )
        if self.eval_every is None and self.epochs is not None:
            object.__setattr__(self, "eval_every", max(1, math.ceil(self.epochs / 5)))
        cli.not_negative(
            self,
            *("seed", "arch_warmup", "eval_paths", "clip_norm", "weight_decay", "arch_weight_decay"),
            *("temperature_decay", "cost_weight", "cost_alpha", "cost_beta"),
        )
        if self.eval_every is not None and not self.eval_every > 0:
            raise InputError(f"--eval-every {self.eval_every} is not above 0; give 1 or more, or --eval-paths 0")
        if self.eval_paths > 1000:
            raise InputError(f"--eval-paths {self.eval_paths} is above 1,000; give fewer")
        self.limits(), self.target()  # these refuse what is no number
        supernet_checks.check_limits(self)
        supernet_checks.check_learning(self, recipe)
        supernet_checks.check_warm_ups(self)
        supernet_checks.check_supernets(self)
        supernet_checks.check_batches(self)

    @property
    def trains_none(self) -> bool:
        """Whether the run is there for random candidates alone (`trials.retrain --top-random`), within a limit."""
        return self.epochs == 0 and bool(self.max_macs or self.max_latency_ms)

    def recipe(self) -> dict[str, Any]:
        """The recipe of the preset, as far as the strategy uses it; {} while the preset is not known."""
        if self.preset is None:
            return {}
        learns = self.strategy in DIFFERENTIABLE
        recipe = RECIPES.get(self.preset, RECIPES["imagenet"])
        return {name: value for name, value in recipe.items() if learns or name not in LEARNING}

    def fitted(self, images: int, beside: str = "") -> tuple[Config, str]:
        """Complete the options by the number of training images.

        Args:
            images: of the part that the weights learn from.
            beside: what other images there are, for the sentence.
        Returns:
            The options, and what was chosen and why, in one line; "" where nothing was left to choose.
        """
        given = {name: getattr(self, name) for name in FITTED}
        pieces = cli.rank_and_world()[1] * self.accumulate
        recipe = self.recipe()
        values, sentence = sizing.fit(self.preset, recipe, given, images, kind="supernet", pieces=pieces, beside=beside)
        if "temperature_decay" in values and self.strategy != "gumbel":  # nothing else has a temperature
            values["temperature_decay"] = recipe["temperature_decay"]
        return dataclasses.replace(self, **values), sentence

    def default_cost_loss(self) -> str:
        """The cost loss where none is given: a limit is not only kept by the export, but learned under."""
        limited = self.max_latency_ms if self.latency_table else self.max_macs
        return "limit" if self.strategy in DIFFERENTIABLE and limited else "none"

    def with_warm_start(self, possible: bool, skips: bool = False) -> Config:
        """Complete the options by whether the candidates of the space can inherit weights, and whether blocks can be skipped."""
        warm, opens = self.warm_start, self.op_warmup
        if opens is None:
            may_open = skips and self.strategy in ONE_PATH and not self.use_all_blocks and not self.import_official
            opens = self._leaving_epochs(OP_WARMUP) if may_open and warm is None else 0.0
        if warm is None:
            cold = self.strategy == "threshold" or (skips and self.strategy in MIXING and not self.hard) or opens
            warm = self._leaving_epochs(WARM_START) if possible and not cold else 0.0
        return dataclasses.replace(self, warm_start=warm, op_warmup=opens)

    def _leaving_epochs(self, parts: Mapping[str, float]) -> float:
        """The part of the steps that a preset has; 0 where a differentiable strategy had no epochs left to learn an architecture."""
        part = parts.get(self.preset, 0.0)
        if self.strategy not in DIFFERENTIABLE or self.epochs is None:
            return part
        return part if math.ceil(part * self.epochs) + (self.arch_warmup or 0) < self.epochs else 0.0

    def warm_steps(self, steps: int) -> int:
        """Steps of the warm start, of `steps` in all."""
        return round((self.warm_start or 0.0) * steps)

    def opening_steps(self, steps: int) -> int:
        """Steps of the op warm-up, which follow those of the warm start, of `steps` in all."""
        return min(round((self.op_warmup or 0.0) * steps), steps - self.warm_steps(steps))

    def first_arch_epoch(self, steps_per_epoch: int) -> int:
        """The epoch from which on the architecture learns: after warm start and op warm-up, and --arch-warmup epochs more.

        Raises:
            InputError: it lies beyond the last.
        """
        steps = self.epochs * steps_per_epoch
        warm = math.ceil((self.warm_steps(steps) + self.opening_steps(steps)) / steps_per_epoch)
        if self.strategy not in DIFFERENTIABLE:
            return self.epochs
        if warm + self.arch_warmup >= self.epochs:
            raise InputError(
                f"--arch-warmup {self.arch_warmup} after a warm start of {warm} epochs leaves none of {self.epochs} to learn an "
                "architecture; lower it, or raise --epochs"
            )
        return warm + self.arch_warmup

    def limits(self) -> Limits:
        """The limits of the paths that are trained, or of arc.json. Raises InputError: one is not a number."""
        return Limits.of({name: getattr(self, name) or None for name in LIMITS})

    def target(self) -> float:
        """The target of --cost-loss target, or the limit of --cost-loss limit, in million MACs or in milliseconds."""
        if self.latency_table:
            return milliseconds(self.cost_target or self.max_latency_ms or 1, "--cost-target")
        return amount(self.cost_target or self.max_macs or 1e6, "--cost-target") / 1e6
