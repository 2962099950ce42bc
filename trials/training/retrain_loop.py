"""The loop that trains one network from scratch with one seed, and its test."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from spaces.arch import arch_id
from spaces.files import save_json
from trials.common import checkpoint, cli, run_dir
from trials.common.cli import rank_and_world
from trials.common.distributed import average
from trials.evidence.intervals import accuracy_text
from trials.images.dataset import Data
from trials.networks.accuracy import answer_images, count_correct
from trials.networks.answers import FILE
from trials.scoring.score_value import TOP5_CLASSES
from trials.training.loop import LOG_EVERY, LastCheckpoint, TrainingLog, Window, stop_if_not_finite
from trials.training.retrain_config import Config
from trials.training.retrain_trainer import NetworkTrainer, open_data
from trials.training.run_gates import network_loss

if TYPE_CHECKING:
    from lightning_fabric import Fabric


HELD_OUT_FILE = "held_out_answers.npz"  # in seedK/ of a network that was not tested
MakeBar = Callable[[int, str, int], Any]  # (images in all, title, images that were trained earlier) -> a progress bar


def own_bar(total: int, title: str, initial: int) -> Any:
    """The progress bar of a training that has the terminal for itself."""
    return cli.progress(total, desc=title, unit="img", initial=initial)


def train_seed(
    config: Config, description: Mapping[str, Any], seed: int, make_bar: MakeBar = own_bar, *, tests: bool = True
) -> None:
    """Train with one seed, then test: writes seedK/ of the run.

    Args:
        description: a network description, see trials.networks.build.
        make_bar: makes the progress bar, which may be that of several trainings.
        tests: whether the test images are read. Otherwise the network of the last epoch is measured on the held-out images.
    Raises:
        Stopped: a loss or weight is not finite.
        InputError: the processes see other images or checkpoints.
    """
    began = time.perf_counter()
    run = Path(config.out) / f"seed{seed}"
    data = open_data(config)
    trainer = NetworkTrainer(config, description, seed, data)
    network = description.get("baseline") or arch_id(description["arch"])
    place, writes = run.resolve().parent, trainer.rank == 0
    facts = {"command": "retrain", "network": network, "seed": seed}
    name = f"{place.parent.name}/{place.name}/{run.name}"
    with TrainingLog(run, config, facts=facts, name=name, store=place, writes=writes) as log:
        seconds = training_loop(trainer, run, make_bar, began, log)
        if not tests:
            return measure_held_out(trainer, run, seconds)
        if config.hold_out:
            path = run / "checkpoints" / "best.pt"
            best = checkpoint.load_checkpoint(path, "best checkpoint", needs=("model", "step"))
            with checkpoint.fitting("best checkpoint", path):
                trainer.tested_network.load_state_dict(best["model"])
        result = test_network(trainer.fabric, trainer.tested_network, config, description, seed, data, seconds)
        tops = ("test_top1", "test_top5") if len(data.classes) >= TOP5_CLASSES else ("test_top1",)
        log.finish(trainer.steps, {key: result[key] for key in tops if key in result})


def training_loop(trainer: NetworkTrainer, run: Path, make_bar: MakeBar, began: float, log: TrainingLog) -> float:
    """The training loop, from the last checkpoint, if there is one.

    Args:
        run: seedK/ of the run.
        make_bar: see `train_seed`.
        began: time.perf_counter() at the start.
        log: where the course is written; it is begun here.
    Returns:
        Seconds of training, with those before the checkpoint.
    Raises:
        Stopped: a loss or weight is not finite.
        InputError: the processes see other images or checkpoints.
    """
    config, data, device, writes = trainer.config, trainer.data, trainer.fabric.device, trainer.rank == 0
    steps, per_epoch, size = trainer.steps, trainer.steps_per_epoch, config.batch_size

    # go on from the last checkpoint, if there is one
    checkpoint, window, best = LastCheckpoint(run), Window(device), -1.0
    state = checkpoint.resume(trainer)
    if state:
        window.restore(state)
        best, began = state["best"], began - state["seconds"]
    first = checkpoint.step

    # the log, the progress bar, and the losses that still have to be checked
    log.begin(first, per_epoch)
    bar = make_bar(steps * size, f"retrain, seed {trainer.seed}", first * size)
    unchecked: list[tuple[int, torch.Tensor]] = []
    looked = 2 * first >= steps  # once, after half of the steps: does the loss fall?

    for step, (images, labels) in zip(range(first, steps), trainer.batches(first), strict=False):
        if step == 0:
            log.show(trainer, trainer.mixed(step, images, labels)[0])

        # one step
        loss, top1 = trainer.step(step, images, labels)
        unchecked.append((step, loss))
        window.add(loss, top1)
        bar.update(size)

        # what is due after this step; bad numbers stop the run before they are measured, logged or saved
        done = step + 1
        saves = done % config.checkpoint_every == 0 or done % per_epoch == 0
        logs = done % min(LOG_EVERY, per_epoch) == 0 or done == steps
        measures = bool(config.hold_out) and (done % (per_epoch * config.eval_every) == 0 or done == steps)
        if saves or logs or measures:
            stop_if_not_finite(trainer, unchecked, checkpoint)
            unchecked.clear()

        # a line of the log
        if logs:
            mean, accuracy = window.means()
            values = {"lr": trainer.rate(step), "loss": mean, "train_top1": accuracy}
            log.write(done, {**values, "images_per_second": window.speed(size)})
            bar.set_postfix_str(f"loss {mean:.3f}, top-1 {accuracy:.1f}%", refresh=False)
            if writes and not looked and 2 * done >= steps:
                looked = True
                warning = network_loss(config, data, trainer.seed, whole=False)
                if warning:
                    bar.write(str(dataclasses.replace(warning, text=f"{trainer.prefix}{warning.text}")))

        # accuracy on the held-out images; the best epoch is kept
        if measures:
            hits, _, images_held = count_correct(trainer.fabric, trainer.tested_network, data, "score")
            accuracy = 100 * hits / images_held
            log.write(done, {"val_top1": accuracy})
            shown = accuracy_text([hits], images_held)
            bar.write(f"seed {trainer.seed}, epoch {done // per_epoch}: {shown} of held-out images")
            if accuracy > best:
                best = accuracy
                if writes:
                    weights = trainer.tested_network.state_dict()
                    counts = {"val_correct": hits, "val_images": images_held}
                    content = {"model": weights, "step": done, "val_top1": accuracy, **counts}
                    run_dir.save_checkpoint(run / "checkpoints" / "best.pt", content)

        # the checkpoint comes last, so that a run that goes on from here has written all that comes before
        if saves:
            log.flush()
            seconds = time.perf_counter() - began
            checkpoint.save(trainer, done, best=best, **window.state(), seconds=seconds)
    bar.close()

    # all processes wait for what the first one wrote
    signal = torch.zeros(1, device=device)
    average([signal])
    signal.item()
    return time.perf_counter() - began


def measure_held_out(trainer: NetworkTrainer, run: Path, seconds: float) -> None:
    """Write result.json and the answers to the held-out images, for a network whose test images stay unseen.

    Args:
        run: seedK/ of the run.
        seconds: how long training took.
    """
    answers, _ = answer_images(trainer.fabric, trainer.tested_network, trainer.data, "score")
    if trainer.rank:
        return
    answers.save(run / HELD_OUT_FILE)
    correct = int(answers.right.sum())
    accuracy = {"val_top1": 100 * correct / answers.size, "val_correct": correct, "val_images": answers.size}
    save_json(run / "result.json", {**accuracy, "seconds": seconds, "seed": trainer.seed})


def test_network(
    fabric: Fabric,
    network: nn.Module,
    config: Config,
    description: Mapping[str, Any],
    seed: int,
    data: Data,
    seconds: float,
) -> dict[str, Any]:
    """Read the test images once; write network.pt, answers.npz and result.json.

    Args:
        description: a network description, which goes into network.pt.
        seconds: how long training took.
    Returns:
        What result.json holds; {} in all processes but the first.
    """
    began = time.perf_counter()
    answers, top5 = answer_images(fabric, network, data, "test")
    top1, size = int(answers.right.sum()), answers.size
    if rank_and_world()[0]:
        return {}
    run = Path(config.out) / f"seed{seed}"
    weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    metadata = {**description, "seed": seed, "preprocessing": data.preprocessing()}
    run_dir.save_checkpoint(run / "network.pt", {"model": weights, **metadata})
    answers.save(run / FILE)
    bits = "32" if str(fabric.strategy.precision.precision).startswith("32") else "16"
    result: dict[str, Any] = {
        "test_top1": 100 * top1 / size,
        "test_top5": 100 * top5 / size,
        "test_images": size,
        "test_correct": top1,
        "precision": bits,  # in which the test was computed
        "seconds": seconds + time.perf_counter() - began,
        "seed": seed,
    }
    if config.hold_out:
        best = checkpoint.load_checkpoint(run / "checkpoints" / "best.pt", "best checkpoint", needs=("step",))
        result |= {key: value for key, value in best.items() if key.startswith("val_")} | {"best_step": best["step"]}
    save_json(run / "result.json", result)
    return result
