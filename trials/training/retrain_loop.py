"""The loop that trains one network from scratch with one seed, and its test."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from spaces.files import save_json
from trials.common import cli, run_dir
from trials.common.cli import rank_and_world
from trials.common.distributed import average, same_everywhere
from trials.images.dataset import Data
from trials.networks.accuracy import count_correct
from trials.training.retrain_config import Config
from trials.training.retrain_trainer import Retraining, open_data


def train(config: Config, about: Mapping[str, Any], seed: int) -> None:
    """Train with one seed, then test: writes seedK/ of the run."""
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
            hits, _, images_held = count_correct(fabric, trainer.tested, data, "score")
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
    top1, top5, size = count_correct(fabric, network, data, "test")
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
