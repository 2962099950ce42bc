"""Everything that a retraining needs before its first step: which network, which images, and what may surprise."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import spaces
from spaces.arch import Arch, ArchError
from spaces.cost import CostTable, measure
from spaces.errors import InputError, require_library
from spaces.fixed_arc import read_arch as read_published_or_file
from spaces.published import find_published
from spaces.spec import SpaceSpec, space_options_text
from trials.common import cli, run_dir
from trials.common.distributed import use_cuda
from trials.images.dataset import Data
from trials.networks import baselines, official_spos
from trials.networks.baselines import parse_baseline
from trials.networks.build import build_network
from trials.networks.pretrained import find_weights, input_of
from trials.training import memory, recipes, sizing
from trials.training.choose_preset import with_preset
from trials.training.compilation import require_compiler, require_layers
from trials.training.initial_weights import Start, check_start
from trials.training.retrain_config import Config
from trials.training.retrain_trainer import open_data
from trials.training.winners_options import winners_class_weights, winners_config, winners_folder


@dataclass(frozen=True)
class RetrainPlan:
    """What a retraining has been found to consist of.

    Attributes:
        config: the options, completed by what an imported network says about its space, and by what the images say.
        recipe: what was chosen by the number of images, and why, in one line; "" where there was nothing to choose.
        arch: the architecture; None for a baseline.
        network: the description of the network, see trials.networks.build.
        macs, params: of the network, for one image.
        start: the weights that it starts from.
        imported: the official network that is tested instead of training one; None where there is none.
    """

    config: Config
    recipe: str
    data: Data
    arch: Arch | None
    network: dict[str, Any]
    macs: int
    params: int
    start: Start
    imported: official_spos.OfficialCheckpoint | None

    @property
    def images(self) -> int:
        """Images that the training of one seed takes its steps with, counted once in each epoch."""
        per_epoch = self.data.steps_per_epoch(self.config.training_part, self.config.batch_size)
        return self.config.epochs * per_epoch * self.config.batch_size

    def summary(self) -> dict[str, Any]:
        """What result.json says about the network."""
        name = {"baseline": self.config.baseline} if self.config.baseline else {}
        start = {"start": self.start.about} if self.start.about else {}
        return {"arch": self.arch, **name, **start, "macs": self.macs, "params": self.params}


def plan_retraining(config: Config, arch: Arch | None = None) -> RetrainPlan:
    """Check a retraining against its network, its images and the device.

    Args:
        arch: the architecture, where it is known; otherwise the options name it.
    Raises:
        InputError: something of these cannot be used, or does not fit together.
    """
    if config.baseline:
        require_library(parse_baseline(config.baseline)[0], f"--baseline {config.baseline}")
    if config.start == "pretrained":
        find_weights(str(config.pretrained), str(config.baseline))
        if not config.supernet and config.resolution is None:  # of a search, the images stay as they are
            config = dataclasses.replace(config, resolution=input_of(str(config.baseline)).resolution)
    config = with_preset(config)
    require_compiler(config.compile, use_cuda(config.device, config.precision, config.cuda_graphs))
    if config.optimizer == "rmsprop-tf":
        require_library("timm", "--optimizer rmsprop-tf", "give --optimizer rmsprop")
    imported, recipe = None, ""
    if config.import_official:
        imported = official_spos.read_network(config.import_official, config.space, config.preset, config.space_options)
        if config.seeds != 1:
            raise InputError(f"--seeds {config.seeds} with --import-official: there is one network; leave --seeds out")
        config = dataclasses.replace(config, space_options=space_options_text(imported.options))
    if arch is None:
        arch = None if config.baseline else imported.arch if imported else read_arch(config)
    data = open_data(config, listed=not run_dir.left_over(config.out, "retrain"))
    if not data.size("test"):
        raise InputError(f"'{config.data_root}' has no test images: too few of each class; give more, or a val/ folder")
    data.check_files("test")
    if imported:
        official_spos.check_classes(imported, data)
    elif config.hold_out and not data.size("score"):
        raise InputError(f"--hold-out {config.hold_out} of so few images is none; raise it")
    else:
        part = config.training_part
        scored = part == "train" or config.supernet  # else no image was held out
        config, recipe = config.fitted(data.size(part), sizing.images_beside(part, data.size) if scored else "")
        data.steps_per_epoch(config.training_part, config.batch_size)  # this refuses a batch that is too large
    network, macs, params = describe_network(config, arch, data)
    start = check_start(config, network, data.resolution)
    network |= {"start": start.about} if start.about else {}
    require_layers(config.compile, partial(build_network, network))
    if not imported:
        estimate = partial(memory.network_bytes, config, network, data.resolution)
        memory.require_memory(config, estimate, data.resolution, processes=min(config.jobs, config.seeds))
    return RetrainPlan(config, recipe, data, arch, network, macs, params, start, imported)


def read_arch(config: Config) -> Arch:
    """The architecture that --fixed-arc names.

    Raises:
        InputError: there is no such file or published network, or it does not fit the space.
    """
    given = str(config.fixed_arc)
    options = cli.space_options(config.space_options)
    choices = spaces.describe(config.space, config.preset, resolution=config.resolution, **options).choices
    key = find_published(given)
    space = " ".join(filter(None, (config.space, config.preset, config.space_options)))
    try:
        return read_published_or_file(given, choices)
    except ArchError as error:
        if key:
            home = " ".join(filter(None, (key[0], key[1].preset, space_options_text(key[1].options))))
            raise InputError(f"--fixed-arc {given}: {error} (in space {space}; it is of {home})") from None
        if not Path(given).is_file():
            raise
        hint = "" if config.supernet else "; give --supernet RUN, or --space and --preset, if it is of another"
        raise InputError(f"{error} (in space {space}{hint})") from None


def describe_network(config: Config, arch: Arch | None, data: Data) -> tuple[dict[str, Any], int, int]:
    """Describe the network for trials.networks.build, and count its MACs and params.

    Raises:
        InputError: it cannot be made for these images, or the space is no longer what it was.
    """
    if config.baseline:
        macs, params = baselines.check_baseline(config.baseline, len(data.classes), data.resolution)
        return {"arch": None, "space": None, "baseline": config.baseline, "classes": len(data.classes)}, macs, params
    assert arch is not None
    sizes = {"classes": len(data.classes), "resolution": data.resolution}
    space = SpaceSpec(config.space, config.preset, cli.space_options(config.space_options) | sizes)
    table = measure(space.describe())
    if config.supernet and not CostTable.load(Path(config.supernet) / "cost_table.json").same_costs(table):
        raise InputError(
            f"space {config.space} is not what it was when supernet '{config.supernet}' was trained; restore it"
        )
    return {"arch": arch, "space": space.plain()}, table.macs(arch), table.params(arch)


def print_notes(plan: RetrainPlan) -> None:
    """Say what was chosen, and what may surprise a user about this recipe or baseline."""
    config, data = plan.config, plan.data
    if plan.recipe:
        print(plan.recipe)
    if config.import_official:
        return
    for note in plan.start.notes:
        print(note)
    published = find_published(config.fixed_arc)
    if published and published[1].counts_only:
        network = published[1]
        print(
            f"note: of {config.fixed_arc} only the counts are those of its authors, {network.top1}% is of their function: "
            f"{network.counts_only}"
        )
    print_winners_recipe(config)
    if config.start and config.class_weights == "balanced":
        source = ", as the winner's" if winners_class_weights(config) else ""
        print(f"class weights: balanced{source}, in fine-tuning too; --class-weights none: not")
    if config.baseline and data.resolution < sizing.SMALL_SIDE:
        stronger = baselines.stronger_baseline(config.baseline, len(data.classes), data.resolution, plan.macs)
        if stronger:
            print(
                f"note: this model shrinks images of {data.resolution}x{data.resolution} pixels to very few; it does so less as "
                f"--baseline {stronger}, a stronger baseline"
            )


def print_winners_recipe(config: Config) -> None:
    """Say where the options that are not given are from, where that is the winner's training."""
    if winners_config(config):
        part = f", in 1/{recipes.SHORTER} of its epochs" if config.from_supernet else ""
        print(f"recipe: options that are not given are those of the winner, '{winners_folder(config)}'{part}")
