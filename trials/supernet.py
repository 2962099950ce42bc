"""Train a supernet.

    python -m trials.supernet --preset tiny --data digits --out runs/digits
    python -m trials.supernet --preset tiny --data digits --out runs/digits --resume
    python -m trials.supernet --space proxylessnas --strategy gumbel --max-macs 320M --cost-loss power --data ... --out RUN
    python -m trials.supernet --data folder --data-root ~/imagenet --workers 16 --out runs/spos-imagenet [--dry-run]
    torchrun --nproc-per-node 8 -m trials.supernet --data folder --data-root ~/imagenet --workers 8 --out RUN
    python -m trials.supernet --import-official checkpoint-150000.pth.tar --data folder --data-root ~/imagenet --out RUN

Sampling strategies (uniform, window, binned, strict-fair) draw the paths that a step trains; differentiable ones (softmax,
gumbel, gates, threshold) also learn how probable each candidate is, and write the most probable architecture within
--max-macs to RUN/arc.json. With --resume a run goes on from its last checkpoint, and on a CPU ends with the very weights it
would have had without the interruption: batches, augmentation, paths and dropout of a step are functions of (seed, step)
alone. --import-official makes a run of a supernet that the official SPOS code trained.
"""

from __future__ import annotations

import dataclasses
import math
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from trials import cli
from trials.cli import option
from trials.data_options import DataOptions

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
        from strategies.limits import Limits

        return Limits.of({name: getattr(self, name) or None for name in LIMITS})

    def target(self) -> float:
        """Of --cost-loss target: million MACs, or milliseconds."""
        from strategies.limits import amount, milliseconds

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


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__)
    rank, _ = cli.rank_and_world()
    if rank:
        sys.stdout = open(os.devnull, "w")  # one process speaks

    import spaces
    from trials.data import load_data
    from trials.device import use_cuda

    options = cli.space_options(config.space_options)
    imported = None
    if config.import_official:
        from trials import official

        imported = official.read_supernet(config.import_official, config.space, config.preset, config.space_options)
    # everything a user can get wrong is checked before the slow imports
    use_cuda(config.device, config.precision)
    described = spaces.describe(config.space, config.preset, resolution=config.resolution, **options)
    data = load_data(
        config,
        described.resolution,
        score_fraction=config.score_fraction,
        arch_fraction=config.arch_fraction,
        run=config.out,
    )
    if not data.size("score"):
        raise InputError(f"--score-fraction {config.score_fraction} of so few images is none; raise it")
    if imported:
        official.check_classes(imported, data)
    else:
        for part in ("weights", "arch") if config.strategy in DIFFERENTIABLE else ("train",):
            config.first_arch_epoch(data.steps_per_epoch(part, config.batch_size))  # refuses a batch that is too large
    if config.warm_start and described.inherit is None and any(block.label for block in described.blocks):
        raise InputError(f"space {config.space} has no warm start (no `inherit`); leave --warm-start out")
    if config.strategy == "threshold" and any(block.label for block in described.blocks):
        raise InputError(
            f"--strategy threshold decides on superkernels; space {config.space} has blocks with candidates; use gumbel"
        )

    from spaces.cost import measure, search_space
    from spaces.files import save_json
    from spaces.latency import LatencyTable
    from strategies.limits import Feasible
    from trials import run_dir

    options |= {"classes": len(data.classes), "resolution": data.resolution}
    chain = spaces.describe(config.space, config.preset, **options)
    table = measure(chain)  # builds every candidate once: what is wrong with a space comes out before the run exists
    latency = LatencyTable.load(config.latency_table, table) if config.latency_table else None
    feasible = Feasible(table, config.limits(), latency)  # refuses limits out of reach
    about = {"name": config.space, "preset": config.preset, "options": options}
    loss_table = latency.costs if latency else table  # nanoseconds, or MACs
    if config.cost_loss == "power" and loss_table.bounds().min_macs <= 1e6:
        raise InputError(
            f"--cost-loss power takes the logarithm of the cost in {'milliseconds' if latency else 'millions'}, and the space "
            f"starts at {loss_table.bounds().min_macs / 1e6:.3g}; use linear or target, with --cost-weight"
        )
    paths = make_paths(config, chain, feasible, data)
    # the paths whose accuracy is followed, within the limits; always the same ones
    watched = [feasible.sample(random.Random(f"fixed path {place}")) for place in range(config.eval_paths)]

    if config.dry_run:
        from trials.dry_run import estimate
        from trials.trainer import Trainer

        trainer = Trainer(config, data, about, loss_table, paths)
        print(cli.table(estimate(trainer, table), ("dry run", ""), as_is=True))
        return
    run = Path(config.out)
    if not rank:
        run = run_dir.open_run(config.out, "supernet", config, resume=config.resume)
    if (run / "supernet.pt").exists():
        print(f"'{run}' is complete: {run / 'supernet.pt'}")
        return
    if not rank:
        data.save(run)
        table.save(run / "cost_table.json")
        save_json(run / "search_space.json", search_space(chain.choices))
    if imported:
        weights = imported.weights
    else:
        from trials.trainer import Trainer

        weights = train(Trainer(config, data, about, loss_table, paths), run, feasible, watched)
    if weights and not rank:
        more = {"space": about, "seed": config.seed, "preprocessing": data.preprocessing()}
        run_dir.save_checkpoint(run / "supernet.pt", {"model": weights, **more})
        print(f"supernet: {run / 'supernet.pt'}")


