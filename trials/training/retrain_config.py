"""The options of trials.retrain: what is given wins, then the run or published network that is named, then the recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

from spaces.errors import InputError, unknown
from spaces.published import find_published
from spaces.spec import space_options_text
from trials.common import cli
from trials.common.cli import flag, option, reuse
from trials.common.machine import TRAINING, require_few
from trials.common.options import RECIPE, CheckpointOptions, SpaceOptions, TrainingDeviceOptions
from trials.common.run_dir import take_stored
from trials.common.supernet_run import SupernetRun
from trials.images.options import KEPT_BY_RUNS, DataOptions
from trials.networks.baselines import baseline_folder
from trials.training import recipes, sizing, start_options
from trials.training.choice_options import ChoiceOptions, check_choice, take_from_choice
from trials.training.frontier_options import FrontierOptions, check_frontier, take_from_frontier
from trials.training.network_options import NetworkOptimizerOptions, RegularizationOptions
from trials.training.start_options import FINETUNE, SUFFIX, StartOptions, check_start, check_start_folder
from trials.training.winners_options import class_weights_of, winners_config
from trials.watching.options import LoggerOptions, decide_loggers

FROM_SUPERNET = (
    *("space", "preset", "space_options", "data", "data_root", "resolution", "spos_preprocessing"),
    *("classes", "per_class", "val_labels", "test_fraction", "bad_files", "exif_orientation", *KEPT_BY_RUNS),
)
FITTED = (*sizing.SIZED, "decay_epochs")  # of a recipe, what the number of images decides


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(
    SpaceOptions,
    DataOptions,
    NetworkOptimizerOptions,
    RegularizationOptions,
    StartOptions,
    ChoiceOptions,
    FrontierOptions,
    TrainingDeviceOptions,
    CheckpointOptions,
    LoggerOptions,
):
    """Options of trials.retrain. What is None here comes from the supernet's run, the published network or the recipe.

    Where the images decide the preset or FITTED, these and `recipe` stay None until `fitted` knows them.
    """

    often: ClassVar[tuple[str, ...]] = (  # what --help shows
        *("fixed_arc", "baseline", "supernet", "out", "recipe", "seeds", "jobs", "dry_run", "data", "data_root"),
        *("epochs", "batch_size", "lr", "top", "top_random", "frontier", "device", "precision", "resume"),
    )

    fixed_arc: str | None = option(
        None,
        "Architecture to train: a file (our JSON, an NNI 1.x mask, the official SPOS tuple), or a published network such as "
        "spos-block",
        brief="Architecture to train: a file, or a published network such as spos-block",
    )
    baseline: str | None = option(
        None,
        "Model of timm or torchvision to train instead, such as timm:mobilenetv2_100 or timm:mobilenetv2_100,output_stride=8; "
        "most shrink images 32 times, at 32x32 pixels to one, and are a fairer baseline with output_stride=8; trials.space "
        "--for 8M --resolution 64 --rivals lists some of a cost",
    )
    import_official: str | None = option(None, "Network of the official SPOS code to test instead of training one")
    supernet: str | None = option(None, "Run of trials.supernet to take space, preset, data and resolution from")
    out: str = option(
        None,
        "Run directory to write",
        unset="retrain/ beside the file, runs/KEY, or RUN/baselines/NAME, with what the network starts from",
    )
    recipe: str = option(
        None,
        "Values of the options that say so, as a paper has them",
        choices=tuple(recipes.RECIPES),
        unset="by the space and preset",
    )
    seeds: int = option(1, "Number of networks to train, with the seeds from 0 on")
    jobs: int = option(1, "Number of seeds that are trained at the same time, each in a process of its own")
    dry_run: bool = option(False, "Train a few steps, say what the run would take, and write nothing")
    hold_out: float = option(0.0, "Part of the training images that chooses the best epoch instead; 0 means none")

    space: str = reuse(SpaceOptions, "space", default=None, unset="the published network's, or spos")
    preset: str = reuse(
        SpaceOptions, "preset", default=None, unset=f"the published network's, or {sizing.PRESET_UNSET}"
    )
    space_options: str = reuse(SpaceOptions, "space_options", default=None)
    cutout: int = reuse(DataOptions, "cutout", default=None, unset=RECIPE)
    checkpoint_every: int = reuse(CheckpointOptions, "checkpoint_every", default=500, unset="")

    def __post_init__(self) -> None:
        cli.named(self, "out")
        check_start(self)
        if self.frontier:
            check_frontier(self)
        elif self.chooses:
            check_choice(self, _default_out)
        elif sum(value is not None for value in (self.fixed_arc, self.baseline, self.import_official)) != 1:
            raise InputError(
                "give either --fixed-arc FILE or --import-official FILE or --baseline timm:NAME, one of them, or --supernet RUN with "
                "--frontier NUMBER, --top NUMBER, --top-random NUMBER or both of these; see: python -m trials.retrain --help"
            )
        if self.out is None:
            object.__setattr__(self, "out", str(_default_out(self)))
        check_start_folder(self)
        decided = ("preset", "resolution", "recipe", "class_weights", "logger", *KEPT_BY_RUNS, *recipes.OPTIONS)
        if self.frontier:
            take_from_frontier(self, decided)
        elif self.chooses:
            take_from_choice(self)
        else:
            take_stored(self, "retrain", decided)
        decide_loggers(self)
        if self.supernet is not None:
            self._take_from_supernet(self.supernet)
        else:
            self._take_from_network()
        super().__post_init__()
        self.decide_preprocessing(official=bool(self.import_official))
        winner = winners_config(self)
        if winner:
            for name in ("recipe", *recipes.OPTIONS):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, winner.get(name))
        object.__setattr__(self, "class_weights", class_weights_of(self))
        if self.recipe not in (None, *recipes.RECIPES):
            raise InputError(unknown("recipe", self.recipe, recipes.RECIPES))
        if self.import_official:
            object.__setattr__(self, "recipe", self.recipe_name)
        by_name = self.recipe is not None
        cli.fill_and_check(
            self,
            {name: value for name, value in self.recipe_values().items() if by_name or name not in FITTED},
            positive=(
                "seeds",
                "jobs",
                "epochs",
                "top_epochs",
                "batch_size",
                "lr",
                "checkpoint_every",
                "eval_every",
                "decay_epochs",
            ),
            fractions=("warmup", "label_smoothing", "momentum", "color_jitter", "ema", "hold_out"),
        )
        require_few("--jobs", self.jobs, TRAINING)
        _check(self)

    @property
    def training_part(self) -> str:
        """The part of the images that the weights learn from."""
        return "train" if self.hold_out else "all"

    @property
    def kind(self) -> str:
        """What is trained, see `sizing`."""
        return "fine-tuning" if self.start else "network"

    @property
    def recipe_name(self) -> str | None:
        """The recipe that is given, or that of the preset or of pretrained weights; None while none is known."""
        if self.recipe is None and self.preset is not None:
            return FINETUNE if self.pretrained else recipes.default_name(self.space, self.preset)
        return self.recipe

    def recipe_values(self) -> dict[str, Any]:
        """The options of the recipe, as published, or shorter for weights of a supernet; {} while it is not known."""
        name = self.recipe_name
        values = recipes.recipe(name, self.space, self.preset) if name else {}
        return recipes.shorter(values) if values and self.from_supernet else values

    def fitted(self, images: int, beside: str = "") -> tuple[Config, str]:
        """Complete the options by the number of training images; a recipe that is given by its name is taken as it is.

        Args:
            images: of the part that the weights learn from.
            beside: what other images there are, for the sentence.
        Returns:
            The options, and what was chosen and why, in one line; "" where nothing was left to choose.
        """
        if self.recipe is not None:
            return self, ""
        given = {name: getattr(self, name) for name in FITTED}
        how: dict[str, Any] = {"kind": self.kind, "pieces": cli.rank_and_world()[1], "beside": beside}
        values, sentence = sizing.fit(str(self.recipe_name), self.recipe_values(), given, images, **how)
        return dataclasses.replace(self, recipe=self.recipe_name, **values), sentence

    def _take_from_supernet(self, path: str) -> None:
        """Take space, preset and images from the run of a supernet, and refuse options that contradict it."""
        run = SupernetRun.open(path, trained=False)
        stored = run.config
        if self.from_supernet and not run.trained:
            raise InputError(
                f"--from-supernet: '{path}' has no trained weights; train it to the end, or leave --from-supernet out"
            )
        published = find_published(self.fixed_arc)
        if published and published[0] != stored["space"]:
            raise InputError(
                f"--fixed-arc {self.fixed_arc} is of space {published[0]}, supernet '{path}' has {stored['space']}; "
                "leave --supernet out, or name a network of that space"
            )
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in FROM_SUPERNET:
            value, given = stored.get(name, defaults[name]), getattr(self, name)
            if name == "data_root" and given:  # the images may have moved
                continue
            if self.pretrained and (name == "spos_preprocessing" or (name == "resolution" and given)):
                continue  # these are of the weights
            if given not in (value, defaults[name]):
                typed = f"{flag(name)} {given}" if given is not False else f"--no-{flag(name)[2:]}"
                raise InputError(f"{typed}: supernet '{path}' has {value}; leave {typed.split()[0]} out")
            object.__setattr__(self, name, value)
        fraction = stored["score_fraction"]
        if self.hold_out not in (0, fraction):
            raise InputError(
                f"--hold-out {self.hold_out}: supernet '{path}' holds {fraction} of its training images out; "
                f"give --hold-out {fraction}"
            )

    def _take_from_network(self) -> None:
        """Take space and preset from the published network that is named, else the defaults; a folder decides later."""
        preset = "imagenet" if self.import_official else sizing.PRESETS.get(self.data)
        defaults = {"space": "spos", "preset": preset, "space_options": ""}
        published = find_published(self.fixed_arc)
        if published:
            space, network = published
            if self.space not in (None, space):
                raise InputError(
                    f"--fixed-arc {self.fixed_arc} is of space {space}, not {self.space}; leave --space out"
                )
            defaults = {"space": space, "preset": network.preset, "space_options": space_options_text(network.options)}
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)


def _default_out(config: Config) -> Path:
    """Where a run is written: retrain/ beside the architecture's file, for all others a folder of their own."""
    suffix = SUFFIX.get(config.start, "")
    if config.baseline:
        return Path(config.supernet or "runs") / "baselines" / (baseline_folder(config.baseline) + suffix)
    if config.chooses:
        return Path(str(config.supernet)) / "retrain"
    path = Path(str(config.fixed_arc or config.import_official))
    if find_published(config.fixed_arc):
        return Path(config.supernet) / f"retrain-{path}{suffix}" if config.supernet else Path("runs") / path
    if config.fixed_arc and path.parent.name == "frontier":  # MACS-ID.json
        return path.parent.parent / f"retrain-{path.stem.rpartition('-')[2]}{suffix}"
    return start_options.retrain_folder(path, suffix)


