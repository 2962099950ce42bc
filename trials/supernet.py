"""Train a supernet.

    python -m trials.supernet --preset tiny --data digits --out runs/digits
    python -m trials.supernet --preset tiny --data digits --out runs/digits --resume
    python -m trials.supernet --data folder --data-root ~/imagenet --workers 16 --out runs/spos-imagenet
    python -m trials.supernet --import-official checkpoint-150000.pth.tar --data folder --data-root ~/imagenet --out RUN

Each step draws a path and trains its weights. With --resume a run goes on from its last checkpoint, and on a CPU ends
with the very weights it would have had without the interruption: batches, augmentation, path and dropout of a step
are functions of (seed, step) alone. --import-official makes a run of a supernet that the official SPOS code trained.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spaces.errors import InputError
from trials import cli
from trials.cli import option

# What the defaults are for each preset; ImageNet's is the official SPOS recipe, CIFAR's the seed implementation's
RECIPES: dict[str, dict[str, Any]] = {
    "imagenet": {"epochs": 120, "batch_size": 1024, "lr": 0.5, "weight_decay": 4e-5, "schedule": "linear"},
    "cifar": {"epochs": 600, "batch_size": 96, "lr": 0.025, "weight_decay": 3e-4, "schedule": "cosine"},
    "tiny": {"epochs": 20, "batch_size": 64, "lr": 0.1, "weight_decay": 4e-5, "schedule": "linear"},
}


@dataclasses.dataclass(frozen=True)
class Config:
    out: str = option(help="run directory to write")
    space: str = option("spos", "search space")
    preset: str = option("imagenet", "preset of the space")
    space_options: str = option("", "further options of the space, such as variant=channel,last_width=512")
    data: str = option("digits", "data set: digits, fashion-mnist, cifar10, cifar100, folder")
    data_root: str = option("", "folder of the data set")
    resolution: int | None = option(None, "height and width of an image, pixels (default: the preset's)")
    spos_preprocessing: bool = option(False, "images as the official SPOS weights expect them: BGR, 0-255")
    import_official: str = option("", "checkpoint of the official SPOS code to make a run of, instead of training")
    score_fraction: float = option(0.1, "part of the training images held out to score candidates")
    strategy: str = option("uniform", "how paths are drawn", choices=("uniform",))
    warm_start: float = option(
        0.0, "part of the steps that train one path, which all candidates then inherit; see docs"
    )
    epochs: int = option(None, "passes over the training part (default: the preset's)")
    batch_size: int = option(None, "images per step (default: the preset's)")
    optimizer: str = option("sgd", "optimiser", choices=("sgd", "adam", "rmsprop"))
    lr: float = option(None, "peak learning rate (default: the preset's)")
    momentum: float = option(0.9, "of SGD and RMSprop; beta1 of Adam")
    weight_decay: float = option(None, "L2 penalty on convolutions and linear layers (default: the preset's)")
    decay_norm_and_bias: bool = option(False, "weight decay on BatchNorm and biases too")
    schedule: str = option(
        None, "learning rate after warm-up (default: the preset's)", choices=("cosine", "linear", "step")
    )
    warmup: float = option(0.0, "part of the steps with a rising learning rate")
    label_smoothing: float = option(0.1, "label smoothing")
    precision: str = option(
        "auto", "arithmetic; auto: bf16-mixed on GPUs", choices=("auto", "32", "16-mixed", "bf16-mixed")
    )
    seed: int = option(0, "of weights, batches, augmentation and paths")
    device: str = option("auto", "where to train", choices=("auto", "cpu", "cuda"))
    workers: int = option(0, "processes that decode images (data folder)")
    checkpoint_every: int = option(500, "steps between checkpoints")
    resume: bool = option(False, "continue the run in --out, or start it when there is none")
    stop_after: int | None = option(None, "stop after this many steps, with a checkpoint; --resume goes on")

    def __post_init__(self) -> None:
        cli.fill_and_check(
            self,
            RECIPES.get(self.preset, RECIPES["imagenet"]),
            positive=("epochs", "batch_size", "lr", "checkpoint_every"),
            fractions=("warmup", "warm_start", "label_smoothing", "momentum"),
        )


def main(argv: list[str] | None = None) -> None:
    config = cli.parse(Config, argv, __doc__)

    import spaces
    from trials.data import load_data
    from trials.device import use_cuda

    options = cli.space_options(config.space_options)
    imported = None
    if config.import_official:
        from trials import official

        imported = official.read_supernet(config.import_official, config.space, config.preset, config.space_options)
        config = dataclasses.replace(config, spos_preprocessing=True)
    # everything a user can get wrong is checked before the slow imports
    use_cuda(config.device, config.precision)
    described = spaces.describe(config.space, config.preset, resolution=config.resolution, **options)
    data = load_data(
        config.data,
        config.data_root,
        described.resolution,
        score_fraction=config.score_fraction,
        workers=config.workers,
        spos=config.spos_preprocessing,
    )
    if imported:
        official.check_classes(imported, data)
    else:
        data.steps_per_epoch("train", config.batch_size)  # refuses a batch that is too large
    if config.warm_start and described.inherit is None and any(block.label for block in described.blocks):
        raise InputError(f"space {config.space} has no warm start (no `inherit`); leave --warm-start out")

    from spaces.cost import measure, search_space
    from spaces.files import save_json
    from trials import run_dir

    options |= {"classes": len(data.classes), "resolution": data.resolution}
    chain = spaces.describe(config.space, config.preset, **options)
    table = measure(chain)  # builds every candidate once: what is wrong with a space comes out before the run exists
    run = run_dir.open_run(config.out, "supernet", config, resume=config.resume)
    if (run / "supernet.pt").exists():
        print(f"'{run}' is complete: {run / 'supernet.pt'}")
        return
    table.save(run / "cost_table.json")
    save_json(run / "search_space.json", search_space(chain.choices))
    about = {"name": config.space, "preset": config.preset, "options": options}
    weights = imported.weights if imported else train(config, run, data, about, table)
    if weights:
        run_dir.save_checkpoint(run / "supernet.pt", {"model": weights, "space": about, "seed": config.seed})
        print(f"supernet: {run / 'supernet.pt'}")


def train(config: Config, run: Path, data: Any, about: dict[str, Any], table: Any) -> dict[str, Any]:
    """The training loop, from the last checkpoint, if there is one.

    Args:
        about: name, preset and options of the space.
        table: its cost table.
    Returns:
        The state dict of the supernet; {} when it was stopped before the end.
    """
    import torch
    import torch.nn.functional as F
    from torch.utils.tensorboard import SummaryWriter

    import spaces
    from spaces.arch import activate
    from spaces.model_space import make_supernet
    from strategies.sampling import STRATEGIES, step_generator
    from trials import optim, run_dir
    from trials.device import make_fabric

    fabric = make_fabric(config.device, config.precision)

    torch.manual_seed(config.seed)
    space = spaces.build(about["name"], about["preset"], **about["options"])
    supernet = make_supernet(space).to(memory_format=torch.channels_last)
    optimizer = optim.make_optimizer(
        supernet,
        config.optimizer,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        decay_norm_and_bias=config.decay_norm_and_bias,
    )
    model, optimizer = fabric.setup(supernet, optimizer)
    paths = STRATEGIES[config.strategy]
    steps_per_epoch = data.steps_per_epoch("train", config.batch_size)
    steps = config.epochs * steps_per_epoch
    warm_steps, warm_path = round(config.warm_start * steps), space.chain.warm_path
    print(
        f"{config.space} {config.preset}: {table.architectures():.2e} architectures, {data.size('train'):,} training images, "
        f"{data.size('score'):,} scoring images, {steps:,} steps on {fabric.device}"
    )

    last = run / "checkpoints" / "last.pt"
    first = 0
    if last.exists():
        state = run_dir.load_checkpoint(last, "checkpoint")
        supernet.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
        print(f"resumed at step {first:,}")
    log = run_dir.Log(run / "log.jsonl", after_step=first)
    board = SummaryWriter(str(run / "tensorboard"), purge_step=first)

    def batches() -> Iterator:
        for epoch in range(first // steps_per_epoch, config.epochs):
            start = first % steps_per_epoch if epoch == first // steps_per_epoch else 0
            yield from data.train_batches("train", config.batch_size, seed=config.seed, epoch=epoch, start=start)

    def save(step: int) -> None:
        run_dir.save_checkpoint(
            last, {"model": supernet.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        )

    model.train()
    stop = min(steps, config.stop_after or steps)
    began = time.perf_counter()
    window_loss, window_correct = torch.zeros(2, device=fabric.device)
    window_steps = 0
    size = config.batch_size
    bar = cli.progress(steps * size, desc="supernet", unit="img", initial=first * size)
    for step, (images, labels) in zip(range(first, stop), batches(), strict=False):
        images, labels = fabric.to_device((images, labels))
        rate = optim.learning_rate(step, steps, peak=config.lr, schedule=config.schedule, warmup=config.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(step_generator(config.seed, step).getrandbits(63))  # dropout
        if step == warm_steps and warm_steps:
            spread(supernet)
            optimizer.state.clear()  # momentum of weights that were replaced
        drawn = paths(space.chain.choices, config.seed, step) if step >= warm_steps else [warm_path]
        for arch in drawn:
            activate(supernet, arch)
            logits = model(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
            fabric.backward(loss / len(drawn))
        optimizer.step()
        # To None: candidates off the path are neither decayed nor moved by momentum. (The unused part of a shared weight
        # is: its gradient is zero, not absent.)
        optimizer.zero_grad()

        window_loss = window_loss + loss.detach()
        window_correct = window_correct + (logits.detach().argmax(1) == labels).float().mean()
        window_steps += 1
        bar.update(size)
        done = step + 1
        if done % min(50, steps_per_epoch) == 0 or done == stop:
            values = {
                "loss": float(window_loss) / window_steps,
                "train_top1": 100 * float(window_correct) / window_steps,
            }
            speed = (done - first) * size / (time.perf_counter() - began)
            log.write(step=done, epoch=done / steps_per_epoch, lr=rate, images_per_second=speed, **values)
            for name, value in (*values.items(), ("lr", rate)):
                board.add_scalar(name, value, done)
            bar.set_postfix_str(f"loss {values['loss']:.3f}, top-1 {values['train_top1']:.1f}%", refresh=False)
            window_loss, window_correct = torch.zeros(2, device=fabric.device)
            window_steps = 0
        if done % config.checkpoint_every == 0 or done == stop:
            save(done)
    bar.close()
    board.close()
    if stop < steps:
        print(f"stopped after {stop:,} of {steps:,} steps; go on with --resume")
        return {}
    print(f"trained in {time.perf_counter() - began:.0f} s")
    return {name: tensor.cpu() for name, tensor in supernet.state_dict().items()}


def spread(supernet: Any) -> None:
    """End of a warm start: every candidate inherits the weights of the first one in its choice block.

    The sizes of an elastic block share their weights anyway.
    """
    for choice, block in zip(supernet.chain.blocks, supernet.blocks, strict=True):
        if choice.label is not None:
            for name in block.names[1:]:
                supernet.chain.inherit(block[name], block[block.names[0]])


if __name__ == "__main__":
    cli.run(main)