def make_paths(config: Config, chain: Any, feasible: Any, data: Any) -> Any:
    """What the steps of a sampling strategy train; None for a differentiable one.

    Args:
        feasible: the part of the space within the limits.
    Raises:
        InputError: settings that contradict each other.
    """
    from strategies.limits import binned, window
    from strategies.sampling import STRATEGIES, Paths

    if config.strategy in DIFFERENTIABLE or config.import_official:
        return None
    if config.strategy == "window":
        draw = window(feasible)
    elif config.strategy == "binned":
        draw = binned(feasible.table, feasible.limits)
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


def train(trainer: Any, run: Path, feasible: Any, watched: list[dict[str, Any]]) -> dict[str, Any]:
    """The training loop, from the last checkpoint, if there is one.

    Args:
        trainer: a trials.trainer.Trainer: what one step does.
        feasible: the part of the space within the limits.
        watched: the paths whose accuracy is followed.
    Returns:
        The state dict of the supernet; {} when it was stopped before the end.
    """
    import torch
    from torch.utils.tensorboard import SummaryWriter

    from trials import run_dir
    from trials.device import average, same_everywhere
    from trials.fixed_paths import FixedPaths

    config, data = trainer.config, trainer.data
    steps, per_epoch, size = trainer.steps, trainer.steps_per_epoch, config.batch_size
    speaks = trainer.rank == 0
    print(
        f"{config.space} {config.preset}: {feasible.table.architectures():.2e} architectures, {data.size('train'):,} training images, "
        f"{data.size('score'):,} scoring images, {steps:,} steps on {trainer.fabric.device}"
        + (f" x {trainer.world} processes" if trainer.world > 1 else "")
    )

    last = run / "checkpoints" / "last.pt"
    first, window_steps = 0, 0
    window = torch.zeros(2, device=trainer.fabric.device)  # sums of loss and top-1 since the last line of the log
    costs: list[float] = []  # expected, since then
    if last.exists():
        state = run_dir.load_checkpoint(last, "checkpoint")
        trainer.restore(state)
        first = state["step"]
        window, window_steps = state["log"]["window"].to(trainer.fabric.device), state["log"]["window_steps"]
        costs = state["log"]["costs"]
        print(f"resumed at step {first:,}")
    same_everywhere(trainer.fabric.device, first, last, data.fingerprint(), config.data_root)
    good = f"the last good checkpoint is '{last}' (step {first:,})" if first else "there is no checkpoint yet"
    if speaks and watched:
        watch = FixedPaths(trainer.chain, watched, data, size, trainer.fabric.device)
    if speaks:
        log = run_dir.Log(run / "log.jsonl", after_step=first or -1)
        board = SummaryWriter(str(run / "tensorboard"), purge_step=first + 1)
    if speaks and trainer.search is not None:
        history = run_dir.Log(run / "probabilities.jsonl", after_step=first or -1)
        if not first:
            history.write(step=0, probabilities=trainer.probabilities())

    def note(step: int, values: dict[str, float], **more: Any) -> None:
        log.write(step=step, epoch=step / per_epoch, **more, **values)
        for name, value in values.items():
            board.add_scalar(name, value, step)

    def save(step: int) -> str:
        if speaks:
            board.flush()
            sums = {"window": window, "window_steps": window_steps, "costs": costs}
            run_dir.save_checkpoint(last, {**trainer.state(), "step": step, "log": sums})
        return f"the last good checkpoint is '{last}' (step {step:,})"

    stop = min(steps, config.stop_after or steps)
    began = time.perf_counter()
    unchecked: list[tuple[int, torch.Tensor]] = []
    bar = cli.progress(steps * size, desc="supernet", unit="img", initial=first * size)
    for step, (images, labels, arch_batches) in zip(range(first, stop), trainer.batches(first), strict=False):
        loss, top1 = trainer.step(step, images, labels)
        for number, batch in enumerate(arch_batches):
            expected, arch_loss = trainer.arch_step(step, number, *batch)
            costs.append(expected)
            unchecked.append((step, arch_loss))
        unchecked.append((step, loss))
        window, window_steps = window + torch.stack((loss, top1)), window_steps + 1
        bar.update(size)

        done = step + 1
        saves = done % config.checkpoint_every == 0 or done == stop
        logs = done % min(50, per_epoch) == 0 or done == stop
        if saves or logs:
            trainer.check(unchecked, good)
            unchecked.clear()
        if logs:
            average([window])
            values = {"loss": float(window[0]) / window_steps, "train_top1": 100 * float(window[1]) / window_steps}
            if costs:
                values["expected_cost"] = sum(costs) / len(costs)
                costs.clear()
            if speaks:
                speed = (done - first) * size / (time.perf_counter() - began)
                note(done, {**values, "lr": trainer.rate(step)}, images_per_second=speed)
            bar.set_postfix_str(f"loss {values['loss']:.3f}, top-1 {values['train_top1']:.1f}%", refresh=False)
            window, window_steps = torch.zeros_like(window), 0
        if done % per_epoch == 0 and speaks:
            if watched and (done % (per_epoch * config.eval_every) == 0 or done == steps):
                found = watch.top1(trainer.supernet.state_dict())
                mean = sum(found) / len(found)
                note(done, {"fixed_paths_top1": mean}, fixed_paths=found)
                bar.write(
                    f"epoch {done // per_epoch}: {len(found)} fixed paths score {mean:.1f}% ({min(found):.1f} to {max(found):.1f})"
                )
            if trainer.search is not None:
                probabilities = trainer.probabilities()
                history.write(step=done, probabilities=probabilities)
                for label, row in probabilities.items():
                    for candidate, probability in zip(trainer.chain.choices[label], row, strict=True):
                        board.add_scalar(f"probability/{label}/{candidate}", probability, done)
        if saves:  # last, so that a run that goes on from here has written all that comes before
            good = save(done)
    bar.close()
    if speaks:
        board.close()
    if stop < steps:
        print(f"stopped after {stop:,} of {steps:,} steps; go on with --resume")
        return {}
    print(f"trained in {time.perf_counter() - began:.0f} s")
    if speaks and trainer.search is not None:
        export(trainer, run, feasible)
    return {name: tensor.cpu() for name, tensor in trainer.supernet.state_dict().items()}