def _check(config: Config) -> None:
    """Refuse values out of range and options that contradict each other."""
    if config.top_epochs is not None and not config.chooses:
        raise InputError(
            "--top-epochs is of the candidates of --top and --top-random; give one of these, or leave it out"
        )
    cli.not_negative(config, "clip_norm", "mixup", "cutmix", "randaugment", "cutout", "weight_decay", "dropout")
    if config.randaugment_magnitude is not None and not 0 <= config.randaugment_magnitude <= 30:
        raise InputError(f"--randaugment-magnitude {config.randaugment_magnitude} is out of range; give 0 to 30")
    if config.dropout is not None and config.dropout >= 1:
        raise InputError(f"--dropout {config.dropout} is out of range; give 0 to below 1")
    if config.decay_rate is not None and not 0 < config.decay_rate <= 1:
        raise InputError(f"--decay-rate {config.decay_rate} is out of range; give a number above 0, at most 1")
    if config.nesterov and config.optimizer and (config.optimizer != "sgd" or not config.momentum):
        raise InputError("--nesterov is of --optimizer sgd with a --momentum above 0; give --no-nesterov")
    if config.dry_run and config.import_official:
        raise InputError("--import-official trains nothing; leave --dry-run out")
    if config.import_official and config.hold_out:
        raise InputError("--import-official trains nothing; leave --hold-out out")
    _, world = cli.rank_and_world()
    if world == 1:
        return
    if config.jobs > 1:
        raise InputError(f"--jobs {config.jobs} under torchrun: all its processes train one seed; leave --jobs out")
    if config.import_official:
        raise InputError("--import-official trains nothing; start it without torchrun")
    if config.batch_size is not None and config.batch_size % world:
        raise InputError(
            f"--batch-size {config.batch_size} is not divisible among {world} processes; give a multiple of {world}"
        )
