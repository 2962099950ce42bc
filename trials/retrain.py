"""Train one network from scratch with a paper's recipe, as a plain torch network, and test it.

    python -m trials.retrain --fixed-arc runs/digits/arc.json --supernet runs/digits --seeds 3
    python -m trials.retrain --fixed-arc spos-block --data folder --data-root ~/imagenet        # a published network
    python -m trials.retrain --baseline timm:mobilenetv2_100 --supernet runs/digits             # with the winner's recipe
    torchrun --nproc-per-node 8 -m trials.retrain --fixed-arc spos-block --data folder --data-root ~/imagenet
    python -m trials.retrain --import-official NETWORK.pth.tar --data folder --data-root ~/imagenet --out RUN

All training images are used (the scoring part too), but for those that --hold-out keeps to choose the best epoch; the test
images are read once, at the end. With --supernet, space, data and resolution are those of the search. Options that are given
win over --recipe. With --resume a killed run goes on, bitwise on a CPU. --import-official reads a network that the official
SPOS code trained: its architecture, found from its weights, goes to RUN/arc.json (for --fixed-arc), and its accuracy on the
test images is measured instead of training.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from spaces.errors import InputError, unknown
from spaces.published import PUBLISHED, Published
from trials import cli, recipes
from trials.cli import option
from trials.data_options import DataOptions

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
    checkpoint_every: int = option(500, "steps between checkpoints")
    resume: bool = option(False, "continue the run in --out, or start it when there is none")

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.fixed_arc, self.baseline, self.import_official)) != 1:
            raise InputError(
                "give either --fixed-arc FILE or --import-official FILE or --baseline timm:NAME, one of them; "
                "see: python -m trials.retrain --help"
            )
        if self.baseline:
            from trials.networks import parse_baseline

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
        key = published(self.fixed_arc)
        if self.supernet is not None:
            from trials.run_dir import load_run

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


def published(text: str | None) -> tuple[str, Published] | None:
    """Space and entry of a published network; None where the name is none, or a file has it."""
    if text is None or Path(text).exists():
        return None
    return next(((space, entries[text]) for space, entries in PUBLISHED.items() if text in entries), None)


def winners_config(config: Config) -> dict[str, Any] | None:
    """For a baseline: the configuration of RUN/retrain, whose recipe it takes; None where there is none, or --recipe is given."""
    from trials.run_dir import load_run

    if not (config.baseline and config.supernet) or not (Path(config.supernet) / "retrain" / "config.json").exists():
        return None
    stored = load_run(Path(config.supernet) / "retrain", "retrain")
    return stored if config.recipe in (None, stored.get("recipe")) else None


def _default_out(config: Config) -> Path:
    """retrain/ beside the file, but for the files of RUN/frontier, published networks and baselines."""
    if config.baseline:
        from trials.networks import baseline_folder

        return Path(config.supernet or "runs") / "baselines" / baseline_folder(config.baseline)
    path = Path(str(config.fixed_arc or config.import_official))
    if published(config.fixed_arc):
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


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__)
    rank, _ = cli.rank_and_world()
    if rank:
        sys.stdout = open(os.devnull, "w")  # one process speaks

    from spaces.files import save_json
    from trials import run_dir
    from trials.device import use_cuda

    use_cuda(config.device, config.precision)
    imported = None
    if config.import_official:
        from trials import official

        imported = official.read_network(config.import_official, config.space, config.preset, config.space_options)
        if config.seeds != 1:
            raise InputError(f"--seeds {config.seeds} with --import-official: there is one network; leave --seeds out")
        config = dataclasses.replace(config, space_options=cli.space_options_text(imported.options))
    arch = None if config.baseline else imported.arch if imported else read_arch(config)
    data = open_data(config)
    if not data.size("test"):
        raise InputError(f"'{config.data_root}' has no test images: too few of each class; give more, or a val/ folder")
    data.check_files("test")
    if imported:
        official.check_classes(imported, data)
    elif config.hold_out and not data.size("score"):
        raise InputError(f"--hold-out {config.hold_out} of so few images is none; raise it")
    else:
        # refuses a batch that is too large
        data.steps_per_epoch("train" if config.hold_out else "all", config.batch_size)
    about, macs, params = describe(config, arch, data)

    run = Path(config.out)
    if not rank:
        _tell(config, data)
        run = run_dir.open_run(config.out, "retrain", config, resume=config.resume)
        _keep_arch(run, arch)
        data.save(run)
    missing = [seed for seed in range(config.seeds) if not (run / f"seed{seed}" / "result.json").exists()]
    train_all(config, about, missing, data, imported)
    if rank:
        return
    summary = summarise(run, config.seeds, {**_what(config, arch), "macs": macs, "params": params})
    save_json(run / "result.json", summary)
    if config.baseline:
        from trials import comparison

        comparison.main(Path(config.supernet) if config.supernet else run, run, config.device)


def read_arch(config: Config) -> dict[str, Any]:
    """The architecture that --fixed-arc names.

    Raises:
        InputError: there is no such file or published network, or it does not fit the space.
    """
    import spaces
    from spaces.arch import ArchError, load_arch, validate

    given = str(config.fixed_arc)
    options = cli.space_options(config.space_options)
    choices = spaces.describe(config.space, config.preset, resolution=config.resolution, **options).choices
    key = published(given)
    space = " ".join(filter(None, (config.space, config.preset, config.space_options)))
    hint = "" if config.supernet else "; give --supernet RUN, or --space and --preset, if it is of another"
    try:
        if key:
            validate(key[1].arch, choices)
            return dict(key[1].arch)
        return load_arch(given, choices)
    except ArchError as error:
        if key:
            raise InputError(
                f"--fixed-arc {given}: {error} (in space {space}; it is of {' '.join((key[0], key[1].preset))} "
                f"{cli.space_options_text(key[1].options)}".rstrip()
                + ")"
            ) from None
        if Path(given).is_file():
            raise InputError(f"{error} (in space {space}{hint})") from None
        if Path(given).exists():
            raise
        names = [name for entries in PUBLISHED.values() for name in entries]
        raise InputError(
            f"fixed-arc file '{given}' does not exist, and it is no published network: {unknown('name', given, names)}"
        ) from None


def describe(config: Config, arch: dict[str, Any] | None, data: Any) -> tuple[dict[str, Any], int, int]:
    """The network for trials.networks, its MACs and params.

    Raises:
        InputError: it cannot be made for these images, or the space is no longer what it was.
    """
    import spaces
    from spaces.cost import CostTable, measure
    from trials import networks

    if config.baseline:
        macs, params = networks.check_baseline(config.baseline, len(data.classes), data.resolution)
        return {"arch": None, "space": None, "baseline": config.baseline, "classes": len(data.classes)}, macs, params
    assert arch is not None
    options = cli.space_options(config.space_options) | {"classes": len(data.classes), "resolution": data.resolution}
    table = measure(spaces.describe(config.space, config.preset, **options))
    if config.supernet and not CostTable.load(Path(config.supernet) / "cost_table.json").same_costs(table):
        raise InputError(
            f"space {config.space} is not what it was when supernet '{config.supernet}' was trained; restore it"
        )
    about = {"arch": arch, "space": {"name": config.space, "preset": config.preset, "options": options}}
    return about, table.macs(arch), table.params(arch)


def open_data(config: Config) -> Any:
    """The images, those of the search where there was one, with the preprocessing and augmentation of the run."""
    import spaces
    from trials.data import load_data

    options = cli.space_options(config.space_options)
    resolution = spaces.describe(config.space, config.preset, resolution=config.resolution, **options).resolution
    data = load_data(config, resolution, score_fraction=config.hold_out or 0.1, run=config.supernet or config.out)
    data.randaugment = (config.randaugment, config.randaugment_magnitude)
    return data


def train_all(config: Config, about: dict[str, Any], missing: list[int], data: Any, imported: Any) -> None:
    """Train and test the seeds that have no result yet; an imported network is only tested."""
    from trials import networks, retraining

    if imported:
        from trials.device import make_fabric

        network = networks.build(about)
        network.load_state_dict(imported.weights)
        fabric = make_fabric(config.device, "32")
        for seed in missing:
            retraining.test(fabric, network.to(fabric.device), config, about, seed, data, 0.0)
    elif config.jobs > 1 and len(missing) > 1:
        with ProcessPoolExecutor(config.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(retraining.train, [config] * len(missing), [about] * len(missing), missing))
    else:
        for seed in missing:
            retraining.train(config, about, seed)


def summarise(run: Path, seeds: int, about: dict[str, Any]) -> dict[str, Any]:
    """Print the results of all seeds; returns what result.json of the run holds."""
    from spaces.files import load_json

    results = [load_json(run / f"seed{seed}" / "result.json", "result") for seed in range(seeds)]
    top1 = [result["test_top1"] for result in results]
    summary = {
        **about,
        "test_top1": top1,
        "mean": statistics.mean(top1),
        "std": statistics.stdev(top1) if len(top1) > 1 else None,
        "test_images": results[0]["test_images"],
        "seconds": [result["seconds"] for result in results],
    }
    rows = [(seed, r["test_top1"], r["test_top5"], r["seconds"]) for seed, r in enumerate(results)]
    print(cli.table(rows, ("seed", "test top-1 %", "test top-5 %", "seconds")))
    spread = f" +- {summary['std']:.2f} (standard deviation)" if summary["std"] is not None else ""
    print(
        f"test top-1 {summary['mean']:.2f}%{spread}, n = {len(top1)}, {summary['test_images']:,} test images, "
        f"{summary['macs']:,} MACs, {summary['params']:,} params"
    )
    return summary


def _what(config: Config, arch: dict[str, Any] | None) -> dict[str, Any]:
    return {"arch": None, "baseline": config.baseline} if config.baseline else {"arch": arch}


def _keep_arch(run: Path, arch: dict[str, Any] | None) -> None:
    """Write the architecture into a run. Raises InputError: it was started with another."""
    from spaces.arch import arch_id
    from spaces.files import load_json, save_json

    if arch is None:
        return
    stored = load_json(run / "arc.json", "fixed arc") if (run / "arc.json").exists() else arch
    if stored != arch:
        raise InputError(f"'{run}' was started with another architecture ({arch_id(stored)}); choose another --out")
    save_json(run / "arc.json", arch)


def _tell(config: Config, data: Any) -> None:
    """Say what may surprise."""
    if config.import_official:
        return
    if winners_config(config):
        print(f"recipe: options that are not given are those of the winner, '{config.supernet}/retrain'")
    recipe = recipes.RECIPES[config.recipe]
    if config.lr == recipe["lr"] and config.batch_size != recipe["batch_size"]:
        print(
            f"note: lr {config.lr:g} of recipe {config.recipe} is for batches of {recipe['batch_size']:,}, and is not scaled for "
            f"{config.batch_size:,}; in proportion it would be --lr {config.lr * config.batch_size / recipe['batch_size']:.3g}"
        )
    if config.baseline and data.resolution < 64 and "output_stride" not in config.baseline:
        print(
            f"note: most models shrink images 32 times, {data.resolution}x{data.resolution} pixels to "
            f"{-(-data.resolution // 32)}x{-(-data.resolution // 32)}; where a model takes it, ,output_stride=8 is a stronger baseline"
        )


def load_network(path: Path) -> Any:
    """The trained network in a network.pt, as a plain torch module in eval mode.

    Raises:
        InputError: the file is missing or damaged.
    """
    from trials import networks
    from trials.run_dir import load_checkpoint

    stored = load_checkpoint(path, "network")
    network = networks.build(stored)
    network.load_state_dict(stored["model"])
    return network.eval()


if __name__ == "__main__":
    cli.run(main)
