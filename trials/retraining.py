"""The training of one network from scratch with one seed, on one device or several, and its test.

Batches, augmentation, mixing and dropout of a step are functions of (seed, step) alone, so a resumed run repeats nothing, and
on a CPU ends with the very weights it would have had. Several processes of torchrun train as one does, as for supernets.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from spaces.errors import Stopped
from spaces.files import save_json
from strategies.sampling import step_generator
from trials import cli, networks, optim, run_dir
from trials.augment import mix_images
from trials.cli import rank_and_world
from trials.data import Batch, Data
from trials.device import average, average_gradients, make_fabric, same_everywhere, synchronise_bn
from trials.ema import make_ema
from trials.prefix_tree import correct

if TYPE_CHECKING:
    from trials.retrain_options import Config


class Retraining:
    """A network and all that its training needs.

    Args:
        config: of trials.retrain.
        about: which network; see trials.networks.
        seed: of weights, batches, augmentation and dropout.
    Attributes:
        network: the one that is trained; `best_weights` is the one that is tested, an average where there is one.
        part: of the training images: all, or those that are not held out.
        steps, steps_per_epoch: of the run; of an epoch.
    """

    def __init__(self, config: Config, about: Mapping[str, Any], seed: int, data: Data) -> None:
        self.config, self.seed, self.data = config, seed, data
        self.rank, self.world = rank_and_world()
        self.fabric = make_fabric(config.device, config.precision)
        data.to(self.fabric.device)
        torch.manual_seed(seed)
        self.network = networks.build(about)
        if config.dropout is not None:
            set_dropout(self.network, config.dropout)
        synchronise_bn(self.network)
        self.network.to(memory_format=torch.channels_last)
        optimizer = optim.make_optimizer(
            self.network,
            config.optimizer,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            decay_norm_and_bias=config.decay_norm_and_bias,
            nesterov=config.nesterov,
        )
        self.model, self.optimizer = self.fabric.setup(self.network, optimizer)
        self.ema = make_ema(self.network, config.ema) if config.ema else None
        self.part = "train" if config.hold_out else "all"
        self.steps_per_epoch = data.steps_per_epoch(self.part, config.batch_size)
        self.steps = config.epochs * self.steps_per_epoch
        self.model.train()

    @property
    def tested(self) -> nn.Module:
        """What is measured and saved."""
        return self.network if self.ema is None else self.ema.module

    def batches(self, first: int) -> Iterator[Batch]:
        """From step `first` on; this process's part of each."""
        size = self.config.batch_size
        take = np.arange(size).reshape(self.world, -1)[self.rank]
        for epoch in range(first // self.steps_per_epoch, self.config.epochs):
            start = first % self.steps_per_epoch if epoch == first // self.steps_per_epoch else 0
            yield from self.data.train_batches(self.part, size, seed=self.seed, epoch=epoch, start=start, take=take)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        config, more = self.config, {}
        if config.schedule == "exponential":
            more = {"gamma": config.decay_rate, "every": config.decay_epochs * self.steps_per_epoch}
        return optim.learning_rate(
            step, self.steps, peak=config.lr, schedule=config.schedule, warmup=config.warmup, **more
        )

    def step(self, step: int, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One step on this process's part of a batch, normalised images and labels.

        Returns:
            Loss, and top-1 as a part of 1 (of mixed images: with the label of the image that was mixed into), on the device.
        """
        config = self.config
        images, labels = self.fabric.to_device((images, labels))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        draws = step_generator(self.seed, step)
        dropout, mixing = draws.getrandbits(63), draws.getrandbits(63)
        targets = labels
        if config.mixup or config.cutmix:
            classes = len(self.data.classes)
            images, targets = mix_images(images, labels, classes, mixup=config.mixup, cutmix=config.cutmix, seed=mixing)
        torch.manual_seed(dropout ^ self.rank)
        logits = self.model(images)
        loss = F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
        self.fabric.backward(loss)
        average_gradients(self.network.parameters())
        if config.clip_norm:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update_parameters(self.network)
        return loss.detach(), (logits.detach().argmax(1) == labels).float().mean()

    def check(self, losses: list[tuple[int, torch.Tensor]], good: str) -> None:
        """Stop if a loss since the last check, or a weight by now, is not finite; in every process alike.

        Raises:
            Stopped: naming the step and the last good checkpoint, `good`.
        """
        values = torch.stack([loss for _, loss in losses])
        average([values])
        remedy = f"{good}; start again with a lower --lr, or with --clip-norm"
        for (step, _), value in zip(losses, values.tolist(), strict=True):
            if not math.isfinite(value):
                raise Stopped(f"seed {self.seed}: the loss became {value} at step {step + 1:,}; {remedy}")
        if not torch.isfinite(torch.nn.utils.get_total_norm([p.detach() for p in self.network.parameters()])):
            raise Stopped(
                f"seed {self.seed}: the weights are no longer finite after step {losses[-1][0] + 1:,}; {remedy}"
            )

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # of 16-mixed: the scale of the gradients
            "ema": self.ema.state_dict() if self.ema is not None else {},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state()`."""
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])


