"""The loop that trains a supernet, and the architecture that a differentiable strategy has learned."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from spaces.arch import arch_id, save_arch
from spaces.files import save_json
from spaces.latency import NANOSECONDS_PER_MS
from strategies.feasible import draw_from_bins, draw_within_limits
from strategies.most_probable import most_probable
from strategies.sampling import STRATEGIES, Paths
from trials.common import cli, run_dir
from trials.common.distributed import average, same_everywhere
from trials.training.fixed_paths import FixedPaths
from trials.training.supernet_config import DIFFERENTIABLE, Config


def make_paths(config: Config, chain: Any, feasible: Any, data: Any) -> Any:
    """What the steps of a sampling strategy train; None for a differentiable one.

    Args:
        feasible: the part of the space within the limits.
    Raises:
        InputError: settings that contradict each other.
    """
    if config.strategy in DIFFERENTIABLE or config.import_official:
        return None
    if config.strategy == "window":
        draw = draw_within_limits(feasible)
    elif config.strategy == "binned":
        draw = draw_from_bins(feasible.table, feasible.limits)
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
        trainer: a trials.trainer.SupernetTrainer: what one step does.
        feasible: the part of the space within the limits.
        watched: the paths whose accuracy is followed.
    Returns:
        The state dict of the supernet; {} when it was stopped before the end.
    """
    import torch
    from torch.utils.tensorboard import SummaryWriter

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
    config, limits, table, latency = trainer.config, feasible.limits, feasible.table, feasible.latency
    if limits.max_latency_ms is not None:
        arch, _ = most_probable(
            latency.costs, trainer.preferences(), math.floor(limits.max_latency_ms * NANOSECONDS_PER_MS)
        )
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
