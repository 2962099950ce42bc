"""Train one architecture from scratch, as a plain torch network, and test it.

    python -m trials.retrain --fixed-arc runs/digits/arc.json --preset tiny --data digits --out runs/digits/retrain
    python -m trials.retrain --fixed-arc runs/digits/arc.json --supernet runs/digits --seeds 3
    python -m trials.retrain --import-official NETWORK.pth.tar --data folder --data-root ~/imagenet --out RUN

All training images are used (the scoring part too); the test images are read once, after the last step. With
--supernet, space, data and resolution are those of the search. With --resume a killed run goes on, bitwise on a CPU.
--import-official reads a network that the official SPOS code trained: its architecture, found from its weights, goes to
RUN/arc.json (for --fixed-arc), and its accuracy on the test images is measured instead of training.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from trials import cli
from trials.cli import option
from trials.data_options import DataOptions

# What the defaults are for each preset; ImageNet's is the official SPOS recipe, CIFAR's the seed implementation's
RECIPES: dict[str, dict[str, Any]] = {
    "imagenet": {
        "epochs": 240,
        "batch_size": 1024,
        "lr": 0.5,
        "weight_decay": 4e-5,
        "schedule": "linear",
        "color_jitter": 0.4,
    },
    "cifar": {
        "epochs": 600,
        "batch_size": 96,
        "lr": 0.025,
        "weight_decay": 3e-4,
        "schedule": "cosine",
        "color_jitter": 0.0,
    },
    "tiny": {
        "epochs": 16,
        "batch_size": 64,
        "lr": 0.2,
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "color_jitter": 0.0,
    },
}
FROM_SUPERNET = (
    *("space", "preset", "space_options", "data", "data_root", "resolution", "spos_preprocessing"),
    *("classes", "per_class", "val_labels", "bad_files"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(DataOptions):
    fixed_arc: str | None = option(None, "architecture: our JSON, an NNI 1.x mask file, or the official SPOS tuple")
    import_official: str | None = option(None, "network of the official SPOS code: test it instead of training one")
    out: str = option(None, "run directory to write (default: retrain/ beside the file)")
    supernet: str | None = option(None, "run of trials.supernet: take space, preset, data and resolution from it")
    space: str = option("spos", "search space")
    preset: str = option("imagenet", "preset of the space")
    space_options: str = option("", "further options of the space, such as variant=channel,last_width=512")
    seeds: int = option(1, "networks to train, with seeds 0, 1, ...")
    jobs: int = option(1, "seeds that are trained at the same time, each in a process of its own")
    epochs: int = option(None, "passes over the training images (default: the preset's)")
    batch_size: int = option(None, "images per step (default: the preset's)")
    optimizer: str = option("sgd", "optimiser", choices=("sgd", "adam", "rmsprop"))
    lr: float = option(None, "peak learning rate (default: the preset's)")
    momentum: float = option(0.9, "of SGD and RMSprop; beta1 of Adam")
    weight_decay: float = option(None, "L2 penalty on convolutions and linear layers (default: the preset's)")
    decay_norm_and_bias: bool = option(False, "weight decay on BatchNorm and biases too")
    schedule: str = option(
        None, "learning rate after warm-up (default: the preset's)", choices=("cosine", "linear", "step")
    )
    warmup: float = option(0.1, "part of the steps with a rising learning rate")
    label_smoothing: float = option(0.1, "label smoothing")
    precision: str = option(
        "auto", "arithmetic; auto: bf16-mixed on GPUs", choices=("auto", "32", "16-mixed", "bf16-mixed")
    )
    device: str = option("auto", "where to train", choices=("auto", "cpu", "cuda"))
    checkpoint_every: int = option(500, "steps between checkpoints")
    resume: bool = option(False, "continue the run in --out, or start it when there is none")

    def __post_init__(self) -> None:
        if (self.fixed_arc is None) == (self.import_official is None):
            raise InputError(
                "give either --fixed-arc FILE or --import-official FILE; see: python -m trials.retrain --help"
            )
        if self.out is None:
            object.__setattr__(self, "out", str(Path(self.fixed_arc or self.import_official).parent / "retrain"))
        if self.supernet is not None:
            from trials.run_dir import load_run

            stored = load_run(self.supernet, "supernet")
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
        super().__post_init__()
        self.settle_preprocessing(official=bool(self.import_official))
        cli.fill_and_check(
            self,
            RECIPES.get(self.preset, RECIPES["imagenet"]),
            positive=("seeds", "jobs", "epochs", "batch_size", "lr", "checkpoint_every"),
            fractions=("warmup", "label_smoothing", "momentum", "color_jitter"),
        )


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__)
    if cli.rank_and_world()[1] > 1:
        raise InputError(
            "trials.retrain is one process; start it without torchrun (--jobs trains several seeds at once)"
        )

    import spaces
    from spaces.arch import ArchError, arch_id, load_arch
    from spaces.cost import CostTable, measure
    from spaces.files import load_json, save_json
    from trials import run_dir
    from trials.device import use_cuda

    use_cuda(config.device, config.precision)
    imported = None
    if config.import_official:
        from trials import official

        imported = official.read_network(config.import_official, config.space, config.preset, config.space_options)
        text = cli.space_options_text(imported.options)
        if config.seeds != 1:
            raise InputError(f"--seeds {config.seeds} with --import-official: there is one network; leave --seeds out")
        config = dataclasses.replace(config, space_options=text)
    options = cli.space_options(config.space_options)
    described = spaces.describe(config.space, config.preset, resolution=config.resolution, **options)
    if imported and imported.arch:
        arch = imported.arch
    else:
        try:
            arch = load_arch(str(config.fixed_arc), described.choices)
        except ArchError as error:
            if not Path(str(config.fixed_arc)).is_file():
                raise
            space = " ".join(filter(None, (config.space, config.preset, config.space_options)))
            hint = "" if config.supernet else "; give --supernet RUN, or --space and --preset, if it is of another"
            raise InputError(f"{error} (in space {space}{hint})") from None
    data = open_data(config, described.resolution)
    if not data.size("test"):
        raise InputError(f"'{config.data_root}' has no test images: too few of each class; give more, or a val/ folder")
    data.check_files("test")
    if imported:
        official.check_classes(imported, data)
    else:
        data.steps_per_epoch("all", config.batch_size)  # refuses a batch that is too large
    chain = spaces.describe(
        config.space, config.preset, classes=len(data.classes), resolution=data.resolution, **options
    )

    table = measure(chain)
    if config.supernet and not CostTable.load(Path(config.supernet) / "cost_table.json").same_costs(table):
        raise InputError(
            f"space {config.space} is not what it was when supernet '{config.supernet}' was trained; restore it"
        )
    run = run_dir.open_run(config.out, "retrain", config, resume=config.resume)
    stored = load_json(run / "arc.json", "fixed arc") if (run / "arc.json").exists() else arch
    if stored != arch:
        raise InputError(f"'{run}' was started with another architecture ({arch_id(stored)}); choose another --out")
    save_json(run / "arc.json", arch)
    data.save(run)
    missing = [seed for seed in range(config.seeds) if not (run / f"seed{seed}" / "result.json").exists()]
    if imported:
        from spaces.chain import make_affine
        from trials.device import make_fabric

        network = make_affine(chain.network(arch))
        network.load_state_dict(imported.weights)
        model = make_fabric(config.device, "32").setup_module(network)
        for seed in missing:
            test(config, arch, seed, model, data, time.perf_counter())
    elif config.jobs > 1 and len(missing) > 1:
        with ProcessPoolExecutor(config.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(train, [config] * len(missing), [arch] * len(missing), missing))
    else:
        for seed in missing:
            train(config, arch, seed)
    results = [load_json(run / f"seed{seed}" / "result.json", "result") for seed in range(config.seeds)]

    top1 = [result["test_top1"] for result in results]
    summary = {
        "arch": arch,
        "macs": table.macs(arch),
        "params": table.params(arch),
        "test_top1": top1,
        "mean": statistics.mean(top1),
        "std": statistics.stdev(top1) if len(top1) > 1 else None,
        "test_images": results[0].get("test_images", data.size("test")),
        "seconds": [result["seconds"] for result in results],
    }
    save_json(run / "result.json", summary)
    rows = [(seed, r["test_top1"], r["test_top5"], r["seconds"]) for seed, r in enumerate(results)]
    print(cli.table(rows, ("seed", "test top-1 %", "test top-5 %", "seconds")))
    spread = f" +- {summary['std']:.2f} (standard deviation)" if summary["std"] is not None else ""
    print(
        f"test top-1 {summary['mean']:.2f}%{spread}, n = {len(top1)}, {summary['test_images']:,} test images, "
        f"{summary['macs']:,} MACs, {summary['params']:,} params"
    )


def open_data(config: Config, resolution: int) -> Any:
    """The images, those of the search where there was one, with the preprocessing of the run."""
    from trials.data import load_data

    return load_data(config, resolution, score_fraction=0.1, run=config.supernet or config.out)


def train(config: Config, arch: dict[str, Any], seed: int) -> None:
    """Train with one seed, then test."""
    import torch
    import torch.nn.functional as F
    from torch.utils.tensorboard import SummaryWriter

    import spaces
    from spaces.chain import make_affine
    from strategies.sampling import step_generator
    from trials import optim, run_dir
    from trials.device import make_fabric

    run = Path(config.out) / f"seed{seed}"
    options = cli.space_options(config.space_options)
    resolution = spaces.describe(config.space, config.preset, resolution=config.resolution, **options).resolution
    data = open_data(config, resolution)
    options |= {"classes": len(data.classes), "resolution": resolution}
    chain = spaces.describe(config.space, config.preset, **options)
    steps_per_epoch = data.steps_per_epoch("all", config.batch_size)

    fabric = make_fabric(config.device, config.precision)
    data.to(fabric.device)

    torch.manual_seed(seed)
    network = make_affine(chain.network(arch)).to(memory_format=torch.channels_last)
    optimizer = optim.make_optimizer(
        network,
        config.optimizer,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        decay_norm_and_bias=config.decay_norm_and_bias,
    )
    model, optimizer = fabric.setup(network, optimizer)
    steps = config.epochs * steps_per_epoch
    last, first, spent = run / "checkpoints" / "last.pt", 0, 0.0
    if last.exists():
        state = run_dir.load_checkpoint(last, "checkpoint")
        network.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, spent = state["step"], state["seconds"]
        print(f"seed {seed}: resumed at step {first:,}")
    run.mkdir(parents=True, exist_ok=True)
    log = run_dir.Log(run / "log.jsonl", after_step=first)
    board = SummaryWriter(str(run / "tensorboard"), purge_step=first)

    model.train()
    began = time.perf_counter() - spent
    window_loss, window_correct = torch.zeros(2, device=fabric.device)
    window_steps, step = 0, first
    size = config.batch_size
    bar = cli.progress(
        steps * size,
        desc=f"retrain, seed {seed}",
        unit="img",
        initial=first * size,
        position=seed if config.jobs > 1 else 0,
    )
    for epoch in range(first // steps_per_epoch, config.epochs):
        start = step % steps_per_epoch
        for images, labels in data.train_batches("all", size, seed=seed, epoch=epoch, start=start):
            images, labels = fabric.to_device((images, labels))
            rate = optim.learning_rate(step, steps, peak=config.lr, schedule=config.schedule, warmup=config.warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(step_generator(seed, step).getrandbits(63))  # dropout
            logits = model(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
            fabric.backward(loss)
            optimizer.step()
            optimizer.zero_grad()

            window_loss = window_loss + loss.detach()
            window_correct = window_correct + (logits.detach().argmax(1) == labels).float().mean()
            window_steps += 1
            step += 1
            bar.update(size)
            if step % min(50, steps_per_epoch) == 0 or step == steps:
                loss_mean, top1 = float(window_loss) / window_steps, 100 * float(window_correct) / window_steps
                log.write(step=step, epoch=step / steps_per_epoch, lr=rate, loss=loss_mean, train_top1=top1)
                board.add_scalar("loss", loss_mean, step)
                board.add_scalar("train_top1", top1, step)
                bar.set_postfix_str(f"loss {loss_mean:.3f}, top-1 {top1:.1f}%", refresh=False)
                window_loss, window_correct = torch.zeros(2, device=fabric.device)
                window_steps = 0
            if step % config.checkpoint_every == 0 or step == steps:
                state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
                run_dir.save_checkpoint(last, {**state, "seconds": time.perf_counter() - began})
    bar.close()
    board.close()
    test(config, arch, seed, model, data, began)


def test(config: Config, arch: dict[str, Any], seed: int, model: Any, data: Any, began: float) -> None:
    """Read the test images once; write network.pt and result.json: top-1 and top-5 in percent, seconds since `began`."""
    import torch

    from spaces.files import save_json
    from trials import run_dir
    from trials.prefix_tree import correct

    run = Path(config.out) / f"seed{seed}"
    model.eval()
    hits, size = torch.zeros(2, dtype=torch.int64), 0
    with torch.no_grad():
        for images, labels in data.eval_batches("test", 256):
            images, labels = images.to(model.device), labels.to(model.device)
            hits += correct(model(data.normalise(images)), labels).cpu()
            size += len(labels)
    weights = {name: tensor.cpu() for name, tensor in model.module.state_dict().items()}
    options = cli.space_options(config.space_options) | {"classes": len(data.classes), "resolution": data.resolution}
    about = {"name": config.space, "preset": config.preset, "options": options}
    more = {"arch": arch, "space": about, "seed": seed, "preprocessing": data.preprocessing()}
    run_dir.save_checkpoint(run / "network.pt", {"model": weights, **more})
    result = {
        "test_top1": float(hits[0]) * 100 / size,
        "test_top5": float(hits[1]) * 100 / size,
        "test_images": size,
        "seconds": time.perf_counter() - began,
        "seed": seed,
    }
    save_json(run / "result.json", result)


def load_network(path: Path) -> Any:
    """The trained network in a network.pt, as a plain `spaces.chain.Network` in eval mode.

    Raises:
        InputError: the file is missing or damaged.
    """
    import spaces
    from spaces.chain import make_affine
    from trials.run_dir import load_checkpoint

    stored = load_checkpoint(path, "network")
    about = stored["space"]
    network = make_affine(spaces.describe(about["name"], about["preset"], **about["options"]).network(stored["arch"]))
    network.load_state_dict(stored["model"])
    return network.eval()


if __name__ == "__main__":
    cli.run(main)