def set_dropout(network: nn.Module, p: float) -> None:
    """Set the probability of all dropout layers of a network; models of timm have a number instead, `drop_rate`."""
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = p
    if hasattr(network, "drop_rate"):
        network.drop_rate = p  # type: ignore[assignment]


def measure(fabric: Any, network: nn.Module, data: Data, part: str) -> tuple[int, int, int]:
    """Images of a part that the network knows in its first guess, in its first five, and all of them; of all processes."""
    rank, world = rank_and_world()
    training = network.training
    network.eval()
    hits = torch.zeros(3, dtype=torch.float64, device=fabric.device)
    with torch.no_grad(), fabric.autocast():
        for images, labels in data.eval_batches(part, 256, rank=rank, world=world):
            images, labels = fabric.to_device((data.normalise(images), labels))
            hits += torch.cat((correct(network(images).float(), labels), torch.tensor([len(labels)]).to(labels)))
    network.train(training)
    average([hits])
    first, five, size = (round(value) for value in (hits * world).tolist())
    return first, five, size


def train(config: Config, about: Mapping[str, Any], seed: int) -> None:
    """Train with one seed, then test: writes seedK/ of the run."""
    from trials.retrain import open_data

    began = time.perf_counter()
    run = Path(config.out) / f"seed{seed}"
    data = open_data(config)
    trainer = Retraining(config, about, seed, data)
    seconds = fit(trainer, run, seed if config.jobs > 1 else 0, began)
    best = run / "checkpoints" / "best.pt"
    if config.hold_out:
        trainer.tested.load_state_dict(run_dir.load_checkpoint(best, "best checkpoint")["model"])
    test(trainer.fabric, trainer.tested, config, about, seed, data, seconds)


