"""The options of trials.retrain: what is given wins, then the run or published network that is named, then the recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from spaces.errors import InputError, unknown
from spaces.published import find_published
from trials.common import cli
from trials.common.cli import option
from trials.common.run_dir import load_run
from trials.images.options import DataOptions
from trials.networks.baselines import baseline_folder, parse_baseline
from trials.training import recipes

FROM_SUPERNET = (
    *("space", "preset", "space_options", "data", "data_root", "resolution", "spos_preprocessing"),
    *("classes", "per_class", "val_labels", "bad_files"),
)
OURS = "(default: the recipe's)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(DataOptions):
    fixed_arc: str | None = option(
        None,
        "architecture: a file (our JSON, an NNI 1.x mask, the official SPOS tuple), or a published network such as spos-block",
    )
    baseline: str | None = option(
        None,
        "a model of timm or torchvision instead, such as timm:mobilenetv2_100 or timm:mobilenetv2_100,output_stride=8. Most "
        "shrink images 32 times: at 32x32 pixels that leaves one, a weak baseline, and output_stride=8 a fairer one",
    )
    import_official: str | None = option(None, "network of the official SPOS code: test it instead of training one")
    out: str = option(None, "run directory to write (default: retrain/ beside the file, runs/KEY, RUN/baselines/NAME)")
    supernet: str | None = option(None, "run of trials.supernet: take space, preset, data and resolution from it")
    space: str = option(None, "search space (default: the published network's, or spos)")
    preset: str = option(None, "preset of the space (default: the published network's, or imagenet)")
    space_options: str = option(None, "further options of the space, such as variant=channel,last_width=512")
    seeds: int = option(1, "networks to train, with seeds 0, 1, ...")
    jobs: int = option(1, "seeds that are trained at the same time, each in a process of its own")
    recipe: str = option(
        None, "values of the options below (default: by the space and preset)", choices=tuple(recipes.RECIPES)
    )
    epochs: int = option(None, f"passes over the training images {OURS}")
    batch_size: int = option(None, f"images per step, of all processes together {OURS}")
    optimizer: str = option(
        None, f"optimiser; rmsprop-tf is MnasNet's {OURS}", choices=("sgd", "adam", "rmsprop", "rmsprop-tf")
    )
    lr: float = option(None, f"peak learning rate; not scaled for another batch size {OURS}")
    momentum: float = option(None, f"of SGD and RMSprop; beta1 of Adam {OURS}")
    nesterov: bool = option(None, f"Nesterov momentum, of SGD {OURS}")
    weight_decay: float = option(None, f"L2 penalty on convolutions and linear layers {OURS}")
    decay_norm_and_bias: bool = option(None, f"weight decay on BatchNorm and biases too {OURS}")
    schedule: str = option(
        None, f"learning rate after warm-up {OURS}", choices=("cosine", "linear", "step", "exponential")
    )
    decay_epochs: float = option(None, f"of schedule exponential: epochs between the falls {OURS}")
    decay_rate: float = option(None, f"of schedule exponential: what the rate is then multiplied by {OURS}")
    warmup: float = option(None, f"part of the steps with a rising learning rate {OURS}")
    label_smoothing: float = option(None, f"label smoothing {OURS}")
    clip_norm: float = option(None, f"largest norm of the gradient; 0: not clipped {OURS}")
    ema: float = option(None, f"decay of a moving average of the weights, which is then tested; 0: none {OURS}")
    dropout: float = option(None, "dropout before the classifier (default: the recipe's, else the network's own)")
    cutout: int = option(None, f"training images: side of the square that is cut out, pixels; 0: none {OURS}")
    randaugment: int = option(None, f"training images: operations of RandAugment on each; 0: none {OURS}")
    randaugment_magnitude: int = option(None, f"magnitude of RandAugment, 0 to 30 {OURS}")
    mixup: float = option(None, f"training images: alpha of mixup; 0: none {OURS}")
    cutmix: float = option(None, f"training images: alpha of CutMix, in turn with mixup at random; 0: none {OURS}")
    hold_out: float = option(0.0, "part of the training images that chooses the best epoch instead; 0: none")
    eval_every: int = option(1, "epochs between measurements on the held-out images")
    precision: str = option(
        "auto", "arithmetic; auto: bf16-mixed on GPUs", choices=("auto", "32", "16-mixed", "bf16-mixed")
    )
    device: str = option("auto", "where to train", choices=("auto", "cpu", "cuda"))
    checkpoint_every: int = option(500, "steps between checkpoints; there is one after every epoch too")
    resume: bool = option(False, "continue the run in --out, or start it when there is none")

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.fixed_arc, self.baseline, self.import_official)) != 1:
            raise InputError(
                "give either --fixed-arc FILE or --import-official FILE or --baseline timm:NAME, one of them; "
                "see: python -m trials.retrain --help"
            )
        if self.baseline:
            parse_baseline(self.baseline)
        if self.out is None:
            object.__setattr__(self, "out", str(_default_out(self)))
        self._take_space()
        super().__post_init__()
        self.settle_preprocessing(official=bool(self.import_official))
        winner = winners_config(self)
        if winner:
            for name in recipes.OPTIONS:
                if getattr(self, name) is None:
                    object.__setattr__(self, name, winner.get(name))
        if self.recipe is None:
            name = (winner or {}).get("recipe") or recipes.default_name(self.space, self.preset)
            object.__setattr__(self, "recipe", name)
        if self.recipe not in recipes.RECIPES:
            raise InputError(unknown("recipe", self.recipe, recipes.RECIPES))
        cli.fill_and_check(
            self,
            recipes.recipe(self.recipe, self.space, self.preset),
            positive=("seeds", "jobs", "epochs", "batch_size", "lr", "checkpoint_every", "eval_every", "decay_epochs"),
            fractions=("warmup", "label_smoothing", "momentum", "color_jitter", "ema", "hold_out"),
        )
        _check(self)

    def _take_space(self) -> None:
        """Settle space, preset and data: from the supernet, else from the published network, else the defaults."""
        key = find_published(self.fixed_arc)
        if self.supernet is not None:
            stored = load_run(self.supernet, "supernet")
            if key and key[0] != stored["space"]:
                raise InputError(
                    f"--fixed-arc {self.fixed_arc} is of space {key[0]}, supernet '{self.supernet}' has {stored['space']}; "
                    "leave --supernet out, or name a network of that space"
                )
            defaults = {field.name: field.default for field in dataclasses.fields(self)}
            for name in FROM_SUPERNET:
                value, given = stored.get(name, defaults[name]), getattr(self, name)
                if name == "data_root" and given:  # the images may have moved
                    continue
                if given not in (value, defaults[name]):
                    flag = "--" + name.replace("_", "-")
                    typed = f"{flag} {given}" if given is not False else "--no-" + flag[2:]
                    raise InputError(f"{typed}: supernet '{self.supernet}' has {value}; leave {typed.split()[0]} out")
                object.__setattr__(self, name, value)
            if self.hold_out not in (0, stored["score_fraction"]):
                fraction = stored["score_fraction"]
                raise InputError(
                    f"--hold-out {self.hold_out}: supernet '{self.supernet}' holds {fraction} of its training images out; "
                    f"give --hold-out {fraction}"
                )
            return
        if key and self.space not in (None, key[0]):
            raise InputError(f"--fixed-arc {self.fixed_arc} is of space {key[0]}, not {self.space}; leave --space out")
        defaults = {"space": "spos", "preset": "imagenet", "space_options": ""}
        if key:
            options = cli.space_options_text(key[1].options)
            defaults = {"space": key[0], "preset": key[1].preset, "space_options": options}
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)


def winners_config(config: Config) -> dict[str, Any] | None:
    """For a baseline: the configuration of RUN/retrain, whose recipe it takes; None where there is none, or --recipe is given."""
    if not (config.baseline and config.supernet) or not (Path(config.supernet) / "retrain" / "config.json").exists():
        return None
    stored = load_run(Path(config.supernet) / "retrain", "retrain")
    return stored if config.recipe in (None, stored.get("recipe")) else None


def _default_out(config: Config) -> Path:
    """retrain/ beside the file, but for the files of RUN/frontier, published networks and baselines."""
    if config.baseline:
        return Path(config.supernet or "runs") / "baselines" / baseline_folder(config.baseline)
    path = Path(str(config.fixed_arc or config.import_official))
    if find_published(config.fixed_arc):
        return Path(config.supernet) / f"retrain-{path}" if config.supernet else Path("runs") / path
    if config.fixed_arc and path.parent.name == "frontier":  # MACS-ID.json
        return path.parent.parent / f"retrain-{path.stem.rpartition('-')[2]}"
    return path.parent / "retrain"


def _check(config: Config) -> None:
    """Refuse values out of range and options that contradict each other."""
    cli.not_negative(config, "clip_norm", "mixup", "cutmix", "randaugment", "cutout", "weight_decay", "dropout")
    if not 0 <= config.randaugment_magnitude <= 30:
        raise InputError(f"--randaugment-magnitude {config.randaugment_magnitude} is out of range; give 0 to 30")
    if config.dropout is not None and config.dropout >= 1:
        raise InputError(f"--dropout {config.dropout} is out of range; give 0 to below 1")
    if not 0 < config.decay_rate <= 1:
        raise InputError(f"--decay-rate {config.decay_rate} is out of range; give a number above 0, at most 1")
    if config.nesterov and (config.optimizer != "sgd" or not config.momentum):
        raise InputError("--nesterov is of --optimizer sgd with a --momentum above 0; give --no-nesterov")
    if config.import_official and config.hold_out:
        raise InputError("--import-official trains nothing; leave --hold-out out")
    _, world = cli.rank_and_world()
    if world == 1:
        return
    if config.jobs > 1:
        raise InputError(f"--jobs {config.jobs} under torchrun: all its processes train one seed; leave --jobs out")
    if config.import_official:
        raise InputError("--import-official trains nothing; start it without torchrun")
    if config.batch_size % world:
        raise InputError(
            f"--batch-size {config.batch_size} is not divisible among {world} processes; give a multiple of {world}"
        )