def export(trainer: Any, run: Path, feasible: Any) -> None:
    """Write the most probable architecture within the limit to arc.json, and how it was found to most_probable.json."""
    from spaces.arch import arch_id, save_arch
    from spaces.files import save_json
    from spaces.latency import MS
    from strategies.budget import most_probable

    config, limits, table, latency = trainer.config, feasible.limits, feasible.table, feasible.latency
    if limits.max_latency_ms is not None:
        arch, _ = most_probable(latency.costs, trainer.preferences(), math.floor(limits.max_latency_ms * MS))
    else:
        arch, _ = most_probable(table, trainer.preferences(), limits.max_macs)
    free, _ = most_probable(table, trainer.preferences())
    chosen = [row[table.choices[label].index(arch[label])] for label, row in trainer.probabilities().items()]
    logarithm = sum(math.log(p) if p else -math.inf for p in chosen)
    about = {
        "arch": arch,
        "strategy": config.strategy,
        "max_macs": limits.max_macs,
        "max_latency_ms": limits.max_latency_ms,
        "latency": latency and {"on": str(latency), "error": latency.error(), "best_ms": latency.ms(arch)},
        "log_probability": logarithm if math.isfinite(logarithm) else None,
        "macs": table.macs(arch),
        "params": table.params(arch),
        "macs_without_limit": table.macs(free),
    }
    save_json(run / "most_probable.json", about)
    save_arch(run / "arc.json", arch)
    save_arch(run / "learned_arc.json", arch)  # a search of this supernet writes its own arc.json
    rows = [
        ("most probable architecture", arch_id(arch)),
        ("within", str(limits)),
        ("its MACs, params", f"{about['macs']:,}, {about['params']:,}"),
        ("MACs of the most probable without a limit", f"{about['macs_without_limit']:,}"),
    ]
    if latency:
        rows.append(("its latency by the table", f"{latency.ms(arch):.3g} ms {latency.error()} ({latency})"))
    print(cli.table(rows, ("", ""), as_is=True))
    print(f"architecture: {run / 'arc.json'}")


if __name__ == "__main__":
    cli.run(main)