def fit(trainer: Retraining, run: Path, position: int, began: float) -> float:
    """The training loop, from the last checkpoint, if there is one.

    Args:
        run: seedK/ of the run.
        position: of the progress bar.
        began: time.perf_counter() at the start.
    Returns:
        Seconds, with those before the checkpoint.
    Raises:
        Stopped: a loss or weight is not finite.
        InputError: the processes see other images or checkpoints.
    """
    config, data, fabric = trainer.config, trainer.data, trainer.fabric
    steps, per_epoch, size, speaks = trainer.steps, trainer.steps_per_epoch, config.batch_size, trainer.rank == 0
    last, best_path = run / "checkpoints" / "last.pt", run / "checkpoints" / "best.pt"
    first, window_steps, best = 0, 0, -1.0
    window = torch.zeros(2, device=fabric.device)  # sums of loss and top-1 since the last line of the log
    if last.exists():
        state = run_dir.load_checkpoint(last, "checkpoint")
        trainer.restore(state)
        first, best = state["step"], state["best"]
        window, window_steps = state["window"].to(fabric.device), state["window_steps"]
        began -= state["seconds"]
        print(f"seed {trainer.seed}: resumed at step {first:,}")
    same_everywhere(fabric.device, first, last, data.fingerprint(), config.data_root)
    good = f"the last good checkpoint is '{last}' (step {first:,})" if first else "there is no checkpoint yet"
    if speaks:
        run.mkdir(parents=True, exist_ok=True)
        log = run_dir.Log(run / "log.jsonl", after_step=first or -1)
        board = SummaryWriter(str(run / "tensorboard"), purge_step=first + 1)

    def note(step: int, **values: float) -> None:
        if speaks:
            log.write(step=step, epoch=step / per_epoch, **values)
            for name, value in values.items():
                board.add_scalar(name, value, step)

    unchecked: list[tuple[int, torch.Tensor]] = []
    bar = cli.progress(
        steps * size, desc=f"retrain, seed {trainer.seed}", unit="img", initial=first * size, position=position
    )
    for step, (images, labels) in zip(range(first, steps), trainer.batches(first), strict=False):
        loss, top1 = trainer.step(step, images, labels)
        unchecked.append((step, loss))
        window, window_steps = window + torch.stack((loss, top1)), window_steps + 1
        bar.update(size)

        done = step + 1
        saves = done % config.checkpoint_every == 0 or done % per_epoch == 0
        logs = done % min(50, per_epoch) == 0 or done == steps
        measures = bool(config.hold_out) and (done % (per_epoch * config.eval_every) == 0 or done == steps)
        if saves or logs or measures:
            trainer.check(unchecked, good)
            unchecked.clear()
        if logs:
            average([window])
            mean, accuracy = float(window[0]) / window_steps, 100 * float(window[1]) / window_steps
            note(done, lr=trainer.rate(step), loss=mean, train_top1=accuracy)
            bar.set_postfix_str(f"loss {mean:.3f}, top-1 {accuracy:.1f}%", refresh=False)
            window, window_steps = torch.zeros_like(window), 0
        if measures:
            hits, _, images_held = measure(fabric, trainer.tested, data, "score")
            accuracy = 100 * hits / images_held
            note(done, val_top1=accuracy)
            bar.write(f"seed {trainer.seed}, epoch {done // per_epoch}: {accuracy:.2f}% of held-out images")
            if accuracy > best:
                best = accuracy
                if speaks:
                    state = {"model": trainer.tested.state_dict(), "step": done, "val_top1": accuracy}
                    run_dir.save_checkpoint(best_path, state)
        if saves:  # last, so that a run that goes on from here has written all that comes before
            if speaks:
                board.flush()
                more = {"step": done, "best": best, "window": window, "window_steps": window_steps}
                run_dir.save_checkpoint(last, {**trainer.state(), **more, "seconds": time.perf_counter() - began})
            good = f"the last good checkpoint is '{last}' (step {done:,})"
    bar.close()
    if speaks:
        board.close()
    window = torch.zeros(1, device=fabric.device)
    average([window])
    window.item()  # wait for what the first process wrote
    return time.perf_counter() - began


def test(
    fabric: Any,
    network: nn.Module,
    config: Config,
    about: Mapping[str, Any],
    seed: int,
    data: Data,
    seconds: float,
) -> None:
    """Read the test images once; write network.pt and result.json.

    Args:
        seconds: that training took.
    """
    began = time.perf_counter()
    top1, top5, size = measure(fabric, network, data, "test")
    if rank_and_world()[0]:
        return
    run = Path(config.out) / f"seed{seed}"
    weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    more = {**about, "seed": seed, "preprocessing": data.preprocessing()}
    run_dir.save_checkpoint(run / "network.pt", {"model": weights, **more})
    result: dict[str, Any] = {
        "test_top1": 100 * top1 / size,
        "test_top5": 100 * top5 / size,
        "test_images": size,
        "test_correct": top1,
        "precision": "32" if str(fabric.strategy.precision.precision).startswith("32") else "16",  # bits of the test
        "seconds": seconds + time.perf_counter() - began,
        "seed": seed,
    }
    if config.hold_out:
        best = run_dir.load_checkpoint(run / "checkpoints" / "best.pt", "best checkpoint")
        result |= {"val_top1": best["val_top1"], "best_step": best["step"]}
    save_json(run / "result.json", result)
